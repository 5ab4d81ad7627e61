//! What TLS had against a registry: found in a request's error, and told with what the operator can do about it.

use rustls::{CertificateError, Error as Tls};

use super::RegistryProblem;
use crate::tls::{problem_below, refuses_client};

/// `of` a request to `to`, where `registry` led; `None` if it was not TLS that failed.
pub(super) fn problem(of: &reqwest::Error, to: &str, registry: &str) -> Option<RegistryProblem> {
    let (to, registry) = (to.to_owned(), registry.to_owned());
    Some(match problem_below(of)? {
        // Of the second, the name of the signer is known, and its key is another.
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => RegistryProblem::Untrusted { to, registry },
        Tls::InvalidCertificate(problem) => {
            let why = why(problem);
            RegistryProblem::BadCertificate { to, why }
        }
        Tls::AlertReceived(alert) if refuses_client(*alert) => RegistryProblem::NotKnown {
            to,
            alert: format!("{alert:?}"),
            registry,
        },
        Tls::InvalidMessage(_) => RegistryProblem::NoTls { to },
        _ => return None,
    })
}

fn why(problem: &CertificateError) -> String {
    let told = problem.to_string();
    // What `openssl req -x509` writes without more; other tools may take it.
    if format!("{problem:?}").contains("CaUsedAsEndEntity") {
        return "it is a CA's own, and no server's".to_owned();
    }
    super::printable(&told)
}

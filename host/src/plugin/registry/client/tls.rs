//! What TLS had against a registry: found in a request's error, and told with what the operator can do about it.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, Error as Tls};

use super::RegistryProblem;

/// `of` a request to `to`, where `registry` led; `None` if it was not TLS that failed.
pub(super) fn problem(of: &reqwest::Error, to: &str, registry: &str) -> Option<RegistryProblem> {
    let (to, registry) = (to.to_owned(), registry.to_owned());
    Some(match found(of)? {
        // Of the second, the name of the signer is known, and its key is another.
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => RegistryProblem::Untrusted { to, registry },
        Tls::InvalidCertificate(problem) => {
            let why = why(problem);
            RegistryProblem::BadCertificate { to, why }
        }
        Tls::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::HandshakeFailure
            | AlertDescription::AccessDenied),
        ) => RegistryProblem::NotKnown {
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

/// Errors of input and output keep theirs to themselves: what they wrap is not their source.
fn found(of: &reqwest::Error) -> Option<&Tls> {
    let mut cause = of.source();
    while let Some(problem) = cause {
        if let Some(tls) = problem.downcast_ref::<Tls>() {
            return Some(tls);
        }
        cause = match problem.downcast_ref::<std::io::Error>() {
            Some(io) => io
                .get_ref()
                .map(|wrapped| wrapped as &(dyn Error + 'static)),
            None => problem.source(),
        };
    }
    None
}

//! What TLS had against GitLab, or GitLab against us, told with the key of `config.toml` that is to be changed.

use rustls::{CertificateError, Error, OtherError};

use crate::config::server_tls::ServerTls;
use crate::tls::{problem_below, refuses_client};

/// `None` if it was not TLS that failed.
pub(super) fn told(error: &reqwest::Error, url: &str, tls: &ServerTls) -> Option<String> {
    let problem = problem_below(error)?;
    Some(match problem {
        // Of the second, the name of the signer is known, and its key is another.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => untrusted(url, tls),
        Error::InvalidCertificate(CertificateError::Other(OtherError(other)))
            if other.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            format!(
                "GitLab at {url} has a certificate that is a CA's own; next: if it is meant, name it itself with \
                 tls-ca-file in config.toml"
            )
        }
        Error::InvalidCertificate(why) => format!(
            "GitLab at {url} has a certificate that does not hold: {why}; next: renew it, or write the name that it is \
             for as url in config.toml"
        ),
        Error::AlertReceived(alert) if refuses_client(*alert) => match &tls.client {
            None => format!(
                "GitLab at {url} refused the connection ({alert:?}); next: if it demands a client certificate, name one \
                 with tls-cert-file and tls-key-file in config.toml"
            ),
            Some(client) => format!(
                "GitLab at {url} refused the connection with the client certificate in {} ({alert:?}); next: name one \
                 that it accepts with tls-cert-file and tls-key-file in config.toml",
                client.file.display()
            ),
        },
        Error::InvalidMessage(_) => format!(
            "GitLab at {url} does not speak TLS; next: correct the port of url in config.toml, or write http:// if it \
             may be spoken to in the clear"
        ),
        _ => return None,
    })
}

fn untrusted(url: &str, tls: &ServerTls) -> String {
    match (&tls.authority, &tls.default_authority) {
        (None, Some(default)) => format!(
            "GitLab at {url} has a certificate that is signed by nobody whom this machine trusts; next: put the \
             certificate of its CA, as PEM, into {}, or name its file with tls-ca-file in config.toml",
            default.display()
        ),
        (None, None) => format!(
            "GitLab at {url} has a certificate that is signed by nobody whom this machine trusts; next: name the file \
             with the certificate of its CA with tls-ca-file, in an entry of config.toml with this url"
        ),
        (Some(authority), _) => format!(
            "GitLab at {url} has a certificate that is signed by nobody in {} and by nobody else whom this machine \
             trusts; next: put the certificate of its CA, as PEM, there (tls-ca-file in config.toml)",
            authority.file.display()
        ),
    }
}

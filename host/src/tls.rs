//! What TLS had against a connection, found below an HTTP client's error.

use std::error::Error;

use rustls::AlertDescription;

/// `None` if it was not TLS that failed. Errors of input and output keep theirs to themselves: what they wrap is not
/// their source.
pub fn problem_below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(problem) = cause {
        if let Some(tls) = problem.downcast_ref::<rustls::Error>() {
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

/// What a server says to a client that showed no certificate, or one that it does not take.
pub fn refuses_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::HandshakeFailure
            | AlertDescription::AccessDenied
    )
}

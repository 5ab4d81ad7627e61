//! HTTP for a plugin: whole requests, whole answers, typed failures.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::{Problem, ProblemKind};

pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

/// A request with its whole body. `Host`, `Content-Length` and whatever concerns the connection are set by the
/// transport.
pub type Request = http::Request<Vec<u8>>;
/// An answer with its whole body.
pub type Response = http::Response<Vec<u8>>;
/// What sending comes to.
pub type Result = std::result::Result<Response, Error>;

/// How long to wait for each phase, and how much to read. The host's own limits apply beside these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands.
    pub connect: Duration,
    /// From then until the first byte of the answer.
    pub first_byte: Duration,
    /// Between two bytes of it.
    pub between_bytes: Duration,
    /// Bytes of body to accept.
    pub body: usize,
}

impl Default for Limits {
    /// Control-plane calls: small answers, and soon, or something is wrong.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(20),
            between_bytes: Duration::from_secs(10),
            body: 8 * 1024 * 1024,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The operator did not grant this origin. No packet was sent.
    Denied,
    /// The host's limit on requests of one plugin. Nothing was sent.
    TooMany,
    /// The name could not be resolved.
    Unresolved,
    /// Nobody listens there, or no way leads there. Nothing was sent.
    Refused,
    /// The named phase took too long; the request may have been acted upon.
    TimedOut(&'static str),
    /// The connection ended early; the request may have been acted upon.
    Cut,
    /// No trust in the other side, or no common protocol.
    Tls(String),
    /// The answer is larger than [`Limits::body`].
    TooLarge(usize),
    /// The request cannot be sent as it is: a fault of the plugin.
    Malformed(String),
    /// Anything else.
    Other(String),
}

impl Error {
    /// Whether the other side may have acted on the request all the same.
    pub fn outcome_unknown(&self) -> bool {
        !matches!(
            self,
            Self::Denied | Self::TooMany | Self::Unresolved | Self::Refused | Self::Malformed(_)
        )
    }

    /// What the operator reads, with the origin that was called.
    pub fn into_problem(self, origin: &str) -> Problem {
        let kind = match self {
            Self::Denied => ProblemKind::Forbidden,
            Self::TooMany => ProblemKind::Throttled,
            Self::Malformed(_) => ProblemKind::Other,
            _ => ProblemKind::Unavailable,
        };
        let next = match self {
            Self::Denied => "; next: grant it to this plugin in plugins.toml",
            Self::TooMany => "; next: it is tried again later",
            Self::Unresolved | Self::Refused | Self::TimedOut(_) | Self::Cut => {
                "; next: check the network between here and there"
            }
            Self::Tls(_) => "; next: check what answers there, and its certificate",
            _ => "",
        };
        Problem::new(kind, format!("could not call {origin}: {self}{next}")).about(origin)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("this plugin may not call it"),
            Self::TooMany => f.write_str("too many requests of this plugin at once"),
            Self::Unresolved => f.write_str("the name could not be resolved"),
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(phase) => write!(f, "timed out while {phase}"),
            Self::Cut => f.write_str("the connection ended before the answer was complete"),
            Self::Tls(detail) => write!(f, "TLS failed: {detail}"),
            Self::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
            Self::Malformed(detail) => write!(f, "the request cannot be sent: {detail}"),
            Self::Other(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for Error {}

/// `scheme://authority` of a URI, as grants and messages name it.
pub fn origin(uri: &Uri) -> String {
    format!(
        "{}://{}",
        uri.scheme_str().unwrap_or("https"),
        uri.authority().map_or("", |authority| authority.as_str())
    )
}

/// A piece of a path or a query as it may stand in one, whatever is in it.
pub fn escape(piece: &str) -> String {
    let mut escaped = String::with_capacity(piece.len());
    for byte in piece.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The `Retry-After` of an answer, where it counts seconds.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The same where it may also be a date, which is held against `now`; a date that is over means at once.
pub fn retry_after_at(response: &Response, now: SystemTime) -> Option<Duration> {
    retry_after(response).or_else(|| {
        let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
        let at = httpdate::parse_http_date(value.trim()).ok()?;
        Some(at.duration_since(now).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_forbidden_and_names_the_origin() {
        let problem = Error::Denied.into_problem("https://ec2.eu-west-1.amazonaws.com");
        assert_eq!(problem.kind, ProblemKind::Forbidden);
        assert_eq!(
            problem.message,
            "could not call https://ec2.eu-west-1.amazonaws.com: this plugin may not call it; \
             next: grant it to this plugin in plugins.toml"
        );
        assert_eq!(
            problem.subject.as_deref(),
            Some("https://ec2.eu-west-1.amazonaws.com")
        );
    }

    #[test]
    fn only_what_may_have_been_sent_leaves_the_outcome_unknown() {
        assert!(!Error::Denied.outcome_unknown());
        assert!(!Error::Refused.outcome_unknown());
        assert!(Error::TimedOut("reading").outcome_unknown());
        assert!(Error::Cut.outcome_unknown());
    }

    #[test]
    fn an_origin_keeps_its_port() {
        let uri = Uri::from_static("http://127.0.0.1:5000/x?y");
        assert_eq!(origin(&uri), "http://127.0.0.1:5000");
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let mut response = Response::new(Vec::new());
        assert_eq!(retry_after(&response), None);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&response), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_date_in_retry_after_is_held_against_the_clock() {
        let mut response = Response::new(Vec::new());
        let date = HeaderValue::from_static("Fri, 02 Jan 2026 03:04:10 GMT");
        response.headers_mut().insert(header::RETRY_AFTER, date);
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045 + second);
        assert_eq!(
            retry_after_at(&response, at(0)),
            Some(Duration::from_secs(5))
        );
        assert_eq!(retry_after_at(&response, at(60)), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_escaped_cannot_leave_its_place() {
        assert_eq!(
            escape("a/../b?c=d&e f#ü"),
            "a%2F..%2Fb%3Fc%3Dd%26e%20f%23%C3%BC"
        );
    }
}

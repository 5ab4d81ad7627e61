//! One request of a plugin as it is counted and, where the operator asks for it, logged.
//!
//! Neither query, headers nor bodies come into it: those are where the secrets are.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plugin::grants::Target;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer's status; its body may have been cut.
    Status(u16),
    /// No grant allows it.
    Denied,
    /// Nothing that HTTP knows came back.
    Failed,
}

impl Outcome {
    /// Five words for statuses and two for the rest: a label that cannot grow.
    pub fn class(self) -> &'static str {
        match self {
            Self::Status(100..=199) => "1xx",
            Self::Status(200..=299) => "2xx",
            Self::Status(300..=399) => "3xx",
            Self::Status(400..=499) => "4xx",
            Self::Status(_) => "5xx",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Denied => f.write_str("denied"),
            Self::Failed => f.write_str("failed"),
        }
    }
}

/// A request that is over, its answer's body included.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The operator's name of the plugin.
    pub plugin: String,
    pub group: String,
    pub target: Target,
    /// The grant's entry that admitted it, `metadata`, or `other`: as many as the operator wrote, and two.
    pub host: String,
    pub method: http::Method,
    /// Without its query. What a guest makes up.
    pub path: String,
    pub outcome: Outcome,
    /// Bytes of bodies.
    pub sent: u64,
    pub received: u64,
    /// From the guest's asking to the end of the body, waits for a turn included.
    pub took: Duration,
}

impl Exchange {
    /// The method, where it is one of HTTP's own.
    pub fn method_label(&self) -> &'static str {
        match self.method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => "other",
        }
    }
}

/// Bytes of a path that a log line shows.
const PATH_SHOWN: usize = 256;

/// `GET https://ec2.eu-west-1.amazonaws.com/path 200`.
impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path[..self.path.floor_char_boundary(PATH_SHOWN)];
        let cut = if path.len() < self.path.len() {
            "…"
        } else {
            ""
        };
        write!(
            f,
            "{} {}{}{cut} {}",
            self.method_label(),
            self.target,
            path.escape_debug(),
            self.outcome
        )
    }
}

/// Told of every request when it is over.
pub type Observer = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// One under way: it is told when it is dropped, however it ended.
pub(super) struct Underway {
    exchange: Exchange,
    began: Instant,
    observer: Observer,
    /// At info rather than trace.
    is_logged: bool,
}

impl Underway {
    pub(super) fn new(exchange: Exchange, observer: Observer, is_logged: bool) -> Self {
        Self {
            exchange,
            began: Instant::now(),
            observer,
            is_logged,
        }
    }

    pub(super) fn denied(&mut self) {
        self.exchange.outcome = Outcome::Denied;
    }

    pub(super) fn sends(&mut self, bytes: usize) {
        self.exchange.sent = bytes as u64;
    }

    pub(super) fn answered(&mut self, status: http::StatusCode) {
        self.exchange.outcome = Outcome::Status(status.as_u16());
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.exchange.received += bytes as u64;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let exchange = &mut self.exchange;
        exchange.took = self.began.elapsed();
        (self.observer)(exchange);
        let (plugin, group) = (&exchange.plugin, &exchange.group);
        let (sent, received, took) = (exchange.sent, exchange.received, exchange.took);
        if self.is_logged {
            tracing::info!(%plugin, %group, sent, received, ?took, "request: {exchange}");
        } else {
            tracing::trace!(%plugin, %group, sent, received, ?took, "request: {exchange}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(path: String) -> Exchange {
        Exchange {
            plugin: "p".into(),
            group: "g".into(),
            target: Target::parse("https://api.example.com").expect("a target"),
            host: "other".into(),
            method: http::Method::from_bytes(b"STEAL").expect("a method"),
            path,
            outcome: Outcome::Failed,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_line_has_no_query_no_control_characters_and_an_end() {
        assert_eq!(
            exchange("/a\u{1b}b".into()).to_string(),
            "other https://api.example.com/a\\u{1b}b failed"
        );
        let long = exchange(format!("/{}", "é".repeat(1000))).to_string();
        assert!(long.len() < 320 && long.ends_with("… failed"), "{long}");
    }

    /// What a subscriber of `level` writes when a request ends.
    fn logged(is_logged: bool, level: tracing::Level) -> String {
        let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(move || Lines(to.clone()))
            .finish();
        let exchange = exchange("/path".into());
        let underway = Underway::new(exchange, Arc::new(|_| {}), is_logged);
        tracing::subscriber::with_default(subscriber, || drop(underway));
        let lines = lines.lock().expect("no test poisons it");
        String::from_utf8_lossy(&lines).into_owned()
    }

    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test poisons it").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_is_logged_where_the_operator_asks_for_it() {
        use tracing::Level;
        let line = "request: other https://api.example.com/path failed";
        assert!(logged(true, Level::INFO).contains(line));
        assert!(logged(false, Level::TRACE).contains(line));
        assert_eq!(logged(false, Level::DEBUG), "");
    }

    #[test]
    fn every_status_has_its_class() {
        for (status, class) in [
            (100, "1xx"),
            (204, "2xx"),
            (302, "3xx"),
            (429, "4xx"),
            (503, "5xx"),
            (999, "5xx"),
        ] {
            assert_eq!(Outcome::Status(status).class(), class);
        }
    }
}

//! A [`Host`] with real HTTP, for a plugin that runs natively.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use ureq::{Agent, Body, Timeout};

use super::Surroundings;
use crate::http::{Error, Limits, Request};
use crate::{Host, KvProblem, Level, SecretProblem, http};

/// As many as the sandbox lets through.
const AT_ONCE: usize = 8;

/// Sends to wherever the plugin says: what is granted, only the sandbox knows. With the feature `record` also over TLS.
#[derive(Debug, Default)]
pub struct Native {
    around: Surroundings,
}

impl Native {
    /// Secrets, variables, waits and log lines.
    pub fn around(&self) -> &Surroundings {
        &self.around
    }
}

impl Host for Native {
    fn send(&self, request: &Request, limits: &Limits) -> http::Result {
        let response = agent(limits).run(request.clone()).map_err(error)?;
        let (parts, mut body) = response.into_parts();
        Ok(http::Response::from_parts(parts, read(&mut body, limits)?))
    }

    fn send_all(&self, requests: &[Request], limits: &Limits) -> Vec<http::Result> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for some in requests.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let threads: Vec<_> = some
                    .iter()
                    .map(|request| scope.spawn(move || self.send(request, limits)))
                    .collect();
                let ended = threads.into_iter().map(|thread| {
                    let panicked = |_| Err(Error::Other("the test's client panicked".into()));
                    thread.join().unwrap_or_else(panicked)
                });
                outcomes.extend(ended);
            });
        }
        outcomes
    }

    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        self.around.secret(name)
    }

    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        Ok(self.around.stored(key))
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem> {
        self.around.swap(key, expected, new)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.around.variable(name)
    }

    /// As if every wait had been waited for.
    fn now(&self) -> SystemTime {
        SystemTime::now() + self.around.slept().iter().sum::<Duration>()
    }

    /// Noted, not waited for.
    fn sleep(&self, time: Duration) {
        self.around.sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.around.log(level, message, fields);
    }
}

fn agent(limits: &Limits) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.first_byte))
        .timeout_recv_body(Some(limits.between_bytes));
    #[cfg(feature = "record")]
    let config = {
        use std::sync::Arc;
        use ureq::tls::{RootCerts, TlsConfig};
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        config.tls_config(tls)
    };
    config.build().into()
}

fn read(body: &mut Body, limits: &Limits) -> Result<Vec<u8>, Error> {
    let limit = u64::try_from(limits.body).unwrap_or(u64::MAX);
    body.with_config()
        .limit(limit)
        .read_to_vec()
        .map_err(|failure| match failure {
            ureq::Error::BodyExceedsLimit(_) => Error::TooLarge(limits.body),
            other => error(other),
        })
}

fn error(failure: ureq::Error) -> Error {
    match failure {
        ureq::Error::HostNotFound => Error::Unresolved,
        ureq::Error::ConnectionFailed => Error::Refused,
        ureq::Error::Timeout(Timeout::Connect) => Error::TimedOut("connecting"),
        ureq::Error::Timeout(_) => Error::TimedOut("waiting for the answer"),
        ureq::Error::Tls(detail) => Error::Tls(detail.to_owned()),
        ureq::Error::BadUri(detail) => Error::Malformed(detail),
        ureq::Error::Io(io) => match io.kind() {
            ErrorKind::ConnectionRefused => Error::Refused,
            ErrorKind::TimedOut => Error::TimedOut("waiting for the answer"),
            _ => Error::Cut,
        },
        ureq::Error::Protocol(_) => Error::Cut,
        other => Error::Other(other.to_string()),
    }
}

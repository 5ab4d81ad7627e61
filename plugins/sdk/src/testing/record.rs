//! Writing down what a real cloud answers, without secrets, for [`super::Replay`].

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::redact::{self, Known};
use crate::http::{Error, Limits, Request};
use crate::{Host, KvProblem, Level, SecretProblem, http};

/// A file of exchanges. Bodies are text, and JSON's keys in them are sorted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recording {
    /// [`FORMAT`].
    pub(super) format: String,
    /// When it began, Unix milliseconds: the clock of a replay, so that what is signed is signed as it was.
    pub(super) at: u64,
    pub(super) exchanges: Vec<Exchange>,
}

pub(super) const FORMAT: &str = "fleetling-exchanges-1";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) request: Asked,
    pub(super) answer: Answer,
}

/// A request as it is compared: its headers change with the clock and are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) body: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Whole {
        status: u16,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(String, String)>,
        body: String,
    },
    Failed {
        failed: Failure,
    },
}

/// [`Error`], by a word.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Failure {
    Denied,
    TooMany,
    Unresolved,
    Refused,
    TimedOut,
    Cut,
    Tls(String),
    TooLarge(usize),
    Other(String),
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::Denied => Self::Denied,
            Error::TooMany => Self::TooMany,
            Error::Unresolved => Self::Unresolved,
            Error::Refused => Self::Refused,
            Error::TimedOut(_) => Self::TimedOut,
            Error::Cut => Self::Cut,
            Error::Tls(detail) => Self::Tls(detail.clone()),
            Error::TooLarge(limit) => Self::TooLarge(*limit),
            Error::Malformed(detail) | Error::Other(detail) => Self::Other(detail.clone()),
        }
    }
}

impl Asked {
    pub(super) fn of(request: &Request, known: &Known) -> Self {
        let body = String::from_utf8_lossy(request.body());
        Self {
            method: request.method().to_string(),
            address: known.hide(&redact::address(request.uri())),
            body: known.hide(&redact::body(&body)),
        }
    }
}

/// Passes everything on to `H`, and keeps what was said.
#[derive(Debug)]
pub struct Recorder<H> {
    host: H,
    began: SystemTime,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    known: Known,
    said: Vec<(Request, http::Result)>,
}

impl<H: Host> Recorder<H> {
    pub fn new(host: H) -> Self {
        let began = host.now();
        Self {
            host,
            began,
            kept: Mutex::default(),
        }
    }

    /// The host beneath.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Writes the file: without what goes under a secret's name, and without any text that a secret or a granted
    /// variable held. Look through it before you share it: a cloud's own numbers and addresses are in it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, file: impl AsRef<Path>) -> std::io::Result<()> {
        std::fs::write(file, self.text())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        let kept = self.kept();
        let exchange = |(request, outcome): &(Request, http::Result)| Exchange {
            request: Asked::of(request, &kept.known),
            answer: match outcome {
                Ok(response) => Answer::Whole {
                    status: response.status().as_u16(),
                    headers: headers(response, &kept.known),
                    body: {
                        let body = String::from_utf8_lossy(response.body());
                        kept.known.hide(&redact::body(&body))
                    },
                },
                Err(error) => Answer::Failed {
                    failed: error.into(),
                },
            },
        };
        let since = self.began.duration_since(SystemTime::UNIX_EPOCH);
        let recording = Recording {
            format: FORMAT.into(),
            at: u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            exchanges: kept.said.iter().map(exchange).collect(),
        };
        let text = serde_json::to_string_pretty(&recording).unwrap_or_default();
        text + "\n"
    }
}

fn headers(response: &http::Response, known: &Known) -> Vec<(String, String)> {
    let all = response.headers().iter();
    let kept = all.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = if redact::is_secret(name.as_str()) {
            redact::HIDDEN.to_owned()
        } else {
            known.hide(&value)
        };
        (name.to_string(), value)
    });
    kept.collect()
}

impl<H: Host> Host for Recorder<H> {
    fn send(&self, request: &Request, limits: &Limits) -> http::Result {
        let outcome = self.host.send(request, limits);
        let said = (request.clone(), outcome.clone());
        self.kept().said.push(said);
        outcome
    }

    fn send_all(&self, requests: &[Request], limits: &Limits) -> Vec<http::Result> {
        let outcomes = self.host.send_all(requests, limits);
        let said = requests.iter().cloned().zip(outcomes.iter().cloned());
        self.kept().said.extend(said);
        outcomes
    }

    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        let content = self.host.secret(name)?;
        self.kept().known.learn(&content);
        Ok(content)
    }

    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        self.host.stored(key)
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem> {
        self.host.swap(key, expected, new)
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = self.host.variable(name)?;
        if redact::is_secret(name) {
            self.kept().known.learn(value.as_bytes());
        }
        Some(value)
    }

    fn now(&self) -> SystemTime {
        self.host.now()
    }

    fn sleep(&self, time: Duration) {
        self.host.sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.host.log(level, message, fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Api;
    use crate::script::Script;
    use crate::testing::Replay;
    use serde_json::{Value, json};

    #[test]
    fn what_was_recorded_is_replayed_and_holds_no_secret() {
        let recorder = Recorder::new(Script::default());
        recorder.host().set_secret("token", "s3cr3t-of-mine\n");
        recorder.host().answer_with(
            200,
            &[("set-cookie", "id=1"), ("x-limit", "3")],
            r#"{"id":"a","note":"made with s3cr3t-of-mine","admin_password":"p"}"#,
        );
        recorder.host().fail(Error::Cut);
        fn story(host: &dyn Host, secret_in_query: &str) -> (Value, bool) {
            let api = Api::new(host, "https://api.example.com")
                .bearer("token")
                .expect("it is granted");
            let path = format!("/things?key={secret_in_query}");
            let made = api
                .post(&path, &json!({"password": "p"}))
                .expect("it is made");
            let second = api.post::<Value>("/more", &json!({}));
            (made, second.is_err())
        }
        let first = story(&recorder, "s3cr3t-of-mine");
        let text = recorder.text();
        assert!(
            !text.contains("s3cr3t") && !text.contains("\"p\""),
            "{text}"
        );

        // A replay has no secrets of its own: any content will do.
        let replay = Replay::from_text(&text).expect("it was just written");
        replay.around().set_secret("token", "another");
        let (made, is_refused) = story(&replay, "REDACTED");
        assert_eq!(made["id"], first.0["id"]);
        assert_eq!(made["note"], "made with REDACTED");
        assert!(is_refused);
        replay.is_over();
        assert_eq!(replay.now(), recorder.host().now());
    }
}

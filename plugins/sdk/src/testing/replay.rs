//! A [`Host`] that answers as a real cloud once did.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::Surroundings;
use super::record::{Answer, Asked, Exchange, FORMAT, Failure, Recording};
use super::redact::Known;
use crate::http::{Error, HeaderName, HeaderValue, Limits, Request, Response, StatusCode};
use crate::{Host, KvProblem, Level, SecretProblem, http};

/// Each request gets the answer of the first recorded one like it that has not been given. Alike are method, address and
/// body, secrets left out.
#[derive(Debug)]
pub struct Replay {
    around: Surroundings,
    at: SystemTime,
    left: Mutex<Vec<Exchange>>,
}

impl Replay {
    /// # Errors
    /// If the file cannot be read, or is no recording.
    pub fn load(file: impl AsRef<Path>) -> std::io::Result<Self> {
        Self::from_text(&std::fs::read_to_string(file)?)
    }

    /// # Errors
    /// If it is no recording.
    pub fn from_text(text: &str) -> std::io::Result<Self> {
        let recording: Recording = serde_json::from_str(text)?;
        if recording.format != FORMAT {
            let message = format!(
                "its format is `{}`; this SDK reads {FORMAT}",
                recording.format
            );
            return Err(std::io::Error::other(message));
        }
        Ok(Self {
            around: Surroundings::default(),
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(recording.at),
            left: Mutex::new(recording.exchanges),
        })
    }

    /// Secrets, variables, waits and log lines. A secret's content may be anything.
    pub fn around(&self) -> &Surroundings {
        &self.around
    }

    /// The test ends here.
    ///
    /// # Panics
    /// If recorded answers were not asked for.
    pub fn is_over(&self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            left.is_empty(),
            "not asked for: {:#?}",
            left.iter().map(|one| &one.request).collect::<Vec<_>>()
        );
    }
}

impl Host for Replay {
    /// # Panics
    /// If nothing like it was recorded.
    fn send(&self, request: &Request, limits: &Limits) -> http::Result {
        let asked = Asked::of(request, &Known::default());
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = left.iter().position(|one| one.request == asked) else {
            let next = left.first().map(|one| &one.request);
            panic!("nothing like this was recorded: {asked:#?}\nthe next would be: {next:#?}");
        };
        let answer = left.remove(place).answer;
        drop(left);
        match answer {
            Answer::Whole { body, .. } if body.len() > limits.body => {
                Err(Error::TooLarge(limits.body))
            }
            Answer::Whole {
                status,
                headers,
                body,
            } => Ok(whole(status, headers, body)),
            Answer::Failed { failed } => Err(failed.into()),
        }
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

    /// When the recording began; it stands still.
    fn now(&self) -> SystemTime {
        self.at
    }

    fn sleep(&self, time: Duration) {
        self.around.sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.around.log(level, message, fields);
    }
}

fn whole(status: u16, headers: Vec<(String, String)>, body: String) -> Response {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    for (name, value) in headers {
        let both = (HeaderName::try_from(name), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = both {
            response.headers_mut().append(name, value);
        }
    }
    response
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Denied => Self::Denied,
            Failure::TooMany => Self::TooMany,
            Failure::Unresolved => Self::Unresolved,
            Failure::Refused => Self::Refused,
            Failure::TimedOut => Self::TimedOut("waiting for the answer"),
            Failure::Cut => Self::Cut,
            Failure::Tls(detail) => Self::Tls(detail),
            Failure::TooLarge(limit) => Self::TooLarge(limit),
            Failure::Other(detail) => Self::Other(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_recording_is_refused() {
        for text in ["", "{}", r#"{"format":"other","at":0,"exchanges":[]}"#] {
            assert!(Replay::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "nothing like this was recorded")]
    fn a_request_that_was_not_recorded_ends_the_test() {
        let text = format!(r#"{{"format":"{FORMAT}","at":0,"exchanges":[]}}"#);
        let replay = Replay::from_text(&text).expect("it is empty, and one");
        let _ = replay.send(&Request::new(Vec::new()), &Limits::default());
    }
}

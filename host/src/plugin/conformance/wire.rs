//! The plugin's way out during a check: counted, and cut or spoilt where a check wants it to be.
//!
//! ```text
//! Through ─ every exchange as it is
//! Faulty  ─ from request n on (or at n alone) the fault's answer stands in the place of the cloud's
//! Deadly  ─ request n never ends for the plugin, and whoever waits on `killed` throws the plugin away:
//!           before it left, or after the cloud had answered it
//! ```
//! Requests are counted from 0 since the mode was set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::sync::watch;
use wasmtime_wasi_http::Error;

use crate::plugin::egress::tap::{Answer, Asked, Ending, Tap, Upstream};
use crate::plugin::grants::Denial;

/// What goes wrong between plugin and cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TooMany,
    Broken,
    Garbage,
    Empty,
    Halved,
    Truncated,
    Slow,
    Unreached,
    Unanswered,
}

impl Fault {
    pub const ALL: [Self; 9] = [
        Self::TooMany,
        Self::Broken,
        Self::Garbage,
        Self::Empty,
        Self::Halved,
        Self::Truncated,
        Self::Slow,
        Self::Unreached,
        Self::Unanswered,
    ];

    /// The name of its check.
    pub fn check(self) -> &'static str {
        match self {
            Self::TooMany => "answers of status 429 are survived",
            Self::Broken => "answers of status 500 are survived",
            Self::Garbage => "garbage for an answer is survived",
            Self::Empty => "empty answers are survived",
            Self::Halved => "half an answer is survived",
            Self::Truncated => "a connection lost within an answer is survived",
            Self::Slow => "slow answers are waited for",
            Self::Unreached => "a cloud that cannot be reached is survived",
            Self::Unanswered => "a connection lost before the answer is survived",
        }
    }

    /// Whether the cloud gets the request: an answer of status 200 is never made up, because a plugin may trust it.
    fn reaches(self) -> bool {
        !matches!(self, Self::TooMany | Self::Broken | Self::Unreached)
    }

    /// Whether it is made of what the cloud answered.
    pub fn needs_an_answer(self) -> bool {
        self.reaches() && !matches!(self, Self::Garbage | Self::Empty)
    }

    /// Whether one request alone has it, and the next goes well.
    fn is_single(self) -> bool {
        matches!(self, Self::Halved | Self::Truncated | Self::Unanswered)
    }

    async fn answer(self, upstream: Upstream<'_>) -> Result<Answer, Error> {
        if self.reaches() {
            return self.spoil(upstream.await?);
        }
        match self {
            Self::TooMany => {
                let mut answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, "slow down");
                let header = http::header::RETRY_AFTER;
                answer.headers.insert(header, HeaderValue::from_static("1"));
                Ok(answer)
            }
            Self::Broken => Ok(Answer::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "something went wrong",
            )),
            _ => Err(Error::ConnectionRefused),
        }
    }

    fn spoil(self, mut answer: Answer) -> Result<Answer, Error> {
        match self {
            Self::Slow => answer.ending = Ending::Dripping(DRIP),
            Self::Unanswered => return Err(Error::ConnectionTerminated),
            Self::Garbage => answer.body = Bytes::from_static(GARBAGE),
            Self::Empty => answer.body = Bytes::new(),
            _ => {
                answer.body.truncate(answer.body.len() / 2);
                if self == Self::Truncated {
                    answer.ending = Ending::Cut;
                }
            }
        }
        Ok(answer)
    }
}

const GARBAGE: &[u8] = b"\x00\xff\xfe<<{{[\"not what was asked for";

/// Between two pieces of a slow answer.
const DRIP: Duration = Duration::from_millis(30);

/// When a plugin is killed, seen from one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Through,
    Faulty { fault: Fault, at: usize },
    Deadly { moment: Moment, at: usize },
}

#[derive(Debug)]
struct Record {
    mode: Mode,
    /// Since the mode was set, as `METHOD scheme://host`.
    asked: Vec<String>,
    /// Since the check began: what was refused, with the lines that would grant it.
    denied: Vec<(String, Option<String>)>,
    secrets_denied: Vec<String>,
}

/// One check's.
#[derive(Debug)]
pub struct Wire {
    /// No request leaves: an empty answer stands in for the cloud's.
    is_scripted: bool,
    record: Mutex<Record>,
    killed: watch::Sender<bool>,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            is_scripted: false,
            record: Mutex::new(Record {
                mode: Mode::Through,
                asked: Vec::new(),
                denied: Vec::new(),
                secrets_denied: Vec::new(),
            }),
            killed: watch::Sender::new(false),
        }
    }
}

impl Wire {
    /// On which nobody but the wire itself answers.
    pub fn scripted() -> Self {
        Self {
            is_scripted: true,
            ..Self::default()
        }
    }

    /// Every exchange as it is, counted anew.
    pub fn open(&self) {
        self.set(Mode::Through);
    }

    /// `at`: the first request, or the only one, that has the fault.
    pub fn spoil(&self, fault: Fault, at: usize) {
        self.set(Mode::Faulty { fault, at });
    }

    pub fn kill(&self, moment: Moment, at: usize) {
        self.set(Mode::Deadly { moment, at });
    }

    fn set(&self, mode: Mode) {
        let mut record = self.record();
        record.mode = mode;
        record.asked.clear();
        self.killed.send_replace(false);
    }

    /// Requests since the mode was set.
    pub fn asked(&self) -> Vec<String> {
        self.record().asked.clone()
    }

    /// Everything refused since the check began, each once: what, and the lines that would grant it.
    pub fn denied(&self) -> Vec<(String, Option<String>)> {
        let record = self.record();
        let mut denied = record.denied.clone();
        denied.extend(record.secrets_denied.iter().map(|name| {
            let line = format!("secret.{name:?} = {{ file = \"…\" }}");
            (format!("the secret `{name}` is not granted"), Some(line))
        }));
        denied.sort();
        denied.dedup();
        denied
    }

    /// Hosts alone, each once.
    pub fn hosts_denied(&self) -> Vec<String> {
        let record = self.record();
        let mut hosts: Vec<_> = record.denied.iter().map(|(what, _)| what.clone()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Returns when the deadly request came.
    pub async fn killed(&self) {
        let mut killed = self.killed.subscribe();
        // The sender is part of this wire.
        let _ = killed.wait_for(|killed| *killed).await;
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Tap for Wire {
    async fn exchange(&self, asked: Asked, upstream: Upstream<'_>) -> Result<Answer, Error> {
        let (mode, number) = {
            let mut record = self.record();
            let origin = asked.url.origin().ascii_serialization();
            record.asked.push(format!("{} {origin}", asked.method));
            (record.mode, record.asked.len() - 1)
        };
        let upstream: Upstream<'_> = if self.is_scripted {
            Box::pin(async { Ok(Answer::new(StatusCode::OK, Bytes::new())) })
        } else {
            upstream
        };
        match mode {
            Mode::Faulty { fault, at } if number == at || number > at && !fault.is_single() => {
                fault.answer(upstream).await
            }
            Mode::Deadly { moment, at } if number == at => {
                if moment == Moment::After {
                    // Whatever the cloud answers, nobody is left to read it.
                    let _ = upstream.await;
                }
                self.killed.send_replace(true);
                std::future::pending().await
            }
            _ => upstream.await,
        }
    }

    fn denied(&self, denial: &Denial) {
        let mut record = self.record();
        let told = (denial.to_string(), denial.grant());
        if !record.denied.contains(&told) {
            record.denied.push(told);
        }
    }

    fn secret_denied(&self, name: &str) {
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let mut record = self.record();
        if !record.secrets_denied.contains(&name) {
            record.secrets_denied.push(name);
        }
    }
}

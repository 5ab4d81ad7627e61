//! A GitLab for tests in virtual time: keeps one log strictly, answers what it was scripted to, notes what it heard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::api::{Answer, Appended, JobApi, JobKey, Update, Updated};
use super::outcome::Signal;
use super::payload::Job;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Append { start: u64, text: String },
    Update(Update),
}

pub(super) struct FakeGitlab {
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Vec<u8>,
    heard: Vec<(Duration, Heard)>,
    appends: VecDeque<Answer<Appended>>,
    updates: VecDeque<Answer<Updated>>,
}

pub(super) fn plain<V>(verdict: V) -> Answer<V> {
    signalled(verdict, Signal::Run)
}

pub(super) fn signalled<V>(verdict: V, signal: Signal) -> Answer<V> {
    Answer {
        verdict,
        signal,
        interval: None,
    }
}

impl FakeGitlab {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// The next appends are answered so; those after them by the log.
    pub(super) fn on_append(&self, answers: impl IntoIterator<Item = Answer<Appended>>) {
        self.state().appends.extend(answers);
    }

    /// The next updates are answered so; those after them with 200.
    pub(super) fn on_update(&self, answers: impl IntoIterator<Item = Answer<Updated>>) {
        self.state().updates.extend(answers);
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8(self.state().log.clone()).expect("a log is text")
    }

    pub(super) fn set_log(&self, log: &str) {
        self.state().log = log.into();
    }

    /// Everything heard, with when, since the fake was made.
    pub(super) fn heard(&self) -> Vec<(Duration, Heard)> {
        self.state().heard.clone()
    }

    pub(super) fn updates(&self) -> Vec<(Duration, Update)> {
        self.heard()
            .into_iter()
            .filter_map(|(when, heard)| match heard {
                Heard::Update(update) => Some((when, update)),
                Heard::Append { .. } => None,
            })
            .collect()
    }

    pub(super) fn appends(&self) -> Vec<(Duration, u64, String)> {
        self.heard()
            .into_iter()
            .filter_map(|(when, heard)| match heard {
                Heard::Append { start, text } => Some((when, start, text)),
                Heard::Update(_) => None,
            })
            .collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds this")
    }
}

#[async_trait]
impl JobApi for FakeGitlab {
    async fn append(&self, _: &JobKey, start: u64, bytes: Bytes, _: bool) -> Answer<Appended> {
        let mut state = self.state();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            !bytes.is_empty() && bytes.len() <= 1024 * 1024,
            "{}",
            bytes.len()
        );
        let when = self.begun.elapsed();
        state.heard.push((when, Heard::Append { start, text }));
        if let Some(answer) = state.appends.pop_front() {
            if answer.verdict == Appended::Accepted {
                state.log.extend_from_slice(&bytes);
            }
            return answer;
        }
        if start != state.log.len() as u64 {
            return plain(Appended::Resync(state.log.len() as u64));
        }
        state.log.extend_from_slice(&bytes);
        plain(Appended::Accepted)
    }

    async fn update(&self, _: &JobKey, update: &Update) -> Answer<Updated> {
        let mut state = self.state();
        let when = self.begun.elapsed();
        state.heard.push((when, Heard::Update(update.clone())));
        state
            .updates
            .pop_front()
            .unwrap_or_else(|| plain(Updated::Succeeded))
    }
}

/// A job with nothing in it but what identifies it.
pub(super) fn job() -> Job {
    serde_json::from_value(serde_json::json!({ "id": 7, "token": "job-secret" }))
        .expect("the least a job has")
}

//! Everything that happens in the lab, in the order it was seen: stories wait on it, the demo prints it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::sync::watch;

use crate::coordinator::JobId;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    JobQueued(JobId, String),
    /// GitLab gave the job to the manager.
    JobGiven(JobId),
    /// The manager confirmed it (second phase of the commit).
    JobConfirmed(JobId),
    /// The job's log grew to this many bytes.
    LogGrew(JobId, usize),
    /// The job reached its last state.
    JobEnded(JobId, String),
    /// A request to GitLab and the status it got.
    Asked {
        method: String,
        path: String,
        status: u16,
    },
    /// Something GitLab would refuse or wonder about; says which part of GitLab would.
    Violation(String),
    /// A signed or refused request to the cloud.
    CloudAsked {
        action: String,
        parameters: serde_json::Value,
        status: u16,
        /// ID of the key that signed it; empty where none did.
        key: String,
    },
    InstanceLaunched(String),
    InstanceBooted(String),
    /// The cloud ended it.
    InstanceEnded(String),
    /// A login key was authorised for a minute.
    KeyAuthorised(String),
    /// A line of the manager's log.
    Said(String),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Instant,
    pub fact: Fact,
}

/// Cheap to clone; every part of the lab writes to the same one.
#[derive(Clone)]
pub struct Journal {
    entries: Arc<Mutex<Vec<Entry>>>,
    length: Arc<watch::Sender<usize>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            entries: Arc::default(),
            length: Arc::new(watch::channel(0).0),
        }
    }
}

impl Journal {
    pub fn record(&self, fact: Fact) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry {
            at: Instant::now(),
            fact,
        });
        self.length.send_replace(entries.len());
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.since(0)
    }

    /// What was recorded from position `from` on.
    pub fn since(&self, from: usize) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(from..).unwrap_or_default().to_vec()
    }

    /// The journal's length; changes with every entry.
    pub fn length(&self) -> watch::Receiver<usize> {
        self.length.subscribe()
    }

    /// Waits until `condition` holds, asking again after every entry and every 100 ms; the error says what was awaited.
    pub async fn until<T>(
        &self,
        awaited: &str,
        within: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let mut length = self.length();
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(found) = condition() {
                return Ok(found);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(anyhow!(
                    "waited {} s in vain for {awaited}",
                    within.as_secs_f32()
                ));
            }
            // Not every condition shows in the journal (a file, a process), so it is asked again now and then.
            let step = (tokio::time::Instant::now() + Duration::from_millis(100)).min(deadline);
            let _ = tokio::time::timeout_at(step, length.changed()).await;
        }
    }

    /// Watches for `during` that `broken` answers nothing; the first answer is the error.
    pub async fn holds(
        &self,
        what: &str,
        during: Duration,
        mut broken: impl FnMut() -> Option<String>,
    ) -> Result<()> {
        match self.until(what, during, &mut broken).await {
            Ok(how) => Err(anyhow!("{what}: not for {} s: {how}", during.as_secs_f32())),
            Err(_) => Ok(()),
        }
    }

    /// Waits until an entry matches, those already there included.
    pub async fn until_fact<T>(
        &self,
        awaited: &str,
        within: Duration,
        mut find: impl FnMut(&Fact) -> Option<T>,
    ) -> Result<T> {
        self.until(awaited, within, || {
            self.entries().iter().find_map(|entry| find(&entry.fact))
        })
        .await
    }
}

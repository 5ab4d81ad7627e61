//! What is kept of the scaler's decisions and of the lives of jobs and instances, so that `why` can tell it later.
//!
//! ```text
//! runners, jobs ──record──► bounded channel ──► one task: merge ──► lines ──► store::journal
//!                                └─ full: counted, and told as an entry of its own
//! ```
//!
//! Invariants: recording never waits. An entry holds no secret: IDs, numbers, reasons, and what a provider said. A
//! repeated verdict is one entry with a first and a last time: its first line is written at once, a later line of the
//! same beginning replaces it.

use serde::{Deserialize, Serialize};

mod merge;
mod recorder;

pub use merge::merged;
pub use recorder::Recorder;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: jiff::Timestamp,
    /// When it was seen last, if more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
    /// The runner's name; absent for what concerns the whole manager.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runner: String,
    /// The provider's identity of the instance group, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(flatten)]
    pub event: Event,
}

fn once() -> u64 {
    1
}

fn is_once(times: &u64) -> bool {
    *times == 1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    ManagerStarted {
        version: String,
    },
    ManagerStopped,
    /// Entries that were not kept, because they came faster than they could be written.
    Lost {
        entries: u64,
    },
    Decided {
        /// increase, remove, refuse, hold.
        decision: String,
        reason: String,
        /// The whole of it as a sentence.
        text: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        instances: Vec<String>,
        numbers: Numbers,
    },
    InstancesRequested {
        count: u32,
    },
    RequestRefused {
        problem: String,
    },
    /// The group has a problem until [`Event::ProblemEnded`].
    Problem {
        problem: String,
    },
    ProblemEnded,
    InstanceListed {
        instance: String,
        cause: String,
        /// Known from an earlier process.
        adopted: bool,
        /// The decision that asked for it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<Asked>,
    },
    InstanceRunning {
        instance: String,
    },
    InstanceReady {
        instance: String,
        after_ms: u64,
    },
    InstanceQuarantined {
        instance: String,
    },
    InstanceRemoving {
        instance: String,
        reason: String,
    },
    InstanceGone {
        instance: String,
    },
    JobReceived {
        job: u64,
        /// In GitLab's queue.
        queued_ms: Option<u64>,
    },
    /// GitLab gave it to nobody or took it back.
    JobNotTaken {
        job: u64,
        why: String,
    },
    JobAcquired {
        job: u64,
        instance: String,
        slot: u32,
        waited_ms: u64,
    },
    /// It got no slot.
    JobNotServed {
        job: u64,
        why: String,
        waited_ms: u64,
    },
    JobEnded {
        job: u64,
        /// success, failed, abandoned.
        outcome: String,
        /// GitLab's word for why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        ran_ms: u64,
    },
    JobReleased {
        job: u64,
        instance: String,
        /// Why the instance is not used again, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retired: Option<String>,
    },
    /// Written by another version.
    #[serde(other)]
    Unknown,
}

/// The increase that an instance came of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub at: jiff::Timestamp,
    pub text: String,
}

/// What a decision was taken on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    pub in_use: u32,
    pub waiting: u32,
    pub reserved: u32,
    pub idle_target: u32,
    pub instances: u32,
    pub coming: u32,
    pub max_instances: Option<u32>,
}

impl Entry {
    pub fn new(at: jiff::Timestamp, runner: &str, group: Option<&str>, event: Event) -> Self {
        Self {
            at,
            until: None,
            times: 1,
            runner: runner.to_owned(),
            group: group.map(str::to_owned),
            event,
        }
    }

    /// The last moment it speaks of.
    pub fn end(&self) -> jiff::Timestamp {
        self.until.unwrap_or(self.at)
    }
}

impl Event {
    pub fn job(&self) -> Option<u64> {
        match self {
            Self::JobReceived { job, .. }
            | Self::JobNotTaken { job, .. }
            | Self::JobAcquired { job, .. }
            | Self::JobNotServed { job, .. }
            | Self::JobEnded { job, .. }
            | Self::JobReleased { job, .. } => Some(*job),
            _ => None,
        }
    }

    /// Whether it tells of that instance.
    pub fn concerns(&self, id: &str) -> bool {
        match self {
            Self::InstanceListed { instance, .. }
            | Self::InstanceRunning { instance }
            | Self::InstanceReady { instance, .. }
            | Self::InstanceQuarantined { instance }
            | Self::InstanceRemoving { instance, .. }
            | Self::InstanceGone { instance }
            | Self::JobAcquired { instance, .. }
            | Self::JobReleased { instance, .. } => instance == id,
            Self::Decided { instances, .. } => instances.iter().any(|instance| instance == id),
            _ => false,
        }
    }
}

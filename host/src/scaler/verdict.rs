//! What the scaler decided and why, for those who tell it: the log, the metrics, the journal.
//!
//! A verdict has a *decision* and a *reason*, words that stay the same so that they can be counted, and says itself in
//! a sentence. "Do nothing" is a verdict only while jobs wait.

use std::fmt;

use super::capacity::{Refusal, Why};
use super::status::NoCapacity;
use crate::fleet::group::InstanceId;
use crate::fleet::instance::{Cause, RemovalReason};

/// A verdict, the numbers it was taken on, and whether it only says again what the last of its kind said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub verdict: Verdict,
    pub numbers: Numbers,
    pub again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Instances are asked for.
    Increase(u32, Why),
    /// Instances are removed, all for one reason.
    Remove(Vec<InstanceId>, RemovalReason),
    /// GitLab is not asked for a job.
    Refuse(NoCapacity),
    /// Jobs wait, and nothing is asked for.
    Hold(Hold),
}

/// Why nothing is asked for although jobs wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    #[error("enough instances were asked for and are not ready yet")]
    Coming,
    #[error("max_instances is reached")]
    AtMaximum,
    #[error("scale_throttle lets no more instances through yet")]
    Throttled,
    #[error("the last request for instances failed and the next one waits: {0}")]
    Problem(String),
}

/// What a decision was taken on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Slots.
    pub in_use: u32,
    pub waiting: u32,
    pub reserved: u32,
    pub idle_target: u32,
    /// Instances: everything that exists, the leaving ones included.
    pub instances: u32,
    /// Asked for, not listed yet.
    pub coming: u32,
    /// `None` is unlimited.
    pub max: Option<u32>,
}

impl Verdict {
    pub fn decision(&self) -> &'static str {
        match self {
            Self::Increase(..) => "increase",
            Self::Remove(..) => "remove",
            Self::Refuse(_) => "refuse",
            Self::Hold(_) => "hold",
        }
    }

    pub fn reason(&self) -> &'static str {
        match self {
            Self::Increase(_, why) => why.code(),
            Self::Remove(_, reason) => removal_code(reason),
            Self::Refuse(why) => match why {
                NoCapacity::Full(Refusal::NothingAvailable) => "nothing_available",
                NoCapacity::Full(Refusal::NothingPossible) => "nothing_possible",
                NoCapacity::Full(Refusal::MakingRoom) => "making_room",
                NoCapacity::NotOpened => "group_not_read",
                NoCapacity::Problem(_) => "problem",
                NoCapacity::ShuttingDown => "shutting_down",
            },
            Self::Hold(why) => match why {
                Hold::Coming => "instances_coming",
                Hold::AtMaximum => "at_maximum",
                Hold::Throttled => "throttled",
                Hold::Problem(_) => "problem",
            },
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Increase(count, why) => write!(f, "ask for {count} more: {why}"),
            Self::Remove(instances, reason) => {
                f.write_str("remove ")?;
                for (n, id) in instances.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    write!(f, "{comma}{id}")?;
                }
                write!(f, ": {reason}")
            }
            Self::Refuse(why) => write!(f, "ask GitLab for no job: {why}"),
            Self::Hold(why) => write!(f, "ask for no instance although jobs wait: {why}"),
        }
    }
}

fn removal_code(reason: &RemovalReason) -> &'static str {
    match reason {
        RemovalReason::MaxUseCount => "max_use_count",
        RemovalReason::IdleTooLong => "idle_too_long",
        RemovalReason::NotRequested(Cause::Preexisted) => "preexisted",
        RemovalReason::NotRequested(_) => "unexpected",
        RemovalReason::LeftInUse => "left_in_use",
        RemovalReason::DecidedBefore => "decided_before",
        RemovalReason::NotReady(_) => "not_ready",
        RemovalReason::ConnectionLost => "connection_lost",
        RemovalReason::NeverRan(_) => "never_ran",
        RemovalReason::Unhealthy(_) => "unhealthy",
        RemovalReason::Outdated => "outdated",
        RemovalReason::Retired(_) => "retired",
        RemovalReason::Broken(_) => "broken",
        RemovalReason::Interrupted(_) => "interrupted",
        RemovalReason::Unlisted => "unlisted",
        RemovalReason::Shutdown => "shutdown",
    }
}

//! Whether a ready instance still answers: when that was last proved, and when it is asked again.
//!
//! ```text
//!            due, or a job wants it and the proof is old           answered
//!  Proved ───────────────────────────────────────────────► Asked ──────────► Proved
//!                                                          ▲    │ did not answer
//!                                                          │    ▼
//!                                                          Failing ──► doomed, after `failure_threshold` in a row
//! ```
//!
//! Invariant: only a proved instance gets a job, and only an idle one is asked: a job's own connection proves the rest.

use std::time::{Duration, Instant};

use super::{Grant, Ledger};
use crate::fleet::group::InstanceId;
use crate::fleet::instance::RemovalReason;

/// How often an idle instance is asked (GitLab Runner's interval).
const EVERY: Duration = Duration::from_secs(300);
/// How long a proof is good enough for a job.
const HOLDS: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Proved(Instant),
    Asked { failures: u32 },
    Failing { failures: u32, again: Instant },
}

impl Pulse {
    pub(super) fn is_proved(self) -> bool {
        matches!(self, Self::Proved(_))
    }

    pub(super) fn due(self) -> Option<Instant> {
        match self {
            Self::Proved(at) => Some(at + EVERY),
            Self::Asked { .. } => None,
            Self::Failing { again, .. } => Some(again),
        }
    }

    fn is_old(self, now: Instant) -> bool {
        match self {
            Self::Proved(at) => now >= at + HOLDS,
            Self::Asked { .. } | Self::Failing { .. } => true,
        }
    }
}

/// What serves whoever waits longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    Grant(Grant),
    /// It may serve once it answers.
    Check(InstanceId),
}

impl Ledger {
    /// The next step for who waits; `None` when there is none to take now. An instance that was idle for long is asked
    /// before it gets a job, one for each job that waits, so that a dead one costs a ping and no job.
    pub fn serve(&mut self, now: Instant) -> Option<Serve> {
        let (_, _, id) = self.open.first().filter(|_| !self.waiting.is_empty())?;
        let id = id.clone();
        let pulse = self.entry(&id)?.pulse;
        if !self.shape.heartbeats || !pulse.is_old(now) || self.entry(&id)?.instance.jobs() > 0 {
            return self.grant().map(Serve::Grant);
        }
        (self.counts.asked < self.waiting()).then(|| {
            self.ask(&id);
            Serve::Check(id)
        })
    }

    /// Idle instances to ask now, and when the next one is due.
    pub fn checks_due(&mut self, now: Instant) -> (Vec<InstanceId>, Option<Instant>) {
        let mut due = Vec::new();
        if !self.shape.heartbeats {
            return (due, None);
        }
        while let Some((at, id)) = self.checks.first().cloned() {
            if now < at {
                return (due, Some(at));
            }
            self.ask(&id);
            due.push(id);
        }
        (due, None)
    }

    /// An instance answered, or did not. True: once too often, and it is doomed.
    pub fn checked(
        &mut self,
        id: &InstanceId,
        alive: Result<(), String>,
        threshold: u32,
        now: Instant,
    ) -> bool {
        let doomed = self.touch(id, |entry| {
            let Pulse::Asked { failures } = entry.pulse else {
                return false;
            };
            match alive {
                Ok(()) => entry.pulse = Pulse::Proved(now),
                Err(why) => {
                    let failures = failures + 1;
                    let again = now + RETRY;
                    entry.pulse = Pulse::Failing { failures, again };
                    if failures >= threshold {
                        entry.doom(RemovalReason::Unhealthy(why), now);
                        return true;
                    }
                }
            }
            false
        });
        doomed == Some(true)
    }

    fn ask(&mut self, id: &InstanceId) {
        self.touch(id, |entry| {
            let failures = match entry.pulse {
                Pulse::Failing { failures, .. } | Pulse::Asked { failures } => failures,
                Pulse::Proved(_) => 0,
            };
            entry.pulse = Pulse::Asked { failures };
        });
    }
}

//! The life of one instance, as we decided it and as the cloud tells it; pure.
//!
//! ```text
//!            ┌──► Inspecting ◄──► Quarantined      (unknown history: is a job of another manager there?)
//!            │        │                │
//!  Listed ───┤        └───────┬────────┘
//!            │                ▼
//!            └──► Preparing ──┼──────► Removing ──► Gone
//!                     │       │           ▲
//!                     ▼       │           │
//!                   Ready ────┴───────────┤
//!                     ▲│                  │
//!                     │▼                  │
//!                   InUse ──► Draining ───┘        (the last job's end frees a draining instance)
//! ```
//!
//! Every phase may also become Gone, because the cloud may take an instance at any time. Invariants: only InUse and
//! Draining hold jobs; Removing never holds one; nothing leaves Gone; the use count never falls except when a use
//! that never began is taken back.

use std::fmt;
use std::time::Instant;

use super::group::{InstanceId, InstanceState, InterruptionKind};

/// Why an instance exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// We asked for it, or the group replaced one that we had asked for.
    Requested,
    /// It stood there at start and no record of ours names it.
    Preexisted,
    /// It appeared beyond what we want.
    Unexpected,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Preexisted => "preexisted",
            Self::Unexpected => "unexpected",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Listed,
    Inspecting,
    Quarantined,
    Preparing,
    Ready,
    InUse,
    Draining,
    Removing,
    Gone,
}

impl Phase {
    pub const ALL: [Self; 9] = [
        Self::Listed,
        Self::Inspecting,
        Self::Quarantined,
        Self::Preparing,
        Self::Ready,
        Self::InUse,
        Self::Draining,
        Self::Removing,
        Self::Gone,
    ];

    /// The arrows of the diagram above, and nothing else.
    pub fn may_become(self, next: Self) -> bool {
        use Phase::{Draining, Gone, InUse, Inspecting, Listed, Preparing, Quarantined, Ready};
        match next {
            Listed => false,
            Inspecting => matches!(self, Listed | Quarantined),
            Quarantined => self == Inspecting,
            Preparing => self == Listed,
            Ready => matches!(self, Preparing | InUse),
            InUse => self == Ready,
            Draining => self == InUse,
            Self::Removing => !matches!(self, InUse | Self::Removing | Gone),
            Gone => self != Gone,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "listed",
            Self::Inspecting => "inspecting",
            Self::Quarantined => "quarantined",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::InUse => "in use",
            Self::Draining => "draining",
            Self::Removing => "removing",
            Self::Gone => "gone",
        })
    }
}

/// Why an instance is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    MaxUseCount,
    IdleTooLong,
    /// Not among what we want: surplus of the cloud, or of unknown history.
    NotRequested(Cause),
    /// The record says that a job ran there when the manager stopped.
    LeftInUse,
    /// The record says that its removal had been decided.
    DecidedBefore,
    NotReady(String),
    /// Listed for long, and never running.
    NeverRan(InstanceState),
    ConnectionLost,
    /// It did not answer several heartbeats in a row.
    Unhealthy(String),
    /// The group makes new instances from something else now.
    Outdated,
    /// The job that used it says so.
    Retired(String),
    /// The cloud lists it as failed or stopped.
    Broken(InstanceState),
    /// The cloud announced that it will take it away.
    Interrupted(InterruptionKind),
    /// The cloud lists it no more, and still it answers.
    Unlisted,
    Shutdown,
}

impl fmt::Display for RemovalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxUseCount => f.write_str("max_use_count reached"),
            Self::IdleTooLong => f.write_str("idle for longer than idle_time and not needed"),
            Self::NotRequested(Cause::Preexisted) => {
                f.write_str("stood there at start without a record of ours")
            }
            Self::NotRequested(_) => f.write_str("appeared without being requested"),
            Self::LeftInUse => f.write_str("a job ran there when the manager stopped"),
            Self::DecidedBefore => {
                f.write_str("its removal was decided before the manager stopped")
            }
            Self::NotReady(why) => write!(f, "could not be made ready: {why}"),
            Self::NeverRan(state) => write!(
                f,
                "it never ran: the cloud lists it as {} for as long as a job would wait",
                state_name(*state)
            ),
            Self::Unhealthy(why) => write!(f, "it does not answer: {why}"),
            Self::Outdated => f.write_str("the group makes its instances from something newer"),
            Self::ConnectionLost => f.write_str("its connection was lost and did not come back"),
            Self::Retired(why) => write!(f, "retired after a job: {why}"),
            Self::Broken(state) => write!(f, "the cloud lists it as {}", state_name(*state)),
            Self::Interrupted(kind) => write!(f, "the cloud announced its end: {kind}"),
            Self::Unlisted => f.write_str("the cloud does not list it any more, though it answers"),
            Self::Shutdown => f.write_str("delete_instances_on_shutdown"),
        }
    }
}

/// The contract's own word for a state.
pub fn state_name(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Creating => "creating",
        InstanceState::Running => "running",
        InstanceState::Suspending => "suspending",
        InstanceState::Suspended => "suspended",
        InstanceState::Resuming => "resuming",
        InstanceState::Stopped => "stopped",
        InstanceState::Deleting => "deleting",
        InstanceState::Deleted => "deleted",
        InstanceState::Failed => "failed",
        InstanceState::Unknown => "unknown",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instance {id} is {from} and cannot become {to}")]
pub struct IllegalMove {
    pub id: InstanceId,
    pub from: Phase,
    pub to: Phase,
}

/// One instance: what we decided (`phase`) beside what the cloud says (`cloud`).
#[derive(Clone, Debug)]
pub struct Instance {
    id: InstanceId,
    cause: Cause,
    phase: Phase,
    pub cloud: InstanceState,
    use_count: u32,
    jobs: u32,
    first_seen: Instant,
}

impl Instance {
    pub fn new(id: InstanceId, cause: Cause, cloud: InstanceState, now: Instant) -> Self {
        Self {
            id,
            cause,
            phase: Phase::Listed,
            cloud,
            use_count: 0,
            jobs: 0,
            first_seen: now,
        }
    }

    /// One that our record names, with the uses it had.
    pub fn adopted(self, use_count: u32) -> Self {
        Self { use_count, ..self }
    }

    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    pub fn cause(&self) -> Cause {
        self.cause
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Acquisitions ever granted.
    pub fn use_count(&self) -> u32 {
        self.use_count
    }

    /// Jobs on it now.
    pub fn jobs(&self) -> u32 {
        self.jobs
    }

    pub fn first_seen(&self) -> Instant {
        self.first_seen
    }

    /// Moves along one arrow of the diagram; on refusal nothing has changed.
    pub fn become_(&mut self, to: Phase) -> Result<(), IllegalMove> {
        let holds_jobs =
            self.jobs > 0 && !matches!(to, Phase::InUse | Phase::Draining | Phase::Gone);
        if holds_jobs || !self.phase.may_become(to) {
            return Err(IllegalMove {
                id: self.id.clone(),
                from: self.phase,
                to,
            });
        }
        self.phase = to;
        if to == Phase::Gone {
            self.jobs = 0;
        }
        Ok(())
    }

    /// A job takes a slot; the use counts from here.
    pub fn acquire(&mut self) -> Result<(), IllegalMove> {
        if self.phase != Phase::InUse {
            self.become_(Phase::InUse)?;
        }
        self.jobs += 1;
        self.use_count = self.use_count.saturating_add(1);
        Ok(())
    }

    /// A job gives its slot back. `used` is false when nobody ever took what was granted.
    pub fn release(&mut self, used: bool) -> Result<(), IllegalMove> {
        if self.jobs == 0 {
            return Err(IllegalMove {
                id: self.id.clone(),
                from: self.phase,
                to: Phase::Ready,
            });
        }
        self.jobs -= 1;
        if !used {
            self.use_count = self.use_count.saturating_sub(1);
        }
        if self.jobs == 0 && self.phase == Phase::InUse {
            self.phase = Phase::Ready;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn listed() -> Instance {
        Instance::new(
            InstanceId("i-1".into()),
            Cause::Requested,
            InstanceState::Running,
            Instant::now(),
        )
    }

    #[test]
    fn exactly_the_drawn_moves_are_legal() {
        use Phase::*;
        let legal: Vec<(Phase, Phase)> = vec![
            (Listed, Inspecting),
            (Listed, Preparing),
            (Listed, Removing),
            (Inspecting, Quarantined),
            (Inspecting, Removing),
            (Quarantined, Inspecting),
            (Quarantined, Removing),
            (Preparing, Ready),
            (Preparing, Removing),
            (Ready, InUse),
            (Ready, Removing),
            (InUse, Ready),
            (InUse, Draining),
            (Draining, Removing),
        ];
        for from in Phase::ALL {
            for to in Phase::ALL {
                let expected = legal.contains(&(from, to)) || (to == Gone && from != Gone);
                assert_eq!(from.may_become(to), expected, "{from} → {to}");
            }
        }
    }

    #[test]
    fn a_job_holds_its_instance() {
        let mut instance = listed();
        instance.become_(Phase::Preparing).unwrap();
        instance.become_(Phase::Ready).unwrap();
        instance.acquire().unwrap();
        instance.acquire().unwrap();
        assert_eq!(
            instance.become_(Phase::Removing).unwrap_err().to_string(),
            "instance i-1 is in use and cannot become removing"
        );
        instance.become_(Phase::Draining).unwrap();
        instance.release(true).unwrap();
        instance.become_(Phase::Removing).unwrap_err();
        instance.release(true).unwrap();
        instance.become_(Phase::Removing).unwrap();
        assert_eq!(instance.use_count(), 2);
    }

    #[test]
    fn an_untaken_grant_is_no_use_and_a_second_release_is_refused() {
        let mut instance = listed();
        instance.become_(Phase::Preparing).unwrap();
        instance.become_(Phase::Ready).unwrap();
        instance.acquire().unwrap();
        instance.release(false).unwrap();
        assert_eq!((instance.phase(), instance.use_count()), (Phase::Ready, 0));
        instance.release(true).unwrap_err();
    }
}

//! What the scaler tells others: its state, the life events of its fleet, and why it cannot serve.

use std::time::Duration;

use super::verdict::Decided;
use crate::fleet::group::{Group, InstanceId, Notice};
use crate::fleet::instance::Cause;

/// Published whenever something changed; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What `open` learnt; absent until it succeeded. Two runners with one `group.id` must be refused.
    pub opened: Option<Group>,
    /// The last problem of the group, until a call succeeds.
    pub problem: Option<String>,
    /// What the provider remarks on the group now.
    pub notices: Vec<Notice>,
    pub instances: Instances,
    /// Slots.
    pub in_use: u32,
    /// Jobs that wait for a slot.
    pub waiting: u32,
    pub reserved: u32,
    /// Slots that a job could take at once.
    pub available: u32,
    pub idle_target: u32,
    /// Instances: what the formula asks for.
    pub requested: u32,
    /// Instances: accepted increases − accepted decreases.
    pub wanted: u32,
    /// Effective maximum of instances; `None` is unlimited.
    pub max: Option<u32>,
    pub last_decision: Option<String>,
    pub draining: bool,
}

impl Status {
    /// The group's identity, once it is known.
    pub fn group_id(&self) -> Option<&str> {
        self.opened.as_ref().map(|group| group.id.as_str())
    }
}

/// Instances by phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// Asked for, not listed yet.
    pub coming: u32,
    pub listed: u32,
    pub inspecting: u32,
    pub quarantined: u32,
    pub preparing: u32,
    pub ready: u32,
    pub in_use: u32,
    pub draining: u32,
    pub removing: u32,
}

/// One step in the life of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetEvent {
    Decided(Decided),
    /// The group was called: update, increase or decrease; for counting.
    Called {
        operation: &'static str,
    },
    /// One more job may be asked for.
    Reserved,
    /// No job came for a reservation.
    Unreserved,
    /// The group accepted that many.
    Requested {
        count: u32,
    },
    /// The group accepted fewer than were asked for, and why.
    RequestRefused {
        problem: String,
    },
    Listed {
        instance: InstanceId,
        cause: Cause,
        /// Uses that the record of an earlier process has of it; absent for one that no record names.
        adopted: Option<u32>,
        /// The cloud lists it as failed from the first: nothing was made, and this is why.
        never_ran: Option<String>,
    },
    /// A snapshot did not list it, which may be a mistake of the cloud.
    Missed {
        instance: InstanceId,
    },
    /// Another manager's jobs run there; it is left alone.
    Quarantined {
        instance: InstanceId,
    },
    Running {
        instance: InstanceId,
    },
    Ready {
        instance: InstanceId,
        /// Since it was first listed.
        after: Duration,
    },
    Acquired {
        instance: InstanceId,
        slot: u32,
    },
    Released {
        instance: InstanceId,
        slot: u32,
    },
    /// Its deletion was decided, by us or by the cloud.
    Removing {
        instance: InstanceId,
        reason: String,
    },
    /// The cloud took the request to delete it.
    RemovalAccepted {
        instance: InstanceId,
    },
    Gone {
        instance: InstanceId,
    },
}

/// Why GitLab is not to be asked for a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCapacity {
    #[error(transparent)]
    Full(#[from] super::capacity::Refusal),
    #[error("the instance group was not read yet")]
    NotOpened,
    /// Nothing can be started or deleted until an operator acts.
    #[error("the instance group cannot be used: {0}")]
    Problem(String),
    #[error("the manager is shutting down")]
    ShuttingDown,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireFailure {
    #[error("the reservation is not known any more")]
    Unreserved,
    #[error("the manager is shutting down")]
    ShuttingDown,
}

/// How a job leaves its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Not to be used again, and why.
    Retire(String),
}

//! How many instances there should be: the arithmetic, pure.
//!
//! ```text
//! idle target  = max(idle_count, min(⌈scale_factor × in use⌉, scale_factor_limit))          in slots
//! requested    = min(max_instances, ⌈(in use + waiting + idle target) / slots⌉)             in instances
//! increase     = what waiting + idle target lack beside the supply, never beyond max_instances
//! remove       = idle instances beyond the idle target, idle for longer than idle_time, oldest first
//! ```
//!
//! The supply is every slot that will take a job: of ready, preparing and listed instances and of those asked for but
//! not listed yet. Instances that are to go leave the supply at once and count against `max_instances` until they are
//! gone. Reservations never ask for instances, because no job stands behind them yet (long polling would scale out for
//! ever); where GitLab is only asked when capacity is ready (preemptive mode) they keep it from being removed. Polls that
//! take turns would keep all of it for ever, so they leave alone what is to go (`reservation_throttling`).

use std::fmt;
use std::time::Instant;

use super::ledger::Ledger;
use crate::config::usable::Policy;
use crate::fleet::group::InstanceId;
use crate::fleet::instance::RemovalReason;

/// Why a decision is what it is; what one info line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Supply and need agree.
    Balanced,
    /// Jobs wait for a slot.
    JobsWaiting,
    /// The idle target is not reached.
    BelowIdleTarget,
    /// More is needed and `max_instances` is reached.
    AtMaximum,
    /// Idle instances are beyond the target and beyond their idle time.
    IdleTooLong,
    /// More is idle than needed, not yet for `idle_time`.
    IdleNotLongEnough,
    /// Instances must go whatever the need: used up, surplus, broken.
    MustGo,
    /// The group makes its instances from something newer.
    Outdated,
}

impl Why {
    /// The word it is counted by.
    pub fn code(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::JobsWaiting => "jobs_waiting",
            Self::BelowIdleTarget => "below_idle_target",
            Self::AtMaximum => "at_maximum",
            Self::IdleTooLong => "idle_too_long",
            Self::IdleNotLongEnough => "idle_not_long_enough",
            Self::MustGo => "must_go",
            Self::Outdated => "outdated",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balanced => "supply meets the need",
            Self::JobsWaiting => "jobs wait for a slot",
            Self::BelowIdleTarget => "fewer slots are idle than the policy wants",
            Self::AtMaximum => "more is needed, but max_instances is reached",
            Self::IdleTooLong => "instances were idle for longer than idle_time",
            Self::IdleNotLongEnough => "more is idle than needed, but not yet for idle_time",
            Self::MustGo => "instances are used up, surplus or broken",
            Self::Outdated => "instances are of an older generation than the group's",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Slots.
    pub idle_target: u32,
    /// Instances: the formula's answer, whatever stands in the group now.
    pub requested: u32,
    /// Instances that are missing beside the supply, whatever the maximum.
    pub lacking: u32,
    /// Instances to ask for now.
    pub increase: u32,
    pub remove: Vec<(InstanceId, RemovalReason)>,
    /// Instances with jobs that get no further one: outdated.
    pub drain: Vec<InstanceId>,
    pub why: Why,
    /// When the same decision, with nothing else changed, would come out differently.
    pub revisit: Option<Instant>,
}

/// Idle slots wanted beside `in_use` slots with jobs.
pub fn idle_target(policy: &Policy, in_use: u32) -> u32 {
    let scaled = (policy.scale_factor * f64::from(in_use)).ceil();
    // `as` saturates, and makes a negative or undefined factor 0.
    let scaled = scaled as u32;
    let limited = match policy.scale_factor_limit {
        0 => scaled,
        limit => scaled.min(limit),
    };
    policy.idle_count.max(limited)
}

/// Decides on the ledger as it is. `max` is the effective maximum of instances; `None` is unlimited.
pub fn decide(policy: &Policy, ledger: &Ledger, max: Option<u32>, now: Instant) -> Decision {
    let counts = ledger.counts();
    let per_instance = ledger.shape().slots_of_new().max(1);
    let idle_target = idle_target(policy, counts.in_use);
    let waiting = ledger.waiting();
    let need = waiting.saturating_add(idle_target);
    let supply = counts
        .supply
        .saturating_add(ledger.coming().saturating_mul(per_instance));
    let capacity = counts.in_use.saturating_add(need);
    let max = max.unwrap_or(u32::MAX);
    let room = room(ledger, max);
    let lacking = need.saturating_sub(supply).div_ceil(per_instance);
    let increase = lacking.min(room);

    let mut remove: Vec<_> = ledger
        .doomed()
        .map(|(id, reason)| (id.clone(), reason.clone()))
        .collect();
    let must_go = !remove.is_empty();
    let (idle, revisit) = idle_too_long(policy, ledger, need, now);
    let idle_went = !idle.is_empty();
    remove.extend(idle);
    let (outdated, drain) = outdated(ledger, &remove);
    let outdated_went = !outdated.is_empty() || !drain.is_empty();
    remove.extend(outdated);

    let why = if increase > 0 && waiting > 0 {
        Why::JobsWaiting
    } else if increase > 0 {
        Why::BelowIdleTarget
    } else if must_go {
        Why::MustGo
    } else if idle_went {
        Why::IdleTooLong
    } else if outdated_went {
        Why::Outdated
    } else if lacking > 0 {
        Why::AtMaximum
    } else if revisit.is_some() {
        Why::IdleNotLongEnough
    } else {
        Why::Balanced
    };
    Decision {
        idle_target,
        requested: capacity.div_ceil(per_instance).min(max),
        lacking,
        increase,
        remove,
        drain,
        why,
        revisit,
    }
}

/// Idle instances that may go now, and when the next one may.
fn idle_too_long(
    policy: &Policy,
    ledger: &Ledger,
    need: u32,
    now: Instant,
) -> (Vec<(InstanceId, RemovalReason)>, Option<Instant>) {
    let mut remove = Vec::new();
    if ledger.waiting() > 0 {
        return (remove, None);
    }
    let held = if policy.preemptive_mode {
        ledger.reserved()
    } else {
        0
    };
    // Of slots that are open now: what is still coming cannot stand in for what is promised or wanted idle.
    let mut surplus = ledger.counts().available.saturating_sub(need.max(held));
    for (since, id) in ledger.idle_oldest_first() {
        let slots = ledger.slots_offered(id);
        if slots > surplus {
            break;
        }
        let due = since + policy.idle_time;
        if now < due {
            return (remove, Some(due));
        }
        surplus -= slots;
        remove.push((id.clone(), RemovalReason::IdleTooLong));
    }
    (remove, None)
}

/// Outdated instances that may go now, and those that may go after their jobs. None while a job waits that one of them
/// could serve.
fn outdated(
    ledger: &Ledger,
    going: &[(InstanceId, RemovalReason)],
) -> (Vec<(InstanceId, RemovalReason)>, Vec<InstanceId>) {
    let (mut remove, mut drain) = (Vec::new(), Vec::new());
    if ledger.waiting() == 0 && going.is_empty() {
        for (idle, id) in ledger.outdated() {
            if idle {
                remove.push((id.clone(), RemovalReason::Outdated));
            } else {
                drain.push(id.clone());
            }
        }
    }
    (remove, drain)
}

/// Instances that may still be asked for: everything that exists, is coming or is going counts.
fn room(ledger: &Ledger, max: u32) -> u32 {
    max.saturating_sub(ledger.counts().instances)
        .saturating_sub(ledger.coming())
}

/// Whether one more job may be asked of GitLab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Preemptive mode: GitLab is asked only when a slot is ready.
    #[error("no slot is ready and free")]
    NothingAvailable,
    /// No slot is ready, and no more can be made.
    #[error("no slot is free and max_instances leaves no room for more")]
    NothingPossible,
    /// Every slot that is not promised is on an instance that is to go.
    #[error(
        "the free slots are on an instance that was idle for longer than idle_time and is to go"
    )]
    MakingRoom,
}

/// Slots of the instance that would go if no request to GitLab held it. What polls hold now is free when they end.
pub fn leaving(policy: &Policy, ledger: &Ledger, now: Instant) -> u32 {
    let counts = ledger.counts();
    if !policy.preemptive_mode || ledger.waiting() > 0 {
        return 0;
    }
    let surplus = counts
        .available
        .saturating_sub(idle_target(policy, counts.in_use));
    let oldest = ledger.idle_oldest_first().next();
    oldest
        .filter(|(since, _)| *since + policy.idle_time <= now)
        .map(|(_, id)| ledger.slots_offered(id))
        .filter(|slots| *slots <= surplus)
        .unwrap_or(0)
}

/// Whether `ledger` may promise one more slot beside `spared` ones.
pub fn may_reserve(
    policy: &Policy,
    ledger: &Ledger,
    max: Option<u32>,
    spared: u32,
) -> Result<(), Refusal> {
    let free = ledger.unpromised();
    if free > spared {
        return Ok(());
    }
    if free > 0 {
        return Err(Refusal::MakingRoom);
    }
    if policy.preemptive_mode {
        return Err(Refusal::NothingAvailable);
    }
    let Some(max) = max else {
        return Ok(());
    };
    let possible = room(ledger, max)
        .saturating_add(ledger.coming())
        .saturating_mul(ledger.shape().slots_of_new())
        .saturating_add(ledger.counts().supply);
    if possible > ledger.reserved().saturating_add(ledger.waiting()) {
        Ok(())
    } else {
        Err(Refusal::NothingPossible)
    }
}

#[cfg(test)]
mod tests;

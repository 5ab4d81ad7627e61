//! One instance in the ledger, and its share in every count and index.

use std::cmp::Reverse;
use std::time::Instant;

use super::AcquisitionId;
use super::pulse::Pulse;
use crate::fleet::group::InstanceId;
use crate::fleet::instance::{Cause, Instance, Phase, RemovalReason};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Its connection is down.
    Closed,
    Open,
    Taken(AcquisitionId),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub instance: Instance,
    pub(super) slots: Vec<Slot>,
    /// When it last became free of jobs while ready.
    pub(super) idle_since: Option<Instant>,
    /// To be removed as soon as no job holds it.
    pub(super) doomed: Option<RemovalReason>,
    /// The cloud is ending it, or accepted to: it no longer counts towards `wanted`.
    pub(super) leaving: bool,
    /// `wanted` was lowered for it.
    pub(super) settled: bool,
    pub(super) down_since: Option<Instant>,
    /// The last snapshot did not list it.
    pub(super) missing: bool,
    pub(super) pulse: Pulse,
    /// What it was made from, where the provider says.
    pub(super) generation: Option<String>,
    /// The group makes new ones from something else.
    pub(super) outdated: bool,
}

impl Entry {
    pub(super) fn new(instance: Instance, slots: u32) -> Self {
        Self {
            pulse: Pulse::Proved(instance.first_seen()),
            instance,
            slots: vec![Slot::Closed; slots as usize],
            idle_since: None,
            doomed: None,
            leaving: false,
            settled: false,
            down_since: None,
            missing: false,
            generation: None,
            outdated: false,
        }
    }

    pub fn is_doomed(&self) -> bool {
        self.doomed.is_some()
    }

    /// Whether our own request to delete it was accepted, or the cloud is ending it.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }
}

/// Sums over all instances, in slots where a name says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub(super) phases: [u32; Phase::ALL.len()],
    /// Slots with a job.
    pub in_use: u32,
    /// Slots that a job could take at once.
    pub available: u32,
    /// Slots, free now or once their instance is ready, that will take a job.
    pub supply: u32,
    /// Instances that count towards `wanted`.
    pub live: u32,
    /// Instances in the group that do not: not requested, and not leaving.
    pub extra: u32,
    /// Everything that exists in the cloud, the leaving ones included.
    pub instances: u32,
    /// Instances that were requested, the leaving ones included.
    pub requested: u32,
    /// Of them, ready or in use and not to go.
    pub serving: u32,
    /// Idle instances that are being asked whether they still answer.
    pub asked: u32,
    /// Instances that the last snapshot did not list.
    pub missing: u32,
}

impl Counts {
    pub fn in_phase(&self, phase: Phase) -> u32 {
        self.phases[phase as usize]
    }
}

pub(super) type PlaceKey = (Reverse<u32>, Reverse<Instant>, InstanceId);

/// What one instance adds to counts and indexes.
pub(super) struct Share {
    pub(super) phase: Phase,
    pub(super) in_use: u32,
    pub(super) available: u32,
    pub(super) supply: u32,
    pub(super) live: bool,
    pub(super) extra: bool,
    pub(super) place: Option<PlaceKey>,
    pub(super) idle: Option<(Instant, InstanceId)>,
    pub(super) doomed: Option<(InstanceId, RemovalReason)>,
    pub(super) down: Option<(Instant, InstanceId)>,
    pub(super) requested: bool,
    pub(super) serving: bool,
    pub(super) asked: bool,
    pub(super) missing: bool,
    /// When it is to be asked whether it still answers.
    pub(super) check: Option<(Instant, InstanceId)>,
    /// Outdated and in service; busy ones after idle ones.
    pub(super) outdated: Option<(bool, InstanceId)>,
    /// Since when it is listed and not running.
    pub(super) booting: Option<(Instant, InstanceId)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Slots of an instance, at least 1.
    pub capacity_per_instance: u32,
    /// 0 is unlimited.
    pub max_use_count: u32,
    /// Whether idle instances are asked now and then whether they still answer.
    pub heartbeats: bool,
}

impl Shape {
    /// How many jobs at once a fresh instance can serve.
    pub fn slots_of_new(self) -> u32 {
        self.capacity_per_instance.min(self.uses_left(0))
    }

    pub(super) fn uses_left(self, used: u32) -> u32 {
        match self.max_use_count {
            0 => u32::MAX,
            max => max.saturating_sub(used),
        }
    }
}

impl Share {
    pub(super) fn of(shape: Shape, entry: &Entry) -> Self {
        let instance = &entry.instance;
        let phase = instance.phase();
        let id = instance.id();
        let doomed = entry.doomed.is_some() || entry.leaving;
        let uses = shape.uses_left(instance.use_count());
        let free = shape.capacity_per_instance - instance.jobs();
        let open = count(entry.slots.iter().filter(|s| **s == Slot::Open).count());
        let serves = matches!(phase, Phase::Ready | Phase::InUse) && !doomed && !entry.missing;
        let will_serve = serves
            || (matches!(phase, Phase::Listed | Phase::Preparing)
                && !doomed
                && !entry.missing
                && instance.cause() == Cause::Requested);
        let proved = entry.pulse.is_proved();
        let available = if serves && proved { open.min(uses) } else { 0 };
        let idle = serves && phase == Phase::Ready;
        let since = entry.idle_since.unwrap_or(instance.first_seen());
        let requested = instance.cause() == Cause::Requested;
        let removable = instance.jobs() == 0 && phase != Phase::Removing;
        Self {
            phase,
            in_use: instance.jobs(),
            available,
            supply: if will_serve { free.min(uses) } else { 0 },
            live: requested && !entry.leaving && !entry.missing,
            extra: !requested && !entry.leaving,
            place: (available > 0).then(|| (Reverse(instance.jobs()), Reverse(since), id.clone())),
            idle: entry
                .idle_since
                .filter(|_| idle)
                .map(|since| (since, id.clone())),
            doomed: entry
                .doomed
                .clone()
                .filter(|_| removable)
                .map(|reason| (id.clone(), reason)),
            down: entry
                .down_since
                .filter(|_| serves)
                .map(|since| (since, id.clone())),
            requested,
            serving: requested && serves,
            asked: idle && matches!(entry.pulse, Pulse::Asked { .. }),
            missing: entry.missing,
            check: entry
                .pulse
                .due()
                .filter(|_| idle && entry.down_since.is_none())
                .map(|at| (at, id.clone())),
            outdated: (entry.outdated && requested && serves && uses > 0)
                .then(|| (!idle, id.clone())),
            booting: (phase == Phase::Listed && !doomed)
                .then(|| (instance.first_seen(), id.clone())),
        }
    }
}

impl Entry {
    pub(super) fn doom(&mut self, reason: RemovalReason, now: Instant) {
        if self.doomed.is_none() {
            self.doomed = Some(reason);
        }
        if self.instance.phase() == Phase::InUse {
            let moved = self.instance.become_(Phase::Draining);
            debug_assert!(moved.is_ok(), "an instance in use may drain");
        }
        self.idle_since = self.idle_since.or(Some(now));
    }
}

/// Fleets are far smaller than 2³².
pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

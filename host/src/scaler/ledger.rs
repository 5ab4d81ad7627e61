//! Who has which slot, what was promised, and what stands in the group; pure.
//!
//! ```text
//! reserve ──► reserved ──► waiting ──► acquired ──► released
//!                │            │           (a slot of a ready instance, first come first served)
//!                └─unreserve──┘
//! ```
//!
//! Invariants: a slot has at most one acquisition; an instance never gets more acquisitions than `max_use_count`;
//! a removing instance has none; every count and index equals what a walk over all instances would find. Each change
//! goes through [`Ledger::touch`], which mends counts and indexes by the difference, so that a decision costs what
//! changed and not what exists.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::balance::{Balance, TargetDiffers};
use crate::fleet::group::{InstanceId, InstanceState};
use crate::fleet::instance::{Cause, Instance, Phase, RemovalReason};

mod entry;
mod generation;
mod pulse;

pub use entry::{Counts, Entry, Shape};
use entry::{PlaceKey, Share, Slot, count};
use pulse::Pulse;
pub use pulse::Serve;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcquisitionId(pub u64);

/// A slot given to a waiting reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub reservation: ReservationId,
    pub acquisition: AcquisitionId,
    pub instance: InstanceId,
    pub slot: u32,
}

pub struct Ledger {
    shape: Shape,
    fleet: HashMap<InstanceId, Entry>,
    reserved: BTreeSet<ReservationId>,
    waiting: VecDeque<ReservationId>,
    acquisitions: BTreeMap<AcquisitionId, (InstanceId, u32)>,
    balance: Balance,
    counts: Counts,
    open: BTreeSet<PlaceKey>,
    idle: BTreeSet<(Instant, InstanceId)>,
    doomed: BTreeMap<InstanceId, RemovalReason>,
    down: BTreeSet<(Instant, InstanceId)>,
    checks: BTreeSet<(Instant, InstanceId)>,
    booting: BTreeSet<(Instant, InstanceId)>,
    outdated: BTreeSet<(bool, InstanceId)>,
    generation: Option<String>,
    generation_since: Option<Instant>,
    next_id: u64,
}

impl Ledger {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            fleet: HashMap::new(),
            reserved: BTreeSet::new(),
            waiting: VecDeque::new(),
            acquisitions: BTreeMap::new(),
            balance: Balance::default(),
            counts: Counts::default(),
            open: BTreeSet::new(),
            idle: BTreeSet::new(),
            doomed: BTreeMap::new(),
            down: BTreeSet::new(),
            checks: BTreeSet::new(),
            booting: BTreeSet::new(),
            outdated: BTreeSet::new(),
            generation: None,
            generation_since: None,
            next_id: 1,
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of jobs that an instance may serve, for those that stand too.
    pub fn set_max_use_count(&mut self, max_use_count: u32, now: Instant) {
        if max_use_count == self.shape.max_use_count {
            return;
        }
        let before = self.shape;
        self.shape.max_use_count = max_use_count;
        let all: Vec<InstanceId> = self.fleet.keys().cloned().collect();
        for id in all {
            let Some(entry) = self.fleet.get(&id) else {
                continue;
            };
            let (old, new) = (Share::of(before, entry), Share::of(self.shape, entry));
            let spent = self.shape.uses_left(entry.instance.use_count()) == 0;
            self.apply(old, false);
            self.apply(new, true);
            if spent {
                self.doom(&id, RemovalReason::MaxUseCount, now);
            }
        }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn reserved(&self) -> u32 {
        count(self.reserved.len())
    }

    pub fn waiting(&self) -> u32 {
        count(self.waiting.len())
    }

    pub fn wanted(&self) -> u32 {
        self.balance.wanted()
    }

    /// Instances asked for, or possibly asked for, that no snapshot has listed yet.
    pub fn coming(&self) -> u32 {
        self.balance.reserved().saturating_sub(self.counts.live)
    }

    /// Slots free at once and promised to nobody.
    pub fn unpromised(&self) -> u32 {
        let promised = self.reserved().saturating_add(self.waiting());
        self.counts.available.saturating_sub(promised)
    }

    /// Idle instances, the one idle for longest first.
    pub fn idle_oldest_first(&self) -> impl Iterator<Item = (Instant, &InstanceId)> {
        self.idle.iter().map(|(since, id)| (*since, id))
    }

    /// Slots of the supply that an instance is.
    pub fn slots_offered(&self, id: &InstanceId) -> u32 {
        self.fleet
            .get(id)
            .map_or(0, |e| Share::of(self.shape, e).supply)
    }

    /// Instances that must go and hold no job.
    pub fn doomed(&self) -> impl Iterator<Item = (&InstanceId, &RemovalReason)> {
        self.doomed.iter()
    }

    pub fn entry(&self, id: &InstanceId) -> Option<&Entry> {
        self.fleet.get(id)
    }

    /// Where an acquisition is; `None` when its instance was lost.
    pub fn acquisition(&self, id: AcquisitionId) -> Option<&(InstanceId, u32)> {
        self.acquisitions.get(&id)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.fleet.values()
    }

    // Jobs.

    /// Promises capacity; whether it may be promised is [`super::capacity::may_reserve`]'s to say.
    pub fn reserve(&mut self) -> ReservationId {
        let id = ReservationId(self.fresh_id());
        self.reserved.insert(id);
        id
    }

    /// Takes a promise back, also from one that waits. Unknown ids are ignored: it became an acquisition.
    pub fn unreserve(&mut self, id: ReservationId) {
        if !self.reserved.remove(&id) {
            self.waiting.retain(|waiting| *waiting != id);
        }
    }

    /// A job came: its reservation queues for a slot. False when there is no such reservation.
    pub fn wait(&mut self, id: ReservationId) -> bool {
        let known = self.reserved.remove(&id);
        if known {
            self.waiting.push_back(id);
        }
        known
    }

    /// Gives the next open slot to who waits longest. The fullest instance first, so that others can fall idle; among
    /// idle ones the youngest, so that the oldest can go.
    pub fn grant(&mut self) -> Option<Grant> {
        let reservation = *self.waiting.front()?;
        let (_, _, id) = self.open.first()?.clone();
        let acquisition = AcquisitionId(self.fresh_id());
        let slot = self.touch(&id, |entry| {
            let slot = entry.slots.iter().position(|s| *s == Slot::Open)?;
            entry.instance.acquire().ok()?;
            entry.slots[slot] = Slot::Taken(acquisition);
            entry.idle_since = None;
            Some(count(slot))
        })??;
        self.waiting.pop_front();
        self.acquisitions.insert(acquisition, (id.clone(), slot));
        Some(Grant {
            reservation,
            acquisition,
            instance: id,
            slot,
        })
    }

    /// Ends an acquisition; `None` when its instance was lost before. `retire` dooms the instance; `used` is false
    /// when the grant never reached anyone.
    pub fn release(
        &mut self,
        acquisition: AcquisitionId,
        retire: Option<String>,
        used: bool,
        up: bool,
        now: Instant,
    ) -> Option<(InstanceId, u32)> {
        let (id, slot) = self.acquisitions.remove(&acquisition)?;
        let shape = self.shape;
        self.touch(&id, |entry| {
            entry.slots[slot as usize] = if up { Slot::Open } else { Slot::Closed };
            let released = entry.instance.release(used);
            debug_assert!(released.is_ok(), "an acquisition's instance holds its job");
            if let Some(why) = retire {
                entry.doom(RemovalReason::Retired(why), now);
            }
            if shape.uses_left(entry.instance.use_count()) == 0 {
                entry.doom(RemovalReason::MaxUseCount, now);
            }
            if entry.instance.jobs() == 0 {
                entry.idle_since = Some(now);
                entry.pulse = Pulse::Proved(now);
            }
        });
        Some((id, slot))
    }

    // Instances.

    /// An instance is listed for the first time. `at_start` is true for the first snapshot of this process.
    pub fn appeared(
        &mut self,
        id: InstanceId,
        cloud: InstanceState,
        at_start: bool,
        now: Instant,
    ) -> Cause {
        let cause = match at_start {
            true => Cause::Preexisted,
            false if self.counts.live < self.balance.reserved() => Cause::Requested,
            false => Cause::Unexpected,
        };
        self.insert(Instance::new(id, cause, cloud, now));
        cause
    }

    /// An instance that our record names is listed. `doom` when the record says that it must not be used again.
    pub fn adopted(
        &mut self,
        id: InstanceId,
        cloud: InstanceState,
        cause: Cause,
        use_count: u32,
        doom: Option<RemovalReason>,
        now: Instant,
    ) {
        self.insert(Instance::new(id.clone(), cause, cloud, now).adopted(use_count));
        let spent = self.shape.uses_left(use_count) == 0;
        let reason = doom.or_else(|| spent.then_some(RemovalReason::MaxUseCount));
        if let Some(reason) = reason {
            self.doom(&id, reason, now);
        }
    }

    /// The first snapshot was read: what the group was asked for before we came.
    pub fn started(&mut self, target: Option<u32>) {
        let wanted = target.map_or(self.counts.live, |t| t.saturating_sub(self.counts.extra));
        self.balance.note_target(target);
        self.balance.start(wanted);
    }

    /// Moves an instance; false, and nothing changed, when the move is illegal or the instance unknown.
    pub fn advance(&mut self, id: &InstanceId, to: Phase, now: Instant) -> bool {
        self.touch(id, |entry| {
            let moved = entry.instance.become_(to).is_ok();
            if moved && to == Phase::Ready {
                entry.idle_since = Some(now);
                entry.pulse = Pulse::Proved(now);
            }
            moved
        })
        .unwrap_or(false)
    }

    pub fn set_cloud_state(&mut self, id: &InstanceId, state: InstanceState) {
        self.touch(id, |entry| entry.instance.cloud = state);
    }

    /// The last snapshot did not list it: until the next one decides, it takes no job, and what the group may have put
    /// in its place counts as requested.
    pub fn set_missing(&mut self, id: &InstanceId, missing: bool) {
        self.touch(id, |entry| entry.missing = missing);
        if !missing {
            // Something may have taken its place meanwhile.
            self.balance.at_least(self.counts.live);
        }
    }

    /// Opens or closes a slot that no job holds, by its connection's state.
    pub fn set_slot(&mut self, id: &InstanceId, slot: u32, up: bool) {
        self.touch(id, |entry| {
            if let Some(slot) = entry.slots.get_mut(slot as usize)
                && !matches!(slot, Slot::Taken(_))
            {
                *slot = if up { Slot::Open } else { Slot::Closed };
            }
        });
    }

    /// Notes since when any connection of the instance is down; `None` when all are up.
    pub fn set_down(&mut self, id: &InstanceId, since: Option<Instant>) {
        self.touch(id, |entry| {
            entry.down_since = since.map(|now| entry.down_since.unwrap_or(now));
        });
    }

    /// Dooms what has been without a connection for `patience`; answers when to look again.
    pub fn doom_disconnected(&mut self, patience: Duration, now: Instant) -> Option<Instant> {
        while let Some((since, id)) = self.down.first().cloned() {
            if now < since + patience {
                return Some(since + patience);
            }
            self.doom(&id, RemovalReason::ConnectionLost, now);
        }
        None
    }

    /// Dooms what has been listed for `patience` and never ran; answers when to look again.
    pub fn doom_stuck(&mut self, patience: Duration, now: Instant) -> Option<Instant> {
        while let Some((since, id)) = self.booting.first().cloned() {
            if now < since + patience {
                return Some(since + patience);
            }
            let state = self.entry(&id).map(|entry| entry.instance.cloud);
            let state = state.unwrap_or(InstanceState::Unknown);
            self.doom(&id, RemovalReason::NeverRan(state), now);
        }
        None
    }

    /// The instance gets no further job and is removed when its last one ends. The first reason given stands.
    pub fn doom(&mut self, id: &InstanceId, reason: RemovalReason, now: Instant) {
        self.touch(id, |entry| entry.doom(reason, now));
    }

    /// The decision to remove is taken, before the cloud is told. False when a job holds the instance.
    pub fn begin_removal(&mut self, id: &InstanceId, reason: &RemovalReason) -> bool {
        self.touch(id, |entry| {
            let moved = entry.instance.become_(Phase::Removing).is_ok();
            if moved && entry.doomed.is_none() {
                entry.doomed = Some(reason.clone());
            }
            moved
        })
        .unwrap_or(false)
    }

    /// The cloud accepted to delete it: out of `wanted`, still in the count until it is gone.
    pub fn removal_accepted(&mut self, id: &InstanceId) {
        let lowers = self.touch(id, |entry| {
            entry.leaving = true;
            let lowers = entry.instance.cause() == Cause::Requested && !entry.settled;
            entry.settled = true;
            lowers
        });
        if lowers == Some(true) {
            self.balance.decreased();
        }
    }

    /// The cloud is ending it without us: its jobs are lost, it leaves the supply at once.
    pub fn ending(&mut self, id: &InstanceId, now: Instant) -> Vec<AcquisitionId> {
        let lost = self.lose_jobs(id);
        self.touch(id, |entry| {
            entry.doom(RemovalReason::Broken(entry.instance.cloud), now)
        });
        self.leave(id);
        lost
    }

    /// It is no longer in the group. Answers the acquisitions that ended with it.
    pub fn gone(&mut self, id: &InstanceId) -> Vec<AcquisitionId> {
        let lost = self.lose_jobs(id);
        self.leave(id);
        if let Some(entry) = self.fleet.remove(id) {
            let share = Share::of(self.shape, &entry);
            self.apply(share, false);
        }
        lost
    }

    /// Jobs on an instance that can no longer run them; the instance itself stays.
    pub fn lose_jobs(&mut self, id: &InstanceId) -> Vec<AcquisitionId> {
        let lost = self.touch(id, |entry| {
            let mut lost = Vec::new();
            for slot in &mut entry.slots {
                if let Slot::Taken(acquisition) = *slot {
                    *slot = Slot::Closed;
                    let released = entry.instance.release(true);
                    debug_assert!(released.is_ok(), "a taken slot is a job of its instance");
                    lost.push(acquisition);
                }
            }
            lost
        });
        let lost = lost.unwrap_or_default();
        for acquisition in &lost {
            self.acquisitions.remove(acquisition);
        }
        lost
    }

    fn leave(&mut self, id: &InstanceId) {
        let counted = self.touch(id, |entry| {
            let counted = !entry.leaving && entry.instance.cause() == Cause::Requested;
            entry.leaving = true;
            counted && !entry.settled
        });
        // Where something took its place while it was missing, nothing is lost.
        let replaced = self.counts.live >= self.balance.reserved();
        if counted == Some(true) && !replaced && self.balance.lost() {
            self.touch(id, |entry| entry.settled = true);
        }
    }

    // Increases and snapshots.

    pub fn asked(&mut self, token: String, count: u32) {
        self.balance.asked(token, count);
    }

    pub fn answered(&mut self, token: &str, accepted: u32) {
        self.balance.answered(token, accepted);
        // Something else may have come meanwhile and been taken for what was refused.
        self.balance.at_least(self.counts.live);
    }

    pub fn unanswered(&mut self, token: &str, judged_from: u64) {
        self.balance.unknown(token, judged_from);
    }

    /// Notes what a snapshot says of the target before its instances are taken in.
    pub fn note_target(&mut self, target: Option<u32>) {
        self.balance.note_target(target);
    }

    /// After a snapshot's instances were taken in: unknown increases (asked, accepted) that it settled. `settled` is false
    /// while a mutation was under way beside it; nor does a snapshot settle anything that leaves an instance out, for what
    /// is missing looks like what was never made.
    pub fn settle(&mut self, number: u64, target: Option<u32>, settled: bool) -> Vec<(u32, u32)> {
        let (live, extra) = (self.counts.live, self.counts.extra);
        let settled = settled && self.counts.missing == 0;
        let judged = self.balance.settle(number, target, live, extra, settled);
        if !judged.is_empty() {
            self.balance.at_least(live);
        }
        judged
    }

    pub fn compare_target(&mut self, target: Option<u32>, settled: bool) -> Option<TargetDiffers> {
        self.balance.compare(target, self.counts.extra, settled)
    }

    /// Wanted instances that never came and that nothing will bring, where the group has no target; they are wanted no
    /// longer, so that the next decision asks anew.
    pub fn give_up(&mut self, now: Instant) -> u32 {
        self.balance.give_up(self.counts.live, now)
    }

    // Counts and indexes.

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn insert(&mut self, instance: Instance) {
        let id = instance.id().clone();
        let entry = Entry::new(instance, self.shape.capacity_per_instance);
        self.gone(&id);
        let share = Share::of(self.shape, &entry);
        self.apply(share, true);
        self.fleet.insert(id, entry);
    }

    /// Changes one instance and mends counts and indexes by the difference.
    fn touch<R>(&mut self, id: &InstanceId, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let mut entry = self.fleet.remove(id)?;
        let before = Share::of(self.shape, &entry);
        let result = change(&mut entry);
        let after = Share::of(self.shape, &entry);
        self.apply(before, false);
        self.apply(after, true);
        self.fleet.insert(id.clone(), entry);
        Some(result)
    }

    fn apply(&mut self, share: Share, add: bool) {
        let counts = &mut self.counts;
        let bump = |total: &mut u32, by: u32| {
            *total = if add { *total + by } else { *total - by };
        };
        bump(&mut counts.phases[share.phase as usize], 1);
        bump(&mut counts.in_use, share.in_use);
        bump(&mut counts.available, share.available);
        bump(&mut counts.supply, share.supply);
        bump(&mut counts.live, u32::from(share.live));
        bump(&mut counts.extra, u32::from(share.extra));
        bump(&mut counts.instances, 1);
        bump(&mut counts.requested, u32::from(share.requested));
        bump(&mut counts.serving, u32::from(share.serving));
        bump(&mut counts.asked, u32::from(share.asked));
        bump(&mut counts.missing, u32::from(share.missing));
        index(&mut self.open, share.place, add);
        index(&mut self.idle, share.idle, add);
        index(&mut self.down, share.down, add);
        index(&mut self.checks, share.check, add);
        index(&mut self.booting, share.booting, add);
        index(&mut self.outdated, share.outdated, add);
        if let Some((id, reason)) = share.doomed {
            if add {
                self.doomed.insert(id, reason);
            } else {
                self.doomed.remove(&id);
            }
        }
    }
}

fn index<K: Ord>(set: &mut BTreeSet<K>, key: Option<K>, add: bool) {
    if let Some(key) = key {
        if add {
            set.insert(key);
        } else {
            set.remove(&key);
        }
    }
}

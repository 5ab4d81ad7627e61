//! The promises of the scaler, each checked where it could be broken: by the cloud's truth and the jobs' own view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio::time::Instant;

use super::cloud::Cloud;
use super::dice::Climate;
use crate::fleet::group::InstanceId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// Never more than `max_instances` are asked for beside what exists.
    MaxInstances,
    /// Never more than is needed beside what is coming: an unknown outcome is not asked for twice.
    NeverTwice,
    /// No more than the throttle allows in any window.
    Throttle,
    /// An instance with a job is never deleted, and one that is being deleted gets none.
    BusyKept,
    /// A slot is never given to two jobs.
    SlotOnce,
    /// An instance serves at most `max_use_count` jobs.
    UseCount,
    /// What nobody asked for serves no job.
    SurplusUnused,
    /// Who waits is served once faults are over.
    Served,
    /// A job whose instance is lost is told.
    LostTold,
    /// At the end nothing is reserved and nobody waits.
    ReservationsEnd,
    /// At the end exactly the idle target stands.
    IdleTarget,
    /// At the end nothing moves.
    AtRest,
    /// Everything that stands is known, and nothing else is.
    NothingLeaked,
}

pub(super) struct Promises {
    climate: Climate,
    start: Instant,
    pub(super) broken: Vec<(Promise, String)>,
    journal: Vec<String>,
    /// By machine and slot: the job there.
    held: BTreeMap<(String, u32), u64>,
    uses: BTreeMap<String, u32>,
    waiting: BTreeSet<u64>,
    /// Who stopped waiting at this very instant may still have been counted.
    left: (Option<Instant>, u32),
    asked: Vec<(Instant, u32)>,
    /// When a job last got a slot, or began to want one with nobody else wanting.
    progress: Instant,
    pub(super) served: u32,
    pub(super) told: u32,
}

impl Promises {
    pub(super) fn new(climate: Climate, now: Instant) -> Self {
        Self {
            climate,
            start: now,
            broken: Vec::new(),
            journal: Vec::new(),
            held: BTreeMap::new(),
            uses: BTreeMap::new(),
            waiting: BTreeSet::new(),
            left: (None, 0),
            asked: Vec::new(),
            progress: now,
            served: 0,
            told: 0,
        }
    }

    pub(super) fn note(&mut self, line: impl fmt::Display) {
        let at = self.start.elapsed();
        self.journal
            .push(format!("{:>10.3}  {line}", at.as_secs_f64()));
    }

    pub(super) fn breaks(&mut self, promise: Promise, how: String) {
        self.note(format_args!("BROKEN {promise:?}: {how}"));
        self.broken.push((promise, how));
    }

    pub(super) fn journal(&self) -> String {
        self.journal.join("\n")
    }

    // Before the cloud acts.

    pub(super) fn increase(&mut self, count: u32, cloud: &Cloud, now: Instant) {
        let (known, coming) = (cloud.known(now), cloud.coming(now));
        let stand_ins = cloud.stand_ins(now);
        self.note(format_args!(
            "increase {count}: {known} known, {coming} coming, {stand_ins} stand in, {} wait",
            self.waiting.len()
        ));
        let max = self.climate.max_instances();
        if known + coming + count > max + stand_ins {
            let how =
                format!("{known} known, {coming} coming, {count} more asked for, {max} the most");
            self.breaks(Promise::MaxInstances, how);
        }
        let slots = self.climate.slots();
        let left = if self.left.0 == Some(now) {
            self.left.1
        } else {
            0
        };
        let waiting = u32::try_from(self.waiting.len()).unwrap() + left;
        let need = waiting + self.climate.idle_count();
        let on_top = (stand_ins + cloud.early_replacements(now)) * slots;
        if (coming + count) * slots > need + (slots - 1) + on_top {
            let how = format!("{coming} coming, {count} more asked for, {need} slots needed");
            self.breaks(Promise::NeverTwice, how);
        }
        self.asked.push((now, count));
        let throttle = self.climate.autoscaler.scale_throttle;
        let Some(limit) = throttle.limit else {
            return;
        };
        let mut sum = 0;
        for (at, count) in self.asked.clone().into_iter().rev() {
            sum += count;
            let most = f64::from(throttle.burst) + limit * (now - at).as_secs_f64();
            if f64::from(sum) > most + 0.01 {
                let how = format!("{sum} asked for in {:?}, {most} the most", now - at);
                return self.breaks(Promise::Throttle, how);
            }
        }
    }

    pub(super) fn decrease(&mut self, ids: &[InstanceId]) {
        for id in ids {
            self.note(format_args!("decrease {id}"));
            if self.is_busy(id) {
                self.breaks(Promise::BusyKept, format!("{id} is deleted under its job"));
            }
        }
    }

    pub(super) fn is_busy(&self, id: &InstanceId) -> bool {
        self.held.keys().any(|(machine, _)| *machine == id.0)
    }

    // What jobs see.

    pub(super) fn waits(&mut self, job: u64, now: Instant) {
        if self.waiting.is_empty() {
            self.progress = self.progress.max(now);
        }
        self.waiting.insert(job);
    }

    pub(super) fn leaves(&mut self, job: u64, now: Instant) {
        if self.waiting.remove(&job) {
            let before = if self.left.0 == Some(now) {
                self.left.1
            } else {
                0
            };
            self.left = (Some(now), before + 1);
        }
    }

    pub(super) fn acquires(&mut self, job: u64, machine: &str, slot: u32, cloud: &Cloud) {
        let now = Instant::now();
        self.leaves(job, now);
        self.progress = now;
        self.served += 1;
        self.note(format_args!("job {job} gets {machine}/{slot}"));
        if let Some(other) = self.held.insert((machine.into(), slot), job) {
            let how = format!("{machine}/{slot} is given to job {job} while job {other} has it");
            self.breaks(Promise::SlotOnce, how);
        }
        let uses = self.uses.entry(machine.into()).or_default();
        *uses += 1;
        let (uses, most) = (*uses, self.climate.autoscaler.max_use_count);
        if most > 0 && uses > most {
            let how = format!("{machine} serves its job number {uses}, {most} the most");
            self.breaks(Promise::UseCount, how);
        }
        if slot >= self.climate.autoscaler.capacity_per_instance {
            self.breaks(Promise::SlotOnce, format!("there is no {machine}/{slot}"));
        }
        let Some(standing) = cloud.standing.get(&InstanceId(machine.into())) else {
            return;
        };
        if standing.plain == Some(true) {
            let how = format!("nobody asked for {machine}, and job {job} gets it");
            self.breaks(Promise::SurplusUnused, how);
        }
        if standing.decreased {
            let how = format!("{machine} is being deleted, and job {job} gets it");
            self.breaks(Promise::BusyKept, how);
        }
    }

    /// The job holds nothing any more, whether it says so or was told so.
    pub(super) fn ends(&mut self, job: u64, machine: &str, slot: u32) {
        let place = (machine.to_owned(), slot);
        if self.held.get(&place) == Some(&job) {
            self.held.remove(&place);
            self.note(format_args!("job {job} leaves {machine}/{slot}"));
        }
    }

    /// Every job there was told that it is lost.
    pub(super) fn lost(&mut self, machine: &str, why: &str) {
        let jobs = self.held.len();
        self.held.retain(|(on, _), _| on != machine);
        self.told += u32::try_from(jobs - self.held.len()).unwrap();
        self.note(format_args!("{machine} is told lost: {why}"));
    }

    // At every step.

    /// While jobs want slots, one of them gets one every now and then, once faults are over.
    pub(super) fn step(&mut self, wanting: usize, now: Instant) {
        let calm = self.start + self.climate.storm;
        if wanting == 0 {
            self.progress = self.progress.max(now);
        }
        let since = self.progress.max(calm);
        if now > since + self.climate.patience() {
            let how = format!(
                "{wanting} jobs want a slot, and none got one for {:?}",
                now - since
            );
            self.breaks(Promise::Served, how);
        }
    }

    /// Whether going on is pointless, because jobs would wait for ever.
    pub(super) fn breaks_off(&self) -> bool {
        self.broken
            .iter()
            .any(|(promise, _)| *promise == Promise::Served)
    }

    /// Jobs that an instance can still take at once, by the jobs' own count.
    pub(super) fn offers(&self, id: &InstanceId) -> u32 {
        let used = self.uses.get(&id.0).copied().unwrap_or(0);
        let capacity = self.climate.autoscaler.capacity_per_instance;
        match self.climate.autoscaler.max_use_count {
            0 => capacity,
            most => capacity.min(most.saturating_sub(used)),
        }
    }
}

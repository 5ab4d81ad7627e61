//! One runner of the simulated manager: the production ledger, arithmetic, schedule and throttle, driven in virtual time.
//!
//! What [`crate::scaler::driver`] does with a real provisioner, in the same order: grant, decide, ask, remove. Calls of
//! the provider answer at once and always well; what takes time is what the cloud does, and when it is read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::agenda::{Agenda, Event};
use super::cloud::Cloud;
use super::history::{History, Level};
use super::scenario::{Entry, Scenario};
use crate::fleet::group::{InstanceId, InstanceState};
use crate::fleet::instance::{Phase, RemovalReason};
use crate::scaler::capacity::{self, Decision, Refusal, Why};
use crate::scaler::ledger::{AcquisitionId, Ledger, ReservationId, Shape};
use crate::scaler::schedule::{BadSchedule, Schedule};
use crate::scaler::throttle::Throttle;

/// A decision that asked for instances or removed some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub at: Duration,
    pub in_use: u32,
    pub waiting: u32,
    /// Before the decision, those asked for included.
    pub instances: u32,
    pub increase: u32,
    pub remove: u32,
    pub why: Why,
}

/// What the task that asks GitLab for this runner's jobs does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// GitLab had no job; it is asked again then.
    Paused(Instant),
    /// The ledger promises nothing: tried again when something changes.
    Refused,
    /// The runner's `limit` is reached.
    AtLimit,
    /// In the queue for `concurrent`.
    Queued,
}

pub(super) struct Manager<'a> {
    index: usize,
    entry: &'a Entry,
    connect: Duration,
    schedule: Schedule,
    throttle: Throttle,
    ledger: Ledger,
    cloud: Cloud,
    /// Jobs in GitLab's queue.
    pub(super) queue: VecDeque<usize>,
    pub(super) asking: Asking,
    /// Jobs taken from GitLab that have not ended.
    pub(super) taken: u32,
    waiters: HashMap<ReservationId, usize>,
    /// Whether anything happened that the next turn must look at.
    pub(super) stirred: bool,
    wake: Option<Instant>,
    reading: Option<Instant>,
    expecting: bool,
    /// The last decision left nothing to be done, now or later.
    content: bool,
    pub(super) history: History,
    pub(super) decisions: Vec<Effective>,
}

impl<'a> Manager<'a> {
    pub(super) fn new(
        index: usize,
        entry: &'a Entry,
        scenario: &Scenario,
        now: Instant,
    ) -> Result<Self, BadSchedule> {
        let (autoscaler, pace) = (&entry.autoscaler, &scenario.pace);
        let mut ledger = Ledger::new(Shape {
            capacity_per_instance: autoscaler.capacity_per_instance.max(1),
            max_use_count: autoscaler.max_use_count,
            // Simulated instances always answer.
            heartbeats: false,
        });
        ledger.started(Some(0));
        Ok(Self {
            index,
            entry,
            connect: pace.connect,
            schedule: Schedule::new(&autoscaler.policies, &scenario.zone)?,
            throttle: Throttle::new(autoscaler.scale_throttle, now),
            ledger,
            cloud: Cloud::new(index, pace.boot, pace.deletion, autoscaler, now),
            queue: VecDeque::new(),
            asking: Asking::Paused(now),
            taken: 0,
            waiters: HashMap::new(),
            stirred: true,
            wake: None,
            reading: None,
            expecting: false,
            content: false,
            history: History::default(),
            decisions: Vec::new(),
        })
    }

    pub(super) fn is_at_limit(&self) -> bool {
        self.entry.limit > 0 && self.taken >= self.entry.limit
    }

    pub(super) fn may_reserve(&self, wall: Timestamp) -> Result<(), Refusal> {
        let max = self.entry.autoscaler.max_instances;
        // A simulated request holds no slot for longer than it takes to answer, so none need be spared.
        capacity::may_reserve(self.schedule.at(wall), &self.ledger, max, 0)
    }

    /// A job was taken from GitLab: it waits for a slot, as long as the configuration lets it.
    pub(super) fn wait(&mut self, job: usize, now: Instant, agenda: &mut Agenda) {
        let reservation = self.ledger.reserve();
        self.ledger.wait(reservation);
        self.waiters.insert(reservation, job);
        self.taken += 1;
        self.stirred = true;
        let patience = self.entry.autoscaler.instance_acquire_timeout;
        let manager = self.index;
        let given_up = Event::GivenUp {
            manager,
            reservation,
        };
        agenda.add(now + patience, given_up);
    }

    /// The job that waited too long; `None` where it got its slot.
    pub(super) fn give_up(&mut self, reservation: ReservationId) -> Option<usize> {
        let job = self.waiters.remove(&reservation)?;
        self.ledger.unreserve(reservation);
        self.taken -= 1;
        self.stirred = true;
        Some(job)
    }

    pub(super) fn job_ended(&mut self, acquisition: AcquisitionId, now: Instant) {
        self.ledger.release(acquisition, None, true, true, now);
        self.taken -= 1;
        self.stirred = true;
    }

    pub(super) fn instance_ready(&mut self, id: &InstanceId, now: Instant) {
        self.ledger.advance(id, Phase::Ready, now);
        for slot in 0..self.ledger.shape().capacity_per_instance {
            self.ledger.set_slot(id, slot, true);
        }
        self.stirred = true;
    }

    pub(super) fn wake(&mut self, now: Instant) {
        self.stirred |= self.wake == Some(now);
    }

    /// Reads the cloud, if it is time.
    pub(super) fn read(&mut self, now: Instant, agenda: &mut Agenda) {
        if self.cloud.read_at() > now {
            return;
        }
        let reading = self.cloud.read(now);
        self.stirred |= !reading.is_empty();
        for id in &reading.lost {
            self.ledger.gone(id);
        }
        for id in reading.appeared {
            let creating = InstanceState::Creating;
            self.ledger.appeared(id, creating, false, now);
        }
        for id in reading.running {
            self.ledger.set_cloud_state(&id, InstanceState::Running);
            self.ledger.advance(&id, Phase::Preparing, now);
            let manager = self.index;
            agenda.add(now + self.connect, Event::Ready { manager, id });
        }
        self.read_again(agenda);
    }

    /// Decides once on everything that happened at this moment; answers jobs that start, each with its slot.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        at: Duration,
        wall: Timestamp,
        agenda: &mut Agenda,
    ) -> Vec<(usize, AcquisitionId)> {
        self.stirred = false;
        let patience = self.entry.autoscaler.instance_acquire_timeout;
        let stuck = self.ledger.doom_stuck(patience, now);
        let mut started = Vec::new();
        while let Some(grant) = self.ledger.grant() {
            let job = self.waiters.remove(&grant.reservation);
            started.extend(job.map(|job| (job, grant.acquisition)));
        }
        let max = self.entry.autoscaler.max_instances;
        let decision = capacity::decide(self.schedule.at(wall), &self.ledger, max, now);
        let effective = Effective {
            at,
            in_use: self.ledger.counts().in_use,
            waiting: self.ledger.waiting(),
            instances: self.level().total(),
            increase: 0,
            remove: 0,
            why: decision.why,
        };
        let mut wake = [stuck, decision.revisit].into_iter().flatten().min();
        let increase = self.increase(&decision, now, &mut wake);
        let remove = self.remove(&decision, now);
        if increase > 0 || remove > 0 {
            self.decisions.push(Effective {
                increase,
                remove,
                ..effective
            });
        }
        let expecting = self.ledger.coming() > 0;
        if expecting != self.expecting {
            self.expecting = expecting;
            self.cloud.expect(expecting, now);
        }
        self.content = wake.is_none() && self.is_settled();
        if self.schedule.changes() {
            let second = wall.as_second().rem_euclid(60).unsigned_abs();
            let minute = now + Duration::from_secs(60 - second);
            wake = Some(wake.map_or(minute, |wake| wake.min(minute)));
        }
        if let Some(wake) = wake.filter(|_| wake != self.wake) {
            let manager = self.index;
            agenda.add(wake, Event::Wake { manager });
        }
        self.wake = wake;
        self.read_again(agenda);
        started
    }

    fn increase(&mut self, decision: &Decision, now: Instant, wake: &mut Option<Instant>) -> u32 {
        if decision.increase == 0 {
            return 0;
        }
        let count = self.throttle.take(decision.increase, now);
        if count < decision.increase {
            *wake = [*wake, self.throttle.next()].into_iter().flatten().min();
        }
        if count > 0 {
            let token = self.cloud.made().to_string();
            self.ledger.asked(token.clone(), count);
            self.ledger.answered(&token, count);
            self.cloud.ask(count, now);
        }
        count
    }

    fn remove(&mut self, decision: &Decision, now: Instant) -> u32 {
        let mut removed = 0;
        let mut stuck = HashSet::new();
        for (id, reason) in &decision.remove {
            if self.ledger.begin_removal(id, reason) {
                removed += 1;
                self.ledger.removal_accepted(id);
                self.cloud.remove(id.clone(), now);
                if matches!(reason, RemovalReason::NeverRan(_)) {
                    stuck.insert(id);
                }
            }
        }
        if !stuck.is_empty() {
            self.cloud.give_up_boots(&stuck);
        }
        removed
    }

    fn read_again(&mut self, agenda: &mut Agenda) {
        let at = self.cloud.read_at();
        if self.reading != Some(at) {
            self.reading = Some(at);
            let manager = self.index;
            agenda.add(at, Event::Read { manager });
        }
    }

    /// Nothing is on its way in or out, and nobody runs or waits.
    fn is_settled(&self) -> bool {
        let counts = self.ledger.counts();
        self.taken == 0
            && self.ledger.coming() == 0
            && counts.instances == counts.in_phase(Phase::Ready)
    }

    /// Nothing more would happen, if nothing more arrived: the fleet rests, and GitLab has no job, or it will not be
    /// asked and whoever hoped for a policy that asks has `given_up`.
    pub(super) fn is_at_rest(&self, given_up: bool) -> bool {
        let nobody_left = self.queue.is_empty() || given_up && self.asking == Asking::Refused;
        nobody_left && self.content && self.is_settled()
    }

    pub(super) fn has_no_jobs(&self) -> bool {
        self.queue.is_empty() && self.taken == 0
    }

    pub(super) fn made(&self) -> u64 {
        self.cloud.made()
    }

    pub(super) fn name(&self) -> &str {
        &self.entry.name
    }

    pub(super) fn note(&mut self, at: Duration) {
        let level = self.level();
        self.history.note(at, level);
    }

    fn level(&self) -> Level {
        let counts = self.ledger.counts();
        let phase = |phase| counts.in_phase(phase);
        let in_queue = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        Level {
            instances: [
                self.ledger.coming() + phase(Phase::Listed) + phase(Phase::Preparing),
                phase(Phase::Ready),
                phase(Phase::InUse) + phase(Phase::Draining),
                phase(Phase::Removing),
            ],
            waiting: in_queue.saturating_add(self.ledger.waiting()),
        }
    }
}

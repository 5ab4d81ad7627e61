//! The task that owns one runner's ledger: takes events in, decides, records, and only then acts.
//!
//! ```text
//!  reserve, acquire, drain ──► ┌────────┐ ──► grants
//!  returned slots ───────────► │ driver │ ──► orders ──► provisioner
//!  reports of the provisioner► │        │ ──► status, life events
//!  connections that changed ─► └────────┘ ──► record (before anything it tells of happens)
//! ```
//!
//! Every turn takes in all that is waiting, then decides once. Nothing here waits for the cloud.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{Instrument as _, debug, info, warn};

use super::brake::Brake;
use super::capacity::{self, Decision};
use super::handle::{Acquisition, Ask, Return, Scaler};
use super::ledger::{Ledger, ReservationId, Shape};
use super::pools::Pools;
use super::record::Record;
use super::schedule::{BadSchedule, Schedule};
use super::status::{AcquireFailure, FleetEvent, Instances, Status};
use super::throttle::Throttle;
use crate::config::usable::Autoscaler;
use crate::fleet::group::{Group, IncreaseRequest, InstanceGroup, InstanceId};
use crate::fleet::instance::{Phase, RemovalReason};
use crate::fleet::provisioner::{Order, Provisioner, Report};
use crate::fleet::ready::{Machine, Preparation};
use crate::store::Store;

mod drain;
mod notices;
mod reconfigure;
mod serve;
mod survey;
mod verdicts;

use drain::Draining;
use notices::Notices;
use reconfigure::rhythm;
use verdicts::Said;

/// How long an instance may be without a connection while the cloud lists it as running.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);
/// Events taken in before a decision; more wait for the next turn, so that nobody waits long for an answer.
const MOST_A_TURN: usize = 256;

pub struct ScalerOptions<P> {
    pub group: Arc<dyn InstanceGroup>,
    pub preparation: Arc<P>,
    pub autoscaler: Autoscaler,
    pub store: Store,
    /// Whether the record of an earlier process is believed; false: everything found at start is of unknown history.
    pub adopt: bool,
    /// Whether idle instances are asked now and then, and before a job, whether they still answer.
    pub heartbeats: bool,
}

/// A ready machine and the task that tells of its connections.
struct Attached<M> {
    machine: Arc<M>,
    watching: AbortHandle,
}

impl<M> Drop for Attached<M> {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// What is done once the record is written.
enum Effect<P: Preparation> {
    Order(Order),
    Grant(ReservationId, Acquisition<P>),
}

type Waiter<P> = oneshot::Sender<Result<Acquisition<P>, AcquireFailure>>;

struct Driver<P: Preparation> {
    autoscaler: Autoscaler,
    store: Store,
    adopt: bool,
    /// What an earlier process left, from the group's opening until the first snapshot was read.
    left: Option<Record>,
    ledger: Ledger,
    schedule: Schedule,
    throttle: Throttle,
    /// Problems of reading the group and of letting it grow: each is ended by a success of its own kind.
    reading: Brake,
    growing: Brake,
    pools: Pools,
    opened: Option<Group>,
    notices: Notices,
    surveyed: bool,
    max_size: Option<u32>,
    machines: HashMap<InstanceId, Attached<P::Machine>>,
    waiters: HashMap<ReservationId, Waiter<P>>,
    effects: Vec<Effect<P>>,
    unwritten: bool,
    unwritable: bool,
    expecting: bool,
    /// No further job is asked for: what waits is still served, nothing is made to stand idle.
    closed: bool,
    draining: Option<Draining>,
    last_decision: Option<(String, Decision)>,
    said: Said,
    /// Unbounded, because a full channel both ways would stop both tasks; it holds a few orders an instance at most.
    orders: mpsc::UnboundedSender<Order>,
    changes: mpsc::Sender<InstanceId>,
    returns: mpsc::UnboundedSender<Return>,
    status: watch::Sender<Status>,
    events: broadcast::Sender<FleetEvent>,
}

/// Everything a turn can begin with.
enum Event<P: Preparation> {
    Report(Report<P::Machine>),
    Ask(Ask<P>),
    Return(Return),
    Connections(InstanceId),
    Time,
}

struct Inbox<P: Preparation> {
    reports: mpsc::Receiver<Report<P::Machine>>,
    asks: mpsc::Receiver<Ask<P>>,
    returns: mpsc::UnboundedReceiver<Return>,
    changes: mpsc::Receiver<InstanceId>,
}

impl<P: Preparation> Inbox<P> {
    /// `None`: nobody holds the scaler any more.
    async fn next(&mut self, wake: Instant) -> Option<Event<P>> {
        tokio::select! {
            Some(report) = self.reports.recv() => Some(Event::Report(report)),
            ask = self.asks.recv() => ask.map(Event::Ask),
            Some(returned) = self.returns.recv() => Some(Event::Return(returned)),
            Some(id) = self.changes.recv() => Some(Event::Connections(id)),
            () = tokio::time::sleep_until(wake.into()) => Some(Event::Time),
        }
    }

    /// Returned slots first: they serve whoever waits.
    fn waiting(&mut self) -> Option<Event<P>> {
        let returned = self.returns.try_recv().map(Event::Return).ok();
        let report = || self.reports.try_recv().map(Event::Report).ok();
        let changed = || self.changes.try_recv().map(Event::Connections).ok();
        let asked = || self.asks.try_recv().map(Event::Ask).ok();
        returned.or_else(report).or_else(changed).or_else(asked)
    }
}

impl<P: Preparation> Scaler<P> {
    /// Starts the driver and its provisioner. The task ends after [`Scaler::drain`], or when no handle is left.
    pub fn start(options: ScalerOptions<P>) -> Result<(Self, JoinHandle<()>), BadSchedule> {
        let autoscaler = options.autoscaler;
        let schedule = Schedule::new(&autoscaler.policies, &TimeZone::system())?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (report, reports) = mpsc::channel(256);
        let (asks, asked) = mpsc::channel(64);
        let (returns, returned) = mpsc::unbounded_channel();
        let (changes, changed) = mpsc::channel(256);
        let (status, published) = watch::channel(Status::default());
        let (events, _) = broadcast::channel(1024);

        let provisioner = Provisioner::new(
            options.group,
            options.preparation,
            rhythm(&autoscaler),
            ordered,
            report,
        );
        let now = tokio::time::Instant::now().into_std();
        let patience = autoscaler.instance_acquire_timeout;
        let driver = Driver {
            ledger: Ledger::new(Shape {
                capacity_per_instance: autoscaler.capacity_per_instance.max(1),
                max_use_count: autoscaler.max_use_count,
                heartbeats: options.heartbeats,
            }),
            throttle: Throttle::new(autoscaler.scale_throttle, now),
            autoscaler,
            store: options.store,
            adopt: options.adopt,
            left: Some(Record::default()),
            schedule,
            reading: Brake::new(patience),
            growing: Brake::new(patience),
            pools: Pools::default(),
            opened: None,
            notices: Notices::default(),
            surveyed: false,
            max_size: None,
            machines: HashMap::new(),
            waiters: HashMap::new(),
            effects: Vec::new(),
            unwritten: false,
            unwritable: false,
            expecting: false,
            closed: false,
            draining: None,
            last_decision: None,
            said: Said::default(),
            orders,
            changes,
            returns: returns.clone(),
            status,
            events: events.clone(),
        };
        let inbox = Inbox {
            reports,
            asks: asked,
            returns: returned,
            changes: changed,
        };
        tokio::spawn(provisioner.run().in_current_span());
        let task = tokio::spawn(driver.run(inbox).in_current_span());
        let scaler = Self {
            asks,
            returns,
            status: published,
            events,
        };
        Ok((scaler, task))
    }
}

impl<P: Preparation> Driver<P> {
    async fn run(mut self, mut inbox: Inbox<P>) {
        let mut wake = now();
        while let Some(event) = inbox.next(wake).await {
            self.take(event, now());
            for _ in 1..MOST_A_TURN {
                match inbox.waiting() {
                    Some(event) => self.take(event, now()),
                    None => break,
                }
            }
            wake = self.turn(now());
            self.write().await;
            self.publish();
            self.act();
            if self.is_drained(now()) {
                return self.close().await;
            }
        }
    }

    fn take(&mut self, event: Event<P>, now: Instant) {
        match event {
            Event::Report(report) => self.hear(report, now),
            Event::Ask(ask) => self.answer(ask, now),
            Event::Return(returned) => self.take_back(returned, now),
            Event::Connections(id) => self.look_at_connections(&id, now),
            Event::Time => {}
        }
    }

    fn look_at_connections(&mut self, id: &InstanceId, now: Instant) {
        let Some(attached) = self.machines.get(id) else {
            return;
        };
        let mut any_down = false;
        for slot in 0..self.ledger.shape().capacity_per_instance {
            let up = attached.machine.slot_is_up(slot);
            any_down |= !up;
            self.ledger.set_slot(id, slot, up);
        }
        self.ledger.set_down(id, any_down.then_some(now));
        if any_down {
            debug!(instance = %id, "connection was lost");
            self.order(Order::Update);
        }
    }

    /// Decides once on everything taken in; answers when to decide again if nothing happens.
    fn turn(&mut self, now: Instant) -> Instant {
        let mut wake = vec![now + Duration::from_secs(3600)];
        if !self.surveyed {
            return self.next_wake(wake, now);
        }
        wake.extend(self.ledger.doom_disconnected(CONNECTION_PATIENCE, now));
        // What boots for longer than a job would wait serves no job.
        let patience = self.autoscaler.instance_acquire_timeout;
        wake.extend(self.ledger.doom_stuck(patience, now));
        if self.draining.is_none() {
            self.serve(now);
        }
        wake.extend(self.check(now));
        let policy = self.schedule.at(Timestamp::now()).clone();
        let mut decision = capacity::decide(&policy, &self.ledger, self.max(), now);
        if self.closed {
            let none_idle = policy.none_idle();
            let bare = capacity::decide(&none_idle, &self.ledger, self.max(), now);
            decision.increase = bare.increase;
            decision.why = bare.why;
        }
        if self.draining.is_some() {
            decision.increase = 0;
            decision
                .remove
                .retain(|(_, reason)| *reason != RemovalReason::IdleTooLong);
        }
        wake.extend(decision.revisit);
        let asked = self.increase(&decision, now, &mut wake);
        for id in &decision.drain {
            info!(instance = %id, reason = %RemovalReason::Outdated, "instance gets no further job");
            self.ledger.doom(id, RemovalReason::Outdated, now);
            self.unwritten = true;
        }
        let removed = self.remove(&decision);
        self.decided(&decision, asked, &removed, now);
        let expecting = self.ledger.coming() > 0;
        if expecting != self.expecting {
            self.expecting = expecting;
            self.order(Order::Expect(expecting));
        }
        self.last_decision = Some((decision.why.to_string(), decision));
        self.next_wake(wake, now)
    }

    fn next_wake(&self, mut wake: Vec<Instant>, now: Instant) -> Instant {
        if self.schedule.changes() {
            let second = Timestamp::now().as_second().rem_euclid(60).unsigned_abs();
            wake.push(now + Duration::from_secs(60 - second));
        }
        wake.extend(self.draining.as_ref().map(|d| d.deadline));
        wake.into_iter().min().unwrap_or(now)
    }

    /// Asks for what the throttle and the last problem let through.
    fn increase(&mut self, decision: &Decision, now: Instant, wake: &mut Vec<Instant>) -> u32 {
        if decision.increase == 0 {
            return 0;
        }
        if self.growing.holds(now) {
            wake.extend(self.growing.until());
            return 0;
        }
        let count = self.throttle.take(decision.increase, now);
        if count < decision.increase {
            wake.extend(self.throttle.next());
        }
        if count == 0 {
            return 0;
        }
        let token = format!("{:032x}", rand::random::<u128>());
        self.ledger.asked(token.clone(), count);
        self.order(Order::Increase(IncreaseRequest {
            token,
            count,
            avoid_pools: self.pools.avoided(now),
        }));
        count
    }

    /// Begins the removals that can begin; answers which.
    fn remove(&mut self, decision: &Decision) -> Vec<(InstanceId, RemovalReason)> {
        let mut removed = Vec::new();
        for (id, reason) in &decision.remove {
            if !self.ledger.begin_removal(id, reason) {
                continue;
            }
            removed.push((id.clone(), reason.clone()));
            self.unwritten = true;
            self.machines.remove(id);
            self.order(Order::Remove(id.clone()));
            info!(instance = %id, %reason, "instance is being removed");
            self.tell(FleetEvent::Removing {
                instance: id.clone(),
                reason: reason.to_string(),
            });
        }
        removed
    }

    /// Durable before anything of this turn happens outside.
    async fn write(&mut self) {
        let Some(group) = self.opened.as_ref().filter(|_| self.unwritten) else {
            return;
        };
        self.unwritten = false;
        let (record, store, group) = (
            Record::of(&self.ledger),
            self.store.clone(),
            group.id.clone(),
        );
        let written = tokio::task::spawn_blocking(move || record.write(&store, &group)).await;
        let problem = match written {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem.to_string()),
            Err(panic) => Some(panic.to_string()),
        };
        if let Some(problem) = &problem
            && !self.unwritable
        {
            warn!(%problem, "record of the fleet could not be written; a restart will not know its instances");
        }
        self.unwritable = problem.is_some();
    }

    fn act(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                // A closed channel: the provisioner has ended, and with it every order's meaning.
                Effect::Order(order) => drop(self.orders.send(order)),
                Effect::Grant(reservation, acquisition) => {
                    let (instance, slot) = (acquisition.instance.clone(), acquisition.slot);
                    let Some(waiter) = self.waiters.remove(&reservation) else {
                        continue;
                    };
                    // A refused grant drops itself and comes back as never used.
                    if waiter.send(Ok(acquisition)).is_ok() {
                        // The job's own line tells it to the operator.
                        debug!(%instance, slot, "slot granted");
                        self.tell(FleetEvent::Acquired { instance, slot });
                    }
                }
            }
        }
    }

    fn order(&mut self, order: Order) {
        self.effects.push(Effect::Order(order));
    }

    fn tell(&self, event: FleetEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn max(&self) -> Option<u32> {
        let group = self.opened.as_ref().and_then(|group| group.max_size);
        [self.autoscaler.max_instances, group, self.max_size]
            .into_iter()
            .flatten()
            .min()
    }

    fn publish(&mut self) {
        let counts = self.ledger.counts();
        let instances = Instances {
            coming: self.ledger.coming(),
            listed: counts.in_phase(Phase::Listed),
            inspecting: counts.in_phase(Phase::Inspecting),
            quarantined: counts.in_phase(Phase::Quarantined),
            preparing: counts.in_phase(Phase::Preparing),
            ready: counts.in_phase(Phase::Ready),
            in_use: counts.in_phase(Phase::InUse),
            draining: counts.in_phase(Phase::Draining),
            removing: counts.in_phase(Phase::Removing),
        };
        let problem = self.reading.problem().or(self.growing.problem());
        let decided = self.last_decision.as_ref();
        let status = Status {
            opened: self.opened.clone(),
            problem: problem.map(Into::into),
            notices: self.notices.standing().to_vec(),
            instances,
            in_use: counts.in_use,
            waiting: self.ledger.waiting(),
            reserved: self.ledger.reserved(),
            available: counts.available,
            idle_target: decided.map_or(0, |(_, d)| d.idle_target),
            requested: decided.map_or(0, |(_, d)| d.requested),
            wanted: self.ledger.wanted(),
            max: self.max(),
            last_decision: decided.map(|(why, _)| why.clone()),
            draining: self.draining.is_some(),
        };
        self.status.send_if_modified(|published| {
            let differs = *published != status;
            *published = status;
            differs
        });
    }
}

/// Tokio's clock, so that paused time governs everything here.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;

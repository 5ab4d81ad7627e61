//! Eyes and hands on one instance group: reads it, asks it, makes its instances ready. What should be is decided above.
//!
//! ```text
//!   orders ──► ┌─────────────┐ ──► reports
//!              │ provisioner │
//!              └──┬───▲──────┘
//!        spawned  │   │ answers: open · update · increase · decrease · prepare · inspect
//!                 ▼   │
//!              the group, the preparation
//! ```
//!
//! Invariants: the loop never waits for a call; one `update` at a time, each with its number; a snapshot judges only
//! mutations that returned before it began; an instance is lost when two snapshots in a row do not list it and no
//! connection to it is up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::backoff::Backoff;
use super::group::{
    CallFailure, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceId, InstanceState,
    InterruptionKind, Notice, Problem, ProblemKind, Removal, Snapshot,
};
use super::ready::{Machine, NotReady, Occupation, Preparation};

mod calls;
mod census;

use calls::{Answer, Calls};
use census::{Census, Seen};

/// The contract's limit for one `decrease`.
const MOST_AT_ONCE: usize = 50;
/// Whoever has the group may let it go at any moment, as an entry does that is being replaced.
const CONFLICT_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// After wrong credentials only a person helps; a change of what was granted ends the wait at once.
const OPERATOR_RETRY: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub struct Rhythm {
    pub update_interval: Duration,
    pub update_interval_when_expecting: Duration,
    pub deletion_retry_interval: Duration,
    /// Failed tries after which an instance is given up; at least 1.
    pub failure_threshold: u32,
    pub slots: u32,
}

#[derive(Debug)]
pub enum Order {
    Increase(IncreaseRequest),
    Remove(InstanceId),
    Prepare(InstanceId),
    Inspect(InstanceId),
    /// Ask a ready instance whether it still answers.
    Check(InstanceId),
    /// Read the group now.
    Update,
    /// Whether instances are asked for that no snapshot has listed yet.
    Expect(bool),
    Rhythm(Rhythm),
    /// How soon a deletion without effect is tried again, from now on.
    RetryDeletionAfter(Duration),
    Shutdown {
        for_good: bool,
        done: oneshot::Sender<()>,
    },
}

pub enum Report<M> {
    Opened(Group),
    /// A call that reads the group failed; `Surveyed` says that it works again.
    Unreadable(CallFailure),
    Surveyed(Box<Survey>),
    Increased {
        token: String,
        outcome: Result<IncreaseOutcome, CallFailure>,
        /// Number of the first snapshot that may judge it.
        judged_from: u64,
    },
    /// The cloud took the request to delete it. Told once an instance.
    RemovalAccepted(InstanceId),
    RemovalRefused(InstanceId, CallFailure),
    Prepared(InstanceId, Arc<M>),
    /// Given up after `failure_threshold` tries.
    NotReady(InstanceId, NotReady),
    Occupied(InstanceId, Vec<String>),
    Idle(InstanceId),
    NotInspected(InstanceId, NotReady),
    /// Whether a ready instance still answers; absent when it went meanwhile.
    Checked(InstanceId, Result<(), String>),
    /// What the provider was granted changed.
    Granted,
}

/// What one snapshot changed.
#[derive(Debug)]
pub struct Survey {
    pub number: u64,
    pub target: Option<u32>,
    pub max_size: Option<u32>,
    pub notices: Vec<Notice>,
    /// No mutation was under way while it was taken.
    pub settled: bool,
    /// Absent twice, or said to be gone.
    pub lost: Vec<InstanceId>,
    /// Not listed for the first time, or (false) listed again.
    pub missing: Vec<(InstanceId, bool)>,
    pub changed: Vec<(InstanceId, InstanceState)>,
    pub appeared: Vec<(InstanceId, InstanceState)>,
    /// What new instances are made from, where the provider says.
    pub generation: Option<String>,
    /// Instances whose generation differs from what it was, or that are new.
    pub generations: Vec<(InstanceId, String)>,
    /// Instances whose end the cloud announces for the first time.
    pub interrupted: Vec<(InstanceId, InterruptionKind)>,
    /// Instances that will never run, with what the cloud says of it; each once.
    pub failed: Vec<(InstanceId, Problem)>,
    /// Absent twice or more, although a connection to them is up.
    pub unlisted: Vec<InstanceId>,
}

/// An update under way.
struct Reading {
    number: u64,
    quiet: bool,
    mutations_begun: u64,
}

pub struct Provisioner<P: Preparation> {
    rhythm: Rhythm,
    orders: mpsc::UnboundedReceiver<Order>,
    reports: mpsc::Sender<Report<P::Machine>>,
    calls: Calls<P>,
    census: Census<P::Machine>,
    opened: bool,
    opening: bool,
    reading: Option<Reading>,
    /// An update was asked for while one was under way.
    again: bool,
    next_number: u64,
    mutations: u32,
    mutations_begun: u64,
    decreasing: bool,
    expecting: bool,
    read_at: Instant,
    unreadable: Backoff,
    unready: Backoff,
    /// Nothing is made ready before this: something failed to be.
    prepare_after: Instant,
}

impl<P: Preparation> Provisioner<P> {
    pub fn new(
        group: Arc<dyn InstanceGroup>,
        preparation: Arc<P>,
        rhythm: Rhythm,
        orders: mpsc::UnboundedReceiver<Order>,
        reports: mpsc::Sender<Report<P::Machine>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            rhythm,
            orders,
            reports,
            calls: Calls::new(group, preparation),
            census: Census::default(),
            opened: false,
            opening: false,
            reading: None,
            again: false,
            next_number: 1,
            mutations: 0,
            mutations_begun: 0,
            decreasing: false,
            expecting: false,
            read_at: now,
            unreadable: Backoff::new(Duration::from_secs(1), LONGEST_RETRY),
            unready: Backoff::new(Duration::from_secs(1), OPERATOR_RETRY),
            prepare_after: now,
        }
    }

    /// Runs until a shutdown is ordered or nobody orders any more.
    pub async fn run(mut self) {
        let mut granted = self.calls.group().granted();
        let mut watching = true;
        loop {
            self.begin_what_is_due();
            let wake = self.wake();
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => break,
                    Some(Order::Shutdown { for_good, done }) => {
                        self.shut_down(for_good).await;
                        let _ = done.send(());
                        return;
                    }
                    Some(order) => self.obey(order),
                },
                answer = self.calls.next() => {
                    for report in self.take(answer) {
                        if self.reports.send(report).await.is_err() {
                            return;
                        }
                    }
                }
                changed = granted.changed(), if watching => {
                    watching = changed.is_ok();
                    self.unreadable.succeeded();
                    self.again = self.opening || self.reading.is_some();
                    self.read_at = Instant::now();
                    if self.reports.send(Report::Granted).await.is_err() {
                        return;
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Increase(request) => {
                self.mutates();
                self.calls.increase(request);
            }
            Order::Remove(id) => {
                if let Some(machine) = self.census.order_removal(&id, now) {
                    tokio::spawn(async move { machine.close().await });
                }
            }
            Order::Prepare(id) => self.census.order_preparation(&id, now),
            Order::Inspect(id) => self.census.order_inspection(&id, now),
            Order::Check(id) => {
                if let Some((memo, machine)) = self.census.machine(&id) {
                    self.calls.check(id, memo, machine);
                }
            }
            Order::Update if self.reading.is_some() => self.again = true,
            Order::Update => self.read_at = now,
            Order::Expect(expecting) => {
                self.expecting = expecting;
                self.read_soon(now);
            }
            Order::Rhythm(rhythm) => {
                self.rhythm = rhythm;
                self.read_soon(now);
            }
            Order::RetryDeletionAfter(interval) => {
                self.rhythm.deletion_retry_interval = interval;
                self.census.hasten_removals(now);
            }
            Order::Shutdown { .. } => {}
        }
    }

    fn mutates(&mut self) {
        self.mutations += 1;
        self.mutations_begun += 1;
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        if now >= self.read_at && !self.opening && self.reading.is_none() {
            if self.opened {
                self.reading = Some(Reading {
                    number: self.next_number,
                    quiet: self.mutations == 0,
                    mutations_begun: self.mutations_begun,
                });
                self.next_number += 1;
                self.calls.update();
            } else {
                self.opening = true;
                self.calls.open();
            }
        }
        if !self.decreasing {
            let due = self.census.removals_due(now, MOST_AT_ONCE);
            if !due.is_empty() {
                self.decreasing = true;
                self.mutates();
                self.calls.decrease(due);
            }
        }
        if now >= self.prepare_after {
            for (id, memo) in self.census.preparations_due(now) {
                self.calls.prepare(id, memo, self.rhythm.slots);
            }
        }
        for (id, memo) in self.census.inspections_due(now) {
            self.calls.inspect(id, memo);
        }
    }

    /// When something is due next; what is under way reports by itself.
    fn wake(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let read = (!self.opening && self.reading.is_none()).then_some(self.read_at);
        let removal = self.census.next_removal().filter(|_| !self.decreasing);
        let prepare = self.census.next_preparation();
        let prepare = prepare.map(|at| at.max(self.prepare_after));
        [read, removal, prepare, self.census.next_inspection()]
            .into_iter()
            .flatten()
            .fold(far, Instant::min)
    }

    fn read_soon(&mut self, now: Instant) {
        let soon = if self.expecting || self.census.is_changing() {
            self.rhythm.update_interval_when_expecting
        } else {
            self.rhythm.update_interval
        };
        self.read_at = self.read_at.min(now + soon);
    }

    fn take(&mut self, answer: Answer<P::Machine>) -> Vec<Report<P::Machine>> {
        let now = Instant::now();
        match answer {
            Answer::Opened(Ok(group)) => {
                self.opening = false;
                self.opened = true;
                self.unreadable.succeeded();
                self.read_at = now;
                vec![Report::Opened(group)]
            }
            Answer::Opened(Err(failure)) => {
                self.opening = false;
                vec![self.unreadable(failure, now)]
            }
            Answer::Updated(Ok(snapshot)) => self.survey(snapshot, now).into_iter().collect(),
            Answer::Updated(Err(failure)) => {
                self.reading = None;
                vec![self.unreadable(failure, now)]
            }
            Answer::Increased(token, outcome) => {
                self.mutations -= 1;
                self.expecting = true;
                self.read_soon(now);
                vec![Report::Increased {
                    token,
                    outcome,
                    judged_from: self.next_number,
                }]
            }
            Answer::Decreased(ids, outcome) => {
                self.mutations -= 1;
                self.decreasing = false;
                let retry = now + self.rhythm.deletion_retry_interval;
                let reports = self.removed(ids, outcome, retry);
                self.read_soon(now);
                reports
            }
            Answer::Prepared(id, made) => self.prepared(id, made, now).into_iter().collect(),
            Answer::Inspected(id, found) => self.inspected(id, found, now).into_iter().collect(),
            Answer::Checked(id, alive) => vec![Report::Checked(id, alive)],
        }
    }

    fn unreadable(&mut self, failure: CallFailure, now: Instant) -> Report<P::Machine> {
        let own = self.unreadable.failed();
        let wait = match &failure {
            CallFailure::Refused(Problem {
                kind, retry_after, ..
            }) => match kind {
                ProblemKind::Unauthenticated | ProblemKind::Forbidden => OPERATOR_RETRY,
                ProblemKind::Conflict => own.min(CONFLICT_RETRY),
                _ => retry_after.unwrap_or(own).min(OPERATOR_RETRY),
            },
            CallFailure::OutcomeUnknown(_) | CallFailure::NotCalled(_) => own,
        };
        let again = std::mem::take(&mut self.again);
        self.read_at = if again { now } else { now + wait };
        Report::Unreadable(failure)
    }

    fn survey(&mut self, snapshot: Snapshot, now: Instant) -> Option<Report<P::Machine>> {
        let reading = self.reading.take()?;
        self.unreadable.succeeded();
        let Snapshot {
            instances,
            target,
            max_size,
            notices,
            generation,
            ..
        } = snapshot;
        let slots = self.rhythm.slots;
        let answers = |machine: &P::Machine| (0..slots).any(|slot| machine.slot_is_up(slot));
        let change = self.census.compare(instances, reading.number, answers);
        for machine in change.ended {
            close(machine);
        }
        let soon = if std::mem::take(&mut self.again) {
            Duration::ZERO
        } else if self.expecting || self.census.is_changing() {
            self.rhythm.update_interval_when_expecting
        } else {
            self.rhythm.update_interval
        };
        self.read_at = now + soon;
        Some(Report::Surveyed(Box::new(Survey {
            number: reading.number,
            target,
            max_size,
            notices,
            settled: reading.quiet && reading.mutations_begun == self.mutations_begun,
            lost: change.lost,
            missing: change.missing,
            changed: change.changed,
            appeared: change.appeared,
            generation,
            generations: change.generations,
            interrupted: change.interrupted,
            failed: change.failed,
            unlisted: change.unlisted,
        })))
    }

    fn removed(
        &mut self,
        ids: Vec<InstanceId>,
        outcome: Result<Vec<Removal>, CallFailure>,
        retry: Instant,
    ) -> Vec<Report<P::Machine>> {
        let next = self.next_number;
        let answers: Vec<Result<Removal, CallFailure>> = match outcome {
            Ok(removals) => removals.into_iter().map(Ok).collect(),
            Err(failure) => ids.iter().map(|_| Err(failure.clone())).collect(),
        };
        // A provider that answers too little leaves the rest to the retry.
        let mut reports = Vec::new();
        for (index, id) in ids.into_iter().enumerate() {
            let answer = answers.get(index).cloned().unwrap_or_else(|| {
                Err(CallFailure::OutcomeUnknown(
                    "the provider answered for fewer instances than it was asked to delete".into(),
                ))
            });
            let Some(seen) = self.census.get_mut(&id) else {
                continue;
            };
            let accepted = seen.removal_answered(&answer, retry, next);
            reports.extend(match answer {
                Ok(Removal::Refused(problem)) => {
                    let refused = CallFailure::Refused(problem);
                    Some(Report::RemovalRefused(id, refused))
                }
                Err(failure) => Some(Report::RemovalRefused(id, failure)),
                Ok(Removal::Accepted | Removal::Gone) => {
                    accepted.then_some(Report::RemovalAccepted(id))
                }
            });
        }
        reports
    }

    fn prepared(
        &mut self,
        id: InstanceId,
        made: Result<Arc<P::Machine>, NotReady>,
        now: Instant,
    ) -> Option<Report<P::Machine>> {
        let wanted = self.census.get_mut(&id).filter(|seen| seen.is_preparing());
        match (wanted, made) {
            (Some(seen), Ok(machine)) => {
                self.unready.succeeded();
                self.prepare_after = now;
                seen.is_ready(Arc::clone(&machine));
                Some(Report::Prepared(id, machine))
            }
            (None, Ok(machine)) => {
                close((machine, "it went while it was made ready".into()));
                None
            }
            (Some(seen), Err(why)) => {
                self.prepare_after = now + self.unready.failed();
                debug!(instance = %id, %why, "instance was not made ready");
                let again = self.prepare_after;
                let given_up = seen.try_failed(again, self.rhythm.failure_threshold);
                given_up.then_some(Report::NotReady(id, why))
            }
            (None, Err(_)) => None,
        }
    }

    fn inspected(
        &mut self,
        id: InstanceId,
        found: Result<Occupation, NotReady>,
        now: Instant,
    ) -> Option<Report<P::Machine>> {
        let again = now + self.rhythm.update_interval;
        let threshold = self.rhythm.failure_threshold;
        let seen: &mut Seen<P::Machine> = self.census.get_mut(&id)?;
        match found {
            Ok(Occupation::Idle) => {
                seen.inspection_over();
                Some(Report::Idle(id))
            }
            Ok(Occupation::Foreign(containers)) => {
                seen.inspect_again(again);
                Some(Report::Occupied(id, containers))
            }
            Err(why) => {
                let given_up = seen.try_failed(again, threshold);
                given_up.then_some(Report::NotInspected(id, why))
            }
        }
    }

    /// Ends every wait on machines, tells the provider, and forgets calls under way: their outcome is in the cloud.
    async fn shut_down(mut self, for_good: bool) {
        self.calls.forget();
        for machine in self.census.machines() {
            machine.close().await;
        }
        if let Err(failure) = self.calls.group().shutdown(for_good).await {
            tracing::warn!(%failure, "provider could not shut down");
        }
    }
}

/// Ends every wait on a machine at once and closes its connections beside.
fn close<M: Machine>((machine, reason): (Arc<M>, String)) {
    machine.gone(reason);
    tokio::spawn(async move { machine.close().await });
}

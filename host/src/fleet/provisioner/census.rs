//! What the last snapshots listed and what is still to be done with each instance; no calls, no clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::fleet::group::{
    CallFailure, InstanceId, InstanceRef, InstanceState, InterruptionKind, Listed, Problem, Removal,
};
use crate::fleet::instance::state_name;

/// Snapshots in a row that must miss an instance before it counts as lost: one may be a hiccup of the cloud's lists.
const MISSES_TO_BE_LOST: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Prepare,
    Inspect,
    Remove,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    work: Work,
    at: Instant,
    under_way: bool,
}

/// One listed instance.
pub(super) struct Seen<M> {
    state: InstanceState,
    generation: Option<String>,
    interrupted: bool,
    memo: watch::Sender<String>,
    last_listed: u64,
    misses: u32,
    machine: Option<Arc<M>>,
    task: Option<Task>,
    failures: u32,
    removal_accepted: bool,
    /// Snapshots before this one do not know of the last removal yet.
    judged_from: u64,
}

impl<M> Seen<M> {
    fn new(listed: &Listed, number: u64) -> Self {
        Self {
            state: listed.state,
            generation: None,
            interrupted: false,
            memo: watch::Sender::new(listed.memo.clone()),
            last_listed: number,
            misses: 0,
            machine: None,
            task: None,
            failures: 0,
            removal_accepted: false,
            judged_from: 0,
        }
    }

    fn is(&self, work: Work) -> bool {
        self.task.is_some_and(|task| task.work == work)
    }

    pub(super) fn is_preparing(&self) -> bool {
        self.is(Work::Prepare)
    }

    pub(super) fn is_ready(&mut self, machine: Arc<M>) {
        self.machine = Some(machine);
        self.task = None;
        self.failures = 0;
    }

    pub(super) fn inspection_over(&mut self) {
        if self.is(Work::Inspect) {
            self.task = None;
        }
    }

    pub(super) fn inspect_again(&mut self, at: Instant) {
        self.failures = 0;
        self.again(Work::Inspect, at);
    }

    fn again(&mut self, work: Work, at: Instant) {
        if let Some(task) = self.task.as_mut().filter(|task| task.work == work) {
            task.at = at;
            task.under_way = false;
        }
    }

    /// Counts a failed try to prepare or inspect. True: it was the last one.
    pub(super) fn try_failed(&mut self, again: Instant, threshold: u32) -> bool {
        let Some(work) = self.task.map(|t| t.work).filter(|w| *w != Work::Remove) else {
            return false;
        };
        self.failures += 1;
        if self.failures >= threshold {
            self.task = None;
            return true;
        }
        self.again(work, again);
        false
    }

    /// True when the cloud accepted for the first time.
    pub(super) fn removal_answered(
        &mut self,
        answer: &Result<Removal, CallFailure>,
        retry: Instant,
        judged_from: u64,
    ) -> bool {
        self.judged_from = judged_from;
        self.again(Work::Remove, retry);
        let first = matches!(answer, Ok(Removal::Accepted)) && !self.removal_accepted;
        self.removal_accepted |= first;
        first
    }

    /// Whether a snapshot may conclude from not listing it.
    fn is_judged_by(&self, number: u64) -> bool {
        let removing = self
            .task
            .is_some_and(|t| t.work == Work::Remove && t.under_way);
        !removing && number >= self.judged_from
    }
}

/// What a snapshot changed, and machines whose every wait ends now, each with the reason.
pub(super) struct Change<M> {
    pub(super) lost: Vec<InstanceId>,
    pub(super) missing: Vec<(InstanceId, bool)>,
    pub(super) changed: Vec<(InstanceId, InstanceState)>,
    pub(super) appeared: Vec<(InstanceId, InstanceState)>,
    pub(super) generations: Vec<(InstanceId, String)>,
    pub(super) interrupted: Vec<(InstanceId, InterruptionKind)>,
    /// Instances that will never run, with what the cloud says of it; each once.
    pub(super) failed: Vec<(InstanceId, Problem)>,
    /// Absent as often as would make them lost, while a connection to them is up.
    pub(super) unlisted: Vec<InstanceId>,
    pub(super) ended: Vec<(Arc<M>, String)>,
}

pub(super) struct Census<M> {
    seen: HashMap<InstanceId, Seen<M>>,
    /// At least all with a task: who looks for work need not look at every instance.
    busy: BTreeSet<InstanceId>,
    /// Whether the last snapshot left anything undecided.
    unsettled: bool,
}

impl<M> Default for Census<M> {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            busy: BTreeSet::new(),
            unsettled: false,
        }
    }
}

impl<M> Census<M> {
    pub(super) fn get_mut(&mut self, id: &InstanceId) -> Option<&mut Seen<M>> {
        self.seen.get_mut(id)
    }

    /// A ready instance's machine, and its memo.
    pub(super) fn machine(&self, id: &InstanceId) -> Option<(watch::Receiver<String>, Arc<M>)> {
        let seen = self.seen.get(id)?;
        let machine = Arc::clone(seen.machine.as_ref()?);
        Some((seen.memo.subscribe(), machine))
    }

    pub(super) fn machines(&mut self) -> Vec<Arc<M>> {
        let machines = self.seen.values_mut().filter_map(|s| s.machine.take());
        machines.collect()
    }

    /// True while something in the cloud is expected to change by itself.
    pub(super) fn is_changing(&self) -> bool {
        self.unsettled || self.tasks(Work::Remove).next().is_some()
    }

    /// Takes a snapshot in. What `answers` is not lost by not being listed: its own connection says more about it.
    pub(super) fn compare(
        &mut self,
        listed: Vec<Listed>,
        number: u64,
        answers: impl Fn(&M) -> bool,
    ) -> Change<M> {
        let mut change = Change {
            lost: Vec::new(),
            missing: Vec::new(),
            changed: Vec::new(),
            appeared: Vec::new(),
            generations: Vec::new(),
            interrupted: Vec::new(),
            failed: Vec::new(),
            unlisted: Vec::new(),
            ended: Vec::new(),
        };
        self.unsettled = false;
        for one in listed {
            self.unsettled |= is_transitional(one.state);
            match self.seen.get_mut(&one.id) {
                None if one.state == InstanceState::Deleted => {}
                None => {
                    change.appeared.push((one.id.clone(), one.state));
                    change.note_failure(&one);
                    let mut seen = Seen::new(&one, number);
                    change.note_generation(&one, &mut seen);
                    change.note_interruption(&one, &mut seen);
                    self.seen.insert(one.id, seen);
                }
                Some(seen) => {
                    seen.last_listed = number;
                    change.note_generation(&one, seen);
                    change.note_interruption(&one, seen);
                    if std::mem::take(&mut seen.misses) > 0 {
                        change.missing.push((one.id.clone(), false));
                    }
                    seen.memo.send_if_modified(|memo| {
                        let differs = *memo != one.memo;
                        memo.clone_from(&one.memo);
                        differs
                    });
                    if seen.state != one.state {
                        seen.state = one.state;
                        change.note_failure(&one);
                        change.note(&one, seen);
                    }
                }
            }
        }
        for (id, seen) in &mut self.seen {
            if seen.last_listed != number && seen.is_judged_by(number) {
                seen.misses += 1;
                self.unsettled = true;
                let connected = seen.machine.as_deref().is_some_and(&answers);
                if seen.misses >= MISSES_TO_BE_LOST && connected {
                    change.unlisted.push(id.clone());
                } else if seen.misses >= MISSES_TO_BE_LOST {
                    let why = "the cloud does not list the instance any more".to_owned();
                    change.ended.extend(seen.machine.take().map(|m| (m, why)));
                    change.lost.push(id.clone());
                } else {
                    change.missing.push((id.clone(), true));
                }
            }
        }
        for id in &change.lost {
            self.seen.remove(id);
            self.busy.remove(id);
        }
        change
    }

    /// Supersedes any other work; hands out the machine, whose connections are to be closed.
    pub(super) fn order_removal(&mut self, id: &InstanceId, now: Instant) -> Option<Arc<M>> {
        let seen = self.order(id, Work::Remove, now)?;
        seen.machine.take()
    }

    pub(super) fn order_preparation(&mut self, id: &InstanceId, now: Instant) {
        self.order(id, Work::Prepare, now);
    }

    pub(super) fn order_inspection(&mut self, id: &InstanceId, now: Instant) {
        self.order(id, Work::Inspect, now);
    }

    fn order(&mut self, id: &InstanceId, work: Work, at: Instant) -> Option<&mut Seen<M>> {
        let seen = self.seen.get_mut(id)?;
        if !seen.is(Work::Remove) {
            let under_way = false;
            seen.task = Some(Task {
                work,
                at,
                under_way,
            });
            seen.failures = 0;
            self.busy.insert(id.clone());
        }
        Some(seen)
    }

    /// Removals that wait for their retry are tried now.
    pub(super) fn hasten_removals(&mut self, now: Instant) {
        for id in &self.busy {
            if let Some(seen) = self.seen.get_mut(id)
                && let Some(task) = seen.task.as_mut().filter(|t| t.work == Work::Remove)
            {
                task.at = task.at.min(now);
            }
        }
    }

    /// Begins up to `most` removals. What the cloud is deleting already is only waited for.
    pub(super) fn removals_due(&mut self, now: Instant, most: usize) -> Vec<InstanceRef> {
        let due = self.begin(Work::Remove, now, most);
        due.into_iter()
            .map(|(id, memo)| {
                let memo = memo.borrow().clone();
                InstanceRef { id, memo }
            })
            .collect()
    }

    pub(super) fn preparations_due(
        &mut self,
        now: Instant,
    ) -> Vec<(InstanceId, watch::Receiver<String>)> {
        self.begin(Work::Prepare, now, usize::MAX)
    }

    pub(super) fn inspections_due(
        &mut self,
        now: Instant,
    ) -> Vec<(InstanceId, watch::Receiver<String>)> {
        self.begin(Work::Inspect, now, usize::MAX)
    }

    fn begin(
        &mut self,
        work: Work,
        now: Instant,
        most: usize,
    ) -> Vec<(InstanceId, watch::Receiver<String>)> {
        let (seen, mut begun) = (&mut self.seen, Vec::new());
        self.busy.retain(|id| {
            let Some(one) = seen.get_mut(id) else {
                return false;
            };
            let waits = one.waits(work);
            let Some(task) = &mut one.task else {
                return false;
            };
            if waits && task.at <= now && begun.len() < most {
                task.under_way = true;
                begun.push((id.clone(), one.memo.subscribe()));
            }
            true
        });
        begun
    }

    pub(super) fn next_removal(&self) -> Option<Instant> {
        self.next(Work::Remove)
    }

    pub(super) fn next_preparation(&self) -> Option<Instant> {
        self.next(Work::Prepare)
    }

    pub(super) fn next_inspection(&self) -> Option<Instant> {
        self.next(Work::Inspect)
    }

    fn next(&self, work: Work) -> Option<Instant> {
        self.tasks(work)
            .filter(|seen| seen.waits(work))
            .filter_map(|seen| seen.task.map(|task| task.at))
            .min()
    }

    fn tasks(&self, work: Work) -> impl Iterator<Item = &Seen<M>> {
        self.busy
            .iter()
            .filter_map(|id| self.seen.get(id))
            .filter(move |seen| seen.is(work))
    }
}

impl<M> Seen<M> {
    /// Whether its task can begin once its time has come.
    fn waits(&self, work: Work) -> bool {
        let pointless = work == Work::Remove && self.state == InstanceState::Deleting;
        !pointless && self.task.is_some_and(|t| t.work == work && !t.under_way)
    }
}

impl<M> Change<M> {
    /// A provider that stops telling it takes nothing back.
    fn note_generation(&mut self, listed: &Listed, seen: &mut Seen<M>) {
        if let Some(generation) = &listed.generation
            && seen.generation.as_ref() != Some(generation)
        {
            seen.generation = Some(generation.clone());
            self.generations
                .push((listed.id.clone(), generation.clone()));
        }
    }

    /// Told once: the cloud that takes its word back leaves an instance that is going all the same.
    fn note_interruption(&mut self, listed: &Listed, seen: &mut Seen<M>) {
        if let Some(interruption) = &listed.interruption
            && !std::mem::replace(&mut seen.interrupted, true)
        {
            self.interrupted
                .push((listed.id.clone(), interruption.kind));
        }
    }

    fn note_failure(&mut self, listed: &Listed) {
        if listed.state == InstanceState::Failed
            && let Some(problem) = &listed.reason
        {
            self.failed.push((listed.id.clone(), problem.clone()));
        }
    }

    fn note(&mut self, listed: &Listed, seen: &mut Seen<M>) {
        let id = listed.id.clone();
        if has_ended(listed.state) {
            let state = state_name(listed.state);
            let why = match &listed.reason {
                Some(problem) => format!("the cloud lists the instance as {state}: {problem}"),
                None => format!("the cloud lists the instance as {state}"),
            };
            self.ended.extend(seen.machine.take().map(|m| (m, why)));
        }
        if listed.state == InstanceState::Deleted {
            self.lost.push(id);
        } else {
            self.changed.push((id, listed.state));
        }
    }
}

/// No job can go on there.
fn has_ended(state: InstanceState) -> bool {
    use InstanceState::{Deleted, Deleting, Failed, Stopped};
    matches!(state, Deleting | Deleted | Failed | Stopped)
}

fn is_transitional(state: InstanceState) -> bool {
    use InstanceState::{Creating, Deleting, Resuming, Suspending};
    matches!(state, Creating | Deleting | Resuming | Suspending)
}

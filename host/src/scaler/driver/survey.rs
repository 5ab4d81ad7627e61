//! What the provisioner reports, taken into the ledger.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::{Attached, Driver, Machine, Preparation};
use crate::fleet::group::{
    CallFailure, Group, IncreaseOutcome, InstanceId, InstanceState, Problem, ProblemKind,
};
use crate::fleet::instance::{Cause, Phase, RemovalReason, state_name};
use crate::fleet::provisioner::{Order, Report, Survey};
use crate::scaler::brake::needs_the_operator;
use crate::scaler::ledger::{AcquisitionId, Entry};
use crate::scaler::record::Record;
use crate::scaler::status::FleetEvent;

impl<P: Preparation> Driver<P> {
    pub(super) fn hear(&mut self, report: Report<P::Machine>, now: Instant) {
        match report {
            Report::Opened(group) => self.group_opened(group),
            Report::Unreadable(failure) => {
                self.called("update");
                let before = self.reading.problem().map(str::to_owned);
                self.reading.failed(&failure, now);
                if before.as_deref() != self.reading.problem() {
                    warn!(problem = %failure, "instance group could not be read");
                }
            }
            Report::Surveyed(survey) => self.survey(*survey, now),
            Report::Increased {
                token,
                outcome,
                judged_from,
            } => self.increased(&token, outcome, judged_from, now),
            Report::RemovalAccepted(id) => {
                self.called("decrease");
                self.ledger.removal_accepted(&id);
                self.unwritten = true;
                self.tell(FleetEvent::RemovalAccepted { instance: id });
            }
            Report::RemovalRefused(id, failure) => self.removal_refused(&id, &failure, now),
            Report::Prepared(id, machine) => self.prepared(id, machine, now),
            Report::NotReady(id, why) => {
                warn!(instance = %id, %why, "instance could not be made ready");
                let reason = RemovalReason::NotReady(why.to_string());
                self.ledger.doom(&id, reason, now);
            }
            Report::Occupied(id, containers) => {
                if self.ledger.advance(&id, Phase::Quarantined, now) {
                    let containers = containers.join(", ");
                    warn!(
                        instance = %id,
                        containers,
                        "instance of unknown history runs jobs of another manager; it is left alone until they end"
                    );
                    self.tell(FleetEvent::Quarantined { instance: id });
                }
            }
            Report::Idle(id) => self.not_requested(&id, now),
            Report::NotInspected(id, why) => {
                warn!(instance = %id, %why, "instance of unknown history cannot be looked at; it is removed");
                self.not_requested(&id, now);
            }
            Report::Checked(id, alive) => self.checked(&id, alive, now),
            Report::Granted => {
                self.reading.granted();
                self.growing.granted();
            }
        }
    }

    fn checked(&mut self, id: &InstanceId, alive: Result<(), String>, now: Instant) {
        let threshold = self.autoscaler.failure_threshold.max(1);
        let problem = alive.as_ref().err().cloned();
        let given_up = self.ledger.checked(id, alive, threshold, now);
        if let Some(problem) = problem {
            warn!(instance = %id, problem, given_up, "instance does not answer");
            self.order(Order::Update);
        }
    }

    fn group_opened(&mut self, group: Group) {
        self.reading.succeeded();
        info!(group = %group.id, max_size = group.max_size, "instance group opened");
        self.notices.heard(group.notices.clone());
        if self.adopt && !self.surveyed {
            let left = Record::read(&self.store, &group.id).unwrap_or_else(|problem| {
                warn!(%problem, "record of the fleet could not be read; everything found is of unknown history");
                Record::default()
            });
            self.left = Some(left);
        }
        self.opened = Some(group);
    }

    fn not_requested(&mut self, id: &InstanceId, now: Instant) {
        let cause = self.ledger.entry(id).map(|entry| entry.instance.cause());
        if let Some(cause) = cause.filter(|cause| *cause != Cause::Requested) {
            let reason = RemovalReason::NotRequested(cause);
            self.ledger.doom(id, reason, now);
        }
    }

    fn increased(
        &mut self,
        token: &str,
        outcome: Result<IncreaseOutcome, CallFailure>,
        judged_from: u64,
        now: Instant,
    ) {
        self.called("increase");
        self.unwritten = true;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                warn!(problem = %failure, "instances could not be requested");
                self.request_refused(&failure);
                if matches!(failure, CallFailure::OutcomeUnknown(_)) {
                    self.ledger.unanswered(token, judged_from);
                    self.order(Order::Update);
                } else {
                    self.ledger.answered(token, 0);
                }
                match &failure {
                    CallFailure::Refused(problem) => self.growth_refused(problem, now),
                    _ => self.growing.failed(&failure, now),
                }
                return;
            }
        };
        let count = outcome.accepted;
        self.ledger.answered(token, count);
        if count > 0 {
            self.growing.accepted();
            self.tell(FleetEvent::Requested { count });
        }
        for problem in &outcome.problems {
            warn!(%problem, accepted = count, "instances were refused");
            self.request_refused(problem);
            self.growth_refused(problem, now);
        }
        if count == 0 && outcome.problems.is_empty() {
            let silent = Problem {
                kind: ProblemKind::Other,
                message: "the provider accepted no instance and did not say why".into(),
                subject: None,
                code: None,
                retry_after: None,
            };
            warn!(problem = %silent, "instances were refused");
            self.request_refused(&silent);
            self.growing.refused(&silent, now);
        }
    }

    /// What one pool lacks another may have: the next request avoids it, and waits only where that was tried.
    fn growth_refused(&mut self, problem: &Problem, now: Instant) {
        let pool = problem.subject.as_deref();
        match pool.filter(|_| problem.kind == ProblemKind::OutOfCapacity) {
            Some(pool) if self.pools.exhausted(pool, now) => {
                self.growing.refused_in_a_pool(problem, now);
            }
            _ => self.growing.refused(problem, now),
        }
    }

    fn removal_refused(&mut self, id: &InstanceId, failure: &CallFailure, now: Instant) {
        self.called("decrease");
        warn!(instance = %id, problem = %failure, "instance could not be removed; it is tried again");
        if let CallFailure::Refused(problem) = failure
            && needs_the_operator(problem.kind)
        {
            self.growing.refused(problem, now);
        }
    }

    fn prepared(&mut self, id: InstanceId, machine: Arc<P::Machine>, now: Instant) {
        if !self.ledger.advance(&id, Phase::Ready, now) {
            return;
        }
        let mut changes = machine.changes();
        let (tell, whose) = (self.changes.clone(), id.clone());
        let watching = tokio::spawn(async move {
            while changes.changed().await.is_ok() && tell.send(whose.clone()).await.is_ok() {}
        });
        let watching = watching.abort_handle();
        let attached = Attached { machine, watching };
        self.machines.insert(id.clone(), attached);
        self.look_at_connections(&id, now);
        let first_seen = self.ledger.entry(&id).map(|e| e.instance.first_seen());
        let after = first_seen.map_or_else(Default::default, |at| now.duration_since(at));
        info!(instance = %id, ?after, "instance ready");
        self.tell(FleetEvent::Ready {
            instance: id,
            after,
        });
    }

    /// What went leaves first, so that what the group put in its place counts as requested.
    fn survey(&mut self, survey: Survey, now: Instant) {
        self.called("update");
        if let Some(problem) = self.reading.succeeded() {
            info!(%problem, "instance group is read again");
        }
        self.unwritten = true;
        self.max_size = survey.max_size;
        self.ledger.note_target(survey.target);
        self.notices.heard(survey.notices);
        for id in survey.lost {
            let lost = self.ledger.gone(&id);
            self.ended(&id, &lost);
            info!(instance = %id, "instance gone");
            self.tell(FleetEvent::Gone { instance: id });
        }
        for (id, missing) in survey.missing {
            self.ledger.set_missing(&id, missing);
            if missing {
                self.tell(FleetEvent::Missed { instance: id });
            }
        }
        for (id, state) in survey.changed {
            self.state_changed(&id, state, now);
        }
        if self.ledger.set_generation(survey.generation.clone(), now) {
            info!(
                generation = survey.generation,
                "the group makes its instances from something newer; older ones are replaced"
            );
        }
        let left = self.left.take();
        for (id, state) in survey.appeared {
            let mut failed = survey.failed.iter();
            let problem = failed.find(|(failed, _)| *failed == id);
            let problem = problem.map(|(_, problem)| problem);
            self.appeared(id, state, problem, left.as_ref(), now);
        }
        self.launches_failed(survey.failed, now);
        for (id, generation) in survey.generations {
            self.ledger.set_instance_generation(&id, generation);
        }
        for (id, kind) in survey.interrupted {
            warn!(instance = %id, %kind, "the cloud announced the end of an instance; it gets no further job");
            let reason = RemovalReason::Interrupted(kind);
            self.ledger.doom(&id, reason, now);
        }
        for id in survey.unlisted {
            self.unlisted(&id, now);
        }
        if !self.surveyed {
            self.surveyed = true;
            self.ledger.started(survey.target);
        }
        let (number, settled) = (survey.number, survey.settled);
        for (asked, accepted) in self.ledger.settle(number, survey.target, settled) {
            info!(asked, accepted, "increase of unknown outcome was settled");
        }
        if settled {
            let count = self.ledger.give_up(now);
            if count > 0 {
                warn!(
                    count,
                    "instances that were accepted never appeared; they are not waited for any longer"
                );
            }
        }
        if let Some(differs) = self.ledger.compare_target(survey.target, survey.settled) {
            warn!(
                target = differs.target,
                wanted = differs.wanted,
                "the group's target is not what was asked for; it is corrected"
            );
        }
    }

    /// What was agreed to and came to nothing slows further requests like a refusal, once for each thing that is short.
    fn launches_failed(&mut self, failed: Vec<(InstanceId, Problem)>, now: Instant) {
        let mut known: Vec<(ProblemKind, Option<String>)> = Vec::new();
        for (id, problem) in failed {
            warn!(instance = %id, %problem, "instance will never run");
            let what = (problem.kind, problem.subject.clone());
            if !known.contains(&what) {
                self.request_refused(&problem);
                self.growth_refused(&problem, now);
                known.push(what);
            }
        }
    }

    /// It stands and has its place in the group, whatever the list says: nothing comes instead of it.
    fn unlisted(&mut self, id: &InstanceId, now: Instant) {
        if self.ledger.entry(id).is_none_or(Entry::is_doomed) {
            return;
        }
        warn!(
            instance = %id,
            "the cloud does not list an instance any more that still answers; its jobs go on, and it gets no further one"
        );
        self.ledger.set_missing(id, false);
        self.ledger.doom(id, RemovalReason::Unlisted, now);
    }

    fn appeared(
        &mut self,
        id: InstanceId,
        state: InstanceState,
        problem: Option<&Problem>,
        left: Option<&Record>,
        now: Instant,
    ) {
        let known = left.and_then(|record| record.instances.get(&id));
        let cause = match known {
            Some(known) => {
                let keep = self
                    .autoscaler
                    .state_storage
                    .keep_instance_with_acquisitions;
                let doom = if known.removing {
                    Some(RemovalReason::DecidedBefore)
                } else {
                    (known.jobs > 0 && !keep).then_some(RemovalReason::LeftInUse)
                };
                let uses = known.use_count;
                self.ledger
                    .adopted(id.clone(), state, known.cause, uses, doom, now);
                known.cause
            }
            None => {
                let at_start = left.is_some();
                self.ledger.appeared(id.clone(), state, at_start, now)
            }
        };
        info!(instance = %id, state = state_name(state), %cause, adopted = known.is_some(), "instance listed");
        self.tell(FleetEvent::Listed {
            instance: id.clone(),
            cause,
            adopted: known.map(|known| known.use_count),
            never_ran: (state == InstanceState::Failed && known.is_none()).then(|| {
                problem.map_or_else(|| "the cloud does not say why".into(), Problem::to_string)
            }),
        });
        if self.draining.as_ref().is_some_and(|d| d.for_good) && cause == Cause::Requested {
            self.ledger.doom(&id, RemovalReason::Shutdown, now);
        }
        self.state_changed(&id, state, now);
    }

    fn state_changed(&mut self, id: &InstanceId, state: InstanceState, now: Instant) {
        self.ledger.set_cloud_state(id, state);
        match state {
            InstanceState::Running => self.running(id, now),
            InstanceState::Deleting | InstanceState::Deleted => {
                let decided = self.phase(id) == Some(Phase::Removing);
                let lost = self.ledger.ending(id, now);
                self.ended(id, &lost);
                let reason = RemovalReason::Broken(state);
                if !decided && self.ledger.begin_removal(id, &reason) {
                    info!(instance = %id, %reason, "instance is being removed by the cloud");
                    let (instance, reason) = (id.clone(), reason.to_string());
                    self.tell(FleetEvent::Removing { instance, reason });
                }
            }
            InstanceState::Failed | InstanceState::Stopped => {
                let lost = self.ledger.lose_jobs(id);
                self.ended(id, &lost);
                let reason = RemovalReason::Broken(state);
                self.ledger.doom(id, reason, now);
            }
            InstanceState::Creating
            | InstanceState::Suspending
            | InstanceState::Suspended
            | InstanceState::Resuming
            | InstanceState::Unknown => {}
        }
    }

    fn running(&mut self, id: &InstanceId, now: Instant) {
        let Some(entry) = self.ledger.entry(id) else {
            return;
        };
        if entry.instance.phase() != Phase::Listed || entry.is_doomed() {
            return;
        }
        let cause = entry.instance.cause();
        let (phase, order) = match cause {
            Cause::Requested => (Phase::Preparing, Order::Prepare(id.clone())),
            Cause::Preexisted | Cause::Unexpected => {
                (Phase::Inspecting, Order::Inspect(id.clone()))
            }
        };
        info!(instance = %id, "instance running");
        if cause == Cause::Requested {
            self.growing.arrived();
        }
        self.tell(FleetEvent::Running {
            instance: id.clone(),
        });
        if self.ledger.advance(id, phase, now) {
            self.order(order);
        }
    }

    /// No job can go on there.
    fn ended(&mut self, id: &InstanceId, lost: &[AcquisitionId]) {
        self.machines.remove(id);
        if !lost.is_empty() {
            warn!(instance = %id, jobs = lost.len(), "instance ended under its jobs");
        }
    }

    fn phase(&self, id: &InstanceId) -> Option<Phase> {
        self.ledger.entry(id).map(|entry| entry.instance.phase())
    }
}

//! Tells every effective decision once: a line for the operator, an event for those who count and keep.

use std::fmt;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::{Driver, Preparation};
use crate::fleet::group::InstanceId;
use crate::fleet::instance::RemovalReason;
use crate::scaler::capacity::{self, Decision};
use crate::scaler::ledger::ReservationId;
use crate::scaler::status::{FleetEvent, NoCapacity};
use crate::scaler::verdict::{Decided, Hold, Numbers, Verdict};

/// A refusal that comes back within this time is the same one still: with several requests at once, reservations
/// succeed and fail by turns.
const SAME_REFUSAL: Duration = Duration::from_secs(300);

/// What was said last of that which goes on.
#[derive(Debug, Default)]
pub(super) struct Said {
    refusal: Option<(NoCapacity, Instant)>,
    hold: Option<Hold>,
}

impl<P: Preparation> Driver<P> {
    /// What a turn came to.
    pub(super) fn decided(
        &mut self,
        decision: &Decision,
        asked: u32,
        removed: &[(InstanceId, RemovalReason)],
        now: Instant,
    ) {
        self.log(decision, asked, removed.len());
        if asked > 0 {
            self.say(Verdict::Increase(asked, decision.why), false);
        }
        for (reason, instances) in by_reason(removed) {
            self.say(Verdict::Remove(instances, reason), false);
        }
        let hold = self.hold(decision, asked, now);
        if hold != self.said.hold {
            if let Some(hold) = &hold {
                info!(
                    reason = %hold,
                    waiting = self.ledger.waiting(),
                    coming = self.ledger.coming(),
                    instances = self.ledger.counts().instances,
                    max = self.max(),
                    "no instance is asked for although jobs wait"
                );
                self.say(Verdict::Hold(hold.clone()), false);
            }
            self.said.hold = hold;
        }
    }

    /// Why nothing was asked for although jobs wait, if so.
    fn hold(&self, decision: &Decision, asked: u32, now: Instant) -> Option<Hold> {
        if asked > 0 || self.ledger.waiting() == 0 || self.draining.is_some() {
            return None;
        }
        if decision.lacking == 0 {
            return Some(Hold::Coming);
        }
        if decision.increase == 0 {
            return Some(Hold::AtMaximum);
        }
        let problem = self.growing.problem().filter(|_| self.growing.holds(now));
        Some(problem.map_or(Hold::Throttled, |problem| Hold::Problem(problem.into())))
    }

    /// GitLab is not to be asked.
    pub(super) fn refused(&mut self, why: &NoCapacity, now: Instant) {
        let said = self.said.refusal.take();
        let again = said.is_some_and(|(before, at)| {
            before == *why && now.saturating_duration_since(at) < SAME_REFUSAL
        });
        self.said.refusal = Some((why.clone(), now));
        if !again {
            info!(
                reason = %why,
                in_use = self.ledger.counts().in_use,
                waiting = self.ledger.waiting(),
                reserved = self.ledger.reserved(),
                instances = self.ledger.counts().instances,
                max = self.max(),
                "GitLab is not asked for jobs"
            );
        }
        self.say(Verdict::Refuse(why.clone()), again);
    }

    pub(super) fn unreserve(&mut self, id: ReservationId) {
        let promised = self.ledger.reserved() + self.ledger.waiting();
        self.ledger.unreserve(id);
        if self.ledger.reserved() + self.ledger.waiting() < promised {
            self.tell(FleetEvent::Unreserved);
        }
    }

    pub(super) fn called(&self, operation: &'static str) {
        self.tell(FleetEvent::Called { operation });
    }

    pub(super) fn request_refused(&self, problem: &impl fmt::Display) {
        let problem = problem.to_string();
        self.tell(FleetEvent::RequestRefused { problem });
    }

    fn say(&self, verdict: Verdict, again: bool) {
        let numbers = self.numbers();
        self.tell(FleetEvent::Decided(Decided {
            verdict,
            numbers,
            again,
        }));
    }

    fn numbers(&self) -> Numbers {
        let counts = self.ledger.counts();
        let policy = self.schedule.at(jiff::Timestamp::now());
        Numbers {
            in_use: counts.in_use,
            waiting: self.ledger.waiting(),
            reserved: self.ledger.reserved(),
            idle_target: capacity::idle_target(policy, counts.in_use),
            instances: counts.instances,
            coming: self.ledger.coming(),
            max: self.max(),
        }
    }

    /// One line a decision: an operator sees those that change the fleet, whoever wonders about it all of them.
    fn log(&self, decision: &Decision, increase: u32, remove: usize) {
        macro_rules! line {
            ($level:ident, $message:literal) => {
                $level!(
                    reason = %decision.why,
                    increase,
                    remove,
                    in_use = self.ledger.counts().in_use,
                    waiting = self.ledger.waiting(),
                    reserved = self.ledger.reserved(),
                    idle_target = decision.idle_target,
                    requested = decision.requested,
                    instances = self.ledger.counts().instances,
                    wanted = self.ledger.wanted(),
                    max = self.max(),
                    $message
                )
            };
        }
        if increase > 0 || remove > 0 {
            line!(info, "fleet was scaled");
        } else {
            line!(debug, "fleet stays as it is");
        }
    }
}

/// In the order in which the reasons come first.
fn by_reason(removed: &[(InstanceId, RemovalReason)]) -> Vec<(RemovalReason, Vec<InstanceId>)> {
    let mut groups: Vec<(RemovalReason, Vec<InstanceId>)> = Vec::new();
    for (id, reason) in removed {
        match groups.iter_mut().find(|(of, _)| of == reason) {
            Some((_, instances)) => instances.push(id.clone()),
            None => groups.push((reason.clone(), vec![id.clone()])),
        }
    }
    groups
}

//! The side that jobs see: reservations, waiting, grants, and what comes back.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::info;

use super::{Driver, Effect, Preparation};
use crate::fleet::provisioner::Order;
use crate::fleet::ready::Machine as _;
use crate::scaler::capacity;
use crate::scaler::handle::{Acquisition, Ask, Return};
use crate::scaler::ledger::{Grant, Serve};
use crate::scaler::status::{AcquireFailure, FleetEvent, Health, NoCapacity};

impl<P: Preparation> Driver<P> {
    pub(super) fn answer(&mut self, ask: Ask<P>, now: Instant) {
        match ask {
            Ask::Reserve(reply) => {
                let answer = self.may_reserve(now).map(|()| self.ledger.reserve());
                match &answer {
                    Ok(_) => self.tell(FleetEvent::Reserved),
                    Err(why) => self.refused(why, now),
                }
                if let Err(Ok(unheard)) = reply.send(answer) {
                    self.unreserve(unheard);
                }
            }
            Ask::Acquire(_, reply) if self.draining.is_some() => {
                let _ = reply.send(Err(AcquireFailure::ShuttingDown));
            }
            Ask::Acquire(id, reply) => {
                if self.ledger.wait(id) {
                    self.waiters.insert(id, reply);
                } else {
                    let _ = reply.send(Err(AcquireFailure::Unreserved));
                }
            }
            Ask::Close => self.closed = true,
            Ask::Reconfigure(autoscaler, reply) => {
                let _ = reply.send(self.reconfigure(*autoscaler, now));
            }
            Ask::Drain { for_good, done } => self.begin_drain(for_good, done, now),
        }
    }

    fn may_reserve(&self, now: Instant) -> Result<(), NoCapacity> {
        if self.closed || self.draining.is_some() {
            return Err(NoCapacity::ShuttingDown);
        }
        let growing = self.growing.refusing().filter(|_| self.growing.holds(now));
        if let Some(problem) = self.reading.refusing().or(growing) {
            return Err(NoCapacity::Problem(problem.into()));
        }
        if !self.surveyed {
            return Err(match self.reading.problem() {
                Some(problem) => NoCapacity::Problem(problem.into()),
                None => NoCapacity::NotOpened,
            });
        }
        let policy = self.schedule.at(Timestamp::now());
        let spared = match self.autoscaler.reservation_throttling {
            true => capacity::leaving(policy, &self.ledger, now),
            false => 0,
        };
        Ok(capacity::may_reserve(
            policy,
            &self.ledger,
            self.max(),
            spared,
        )?)
    }

    pub(super) fn take_back(&mut self, returned: Return, now: Instant) {
        let (id, health) = match returned {
            Return::Reservation(id) => {
                self.unreserve(id);
                self.waiters.remove(&id);
                return;
            }
            Return::Acquisition(id, health) => (id, health),
        };
        let Some((instance, slot)) = self.ledger.acquisition(id).cloned() else {
            return;
        };
        let machine = self.machines.get(&instance);
        let up = machine.is_some_and(|attached| attached.machine.slot_is_up(slot));
        let used = health.is_some();
        let retire = match health {
            Some(Health::Retire(why)) => Some(why),
            Some(Health::Good) | None => None,
        };
        self.ledger.release(id, retire, used, up, now);
        self.unwritten = true;
        let uses = self.ledger.entry(&instance).map(|e| e.instance.use_count());
        info!(%instance, slot, uses, "slot released");
        self.tell(FleetEvent::Released { instance, slot });
    }

    /// Gives open slots to who waits, as far as their instances are known to answer.
    pub(super) fn serve(&mut self, now: Instant) {
        while let Some(next) = self.ledger.serve(now) {
            match next {
                Serve::Grant(grant) => self.grant(grant),
                Serve::Check(id) => self.order(Order::Check(id)),
            }
        }
    }

    fn grant(&mut self, grant: Grant) {
        let machine = self.machines.get(&grant.instance);
        let machine = Arc::clone(
            &machine
                .expect("an open slot has a machine, because only a machine opens slots")
                .machine,
        );
        self.unwritten = true;
        let acquisition = Acquisition {
            id: grant.acquisition,
            instance: grant.instance,
            slot: grant.slot,
            machine,
            returns: self.returns.clone(),
            reached_someone: false,
            released: None,
        };
        self.effects
            .push(Effect::Grant(grant.reservation, acquisition));
    }

    /// Asks idle instances whose last proof of life is old; answers when the next one is.
    pub(super) fn check(&mut self, now: Instant) -> Option<Instant> {
        let (due, next) = self.ledger.checks_due(now);
        for id in due {
            self.order(Order::Check(id));
        }
        next
    }
}

//! Stopping: what is still removed, how long that may take, and the end.

use std::time::Instant;

use tokio::sync::oneshot;
use tracing::warn;

use super::{Driver, Preparation};
use crate::fleet::group::InstanceId;
use crate::fleet::instance::{Cause, RemovalReason};
use crate::fleet::provisioner::Order;
use crate::scaler::status::AcquireFailure;

pub(super) struct Draining {
    pub(super) for_good: bool,
    pub(super) deadline: Instant,
    pub(super) done: Vec<oneshot::Sender<()>>,
}

impl<P: Preparation> Driver<P> {
    pub(super) fn begin_drain(&mut self, for_good: bool, done: oneshot::Sender<()>, now: Instant) {
        let interval = self.autoscaler.shutdown_deletion_interval;
        let patience = interval.saturating_mul(self.autoscaler.shutdown_deletion_retries.max(1));
        for (_, waiter) in self.waiters.drain() {
            let _ = waiter.send(Err(AcquireFailure::ShuttingDown));
        }
        let draining = self.draining.get_or_insert(Draining {
            for_good,
            deadline: now + patience,
            done: Vec::new(),
        });
        draining.for_good |= for_good;
        draining.done.push(done);
        if for_good {
            self.doom_ours(now);
        }
        self.order(Order::RetryDeletionAfter(interval));
    }

    /// Every instance of ours goes once no job holds it.
    fn doom_ours(&mut self, now: Instant) {
        let ours: Vec<InstanceId> = self
            .ledger
            .entries()
            .filter(|entry| entry.instance.cause() == Cause::Requested)
            .map(|entry| entry.instance.id().clone())
            .collect();
        for id in ours {
            self.ledger.doom(&id, RemovalReason::Shutdown, now);
        }
    }

    pub(super) fn is_drained(&self, now: Instant) -> bool {
        let Some(draining) = &self.draining else {
            return false;
        };
        let undecided = || {
            let mut entries = self.ledger.entries();
            entries.any(|e| e.is_doomed() && !e.is_leaving() && e.instance.jobs() == 0)
        };
        let coming = draining.for_good && self.ledger.coming() > 0;
        let done = !self.surveyed || !(coming || undecided());
        if !done && now >= draining.deadline {
            warn!("instances may be left: their deletion was not accepted in time");
        }
        done || now >= draining.deadline
    }

    pub(super) async fn close(mut self) {
        let Some(draining) = self.draining.take() else {
            return;
        };
        let (done, closed) = oneshot::channel();
        let for_good = draining.for_good;
        if self.orders.send(Order::Shutdown { for_good, done }).is_ok() {
            let _ = closed.await;
        }
        for waiting in draining.done {
            let _ = waiting.send(());
        }
    }
}

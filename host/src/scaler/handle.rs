//! What others hold of a scaler: the handle, a reservation, an acquisition.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::ledger::{AcquisitionId, ReservationId};
use super::schedule::BadSchedule;
use super::status::{AcquireFailure, FleetEvent, Health, NoCapacity, Status};
use crate::config::usable::Autoscaler;
use crate::fleet::group::InstanceId;
use crate::fleet::ready::Preparation;

/// What the driver is asked.
pub(super) enum Ask<P: Preparation> {
    Reserve(oneshot::Sender<Result<ReservationId, NoCapacity>>),
    Acquire(
        ReservationId,
        oneshot::Sender<Result<Acquisition<P>, AcquireFailure>>,
    ),
    Close,
    Reconfigure(Box<Autoscaler>, oneshot::Sender<Result<(), BadSchedule>>),
    Drain {
        for_good: bool,
        done: oneshot::Sender<()>,
    },
}

/// What comes back, also from a `Drop`, which cannot wait: the channel is unbounded, and bounded by what was given out.
#[derive(Debug)]
pub(super) enum Return {
    Reservation(ReservationId),
    /// `None`: the grant never reached anyone.
    Acquisition(AcquisitionId, Option<Health>),
}

pub struct Scaler<P: Preparation> {
    pub(super) asks: mpsc::Sender<Ask<P>>,
    pub(super) returns: mpsc::UnboundedSender<Return>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) events: broadcast::Sender<FleetEvent>,
}

impl<P: Preparation> Clone for Scaler<P> {
    fn clone(&self) -> Self {
        Self {
            asks: self.asks.clone(),
            returns: self.returns.clone(),
            status: self.status.clone(),
            events: self.events.clone(),
        }
    }
}

impl<P: Preparation> Scaler<P> {
    /// Promises capacity for one job, or says why GitLab is not to be asked. Answers at once. Cancel-safe.
    pub async fn reserve(&self) -> Result<Reservation, NoCapacity> {
        let (reply, answer) = oneshot::channel();
        let asked = self.asks.send(Ask::Reserve(reply)).await;
        let id = match asked {
            Ok(()) => answer.await.unwrap_or(Err(NoCapacity::ShuttingDown))?,
            Err(_) => return Err(NoCapacity::ShuttingDown),
        };
        Ok(Reservation {
            id,
            returns: self.returns.clone(),
        })
    }

    /// Waits for a slot of a ready instance, for as long as the caller waits: apply `instance_acquire_timeout`.
    /// Cancel-safe: dropping the future unreserves.
    pub async fn acquire(
        &self,
        reservation: Reservation,
    ) -> Result<Acquisition<P>, AcquireFailure> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Acquire(reservation.id, reply);
        let asked = self.asks.send(ask).await;
        asked.map_err(|_| AcquireFailure::ShuttingDown)?;
        let answer = answer.await.unwrap_or(Err(AcquireFailure::ShuttingDown));
        let mut acquisition = answer?;
        acquisition.reached_someone = true;
        Ok(acquisition)
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Life events from now on; who reads too slowly misses some and is told how many.
    pub fn events(&self) -> broadcast::Receiver<FleetEvent> {
        self.events.subscribe()
    }

    /// Takes new words for a fleet that stands: policies, limits, intervals. What an instance is made of (plugin,
    /// connector, `capacity_per_instance`) must be what it was.
    ///
    /// # Errors
    /// When a policy cannot be read; everything stays as it was.
    pub async fn reconfigure(&self, autoscaler: Autoscaler) -> Result<(), BadSchedule> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Reconfigure(Box::new(autoscaler), reply);
        match self.asks.send(ask).await {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            // A driver that is gone needs no new words.
            Err(_) => Ok(()),
        }
    }

    /// No further reservation, and nothing is made to stand idle any more; what waits is still served.
    pub async fn close(&self) {
        // A driver that is gone is closed.
        let _ = self.asks.send(Ask::Close).await;
    }

    /// Stops for good: no further reservation; waiting jobs are refused; removals already decided are carried out as
    /// far as `shutdown_deletion_retries` × `shutdown_deletion_interval` allow. `for_good` also removes every instance
    /// without a job. Ends when the group is closed.
    pub async fn drain(&self, for_good: bool) {
        let (done, ended) = oneshot::channel();
        if self.asks.send(Ask::Drain { for_good, done }).await.is_ok() {
            // An error means that the driver is gone, which is what was asked for.
            let _ = ended.await;
        }
    }
}

/// Capacity promised for one job; dropping it takes the promise back.
#[derive(Debug)]
pub struct Reservation {
    id: ReservationId,
    returns: mpsc::UnboundedSender<Return>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // The driver ignores what already became an acquisition; a closed channel needs no answer.
        let _ = self.returns.send(Return::Reservation(self.id));
    }
}

/// A slot of a ready instance. Dropping it without [`Acquisition::release`] retires the instance.
pub struct Acquisition<P: Preparation> {
    pub(super) id: AcquisitionId,
    pub(super) instance: InstanceId,
    pub(super) slot: u32,
    pub(super) machine: Arc<P::Machine>,
    pub(super) returns: mpsc::UnboundedSender<Return>,
    pub(super) reached_someone: bool,
    pub(super) released: Option<Health>,
}

impl<P: Preparation> fmt::Debug for Acquisition<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquisition")
            .field("instance", &self.instance)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl<P: Preparation> Acquisition<P> {
    pub fn machine(&self) -> &Arc<P::Machine> {
        &self.machine
    }

    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Gives the slot back. Never waits.
    pub fn release(mut self, health: Health) {
        self.released = Some(health);
    }
}

impl<P: Preparation> Drop for Acquisition<P> {
    fn drop(&mut self) {
        let dropped = || Health::Retire("its job ended without saying how it left it".into());
        let health = self.released.take();
        let health = self.reached_someone.then(|| health.unwrap_or_else(dropped));
        let _ = self.returns.send(Return::Acquisition(self.id, health));
    }
}

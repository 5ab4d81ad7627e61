//! The right to have one request under way: a plugin's own, and one of those that all plugins share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest wait for either.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Requests under way, of this policy and those before it.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

struct Counted(InFlight);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A plugin's own permit. The shared one is asked for with it in hand, never the other way round: a plugin that waits for
/// itself must not hold what others need.
pub(super) struct Own {
    permit: OwnedSemaphorePermit,
    counted: Counted,
}

impl Own {
    /// `None` once nobody gives permits any more.
    pub(super) async fn acquire(own: &Arc<Semaphore>, in_flight: &InFlight) -> Option<Self> {
        let permit = own.clone().acquire_owned().await.ok()?;
        let counted = in_flight.enter();
        Some(Self { permit, counted })
    }

    pub(super) async fn and_shared(self, all: &Arc<Semaphore>) -> Option<Permits> {
        let shared = all.clone().acquire_owned().await.ok()?;
        Some(Permits {
            _own: self.permit,
            _counted: self.counted,
            shared: Some(shared),
            all: all.clone(),
        })
    }
}

/// Both; dropping gives both back.
pub(super) struct Permits {
    _own: OwnedSemaphorePermit,
    _counted: Counted,
    shared: Option<OwnedSemaphorePermit>,
    all: Arc<Semaphore>,
}

impl Permits {
    /// Gives the shared one to whoever waits for it.
    pub(super) fn lend(&mut self) {
        self.shared = None;
    }

    /// Has the shared one again; false when that took too long.
    pub(super) async fn regain(&mut self) -> bool {
        if self.shared.is_none() {
            let again = self.all.clone().acquire_owned();
            self.shared = match tokio::time::timeout(PATIENCE, again).await {
                Ok(shared) => shared.ok(),
                Err(_) => None,
            };
        }
        self.shared.is_some()
    }
}

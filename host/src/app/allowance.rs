//! How much may run at once: `concurrent` and `limit`, which an operator may change while jobs run.
//!
//! Invariant: what was given out is never taken back; a smaller size holds as soon as enough has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clones share one size. Who waits longest is served first.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    free: Arc<Semaphore>,
    size: Arc<Mutex<Size>>,
}

#[derive(Debug)]
struct Size {
    size: usize,
    /// Permits out that are not to come back, because the size shrank meanwhile.
    owed: usize,
}

/// Counts until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    of: Allowance,
    permit: Option<OwnedSemaphorePermit>,
}

impl Allowance {
    /// 0 is no limit.
    pub(super) fn new(size: u32) -> Self {
        let size = permits(size);
        Self {
            free: Arc::new(Semaphore::new(size)),
            size: Arc::new(Mutex::new(Size { size, owed: 0 })),
        }
    }

    pub(super) async fn take(&self) -> Permit {
        // It is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Permit {
            of: self.clone(),
            permit,
        }
    }

    /// 0 is no limit.
    pub(super) fn resize(&self, size: u32) {
        let size = permits(size);
        let mut now = self.lock();
        if size >= now.size {
            let more = size - now.size;
            let forgiven = more.min(now.owed);
            now.owed -= forgiven;
            self.free.add_permits(more - forgiven);
        } else {
            let fewer = now.size - size;
            now.owed += fewer - self.free.forget_permits(fewer);
        }
        now.size = size;
    }

    fn lock(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut size = self.of.lock();
        if size.owed > 0
            && let Some(permit) = self.permit.take()
        {
            size.owed -= 1;
            permit.forget();
        }
    }
}

fn permits(size: u32) -> usize {
    match size {
        0 => Semaphore::MAX_PERMITS,
        some => some as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(allowance: &Allowance) -> usize {
        allowance.free.available_permits()
    }

    #[tokio::test]
    async fn a_smaller_size_holds_once_enough_has_ended() {
        let allowance = Allowance::new(3);
        let mut out = vec![
            allowance.take().await,
            allowance.take().await,
            allowance.take().await,
        ];
        allowance.resize(1);
        for left in [0, 0, 1] {
            out.pop();
            assert_eq!(free(&allowance), left);
        }
    }

    #[tokio::test]
    async fn what_grows_again_owes_nothing() {
        let allowance = Allowance::new(2);
        let out = [allowance.take().await, allowance.take().await];
        allowance.resize(1);
        allowance.resize(4);
        assert_eq!(free(&allowance), 2);
        drop(out);
        assert_eq!(free(&allowance), 4);
    }

    #[tokio::test]
    async fn none_is_no_limit_and_a_limit_can_come_later() {
        let allowance = Allowance::new(0);
        let out = [allowance.take().await, allowance.take().await];
        allowance.resize(3);
        assert_eq!(free(&allowance), 1);
        drop(out);
        assert_eq!(free(&allowance), 3);
    }
}

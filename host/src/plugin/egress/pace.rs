//! How fast one plugin may ask: a burst at once, then in step.
//!
//! ```text
//! requests ─ one behind another ─► the first waits until its turn is due, by the limits as they are then ─► goes
//! ```
//! Invariant: a turn is taken when it is due and never promised ahead, so that new limits hold for everybody who waits,
//! and who gives up waiting has taken nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::Policy;
use crate::plugin::grants::Limits;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Whoever holds it is the next to go.
    taken: Mutex<Taken>,
}

/// Turns taken, as far as they still count.
#[derive(Debug, Default)]
struct Taken {
    /// When all of them are over, one in each step. None: no turn was ever asked for.
    over: Option<Instant>,
    step: Duration,
}

impl Pace {
    /// Returns when it is the caller's turn; callers go in the order in which they came.
    pub(super) async fn turn(&self, mut policy: watch::Receiver<Arc<Policy>>) {
        let mut taken = self.taken.lock().await;
        loop {
            let limits = policy.borrow_and_update().limits.clone();
            let wait = taken.wait(&limits, Instant::now());
            if wait.is_zero() {
                return taken.take();
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The policy is the caller's own, which outlives its request.
                _ = policy.changed() => {}
            }
        }
    }
}

impl Taken {
    /// How long until the next turn is due. What was taken is counted in the steps of `limits` from now on, and at most
    /// as their burst: what earlier limits let pass is no debt.
    fn wait(&mut self, limits: &Limits, now: Instant) -> Duration {
        let step = Duration::from_secs(1) / limits.requests_per_second.max(1);
        let free = step * limits.request_burst;
        let over = self.over.unwrap_or(now);
        let mut left = over.saturating_duration_since(now);
        if !left.is_zero() && self.step != step {
            let turns = left.as_secs_f64() / self.step.as_secs_f64();
            left = step.mul_f64(turns.min(f64::from(limits.request_burst)));
        }
        let left = left.min(free);
        (self.over, self.step) = (Some(now + left), step);
        (left + step).saturating_sub(free)
    }

    /// After a wait of nothing.
    fn take(&mut self) {
        self.over = self.over.map(|over| over + self.step);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::plugin::grants::GrantsFile;

    async fn policy(rate: u32, burst: u32) -> Arc<Policy> {
        let limits =
            format!("[p]\nlimits.requests_per_second = {rate}\nlimits.request_burst = {burst}\n");
        let grants = GrantsFile::parse(&limits).expect("the test's limits are some");
        Arc::new(Policy::read(&grants.plugins["p"], &serde_json::Value::Null).await)
    }

    /// How many of `asked` requests went at once, and when each of the others went.
    async fn asked(
        pace: &Pace,
        policy: &watch::Sender<Arc<Policy>>,
        asked: u32,
    ) -> (u32, Vec<Duration>) {
        let began = Instant::now();
        let mut late = Vec::new();
        for _ in 0..asked {
            pace.turn(policy.subscribe()).await;
            late.push(began.elapsed());
        }
        let late: Vec<_> = late.into_iter().filter(|late| !late.is_zero()).collect();
        (asked - u32::try_from(late.len()).expect("few"), late)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_what_follows_is_in_step() {
        for (rate, burst) in [(50, 50), (1, 1), (1_000, 10), (2, 100)] {
            let policy = watch::Sender::new(policy(rate, burst).await);
            let (step, pace) = (Duration::from_secs(1) / rate, Pace::default());
            for _ in 0..2 {
                let (free, late) = asked(&pace, &policy, burst + 3).await;
                assert_eq!(free, burst, "{rate}/s");
                for (number, late) in (1..).zip(late) {
                    // Timers have whole milliseconds.
                    let due = step * number;
                    assert!(
                        late >= due && late < due + 4 * Duration::from_millis(1),
                        "{rate}/s: {late:?}"
                    );
                }
                tokio::time::sleep(step * (burst + 1)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lowered_limits_hold_for_those_who_wait_already() {
        let policies = watch::Sender::new(policy(100, 1).await);
        let (pace, gone) = (Arc::new(Pace::default()), Arc::new(AtomicU32::new(0)));
        for _ in 0..64 {
            let (pace, gone, policy) = (pace.clone(), gone.clone(), policies.subscribe());
            tokio::spawn(async move {
                pace.turn(policy).await;
                gone.fetch_add(1, Ordering::Relaxed);
            });
        }
        let gone = || gone.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(gone(), 1, "the burst");
        // Half of a step has passed, and the other half is now of a second.
        policies.send_replace(policy(1, 1).await);
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(gone(), 1, "nobody has a turn of before");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(gone(), 11);
        policies.send_replace(policy(1_000, 64).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(gone(), 64, "and nobody waits for limits that were raised");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_wider_burst_let_pass_is_no_debt_and_who_gives_up_takes_nothing() {
        let policies = watch::Sender::new(policy(1_000, 10_000).await);
        let pace = Pace::default();
        assert_eq!(asked(&pace, &policies, 10_000).await.0, 10_000);
        policies.send_replace(policy(1, 1).await);
        for _ in 0..100 {
            let impatient = pace.turn(policies.subscribe());
            let given_up = tokio::time::timeout(Duration::from_millis(1), impatient).await;
            assert!(given_up.is_err(), "its turn came");
        }
        let (_, late) = asked(&pace, &policies, 1).await;
        assert!(late[0] < Duration::from_millis(1_100), "{late:?}");
    }
}

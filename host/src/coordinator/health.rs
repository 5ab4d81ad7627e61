//! When a runner is left alone because GitLab keeps refusing it. Pure: time is an argument.

use std::time::{Duration, Instant};

/// One runner's health. Only a refusal (403) or a client that cannot be built counts as unhealthy; an unreachable or
/// overloaded GitLab does not.
#[derive(Clone, Debug)]
pub struct Health {
    /// `unhealthy_requests_limit`.
    limit: u32,
    /// `unhealthy_interval`: how long the runner then rests.
    interval: Duration,
    failures: u32,
    last_healthy: Instant,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// The limit was reached now: say so once.
    Disabled,
}

/// May the runner ask for a job?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    /// The rest is over: one request is let through, and a warning is due.
    Forced,
    Unhealthy,
}

impl Health {
    pub fn new(limit: u32, interval: Duration, now: Instant) -> Self {
        Self {
            limit: limit.max(1),
            interval,
            failures: 0,
            last_healthy: now,
        }
    }

    pub fn healthy(&mut self, now: Instant) {
        self.failures = 0;
        self.last_healthy = now;
    }

    pub fn unhealthy(&mut self) -> Change {
        self.failures = self.failures.saturating_add(1);
        if self.failures == self.limit {
            Change::Disabled
        } else {
            Change::None
        }
    }

    /// `Forced` begins a new count, and a new rest should it be refused again.
    pub fn check(&mut self, now: Instant) -> Verdict {
        if self.failures < self.limit {
            return Verdict::Healthy;
        }
        if now.duration_since(self.last_healthy) < self.interval {
            return Verdict::Unhealthy;
        }
        self.failures = 0;
        self.last_healthy = now;
        Verdict::Forced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_runner_rests_and_is_tried_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::new(3, Duration::from_secs(60), start);
        assert_eq!(health.unhealthy(), Change::None);
        assert_eq!(health.unhealthy(), Change::None);
        assert_eq!(health.check(at(1)), Verdict::Healthy);
        health.healthy(at(2));
        assert_eq!(health.unhealthy(), Change::None);
        assert_eq!(health.unhealthy(), Change::None);
        assert_eq!(health.unhealthy(), Change::Disabled);
        assert_eq!(health.unhealthy(), Change::None, "said once");
        assert_eq!(health.check(at(61)), Verdict::Unhealthy);
        assert_eq!(health.check(at(62)), Verdict::Forced);
        assert_eq!(health.check(at(63)), Verdict::Healthy, "a new count began");
    }
}

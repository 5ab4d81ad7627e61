//! How fast one plugin may ask: a burst at once, then in step.

use std::time::Duration;

use tokio::time::Instant;

use crate::plugin::grants::Limits;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all turns given out so far are over, one in each step.
    over: Option<Instant>,
}

impl Pace {
    /// Takes the next turn, and says how long to wait for it.
    pub(super) fn turn(&mut self, limits: &Limits, now: Instant) -> Duration {
        let step = Duration::from_secs(1) / limits.requests_per_second.max(1);
        let free = step * limits.request_burst;
        let begins = self.over.map_or(now, |over| over.max(now));
        self.over = Some(begins + step);
        (begins + step).duration_since(now).saturating_sub(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_what_follows_is_in_step() {
        let limits = |rate, burst| Limits {
            requests_per_second: rate,
            request_burst: burst,
            ..Limits::default()
        };
        for (rate, burst) in [(50, 50), (1, 1), (1_000, 10), (2, 100)] {
            let limits = limits(rate, burst);
            let step = Duration::from_secs(1) / rate;
            let mut pace = Pace::default();
            let now = Instant::now();
            let asked = burst + 10;
            let free = (0..asked).filter(|_| pace.turn(&limits, now).is_zero());
            assert_eq!(free.count(), burst as usize, "{rate}/s");
            assert_eq!(pace.turn(&limits, now), step * 11, "{rate}/s");
            let later = now + step * (asked + 1);
            assert_eq!(pace.turn(&limits, later), Duration::ZERO, "{rate}/s");
        }
    }
}

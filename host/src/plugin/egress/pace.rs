//! How fast one plugin may ask: a second's worth at once, then in step.

use std::time::Duration;

use tokio::time::Instant;

/// Requests in a second.
const RATE: u32 = 50;
const STEP: Duration = Duration::from_millis(1000 / RATE as u64);
const BURST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all turns given out so far are over, one in each step.
    over: Option<Instant>,
}

impl Pace {
    /// Takes the next turn, and says how long to wait for it.
    pub(super) fn turn(&mut self, now: Instant) -> Duration {
        let begins = self.over.map_or(now, |over| over.max(now));
        self.over = Some(begins + STEP);
        (begins + STEP).duration_since(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_what_follows_is_in_step() {
        let mut pace = Pace::default();
        let now = Instant::now();
        let free = (0..200).filter(|_| pace.turn(now).is_zero()).count();
        assert_eq!(free, 50);
        assert_eq!(pace.turn(now), STEP * 151);
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.turn(later), Duration::ZERO);
    }
}

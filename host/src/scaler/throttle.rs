//! How fast instances may be asked for: a token bucket, pure.

use std::time::{Duration, Instant};

use crate::config::usable;

/// Holds at most `burst` tokens and gains `limit` a second; one token is one instance.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// `None` is unlimited.
    limit: Option<f64>,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Throttle {
    /// A full bucket. A burst of 0 with a limit would never let anything through and is taken as 1.
    pub fn new(throttle: usable::Throttle, now: Instant) -> Self {
        let burst = f64::from(throttle.burst.max(1));
        Self {
            limit: throttle.limit,
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Takes up to `n` tokens and answers how many.
    pub fn take(&mut self, n: u32, now: Instant) -> u32 {
        let Some(limit) = self.limit else {
            return n;
        };
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * limit;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled = self.filled.max(now);
        // A hair more than whole, because a wait computed in nanoseconds may end one short.
        let taken = n.min((self.tokens + 1e-6) as u32);
        self.tokens = (self.tokens - f64::from(taken)).max(0.0);
        taken
    }

    /// When the next token is there, counted from the last [`Throttle::take`].
    pub fn next(&self) -> Option<Instant> {
        let limit = self.limit.filter(|limit| *limit > 0.0)?;
        let missing = (1.0 - self.tokens).max(0.0) / limit;
        Some(self.filled + Duration::from_secs_f64(missing.min(3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unlimited_gives_all() {
        let now = Instant::now();
        let free = usable::Throttle {
            limit: None,
            burst: 0,
        };
        assert_eq!(Throttle::new(free, now).take(1_000_000, now), 1_000_000);
    }

    #[test]
    fn the_next_token_comes_when_it_says() {
        let now = Instant::now();
        let slow = usable::Throttle {
            limit: Some(0.3),
            burst: 2,
        };
        let mut throttle = Throttle::new(slow, now);
        assert_eq!(throttle.take(5, now), 2);
        let next = throttle.next().expect("it is limited");
        assert_eq!(throttle.take(5, next - Duration::from_millis(1)), 0);
        assert_eq!(throttle.take(5, throttle.next().expect("it is limited")), 1);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate_times_time(
            limit in 0.1f64..50.0,
            burst in 1u32..20,
            asks in prop::collection::vec((0u64..5_000, 0u32..30), 1..60),
        ) {
            let start = Instant::now();
            let mut throttle = Throttle::new(usable::Throttle { limit: Some(limit), burst }, start);
            let (mut now, mut taken) = (start, 0);
            for (wait, n) in asks {
                now += Duration::from_millis(wait);
                taken += throttle.take(n, now);
                let most = f64::from(burst) + limit * (now - start).as_secs_f64();
                prop_assert!(f64::from(taken) <= most + 0.01);
            }
        }
    }
}

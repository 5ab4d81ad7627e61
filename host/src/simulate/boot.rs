//! How long an instance takes to boot: drawn anew for each, and the same in every run with the same seed; pure.

use std::time::Duration;

/// Draws farther out than this many times the spread are cut off: one instance must not decide a result.
const FARTHEST: f64 = 4.0;

/// Boot times lie around `median`, more often a little below it than far above it: their logarithms are normally
/// distributed, with `spread` as standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boot {
    pub median: Duration,
    pub spread: f64,
    pub seed: u64,
}

impl Boot {
    /// The boot time of a runner's instance number `serial`, in whole milliseconds.
    pub fn of(&self, runner: usize, serial: u64) -> Duration {
        let mut state = Noise(self.seed ^ Noise((runner as u64) << 40 | serial).draw());
        let (u, v) = (state.unit(), state.unit());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let factor = (self.spread * normal.clamp(-FARTHEST, FARTHEST)).exp();
        Duration::from_millis((self.median.as_secs_f64() * factor * 1000.0).round() as u64)
    }
}

/// SplitMix64: a few lines that give the same numbers for ever, which a library's generator does not promise.
#[derive(Clone, Debug)]
pub struct Noise(pub u64);

impl Noise {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_boot_faster_than_the_median_and_all_within_reason() {
        let boot = Boot {
            median: Duration::from_secs(45),
            spread: 0.2,
            seed: 7,
        };
        let times: Vec<_> = (0..2000).map(|n| boot.of(0, n)).collect();
        let fast = times.iter().filter(|time| **time < boot.median).count();
        assert!((900..1100).contains(&fast), "{fast} of 2000");
        let most = boot.median.mul_f64((0.2 * FARTHEST).exp());
        assert!(times.iter().all(|time| *time <= most));
        assert_eq!(times[5], boot.of(0, 5));
        assert_ne!(boot.of(0, 5), boot.of(1, 5));
        assert_ne!(boot.of(0, 5), Boot { seed: 8, ..boot }.of(0, 5));
    }

    #[test]
    fn without_a_spread_all_take_the_same_time() {
        let boot = Boot {
            median: Duration::from_secs(45),
            spread: 0.0,
            seed: 7,
        };
        assert!((0..50).all(|n| boot.of(n as usize, n) == boot.median));
    }
}

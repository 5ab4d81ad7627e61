//! Chance by seed: what a run is made of, and what each call in it meets.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::{SECOND, autoscaler};
use crate::config::usable::{Autoscaler, Throttle};

/// Draws by place and not by order: what one call meets does not depend on which other call came first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn at(self, place: &str, number: u64) -> StdRng {
        let mut hasher = DefaultHasher::new();
        (self.0, place, number).hash(&mut hasher);
        StdRng::seed_from_u64(hasher.finish())
    }
}

/// A whole number of milliseconds between the two, in seconds.
pub(super) fn between(dice: &mut StdRng, least: f64, most: f64) -> Duration {
    let [least, most] = [least, most].map(|seconds| (seconds * 1000.0) as u64);
    Duration::from_millis(dice.random_range(least..=most))
}

/// How likely each call is to go wrong while faults last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) update: f64,
    pub(super) hiccup: f64,
    pub(super) increase: f64,
    pub(super) decrease: f64,
    pub(super) prepare: f64,
    pub(super) inspect: f64,
    pub(super) heartbeat: f64,
    /// Of any call: slower than usual.
    pub(super) slow: f64,
}

/// What one seed makes of the policy, the cloud and the demand.
#[derive(Clone, Debug)]
pub(super) struct Climate {
    pub(super) autoscaler: Autoscaler,
    /// Like an Auto Scaling group: it holds a desired size and replaces what it lost.
    pub(super) keeps_target: bool,
    /// Instances that stand there before we come.
    pub(super) standing: u32,
    pub(super) heartbeats: bool,
    /// How long faults last.
    pub(super) storm: Duration,
    pub(super) jobs: u64,
    /// Things that happen to the group by themselves.
    pub(super) events: u64,
    pub(super) rates: Rates,
}

impl Climate {
    pub(super) fn of(dice: Dice) -> Self {
        let mut draw = dice.at("climate", 0);
        let max = draw.random_range(2..=8);
        let idle = if draw.random_bool(0.5) {
            0
        } else {
            draw.random_range(1..=max.min(4))
        };
        let mut autoscaler = autoscaler(idle, max);
        if draw.random_bool(0.5) {
            autoscaler.capacity_per_instance = draw.random_range(1..=3);
            autoscaler.max_use_count = draw.random_range(0..=3);
        }
        autoscaler.scale_throttle = Throttle {
            limit: draw
                .random_bool(0.7)
                .then(|| draw.random_range(0.05..=2.0_f64)),
            burst: draw.random_range(1..=5),
        };
        autoscaler.update_interval = between(&mut draw, 20.0, 60.0);
        autoscaler.update_interval_when_expecting = between(&mut draw, 1.0, 5.0);
        autoscaler.deletion_retry_interval = between(&mut draw, 10.0, 60.0);
        autoscaler.failure_threshold = draw.random_range(1..=3);
        let policy = &mut autoscaler.policies[0];
        policy.idle_time = between(&mut draw, 0.0, 300.0);
        policy.preemptive_mode = idle > 0 && draw.random_bool(0.7);
        let mut rate = |most: f64| match draw.random_range(0..3) {
            0 => 0.0,
            _ => draw.random_range(0.0..most),
        };
        let rates = Rates {
            update: rate(0.4),
            hiccup: rate(0.2),
            increase: rate(0.6),
            decrease: rate(0.6),
            prepare: rate(0.5),
            inspect: rate(0.5),
            heartbeat: rate(0.5),
            slow: rate(0.3),
        };
        Self {
            autoscaler,
            keeps_target: draw.random_bool(0.7),
            standing: if draw.random_bool(0.3) {
                draw.random_range(1..=2)
            } else {
                0
            },
            heartbeats: draw.random_bool(0.5),
            storm: between(&mut draw, 300.0, 1200.0),
            jobs: draw.random_range(3..=30),
            events: draw.random_range(0..=12),
            rates,
        }
    }

    pub(super) fn max_instances(&self) -> u32 {
        self.autoscaler.max_instances.unwrap_or(u32::MAX)
    }

    pub(super) fn idle_count(&self) -> u32 {
        self.autoscaler.policies[0].idle_count
    }

    pub(super) fn idle_time(&self) -> Duration {
        self.autoscaler.policies[0].idle_time
    }

    /// Jobs that a fresh instance serves at once.
    pub(super) fn slots(&self) -> u32 {
        match self.autoscaler.max_use_count {
            0 => self.autoscaler.capacity_per_instance,
            most => self.autoscaler.capacity_per_instance.min(most),
        }
    }

    /// After the storm: longer than any back-off that the storm can leave behind.
    pub(super) fn patience(&self) -> Duration {
        900 * SECOND
    }
}

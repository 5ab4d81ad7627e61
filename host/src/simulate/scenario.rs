//! What is simulated: the configuration's word on capacity, and how the cloud of the simulation behaves.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::boot::Boot;
use crate::config::usable::{Autoscaler, Config};

/// How fast the simulated cloud and its instances are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub boot: Boot,
    /// From the first sight of a running instance until it takes jobs.
    pub connect: Duration,
    pub deletion: Duration,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// 0 is no limit.
    pub limit: u32,
    pub autoscaler: Autoscaler,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    /// Wall time of second 0.
    pub start: Timestamp,
    /// Of policies that name none.
    pub zone: TimeZone,
    pub pace: Pace,
    pub concurrent: u32,
    pub check_interval: Duration,
    pub runners: Vec<Entry>,
}

impl Scenario {
    pub fn of(config: &Config, pace: Pace, start: Timestamp, zone: TimeZone) -> Self {
        Self {
            start,
            zone,
            pace,
            concurrent: config.concurrent,
            check_interval: config.check_interval,
            runners: config
                .runners
                .iter()
                .map(|runner| Entry {
                    name: runner.name.clone(),
                    limit: runner.limit,
                    autoscaler: runner.autoscaler.clone(),
                })
                .collect(),
        }
    }

    pub fn names(&self) -> Vec<&str> {
        self.runners.iter().map(|r| r.name.as_str()).collect()
    }
}

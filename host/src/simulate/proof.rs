//! The trace that speed and size are proved with: a week of 100,000 jobs in daily waves, and 10,000 jobs of half an hour
//! that arrive within twenty minutes. Seeded: the same on every machine; pure.

use std::time::Duration;

use super::boot::Noise;
use super::replay::Job;

const SEED: u64 = 0x666c_6565_746c_696e;
const DAY: u64 = 24 * 3600;
const WEEK: u64 = 7 * DAY;
const DAILY: usize = 100_000;
const BURST: usize = 10_000;
/// Wednesday at ten, if the week begins on Monday at midnight.
const BURST_AT: u64 = 2 * DAY + 10 * 3600;
const BURST_WITHIN: u64 = 20 * 60;
const BURST_LONG: Duration = Duration::from_secs(30 * 60);

/// In the order of arrival, all of the first runner.
pub fn week() -> Vec<Job> {
    let mut noise = Noise(SEED);
    let mut jobs = Vec::with_capacity(DAILY + BURST);
    while jobs.len() < DAILY {
        let arrival = noise.below(WEEK * 1000);
        // Load between a tenth and all of it, the most in the middle of the day.
        let day = (arrival % (DAY * 1000)) as f64 / (DAY * 1000) as f64;
        let load = 0.55 - 0.45 * (std::f64::consts::TAU * day).cos();
        if noise.unit() <= load {
            // From five seconds to about twenty minutes, most of them short.
            let duration = 5_000 + (1_200_000.0 * noise.unit().powi(4)) as u64;
            jobs.push(job(arrival, Duration::from_millis(duration)));
        }
    }
    for _ in 0..BURST {
        let arrival = BURST_AT * 1000 + noise.below(BURST_WITHIN * 1000);
        jobs.push(job(arrival, BURST_LONG));
    }
    jobs.sort_by_key(|job| job.arrival);
    for (line, job) in (2..).zip(&mut jobs) {
        job.line = line;
    }
    jobs
}

fn job(arrival: u64, duration: Duration) -> Job {
    Job {
        arrival: Duration::from_millis(arrival),
        duration,
        runner: 0,
        line: 0,
    }
}

//! What a replay comes to: waits, instance hours, utilisation, peak; pure.

use std::time::Duration;

use super::history::{History, Share};
use super::replay::{Fate, Job, Outcome};

/// Of all jobs that are meant; one that was never served waited for ever.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    sorted: Vec<Duration>,
    jobs: usize,
}

impl Waits {
    fn of<'a>(jobs: impl Iterator<Item = (&'a Job, &'a Fate)>) -> Self {
        let mut waits = Self::default();
        for (job, fate) in jobs {
            waits.jobs += 1;
            if let Fate::Started(at) = fate {
                waits.sorted.push(*at - job.arrival);
            }
        }
        waits.sorted.sort_unstable();
        waits
    }

    /// The shortest wait that `percent` of a hundred jobs do not exceed; `None`: some of those were never served, or
    /// there are no jobs.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.jobs * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied()
    }
}

/// One runner's figures, or all runners' together.
#[derive(Clone, Debug)]
pub struct Figures {
    pub jobs: usize,
    pub served: usize,
    /// Lines of the trace.
    pub given_up: Vec<u64>,
    pub not_taken: Vec<u64>,
    pub waits: Waits,
    /// In the order of [`Share::ALL`].
    pub spent: [Duration; 4],
    pub peak: u32,
    pub made: u64,
    pub decisions: usize,
}

impl Figures {
    /// All runners together. `jobs` are those that were replayed.
    pub fn of_all(jobs: &[Job], outcome: &Outcome) -> Self {
        Self::of(jobs, outcome, None)
    }

    pub fn of_runner(jobs: &[Job], outcome: &Outcome, runner: usize) -> Self {
        Self::of(jobs, outcome, Some(runner))
    }

    fn of(jobs: &[Job], outcome: &Outcome, runner: Option<usize>) -> Self {
        let meant = |index: usize| runner.is_none_or(|runner| runner == index);
        let pairs = || {
            let pairs = jobs.iter().zip(&outcome.fates);
            pairs.filter(|(job, _)| meant(job.runner))
        };
        let lines = |is: fn(&Fate) -> bool| {
            let lines = pairs()
                .filter(|(_, fate)| is(fate))
                .map(|(job, _)| job.line);
            lines.collect::<Vec<_>>()
        };
        let fleets: Vec<_> = outcome
            .fleets
            .iter()
            .enumerate()
            .filter(|(index, _)| meant(*index))
            .map(|(_, fleet)| fleet)
            .collect();
        let histories: Vec<_> = fleets.iter().map(|fleet| &fleet.history).collect();
        let waits = Waits::of(pairs());
        Self {
            jobs: waits.jobs,
            served: waits.sorted.len(),
            given_up: lines(|fate| matches!(fate, Fate::GivenUp(_))),
            not_taken: lines(|fate| *fate == Fate::NotTaken),
            waits,
            spent: Share::ALL.map(|share| histories.iter().map(|h| h.spent(share)).sum()),
            peak: peak(&histories),
            made: fleets.iter().map(|fleet| fleet.made).sum(),
            decisions: fleets.iter().map(|fleet| fleet.decisions.len()).sum(),
        }
    }

    pub fn total(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// How much of what is paid for runs jobs; `None` when nothing was paid for.
    pub fn utilisation(&self) -> Option<f64> {
        let total = self.total().as_secs_f64();
        (total > 0.0).then(|| self.spent[Share::Run as usize].as_secs_f64() / total)
    }
}

/// The most instances at one moment, which several fleets need not reach at the same.
fn peak(histories: &[&History]) -> u32 {
    if let [one] = histories {
        return one.peak();
    }
    let mut changes = Vec::new();
    for history in histories {
        let mut before = 0;
        for (at, level) in history.points() {
            let total = i64::from(level.total());
            changes.push((*at, total - before));
            before = total;
        }
    }
    changes.sort_by_key(|(at, _)| *at);
    let (mut now, mut most) = (0, 0);
    for moment in changes.chunk_by(|a, b| a.0 == b.0) {
        now += moment.iter().map(|(_, change)| change).sum::<i64>();
        most = most.max(now);
    }
    u32::try_from(most).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(served: u64, never: usize) -> Waits {
        Waits {
            sorted: (1..=served).map(Duration::from_secs).collect(),
            jobs: served as usize + never,
        }
    }

    #[test]
    fn a_percentile_is_a_wait_that_a_job_had() {
        let hundred = waits(100, 0);
        for percent in [50, 90, 95, 99, 100] {
            let wait = hundred.percentile(percent);
            assert_eq!(wait, Some(Duration::from_secs(percent as u64)));
        }
        assert_eq!(waits(3, 0).percentile(50), Some(Duration::from_secs(2)));
        assert_eq!(waits(0, 0).percentile(50), None);
    }

    #[test]
    fn who_is_never_served_waits_for_ever() {
        let some = waits(94, 6);
        assert_eq!(some.percentile(90), Some(Duration::from_secs(90)));
        assert_eq!(some.percentile(95), None);
    }
}

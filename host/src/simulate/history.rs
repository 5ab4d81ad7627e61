//! How many instances and jobs there were when, and how long they add up to; pure.

use std::time::Duration;

/// What an instance is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Asked for, not ready yet.
    Boot,
    Idle,
    /// At least one job is on it.
    Run,
    /// Its removal is decided, and it was not seen gone yet.
    Drain,
}

impl Share {
    pub const ALL: [Self; 4] = [Self::Boot, Self::Idle, Self::Run, Self::Drain];

    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Idle => "idle",
            Self::Run => "run",
            Self::Drain => "drain",
        }
    }
}

/// Counts that hold from one moment until the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Instances, in the order of [`Share::ALL`].
    pub instances: [u32; 4],
    /// Jobs that arrived and have no slot yet, GitLab's queue included.
    pub waiting: u32,
}

impl Level {
    pub fn total(&self) -> u32 {
        self.instances.iter().sum()
    }
}

#[derive(Clone, Debug, Default)]
pub struct History {
    points: Vec<(Duration, Level)>,
    /// Instance time up to the last point, in the order of [`Share::ALL`].
    spent: [Duration; 4],
}

impl History {
    /// What holds from `at` on; `at` never goes back. Of several words about one moment the last counts.
    pub(super) fn note(&mut self, at: Duration, level: Level) {
        match self.points.last() {
            Some((_, last)) if *last == level => return,
            Some((then, _)) if *then == at => {
                self.points.pop();
            }
            _ => self.spend_until(at),
        }
        self.points.push((at, level));
    }

    /// Ends it: the last level held until `at`.
    pub(super) fn close(&mut self, at: Duration) {
        self.spend_until(at);
        if let Some((_, last)) = self.points.last().copied() {
            self.points.push((at, last));
        }
    }

    fn spend_until(&mut self, at: Duration) {
        if let Some((then, last)) = self.points.last() {
            for (spent, instances) in self.spent.iter_mut().zip(last.instances) {
                *spent += (at - *then) * instances;
            }
        }
    }

    /// Each change and when it came; the last one is the end.
    pub fn points(&self) -> &[(Duration, Level)] {
        &self.points
    }

    pub fn spent(&self, share: Share) -> Duration {
        self.spent[share as usize]
    }

    /// Instance time of all shares.
    pub fn total(&self) -> Duration {
        self.spent.iter().sum()
    }

    pub fn peak(&self) -> u32 {
        let totals = self.points.iter().map(|(_, level)| level.total());
        totals.max().unwrap_or(0)
    }

    /// The longest time in one piece with at least `least` instances.
    pub fn longest_with(&self, least: u32) -> Duration {
        let (mut longest, mut since) = (Duration::ZERO, None);
        for (at, level) in &self.points {
            longest = longest.max(since.map_or(Duration::ZERO, |since| *at - since));
            since = (level.total() >= least).then(|| since.unwrap_or(*at));
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(idle: u32, run: u32) -> Level {
        Level {
            instances: [0, idle, run, 0],
            waiting: 0,
        }
    }

    #[test]
    fn time_adds_up_by_share() {
        let at = Duration::from_secs;
        let mut history = History::default();
        history.note(at(0), level(2, 0));
        history.note(at(10), level(1, 1));
        history.note(at(10), level(0, 2));
        history.note(at(15), level(0, 2));
        history.close(at(20));
        assert_eq!(history.spent(Share::Idle), at(20));
        assert_eq!(history.spent(Share::Run), at(20));
        assert_eq!(history.total(), at(40));
        assert_eq!(history.peak(), 2);
        assert_eq!(history.longest_with(2), at(20));
        assert_eq!(history.longest_with(3), at(0));
        assert_eq!(history.points().last(), Some(&(at(20), level(0, 2))));
    }
}

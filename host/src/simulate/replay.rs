//! Jobs of a trace, replayed against the configured policies: the loop over virtual time; pure.
//!
//! ```text
//!  trace ──► GitLab's queue ──asked for──► waiting ──slot──► running ──► ended
//!                 │                           └─ instance_acquire_timeout ──► given up
//!                 └─ never asked for: not taken
//! ```
//!
//! All that happens at one moment is taken in first, then GitLab is asked, then each runner decides once. Invariants:
//! jobs taken and not ended never exceed `concurrent`, nor a runner's its `limit`; who waits for `concurrent` is served
//! in the order in which they came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::agenda::{Agenda, Event};
use super::history::History;
use super::manager::{Asking, Effective, Manager};
use super::scenario::Scenario;
use crate::scaler::schedule::BadSchedule;

/// How long after the last arrival a job may still find a policy that takes it: each period came once by then.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long after the last arrival a fleet without jobs may take to come to rest: where policies take turns faster than
/// instances boot, it never does.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub arrival: Duration,
    pub duration: Duration,
    /// Position among the scenario's runners.
    pub runner: usize,
    /// Where it stands in its file, from 1.
    pub line: u64,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Started(Duration),
    /// It was taken and found no slot within `instance_acquire_timeout`.
    GivenUp(Duration),
    /// GitLab was never asked for it.
    NotTaken,
}

#[derive(Clone, Debug)]
pub struct Fleet {
    pub name: String,
    pub history: History,
    pub decisions: Vec<Effective>,
    /// Instances ever asked for.
    pub made: u64,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    /// In the order of the jobs.
    pub fates: Vec<Fate>,
    /// In the order of the scenario's runners.
    pub fleets: Vec<Fleet>,
    /// Until the last job had ended and every fleet had come to rest.
    pub span: Duration,
}

/// Replays `jobs`, which are in the order of arrival. `epoch` is any moment: virtual time counts from it.
///
/// # Errors
/// If a policy's period or time zone cannot be read.
pub fn replay(scenario: &Scenario, jobs: &[Job], epoch: Instant) -> Result<Outcome, BadSchedule> {
    let mut replay = Replay::new(scenario, jobs, epoch)?;
    let (end, _) = replay.run(Duration::MAX);
    Ok(replay.close(end))
}

/// The same; `None` once more instance time than `budget` is spent.
pub(super) fn replay_within(
    scenario: &Scenario,
    jobs: &[Job],
    epoch: Instant,
    budget: Duration,
) -> Result<Option<Outcome>, BadSchedule> {
    let mut replay = Replay::new(scenario, jobs, epoch)?;
    let (end, is_within) = replay.run(budget);
    Ok(is_within.then(|| replay.close(end)))
}

struct Replay<'a> {
    scenario: &'a Scenario,
    jobs: &'a [Job],
    epoch: Instant,
    arrived: usize,
    agenda: Agenda,
    managers: Vec<Manager<'a>>,
    /// What `concurrent` still lets in.
    free: u32,
    queued: VecDeque<usize>,
    fates: Vec<Fate>,
}

impl<'a> Replay<'a> {
    fn new(scenario: &'a Scenario, jobs: &'a [Job], epoch: Instant) -> Result<Self, BadSchedule> {
        let managers = scenario.runners.iter().enumerate();
        let managers = managers
            .map(|(index, entry)| Manager::new(index, entry, scenario, epoch))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            scenario,
            jobs,
            epoch,
            arrived: 0,
            agenda: Agenda::default(),
            managers,
            free: scenario.concurrent,
            queued: VecDeque::new(),
            fates: vec![Fate::NotTaken; jobs.len()],
        })
    }

    /// Until everything is at rest, or more instance time than `budget` was spent; answers when, and whether it was not.
    fn run(&mut self, budget: Duration) -> (Instant, bool) {
        let mut now = self.epoch;
        loop {
            self.take_in(now);
            self.ask(now);
            self.decide(now);
            let spent: Duration = self.managers.iter().map(|m| m.history.total()).sum();
            if spent > budget {
                return (now, false);
            }
            let next = [self.agenda.next_at(), self.next_arrival()];
            match next.into_iter().flatten().min() {
                Some(next) if !self.is_at_rest(now) => now = next,
                _ => return (now, true),
            }
        }
    }

    fn at(&self, now: Instant) -> Duration {
        now - self.epoch
    }

    fn wall(&self, now: Instant) -> Timestamp {
        let passed = SignedDuration::try_from(self.at(now)).unwrap_or(SignedDuration::MAX);
        self.scenario
            .start
            .saturating_add(passed)
            .unwrap_or(Timestamp::MAX)
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.jobs
            .get(self.arrived)
            .map(|job| self.epoch + job.arrival)
    }

    fn take_in(&mut self, now: Instant) {
        while self.next_arrival().is_some_and(|at| at <= now) {
            let manager = &mut self.managers[self.jobs[self.arrived].runner];
            manager.queue.push_back(self.arrived);
            manager.note(now - self.epoch);
            self.arrived += 1;
        }
        while let Some(event) = self.agenda.pop(now) {
            match event {
                Event::GivenUp {
                    manager,
                    reservation,
                } => {
                    if let Some(job) = self.managers[manager].give_up(reservation) {
                        self.fates[job] = Fate::GivenUp(self.at(now));
                        self.free += 1;
                    }
                }
                Event::Ended {
                    manager,
                    acquisition,
                } => {
                    self.managers[manager].job_ended(acquisition, now);
                    self.free += 1;
                }
                Event::Read { manager } => self.managers[manager].read(now, &mut self.agenda),
                Event::Ready { manager, id } => self.managers[manager].instance_ready(&id, now),
                Event::Wake { manager } => self.managers[manager].wake(now),
                Event::Pause => {}
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        while self.free > 0
            && let Some(index) = self.queued.pop_front()
        {
            self.ask_for(index, true, now);
        }
        let wall = self.wall(now);
        for index in 0..self.managers.len() {
            let manager = &self.managers[index];
            let asks = match manager.asking {
                Asking::Paused(until) => until <= now,
                Asking::Refused => manager.stirred && manager.may_reserve(wall).is_ok(),
                Asking::AtLimit => !manager.is_at_limit(),
                Asking::Queued => false,
            };
            if asks {
                self.ask_for(index, false, now);
            }
        }
    }

    /// Takes one job after the other, until something is in the way. `is_next`: it waited for `concurrent`, and it is
    /// its turn.
    fn ask_for(&mut self, index: usize, is_next: bool, now: Instant) {
        let wall = self.wall(now);
        let pause = now + self.scenario.check_interval;
        let manager = &mut self.managers[index];
        let mut is_next = is_next;
        loop {
            if manager.is_at_limit() {
                manager.asking = Asking::AtLimit;
                return;
            }
            if !is_next && (self.free == 0 || !self.queued.is_empty()) {
                manager.asking = Asking::Queued;
                self.queued.push_back(index);
                return;
            }
            is_next = false;
            if manager.may_reserve(wall).is_err() {
                manager.asking = Asking::Refused;
                return;
            }
            let Some(job) = manager.queue.pop_front() else {
                manager.asking = Asking::Paused(pause);
                self.agenda.add(pause, Event::Pause);
                return;
            };
            self.free -= 1;
            manager.wait(job, now, &mut self.agenda);
        }
    }

    fn decide(&mut self, now: Instant) {
        let (at, wall) = (self.at(now), self.wall(now));
        for (index, manager) in self.managers.iter_mut().enumerate() {
            if !manager.stirred {
                continue;
            }
            for (job, acquisition) in manager.turn(now, at, wall, &mut self.agenda) {
                self.fates[job] = Fate::Started(at);
                let ended = Event::Ended {
                    manager: index,
                    acquisition,
                };
                self.agenda.add(now + self.jobs[job].duration, ended);
            }
            manager.note(at);
        }
    }

    fn is_at_rest(&self, now: Instant) -> bool {
        let last = self.jobs.last().map_or(Duration::ZERO, |job| job.arrival);
        let is_past = |time| self.at(now) >= last + time;
        let (given_up, lingered) = (is_past(PATIENCE), is_past(LINGER));
        let mut managers = self.managers.iter();
        self.arrived == self.jobs.len()
            && managers.all(|m| m.is_at_rest(given_up) || lingered && m.has_no_jobs())
    }

    fn close(mut self, now: Instant) -> Outcome {
        let span = self.at(now);
        let fleets = self.managers.drain(..).map(|mut manager| {
            manager.history.close(span);
            Fleet {
                name: manager.name().to_owned(),
                made: manager.made(),
                history: manager.history,
                decisions: manager.decisions,
            }
        });
        Outcome {
            fleets: fleets.collect(),
            fates: self.fates,
            span,
        }
    }
}

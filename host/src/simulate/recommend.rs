//! The cheapest policy that keeps 95 of a hundred waits within a target, found by replaying many; pure.
//!
//! A coarse grid first: for each `preemptive_mode`, `idle_time` and `scale_factor` the smallest `idle_count` that reaches
//! the target, by halving. Then small steps from the best one, as long as they help. A replay ends as soon as it costs
//! more than the best one so far. Halving takes for granted that a larger `idle_count` never waits longer and never costs
//! less, which is so but for accidents of timing; every figure told is one that was simulated.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::figures::Figures;
use super::replay::{Job, replay, replay_within};
use super::report::{figures_json, hours, p95, written};
use super::scenario::Scenario;
use crate::config::scalars::GoDuration;
use crate::config::usable::Policy;
use crate::scaler::schedule::BadSchedule;

const MINUTE: Duration = Duration::from_secs(60);
const IDLE_TIMES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1800),
];
const SCALE_FACTORS: [f64; 3] = [0.0, 0.25, 1.0];
/// Rounds of small steps.
const ROUNDS: usize = 4;

/// What is looked for, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub runner: usize,
    pub p95: Duration,
}

#[derive(Clone, Debug)]
pub struct Found {
    pub policy: Policy,
    /// Of the runner's own jobs and instances.
    pub figures: Figures,
}

#[derive(Clone, Debug)]
pub struct Recommendation {
    pub target: Target,
    pub configured: Figures,
    pub found: Option<Found>,
    /// Without a policy that reaches the target: the best that was seen, and what, lifted alone, would let one.
    pub best: Figures,
    pub limits: Vec<&'static str>,
    pub simulated: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Reaches,
    TooSlow,
    TooDear,
}

struct Search<'a> {
    scenario: Scenario,
    jobs: &'a [Job],
    epoch: Instant,
    target: Target,
    best: Option<(Duration, Found)>,
    tried: HashMap<(u32, Duration, u64, bool), Verdict>,
    simulated: usize,
}

/// Looks for the cheapest policy of `target.runner` that holds at all times; other runners stay as configured.
pub fn recommend(
    scenario: &Scenario,
    jobs: &[Job],
    target: Target,
    epoch: Instant,
) -> Result<Recommendation, BadSchedule> {
    let of_runner = |scenario: &Scenario| -> Result<_, BadSchedule> {
        let outcome = replay(scenario, jobs, epoch)?;
        Ok(Figures::of_runner(jobs, &outcome, target.runner))
    };
    let configured = of_runner(scenario)?;
    let mut search = Search {
        scenario: scenario.clone(),
        jobs,
        epoch,
        target,
        best: None,
        tried: HashMap::new(),
        simulated: 1,
    };
    search.coarse()?;
    search.refine()?;
    let mut recommendation = Recommendation {
        target,
        best: configured.clone(),
        configured,
        found: search.best.take().map(|(_, found)| found),
        limits: Vec::new(),
        simulated: search.simulated,
    };
    if recommendation.found.is_none() {
        let richest = search.richest(scenario);
        recommendation.best = of_runner(&richest)?;
        for (name, lift) in LIMITS {
            let mut lifted = scenario.clone();
            lift(&mut lifted, &target);
            let figures = of_runner(&search.richest(&lifted))?;
            recommendation.simulated += 1;
            if reaches(&figures, &target) {
                recommendation.limits.push(name);
            }
        }
        recommendation.simulated += 1;
    }
    Ok(recommendation)
}

type Lift = fn(&mut Scenario, &Target);

/// What may stand in the way of every policy, and how it is lifted.
const LIMITS: [(&str, Lift); 5] = [
    ("max_instances", |scenario, target| {
        scenario.runners[target.runner].autoscaler.max_instances = None;
    }),
    ("concurrent or limit", |scenario, target| {
        scenario.concurrent = u32::MAX;
        scenario.runners[target.runner].limit = 0;
    }),
    ("scale_throttle", |scenario, target| {
        let autoscaler = &mut scenario.runners[target.runner].autoscaler;
        autoscaler.scale_throttle.limit = None;
    }),
    ("the boot time of instances", |scenario, target| {
        scenario.pace.boot.median = Duration::ZERO;
        scenario.pace.connect = Duration::ZERO;
        let autoscaler = &mut scenario.runners[target.runner].autoscaler;
        autoscaler.update_interval_when_expecting = Duration::from_millis(100);
    }),
    ("check_interval", |scenario, target| {
        let shorter = scenario.check_interval.min(target.p95 / 2);
        scenario.check_interval = shorter.max(Duration::from_millis(100));
    }),
];

fn reaches(figures: &Figures, target: &Target) -> bool {
    let wait = figures.waits.percentile(95);
    figures.jobs == 0 || wait.is_some_and(|wait| wait <= target.p95)
}

impl Search<'_> {
    fn coarse(&mut self) -> Result<(), BadSchedule> {
        let ladder = ladder(self.most());
        for preemptive_mode in [true, false] {
            for scale_factor in SCALE_FACTORS {
                for idle_time in IDLE_TIMES {
                    let policy = Policy {
                        idle_time,
                        scale_factor,
                        preemptive_mode,
                        ..plain()
                    };
                    self.smallest(&policy, &ladder)?;
                }
            }
        }
        Ok(())
    }

    fn refine(&mut self) -> Result<(), BadSchedule> {
        for _ in 0..ROUNDS {
            let Some((cost, found)) = self.best.clone() else {
                return Ok(());
            };
            let policy = found.policy;
            let below: Vec<u32> = (policy.idle_count / 2..policy.idle_count).collect();
            self.smallest(&policy, &below)?;
            let seconds = policy.idle_time.as_secs();
            let idle_times = [
                0,
                seconds / 2,
                seconds * 3 / 4,
                seconds * 3 / 2,
                seconds + 60,
            ];
            for idle_time in idle_times.map(Duration::from_secs) {
                let policy = Policy {
                    idle_time,
                    ..policy.clone()
                };
                self.judge(&policy)?;
            }
            for step in [-0.2, -0.1, -0.05, 0.05, 0.1] {
                let stepped = ((policy.scale_factor + step) * 100.0).round() / 100.0;
                let policy = Policy {
                    scale_factor: stepped.max(0.0),
                    ..policy.clone()
                };
                let fewer = [policy.idle_count.saturating_sub(1), policy.idle_count];
                self.smallest(&policy, &fewer)?;
            }
            if self.best.as_ref().is_none_or(|(now, _)| *now >= cost) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Halves `idle_counts`, which rise, down to the smallest that reaches the target.
    fn smallest(&mut self, policy: &Policy, idle_counts: &[u32]) -> Result<(), BadSchedule> {
        let (mut from, mut to) = (0, idle_counts.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            let policy = Policy {
                idle_count: idle_counts[middle],
                ..policy.clone()
            };
            match self.judge(&policy)? {
                Verdict::TooSlow => from = middle + 1,
                Verdict::Reaches | Verdict::TooDear => to = middle,
            }
        }
        Ok(())
    }

    fn judge(&mut self, policy: &Policy) -> Result<Verdict, BadSchedule> {
        let key = (
            policy.idle_count,
            policy.idle_time,
            policy.scale_factor.to_bits(),
            policy.preemptive_mode,
        );
        if let Some(verdict) = self.tried.get(&key) {
            return Ok(*verdict);
        }
        let verdict = self.replay(policy)?;
        self.tried.insert(key, verdict);
        Ok(verdict)
    }

    fn replay(&mut self, policy: &Policy) -> Result<Verdict, BadSchedule> {
        self.simulated += 1;
        let runner = self.target.runner;
        self.scenario.runners[runner].autoscaler.policies = vec![policy.clone()];
        let budget = self.best.as_ref().map_or(Duration::MAX, |(cost, _)| *cost);
        let outcome = replay_within(&self.scenario, self.jobs, self.epoch, budget)?;
        let Some(outcome) = outcome else {
            return Ok(Verdict::TooDear);
        };
        let figures = Figures::of_runner(self.jobs, &outcome, runner);
        if !reaches(&figures, &self.target) {
            return Ok(Verdict::TooSlow);
        }
        let cost = Figures::of_all(self.jobs, &outcome).total();
        if cost < budget {
            let policy = policy.clone();
            self.best = Some((cost, Found { policy, figures }));
        }
        Ok(Verdict::Reaches)
    }

    /// The largest `idle_count` that makes sense: a slot for each job that may be there at once.
    fn most(&self) -> u32 {
        most(&self.scenario, self.jobs, self.target.runner)
    }

    /// `scenario` with as much idle as there can be.
    fn richest(&self, scenario: &Scenario) -> Scenario {
        let runner = self.target.runner;
        let mut richest = scenario.clone();
        richest.runners[runner].autoscaler.policies = vec![Policy {
            idle_count: most(scenario, self.jobs, runner),
            idle_time: 60 * MINUTE,
            ..plain()
        }];
        richest
    }
}

fn most(scenario: &Scenario, jobs: &[Job], runner: usize) -> u32 {
    let entry = &scenario.runners[runner];
    let jobs = jobs.iter().filter(|job| job.runner == runner).count();
    let slots = entry.autoscaler.max_instances.map_or(u32::MAX, |max| {
        max.saturating_mul(entry.autoscaler.capacity_per_instance.max(1))
    });
    let limit = if entry.limit > 0 {
        entry.limit
    } else {
        u32::MAX
    };
    let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
    jobs.min(slots).min(limit).min(scenario.concurrent)
}

/// 0, 1, 2, 4, 8 … and `most`.
fn ladder(most: u32) -> Vec<u32> {
    let powers = std::iter::successors(Some(1u32), |n| n.checked_mul(2));
    let below = powers.take_while(|n| *n < most);
    let mut ladder: Vec<_> = std::iter::once(0).chain(below).chain([most]).collect();
    ladder.dedup();
    ladder
}

fn plain() -> Policy {
    Policy {
        periods: vec!["* * * * *".to_owned()],
        timezone: None,
        idle_count: 0,
        idle_time: Duration::ZERO,
        scale_factor: 0.0,
        scale_factor_limit: 0,
        preemptive_mode: false,
    }
}

impl Recommendation {
    /// TOML that pastes below `[runners.autoscaler]`, its figures as comments; only comments where nothing was found.
    pub fn toml(&self) -> String {
        let mut out = String::new();
        let told = |figures: &Figures| {
            let (wait, cost) = (p95(figures), hours(figures.total()));
            format!(
                "p95 wait {wait}, {cost} instance hours, peak of {} instances",
                figures.peak
            )
        };
        let (target, simulated) = (written(self.target.p95), self.simulated);
        let _ = writeln!(
            out,
            "# target: p95 wait {target}; {simulated} policies simulated"
        );
        let _ = writeln!(out, "# configured: {}", told(&self.configured));
        match &self.found {
            Some(found) => {
                let policy = &found.policy;
                let idle_time = GoDuration::from(policy.idle_time);
                let _ = writeln!(out, "# this one:   {}", told(&found.figures));
                let _ = writeln!(out, "[[runners.autoscaler.policy]]");
                let _ = writeln!(out, "  idle_count = {}", policy.idle_count);
                let _ = writeln!(out, "  idle_time = \"{idle_time}\"");
                let _ = writeln!(out, "  scale_factor = {:?}", policy.scale_factor);
                let _ = writeln!(out, "  preemptive_mode = {}", policy.preemptive_mode);
            }
            None => {
                let _ = writeln!(
                    out,
                    "# no policy reaches it; with as much idle as there can be: {}",
                    told(&self.best)
                );
                let _ = match self.limits.as_slice() {
                    [] => writeln!(
                        out,
                        "# no limit alone stands in the way: {} together do",
                        names()
                    ),
                    limits => writeln!(
                        out,
                        "# what limits: {}; without it a policy could",
                        limits.join(", or ")
                    ),
                };
            }
        }
        out
    }

    pub fn json(&self) -> String {
        let found = self.found.as_ref().map(|found| {
            json!({
                "policy": {
                    "idle_count": found.policy.idle_count,
                    "idle_time": GoDuration::from(found.policy.idle_time).to_string(),
                    "scale_factor": found.policy.scale_factor,
                    "preemptive_mode": found.policy.preemptive_mode,
                },
                "figures": figures_json(&found.figures),
            })
        });
        let told = json!({
            "p95_wait_seconds": self.target.p95.as_secs_f64(),
            "configured": figures_json(&self.configured),
            "recommended": found,
            "best": figures_json(self.found.as_ref().map_or(&self.best, |found| &found.figures)),
            "limits": self.limits,
            "policies_simulated": self.simulated,
        });
        format!("{told:#}\n")
    }
}

fn names() -> String {
    LIMITS.map(|(name, _)| name).join(", ")
}

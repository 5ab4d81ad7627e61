//! The same rules, naively: every second looks at every job and every instance; no ledger, no agenda, no index. Times
//! are whole seconds but for boots, and nothing lasts less than one.

use super::*;
use crate::config::usable::{Autoscaler, Policy};
use crate::simulate::boot::Noise;
use crate::simulate::history::Level;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InGitLab,
    Taken(u64),
    Runs(u64),
    Over(u64),
    GivenUp(u64),
}

struct Machine {
    number: u64,
    /// In milliseconds.
    booted: u64,
    listed: Option<u64>,
    ready: Option<u64>,
    idle_since: u64,
    uses: u32,
    jobs: Vec<usize>,
    spent: bool,
    removed: Option<u64>,
    missed: bool,
    gone: bool,
}

impl Machine {
    fn serves(&self, now: u64) -> bool {
        self.ready.is_some_and(|at| at <= now) && self.removed.is_none() && !self.spent
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Asker {
    Until(u64),
    Refused,
    Limited,
    Queued,
}

struct House {
    machines: Vec<Machine>,
    asker: Asker,
    tokens: u32,
    expecting: bool,
    read_at: u64,
    /// At the end of each second.
    levels: Vec<Level>,
}

struct Oracle<'a> {
    scenario: &'a Scenario,
    jobs: &'a [Job],
    states: Vec<State>,
    houses: Vec<House>,
    queue: Vec<usize>,
}

fn seconds(time: Duration) -> u64 {
    assert_eq!(time.subsec_nanos(), 0);
    time.as_secs()
}

impl Oracle<'_> {
    fn second(&mut self, now: u64) {
        for job in 0..self.jobs.len() {
            let patience = self
                .autoscaler(self.jobs[job].runner)
                .instance_acquire_timeout;
            match self.states[job] {
                State::Runs(from) if from + seconds(self.jobs[job].duration) == now => {
                    self.states[job] = State::Over(from);
                    let max = self.autoscaler(self.jobs[job].runner).max_use_count;
                    let machines = &mut self.houses[self.jobs[job].runner].machines;
                    let machine = machines.iter_mut().find(|m| m.jobs.contains(&job)).unwrap();
                    machine.jobs.retain(|other| *other != job);
                    machine.idle_since = now;
                    machine.spent = max > 0 && machine.uses >= max;
                }
                State::Taken(at) if at + seconds(patience) == now => {
                    self.states[job] = State::GivenUp(now);
                }
                _ => {}
            }
        }
        for index in 0..self.houses.len() {
            self.read(index, now);
            for machine in &mut self.houses[index].machines {
                if machine.ready == Some(now) {
                    machine.idle_since = now;
                }
            }
        }
        while self.free() > 0 && !self.queue.is_empty() {
            let index = self.queue.remove(0);
            self.ask(index, true, now);
        }
        for index in 0..self.houses.len() {
            let asks = match self.houses[index].asker {
                Asker::Until(until) => until <= now,
                Asker::Refused => self.may_ask(index, now),
                Asker::Limited => true,
                Asker::Queued => false,
            };
            if asks {
                self.ask(index, false, now);
            }
        }
        for index in 0..self.houses.len() {
            let patience = seconds(self.autoscaler(index).instance_acquire_timeout);
            for machine in &mut self.houses[index].machines {
                let is_stuck = machine.listed.is_some_and(|at| at + patience <= now);
                if machine.ready.is_none() && is_stuck && machine.removed.is_none() {
                    machine.removed = Some(now);
                }
            }
            self.grant(index, now);
            self.decide(index, now);
            let level = self.level(index, now);
            self.houses[index].levels.push(level);
        }
    }

    fn autoscaler(&self, index: usize) -> &Autoscaler {
        &self.scenario.runners[index].autoscaler
    }

    fn taken(&self, index: Option<usize>) -> u32 {
        let states = self.jobs.iter().zip(&self.states);
        let taken = states.filter(|(job, state)| {
            index.is_none_or(|index| job.runner == index)
                && matches!(state, State::Taken(_) | State::Runs(_))
        });
        taken.count() as u32
    }

    fn free(&self) -> u32 {
        self.scenario.concurrent - self.taken(None)
    }

    fn waiting(&self, index: usize) -> Vec<usize> {
        let waits = |job: &usize| {
            self.jobs[*job].runner == index && matches!(self.states[*job], State::Taken(_))
        };
        (0..self.jobs.len()).filter(waits).collect()
    }

    fn in_gitlab(&self, index: usize, now: u64) -> Vec<usize> {
        let waits = |job: &usize| {
            self.jobs[*job].runner == index
                && self.states[*job] == State::InGitLab
                && seconds(self.jobs[*job].arrival) <= now
        };
        (0..self.jobs.len()).filter(waits).collect()
    }

    fn uses_left(&self, index: usize, used: u32) -> u32 {
        match self.autoscaler(index).max_use_count {
            0 => u32::MAX,
            max => max - used,
        }
    }

    fn policy(&self, index: usize, now: u64) -> Policy {
        // Periods here are every minute, or every other one.
        let even = (now / 60).is_multiple_of(2);
        let policies = self.autoscaler(index).policies.iter().rev();
        let mut holding = policies.filter(|p| p.periods[0] == "* * * * *" || even);
        holding.next().unwrap().clone()
    }

    /// Slots that could take a job now.
    fn open(&self, index: usize, now: u64) -> u32 {
        let capacity = self.autoscaler(index).capacity_per_instance;
        let serving = self.houses[index].machines.iter().filter(|m| m.serves(now));
        let open =
            serving.map(|m| (capacity - m.jobs.len() as u32).min(self.uses_left(index, m.uses)));
        open.sum()
    }

    /// Slots that will take a job, without asking for more.
    fn supply(&self, index: usize) -> u32 {
        let capacity = self.autoscaler(index).capacity_per_instance;
        let machines = self.houses[index].machines.iter();
        let staying = machines.filter(|m| m.removed.is_none() && !m.spent && !m.gone);
        let free =
            staying.map(|m| (capacity - m.jobs.len() as u32).min(self.uses_left(index, m.uses)));
        free.sum()
    }

    fn room(&self, index: usize) -> u32 {
        let there = self.houses[index].machines.iter().filter(|m| !m.gone);
        let max = self.autoscaler(index).max_instances.unwrap_or(u32::MAX);
        max - there.count() as u32
    }

    fn slots_of_new(&self, index: usize) -> u32 {
        let capacity = self.autoscaler(index).capacity_per_instance;
        capacity.min(self.uses_left(index, 0))
    }

    fn may_ask(&self, index: usize, now: u64) -> bool {
        let waiting = self.waiting(index).len() as u32;
        if self.open(index, now) > waiting {
            return true;
        }
        if self.policy(index, now).preemptive_mode {
            return false;
        }
        let more = self.room(index).saturating_mul(self.slots_of_new(index));
        more.saturating_add(self.supply(index)) > waiting
    }

    fn ask(&mut self, index: usize, mut first: bool, now: u64) {
        let limit = self.scenario.runners[index].limit;
        self.houses[index].asker = loop {
            if limit > 0 && self.taken(Some(index)) >= limit {
                break Asker::Limited;
            }
            if !first && (self.free() == 0 || !self.queue.is_empty()) {
                self.queue.push(index);
                break Asker::Queued;
            }
            first = false;
            if !self.may_ask(index, now) {
                break Asker::Refused;
            }
            match self.in_gitlab(index, now).first() {
                Some(job) => self.states[*job] = State::Taken(now),
                None => break Asker::Until(now + seconds(self.scenario.check_interval)),
            }
        };
    }

    fn read(&mut self, index: usize, now: u64) {
        let deletion = seconds(self.scenario.pace.deletion);
        let connect = seconds(self.scenario.pace.connect);
        let (calm, brisk) = self.rhythm(index);
        let house = &mut self.houses[index];
        if house.read_at > now {
            return;
        }
        let mut changing = false;
        for machine in house.machines.iter_mut().filter(|m| !m.gone) {
            machine.gone = machine.missed;
            machine.missed = machine.removed.is_some_and(|at| at + deletion <= now);
            machine.listed = machine.listed.or(Some(now));
            if machine.ready.is_none() && machine.removed.is_none() && machine.booted <= now * 1000
            {
                machine.ready = Some(now + connect);
            }
            changing |= !machine.gone && (machine.removed.is_some() || machine.ready.is_none());
        }
        house.read_at = now
            + if house.expecting || changing {
                brisk
            } else {
                calm
            };
    }

    fn rhythm(&self, index: usize) -> (u64, u64) {
        let autoscaler = self.autoscaler(index);
        let brisk = autoscaler.update_interval_when_expecting;
        (seconds(autoscaler.update_interval), seconds(brisk))
    }

    /// The fullest first, then the youngest, then by name.
    fn grant(&mut self, index: usize, now: u64) {
        let capacity = self.autoscaler(index).capacity_per_instance as usize;
        for job in self.waiting(index) {
            let open = self.houses[index]
                .machines
                .iter()
                .enumerate()
                .filter(|(_, m)| {
                    m.serves(now) && m.jobs.len() < capacity && self.uses_left(index, m.uses) > 0
                });
            let best = open.min_by_key(|(_, m)| {
                let since = if m.jobs.is_empty() {
                    Some(m.idle_since)
                } else {
                    m.listed
                };
                (
                    usize::MAX - m.jobs.len(),
                    u64::MAX - since.unwrap(),
                    m.number,
                )
            });
            let Some((best, _)) = best else {
                return;
            };
            let machine = &mut self.houses[index].machines[best];
            machine.jobs.push(job);
            machine.uses += 1;
            self.states[job] = State::Runs(now);
        }
    }

    fn decide(&mut self, index: usize, now: u64) {
        let policy = self.policy(index, now);
        let machines = &self.houses[index].machines;
        let in_use: usize = machines.iter().map(|m| m.jobs.len()).sum();
        let mut idle = (policy.scale_factor * in_use as f64).ceil() as u32;
        if policy.scale_factor_limit > 0 {
            idle = idle.min(policy.scale_factor_limit);
        }
        let waiting = self.waiting(index).len() as u32;
        let need = waiting + idle.max(policy.idle_count);
        let lacking = need.saturating_sub(self.supply(index));
        let increase = lacking
            .div_ceil(self.slots_of_new(index))
            .min(self.room(index));
        let surplus = self.open(index, now).saturating_sub(need);
        self.remove(index, surplus, waiting == 0, policy.idle_time, now);
        self.increase(index, increase, now);

        let (calm, brisk) = self.rhythm(index);
        let house = &mut self.houses[index];
        let there = || house.machines.iter().filter(|m| !m.gone);
        house.expecting = there().any(|m| m.listed.is_none());
        let changing = there().any(|m| m.removed.is_some() || m.ready.is_none());
        house.read_at = house.read_at.min(now + if changing { brisk } else { calm });
    }

    fn remove(
        &mut self,
        index: usize,
        mut surplus: u32,
        nobody_waits: bool,
        idle_time: Duration,
        now: u64,
    ) {
        let capacity = self.autoscaler(index).capacity_per_instance;
        let max = self.autoscaler(index).max_use_count;
        let machines = &mut self.houses[index].machines;
        for machine in machines.iter_mut() {
            if machine.spent && machine.jobs.is_empty() && machine.removed.is_none() {
                machine.removed = Some(now);
            }
        }
        let mut idle: Vec<_> = machines
            .iter_mut()
            .filter(|m| m.serves(now) && m.jobs.is_empty())
            .collect();
        idle.sort_by_key(|m| (m.idle_since, m.number));
        for machine in idle {
            let left = if max == 0 {
                u32::MAX
            } else {
                max - machine.uses
            };
            let slots = capacity.min(left);
            let due = machine.idle_since + seconds(idle_time);
            if !nobody_waits || slots > surplus || now < due {
                return;
            }
            surplus -= slots;
            machine.removed = Some(now);
        }
    }

    fn increase(&mut self, index: usize, wanted: u32, now: u64) {
        let throttle = self.autoscaler(index).scale_throttle;
        let house = &mut self.houses[index];
        if now > 0 {
            house.tokens = throttle.burst.min(house.tokens.saturating_add(1));
        }
        // Where there is a limit, it is one a second.
        let count = match throttle.limit {
            None => wanted,
            Some(_) => wanted.min(house.tokens),
        };
        if throttle.limit.is_some() {
            house.tokens -= count;
        }
        for _ in 0..count {
            let number = house.machines.len() as u64 + 1;
            let boot = self.scenario.pace.boot.of(index, number - 1);
            house.machines.push(Machine {
                number,
                booted: now * 1000 + boot.as_millis() as u64,
                listed: None,
                ready: None,
                idle_since: 0,
                uses: 0,
                jobs: Vec::new(),
                spent: false,
                removed: None,
                missed: false,
                gone: false,
            });
        }
    }

    fn level(&self, index: usize, now: u64) -> Level {
        let mut level = Level::default();
        for machine in self.houses[index].machines.iter().filter(|m| !m.gone) {
            let share = if machine.removed.is_some() {
                3
            } else if !machine.jobs.is_empty() {
                2
            } else {
                usize::from(machine.ready.is_some_and(|at| at <= now))
            };
            level.instances[share] += 1;
        }
        let waiting = self.waiting(index).len() + self.in_gitlab(index, now).len();
        level.waiting = waiting as u32;
        level
    }
}

/// One of these.
fn one<T: Copy>(noise: &mut Noise, of: &[T]) -> T {
    of[noise.below(of.len() as u64) as usize]
}

fn policy(noise: &mut Noise, period: &str) -> String {
    let idle_count = one(noise, &[0, 0, 1, 2, 3]);
    let idle_time = one(noise, &["0s", "7s", "40s", "2m"]);
    let scale_factor = one(noise, &["0.0", "0.5", "1.0"]);
    let limit = one(noise, &[0, 1, 2]);
    // With nothing idle it never asks: a few of those are enough.
    let preemptive = match one(noise, &[0, 1, 2]) {
        0 => "",
        // With nothing idle it never asks, and a week passes: few of those are enough.
        1 if idle_count > 0 || noise.below(10) == 0 => "preemptive_mode = true\n",
        _ => "preemptive_mode = false\n",
    };
    format!(
        "[[runners.autoscaler.policy]]\nperiods = [\"{period}\"]\ntimezone = \"UTC\"\nidle_count = {idle_count}\n\
         idle_time = \"{idle_time}\"\nscale_factor = {scale_factor}\nscale_factor_limit = {limit}\n{preemptive}"
    )
}

fn runner(noise: &mut Noise) -> String {
    let mut lines = format!(
        "capacity_per_instance = {}\nmax_use_count = {}\nmax_instances = {}\nupdate_interval = \"{}\"\n\
         update_interval_when_expecting = \"{}\"\ninstance_acquire_timeout = \"{}\"\n",
        one(noise, &[1, 1, 2, 3]),
        one(noise, &[0, 1, 2, 3]),
        one(noise, &[0, 1, 2, 4, 6]),
        one(noise, &["10s", "60s"]),
        one(noise, &["1s", "2s", "5s"]),
        one(noise, &["50s", "90s", "15m"]),
    );
    let throttle = one(
        noise,
        &["limit = -1", "limit = 1\nburst = 1", "limit = 1\nburst = 2"],
    );
    lines.push_str(&format!(
        "[runners.autoscaler.scale_throttle]\n{throttle}\n"
    ));
    lines.push_str(&policy(noise, "* * * * *"));
    if one(noise, &[true, false]) {
        lines.push_str(&policy(noise, "*/2 * * * *"));
    }
    lines
}

fn random(seed: u64) -> (Scenario, Vec<Job>) {
    let mut noise = Noise(seed);
    let (a, b) = (runner(&mut noise), runner(&mut noise));
    let top = format!("concurrent = {}", one(&mut noise, &[1, 2, 4, 8]));
    let runners = [("a", a.as_str()), ("b", b.as_str())];
    let count = one(&mut noise, &[1, 1, 2]);
    let boot = one(&mut noise, &[5, 20, 40]);
    let mut scenario = scenario(&top, &runners[..count], boot);
    scenario.pace.boot.spread = one(&mut noise, &[0.0, 0.3]);
    scenario.pace.boot.seed = seed;
    scenario.pace.connect = Duration::from_secs(one(&mut noise, &[1, 4]));
    scenario.pace.deletion = Duration::from_secs(one(&mut noise, &[1, 20]));
    for entry in &mut scenario.runners {
        entry.limit = one(&mut noise, &[0, 0, 1, 3]);
    }
    let within = one(&mut noise, &[5, 100, 400]);
    let mut all: Vec<_> = (0..noise.below(25))
        .map(|_| {
            let duration = 1 + noise.below(one(&mut noise.clone(), &[3, 60, 200]));
            (
                noise.below(within),
                duration,
                noise.below(count as u64) as usize,
            )
        })
        .collect();
    all.sort_unstable();
    (scenario, jobs(&all))
}

#[test]
fn a_thousand_small_traces_are_what_an_oracle_says() {
    let (mut served, mut given_up, mut removed) = (0, 0, 0);
    for seed in 0..1000 {
        let (scenario, jobs) = random(seed);
        let outcome = play(&scenario, &jobs);
        let end = outcome.span.as_secs();
        let fresh = |index: usize| House {
            machines: Vec::new(),
            asker: Asker::Until(0),
            tokens: scenario.runners[index].autoscaler.scale_throttle.burst,
            expecting: false,
            read_at: seconds(scenario.runners[index].autoscaler.update_interval),
            levels: Vec::new(),
        };
        let mut oracle = Oracle {
            scenario: &scenario,
            jobs: &jobs,
            states: vec![State::InGitLab; jobs.len()],
            houses: (0..scenario.runners.len()).map(fresh).collect(),
            queue: Vec::new(),
        };
        // What lasts much longer than its jobs only waits for a period that asks, or never rests.
        let ends = jobs
            .iter()
            .zip(&outcome.fates)
            .map(|(job, fate)| match fate {
                Fate::Started(at) => (*at + job.duration).as_secs(),
                Fate::GivenUp(at) => at.as_secs(),
                Fate::NotTaken => job.arrival.as_secs(),
            });
        let settled = ends.max().unwrap_or(0) + 600;
        for now in 0..=end.min(settled) {
            oracle.second(now);
        }
        for (index, fleet) in outcome.fleets.iter().enumerate() {
            let points = fleet.history.points();
            for (now, said) in oracle.houses[index].levels.iter().enumerate() {
                let at = Duration::from_secs(now as u64);
                let place = points.partition_point(|(from, _)| *from <= at);
                assert_eq!(
                    points[place - 1].1,
                    *said,
                    "trace {seed}, runner {index}, second {now}: {scenario:#?} {jobs:#?}"
                );
            }
            removed += fleet.decisions.iter().map(|d| d.remove).sum::<u32>();
        }
        for (job, fate) in outcome.fates.iter().enumerate() {
            let said = match oracle.states[job] {
                State::InGitLab => Fate::NotTaken,
                State::Over(at) | State::Runs(at) => Fate::Started(Duration::from_secs(at)),
                State::GivenUp(at) => Fate::GivenUp(Duration::from_secs(at)),
                State::Taken(at) => panic!("trace {seed}: job {job} waits since {at} at the end"),
            };
            assert_eq!(*fate, said, "trace {seed}, job {job}");
            served += usize::from(matches!(fate, Fate::Started(_)));
            given_up += usize::from(matches!(fate, Fate::GivenUp(_)));
        }
    }
    assert!(
        served > 5000 && given_up > 20 && removed > 1000,
        "the traces are too tame: {served} {given_up} {removed}"
    );
}

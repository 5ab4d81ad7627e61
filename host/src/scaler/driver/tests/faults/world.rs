//! One run's world: the cloud, the promises, the machines, and what happens to them by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::SECOND;
use super::breach::Breach;
use super::cloud::{Cloud, Standing};
use super::dice::{Climate, Dice, between};
use super::machine::FaultyMachine;
use super::promises::Promises;
use crate::fleet::group::{InstanceId, InstanceState};

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) climate: Climate,
    pub(super) breach: Option<Breach>,
    pub(super) calm: Instant,
    pub(super) granted: watch::Sender<u64>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) cloud: Cloud,
    pub(super) promises: Promises,
    pub(super) machines: BTreeMap<InstanceId, Arc<FaultyMachine>>,
    /// Jobs that want a slot and have none.
    pub(super) wanting: BTreeSet<u64>,
    /// Snapshots that reached the manager.
    pub(super) shown: u64,
    calls: BTreeMap<String, u64>,
}

impl State {
    pub(super) fn increase(&mut self, token: &str, count: u32, now: Instant) {
        self.promises.increase(count, &self.cloud, now);
        self.cloud.increase_begins(token, count);
    }

    pub(super) fn acquires(&mut self, job: u64, machine: &str, slot: u32) {
        self.wanting.remove(&job);
        self.promises.acquires(job, machine, slot, &self.cloud);
    }

    /// Whether a job can run there, or ever will again.
    pub(super) fn is_lost(&self, id: &InstanceId) -> bool {
        self.cloud.standing.get(id).is_none_or(|s| !s.works())
    }
}

impl World {
    pub(super) fn new(seed: u64, breach: Option<Breach>) -> Arc<Self> {
        let (dice, now) = (Dice(seed), Instant::now());
        let climate = Climate::of(dice);
        let state = State {
            cloud: Cloud::new(dice, climate.keeps_target, climate.standing, now),
            promises: Promises::new(climate.clone(), now),
            machines: BTreeMap::new(),
            wanting: BTreeSet::new(),
            shown: 0,
            calls: BTreeMap::new(),
        };
        Arc::new(Self {
            dice,
            calm: now + climate.storm,
            climate,
            breach,
            granted: watch::Sender::new(0),
            state: Mutex::new(state),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn is_stormy(&self) -> bool {
        Instant::now() < self.calm
    }

    /// A job can wait no longer: the run has failed.
    pub(super) fn is_over(&self) -> bool {
        self.state().promises.breaks_off()
    }

    /// The draw of the next call of this name.
    pub(super) fn draw(&self, call: &str) -> StdRng {
        let mut state = self.state();
        let number = state.calls.entry(call.into()).or_default();
        *number += 1;
        self.dice.at(call, *number)
    }

    /// Whether something of this rate happens, while faults last.
    pub(super) fn strikes(&self, draw: &mut StdRng, rate: f64) -> bool {
        draw.random_bool(rate) && self.is_stormy()
    }

    /// How long a call takes before and after the cloud looks or acts.
    pub(super) fn delays(&self, draw: &mut StdRng) -> [Duration; 2] {
        let most = match self.strikes(draw, self.climate.rates.slow) {
            true => 20.0,
            false => 0.6,
        };
        [between(draw, 0.01, most), between(draw, 0.01, most)]
    }

    /// A signal reaches the manager only if `told`; a connection may also just hang.
    fn cut(&self, id: &InstanceId, told: bool) {
        let machine = self.state().machines.get(id).cloned();
        if let Some(machine) = machine {
            machine.set_up(false, told);
        }
    }

    fn pick(&self, draw: &mut StdRng, which: impl Fn(&Standing) -> bool) -> Option<InstanceId> {
        let state = self.state();
        let ids: Vec<_> = state
            .cloud
            .standing
            .iter()
            .filter(|(_, s)| which(s))
            .map(|(id, _)| id.clone())
            .collect();
        ids.choose(draw).cloned()
    }

    /// Everything that happens by itself, until the storm is over.
    pub(super) async fn weather(self: Arc<Self>) {
        let start = self.calm - self.climate.storm;
        for number in 0..self.climate.events {
            let world = Arc::clone(&self);
            tokio::spawn(async move {
                let mut draw = world.dice.at("event", number);
                let last = world.climate.storm.as_secs_f64();
                sleep_until(start + between(&mut draw, 0.0, last)).await;
                world.event(&mut draw).await;
            });
        }
    }

    async fn event(&self, draw: &mut StdRng) {
        match draw.random_range(0..13) {
            0..3 => self.vanish(draw),
            3 => self.break_down(draw).await,
            4 => self.scale_in(draw),
            5..9 => self.intrude(),
            9..12 => self.disconnect(draw).await,
            _ => self.revoke(draw).await,
        }
    }

    fn vanish(&self, draw: &mut StdRng) {
        let Some(id) = self.pick(draw, Standing::lives) else {
            return;
        };
        {
            let mut state = self.state();
            state.promises.note(format_args!("{id} vanishes"));
            state.cloud.lose(&id, Duration::ZERO, true, Instant::now());
        }
        self.cut(&id, draw.random_bool(0.7));
    }

    async fn break_down(&self, draw: &mut StdRng) {
        let Some(id) = self.pick(draw, Standing::works) else {
            return;
        };
        let broken = match draw.random_bool(0.5) {
            true => InstanceState::Failed,
            false => InstanceState::Stopped,
        };
        {
            let mut state = self.state();
            state
                .promises
                .note(format_args!("{id} breaks down: {broken:?}"));
            state.cloud.break_down(&id, broken);
        }
        self.cut(&id, draw.random_bool(0.7));
        sleep(between(draw, 30.0, 200.0)).await;
        let replaced = {
            let mut state = self.state();
            let replaced = self.climate.keeps_target;
            if replaced {
                state.promises.note(format_args!("the group replaces {id}"));
                state.cloud.lose(&id, 10 * SECOND, true, Instant::now());
            }
            replaced
        };
        if replaced {
            self.cut(&id, true);
        }
    }

    /// The cloud deletes one by its own decision, and may lower its target with it.
    fn scale_in(&self, draw: &mut StdRng) {
        let Some(id) = self.pick(draw, Standing::lives) else {
            return;
        };
        let (linger, replace) = (between(draw, 0.0, 30.0), draw.random_bool(0.5));
        {
            let mut state = self.state();
            state.promises.note(format_args!(
                "the cloud deletes {id}, replaces it: {replace}"
            ));
            state.cloud.lose(&id, linger, replace, Instant::now());
        }
        self.cut(&id, draw.random_bool(0.7));
    }

    fn intrude(&self) {
        let mut state = self.state();
        let id = state.cloud.intrude(Instant::now());
        state.promises.note(format_args!("{id} appears unasked"));
    }

    async fn disconnect(&self, draw: &mut StdRng) {
        let Some(id) = self.pick(draw, Standing::works) else {
            return;
        };
        self.cut(&id, true);
        sleep(between(draw, 0.0, 120.0)).await;
        let state = self.state();
        let machine = state
            .machines
            .get(&id)
            .filter(|_| !state.is_lost(&id))
            .cloned();
        drop(state);
        if let Some(machine) = machine {
            machine.set_up(true, true);
        }
    }

    async fn revoke(&self, draw: &mut StdRng) {
        self.state().cloud.revoked = true;
        sleep(between(draw, 1.0, 200.0)).await;
        self.state().cloud.revoked = false;
        if draw.random_bool(0.5) {
            self.granted.send_modify(|n| *n += 1);
        }
    }
}

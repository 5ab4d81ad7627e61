//! Instances made ready, or not; and the machines that jobs hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::sleep;

use super::breach::Breach;
use super::dice::between;
use super::world::World;
use crate::fleet::group::{CallFailure, InstanceId};
use crate::fleet::ready::{Authorise, Machine, NotReady, Occupation, Preparation};

pub(super) struct FaultyMachine {
    /// The instance's.
    pub(super) name: String,
    world: Arc<World>,
    up: AtomicBool,
    changes: watch::Sender<u64>,
    pub(super) lost: watch::Sender<Option<String>>,
}

impl FaultyMachine {
    pub(super) fn set_up(&self, up: bool, told: bool) {
        self.up.store(up, Ordering::SeqCst);
        if told {
            self.changes.send_modify(|n| *n += 1);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Machine for FaultyMachine {
    fn slot_is_up(&self, _: u32) -> bool {
        self.is_up()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn gone(&self, reason: String) {
        if self.world.breach == Some(Breach::TellsNobody) {
            return;
        }
        self.world.state().promises.lost(&self.name, &reason);
        self.lost.send_replace(Some(reason));
    }

    async fn ping(&self) -> Result<(), NotReady> {
        let world = &self.world;
        let mut draw = world.draw(&format!("ping {}", self.name));
        let fails = world.strikes(&mut draw, world.climate.rates.heartbeat);
        let slow = world.strikes(&mut draw, world.climate.rates.slow);
        sleep(between(&mut draw, 0.01, if slow { 30.0 } else { 0.2 })).await;
        match self.is_up() && !fails {
            true => Ok(()),
            false => Err(NotReady::Failed("no answer".into())),
        }
    }

    async fn close(&self) {}
}

pub(super) struct FaultyPreparation {
    world: Arc<World>,
    /// The last machine made, for the breach that hands it out once more.
    last: Mutex<Option<Arc<FaultyMachine>>>,
}

impl FaultyPreparation {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            last: Mutex::new(None),
        }
    }
}

#[async_trait]
impl Preparation for FaultyPreparation {
    type Machine = FaultyMachine;

    async fn prepare(
        &self,
        instance: InstanceId,
        _: Arc<dyn Authorise>,
        _: u32,
    ) -> Result<Arc<FaultyMachine>, NotReady> {
        let world = &self.world;
        let mut draw = world.draw(&format!("prepare {instance}"));
        let fails = world.strikes(&mut draw, world.climate.rates.prepare);
        let slow = world.strikes(&mut draw, world.climate.rates.slow);
        sleep(between(&mut draw, 1.0, if slow { 90.0 } else { 10.0 })).await;
        let mut state = world.state();
        if state.is_lost(&instance) {
            let refused = CallFailure::NotCalled("there is no such instance".into());
            return Err(NotReady::NoConnection(refused));
        }
        if fails {
            state
                .promises
                .note(format_args!("{instance} is not made ready"));
            return Err(NotReady::Failed("the ready command exited with 1".into()));
        }
        if world.breach == Some(Breach::OneMachineForTwo)
            && let Some(last) = self.last.lock().unwrap().clone()
        {
            return Ok(last);
        }
        let machine = Arc::new(FaultyMachine {
            name: instance.0.clone(),
            world: Arc::clone(world),
            up: AtomicBool::new(true),
            changes: watch::Sender::new(0),
            lost: watch::Sender::new(None),
        });
        state.promises.note(format_args!("{instance} is ready"));
        state.machines.insert(instance, Arc::clone(&machine));
        *self.last.lock().unwrap() = Some(Arc::clone(&machine));
        Ok(machine)
    }

    async fn inspect(
        &self,
        instance: InstanceId,
        _: Arc<dyn Authorise>,
    ) -> Result<Occupation, NotReady> {
        let world = &self.world;
        let mut draw = world.draw(&format!("inspect {instance}"));
        let fails = world.strikes(&mut draw, world.climate.rates.inspect);
        sleep(between(&mut draw, 0.5, 5.0)).await;
        match (fails, draw.random_bool(0.5)) {
            (false, _) => Ok(Occupation::Idle),
            (true, true) => Ok(Occupation::Foreign(vec!["runner-x-build".into()])),
            (true, false) => Err(NotReady::Failed("no answer".into())),
        }
    }
}

//! Jobs: they come, wait, run, are cancelled, and lose what they run on.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::SECOND;
use super::breach::Breach;
use super::dice::between;
use super::machine::{FaultyMachine, FaultyPreparation};
use super::promises::Promise;
use super::world::World;
use crate::fleet::group::InstanceId;
use crate::scaler::{Acquisition, Health, NoCapacity, Reservation, Scaler};

/// How long a job bears a lost connection while its instance is listed.
const PATIENCE: Duration = Duration::from_secs(60);
const FOR_EVER: Duration = Duration::from_secs(86_400);

pub(super) struct Job {
    pub(super) number: u64,
    pub(super) world: Arc<World>,
    pub(super) scaler: Scaler<FaultyPreparation>,
}

impl Job {
    pub(super) async fn run(self) {
        let mut draw = self.world.dice.at("job", self.number);
        let last = self.world.climate.storm.as_secs_f64() + 60.0;
        sleep(between(&mut draw, 0.0, last)).await;
        let mut chances = 2;
        let acquisition = loop {
            let Some(reservation) = self.reserve(&mut draw).await else {
                return;
            };
            // Nothing to do at GitLab: it held the request for a while.
            if chances > 0 && draw.random_bool(0.15) {
                chances -= 1;
                self.wants(false);
                sleep(between(&mut draw, 0.0, 30.0)).await;
                match self.world.breach {
                    Some(Breach::KeepsReservations) => std::mem::forget(reservation),
                    _ => drop(reservation),
                }
                // At one instant, what is given back and what is asked for may be heard in either order.
                sleep(SECOND / 10).await;
                continue;
            }
            match self.acquire(reservation, &mut draw).await {
                Some(acquisition) => break acquisition,
                None => return,
            }
        };
        self.work(acquisition, &mut draw).await;
    }

    fn wants(&self, wants: bool) {
        let mut state = self.world.state();
        match wants {
            true => state.wanting.insert(self.number),
            false => state.wanting.remove(&self.number),
        };
    }

    fn refused(&self, why: String) {
        self.wants(false);
        let how = format!("job {} is refused: {why}", self.number);
        self.world.state().promises.breaks(Promise::Served, how);
    }

    async fn reserve(&self, draw: &mut StdRng) -> Option<Reservation> {
        self.wants(true);
        loop {
            match self.scaler.reserve().await {
                Ok(reservation) => return Some(reservation),
                Err(NoCapacity::ShuttingDown) => {
                    self.refused("the manager shuts down".into());
                    return None;
                }
                Err(NoCapacity::Full(_) | NoCapacity::NotOpened | NoCapacity::Problem(_)) => {}
            }
            if self.world.is_over() {
                return None;
            }
            sleep(between(draw, 1.0, 4.0)).await;
        }
    }

    /// `None`: cancelled while it waited, or refused.
    async fn acquire(
        &self,
        reservation: Reservation,
        draw: &mut StdRng,
    ) -> Option<Acquisition<FaultyPreparation>> {
        let patience = match draw.random_bool(0.15) {
            true => between(draw, 0.0, 60.0),
            false => FOR_EVER,
        };
        self.world
            .state()
            .promises
            .waits(self.number, Instant::now());
        let acquired = timeout(patience, self.scaler.acquire(reservation)).await;
        match acquired {
            Ok(Ok(acquisition)) => Some(acquisition),
            Ok(Err(failure)) => {
                self.refused(failure.to_string());
                None
            }
            Err(_) => {
                self.wants(false);
                let mut state = self.world.state();
                state
                    .promises
                    .note(format_args!("job {} is cancelled", self.number));
                state.promises.leaves(self.number, Instant::now());
                None
            }
        }
    }

    async fn work(&self, acquisition: Acquisition<FaultyPreparation>, draw: &mut StdRng) {
        let (machine, slot) = (Arc::clone(acquisition.machine()), acquisition.slot());
        let length = match draw.random_bool(0.1) {
            true => between(draw, 120.0, 600.0),
            false => between(draw, 1.0, 120.0),
        };
        self.world
            .state()
            .acquires(self.number, &machine.name, slot);
        let health = self.busy(&machine, length).await;
        let carelessly = draw.random_bool(0.05);
        let mut state = self.world.state();
        state.promises.ends(self.number, &machine.name, slot);
        // Still locked: nobody may see the slot free before the job's own view says so.
        match carelessly {
            true => drop(acquisition),
            false => acquisition.release(health),
        }
    }

    /// Runs until its time is over, its connection was away for too long, or it is told that its instance is lost.
    async fn busy(&self, machine: &FaultyMachine, length: Duration) -> Health {
        let id = InstanceId(machine.name.clone());
        let (mut lost, mut over) = (machine.lost.subscribe(), Instant::now() + length);
        let mut down_since = None;
        let mut dead_since = None;
        loop {
            if lost.borrow_and_update().is_some() {
                return Health::Retire("instance gone".into());
            }
            let now = Instant::now();
            if self.world.state().is_lost(&id) {
                // No end but to be told: with its instance went whatever it could have noticed itself.
                let since = *dead_since.get_or_insert(now.max(self.world.calm));
                if now > since + self.world.climate.patience() {
                    let how = format!("job {} was never told that {id} is lost", self.number);
                    self.world.state().promises.breaks(Promise::LostTold, how);
                    return Health::Retire("instance gone".into());
                }
                over = now + SECOND;
            } else if !machine.is_up() {
                if now > *down_since.get_or_insert(now) + PATIENCE {
                    return Health::Retire("connection lost".into());
                }
                over = over.max(now + SECOND);
            } else if now >= over {
                return Health::Good;
            } else {
                down_since = None;
            }
            tokio::select! {
                _ = lost.changed() => {}
                () = sleep_until(over.min(now + 5 * SECOND)) => {}
            }
        }
    }
}

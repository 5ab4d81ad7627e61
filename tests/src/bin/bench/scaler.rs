//! The scaler's arithmetic over large groups, as the driver calls it: a change of the ledger, then a decision.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetling::config::usable::Policy;
use fleetling::fleet::group::{InstanceId, InstanceState};
use fleetling::fleet::instance::Phase;
use fleetling::scaler::capacity::{Why, decide};
use fleetling::scaler::ledger::{AcquisitionId, Ledger, Shape};
use fleetling_lab::figures::{Figures, Table};

use crate::extent::Extent;

const IDLE_TIME: Duration = Duration::from_secs(1200);
/// Decisions in one measurement: one alone is too short for the clock.
const BATCH: u32 = 100;

pub(crate) fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    for (size, written) in [(1_000, "1,000"), (10_000, "10,000")] {
        let mut group = Group::of(size)?;
        table.heading(format!(
            "scaler: {written} instances, half of them with a job"
        ));
        table.row("a decision: supply meets the need", group.steady(extent)?);
        table.row(
            "a job's four changes, a decision after each",
            group.job(extent)?,
        );
        table.row(
            "a decision: every idle instance is to go",
            group.shrink(extent)?,
        );
    }
    Ok(())
}

/// Ready instances of one slot each, every other one with a job.
struct Group {
    ledger: Ledger,
    policy: Policy,
    max: u32,
    began: Instant,
}

impl Group {
    fn of(size: u32) -> Result<Self> {
        let mut ledger = Ledger::new(Shape {
            capacity_per_instance: 1,
            max_use_count: 0,
            heartbeats: true,
        });
        let began = Instant::now();
        ledger.started(Some(0));
        ledger.asked("bench".to_owned(), size);
        ledger.answered("bench", size);
        for n in 0..size {
            let id = InstanceId(format!("i-{n:017x}"));
            ledger.appeared(id.clone(), InstanceState::Running, false, began);
            for phase in [Phase::Preparing, Phase::Ready] {
                ensure!(ledger.advance(&id, phase, began), "{id} is not {phase:?}");
            }
            ledger.set_slot(&id, 0, true);
        }
        for _ in 0..size / 2 {
            take(&mut ledger)?;
        }
        let policy = Policy {
            periods: Vec::new(),
            timezone: None,
            idle_count: size / 2,
            idle_time: IDLE_TIME,
            scale_factor: 0.0,
            scale_factor_limit: 0,
            preemptive_mode: true,
        };
        Ok(Self {
            ledger,
            policy,
            max: size,
            began,
        })
    }

    fn steady(&self, extent: &Extent) -> Result<Figures> {
        let now = self.began;
        let decision = decide(&self.policy, &self.ledger, Some(self.max), now);
        ensure!(decision.why == Why::Balanced, "unsteady: {decision:?}");
        let times = (0..extent.decisions).map(|_| {
            let began = Instant::now();
            for _ in 0..BATCH {
                black_box(decide(
                    black_box(&self.policy),
                    black_box(&self.ledger),
                    Some(self.max),
                    now,
                ));
            }
            began.elapsed() / BATCH
        });
        Ok(Figures::of_times(times))
    }

    /// Promised, waiting, granted, released.
    fn job(&mut self, extent: &Extent) -> Result<Figures> {
        let now = self.began;
        let mut times = Vec::with_capacity(extent.decisions);
        for _ in 0..extent.decisions {
            let began = Instant::now();
            for _ in 0..BATCH {
                let reservation = self.ledger.reserve();
                self.decide(now);
                self.ledger.wait(reservation);
                self.decide(now);
                let grant = self.ledger.grant().context("no slot is open")?;
                self.decide(now);
                let given_back = self
                    .ledger
                    .release(grant.acquisition, None, true, true, now);
                given_back.context("the slot was not taken")?;
                self.decide(now);
            }
            times.push(began.elapsed() / BATCH);
        }
        Ok(Figures::of_times(times))
    }

    fn decide(&self, now: Instant) {
        black_box(decide(&self.policy, &self.ledger, Some(self.max), now));
    }

    /// The dearest one: it lists half of the group.
    fn shrink(&mut self, extent: &Extent) -> Result<Figures> {
        self.policy.idle_count = 0;
        let late = self.began + IDLE_TIME;
        let mut times = Vec::with_capacity(extent.decisions);
        for _ in 0..extent.decisions {
            let began = Instant::now();
            let decision = decide(&self.policy, &self.ledger, Some(self.max), late);
            times.push(began.elapsed());
            ensure!(
                decision.remove.len() == self.max as usize / 2,
                "{} are to go",
                decision.remove.len()
            );
        }
        Ok(Figures::of_times(times))
    }
}

fn take(ledger: &mut Ledger) -> Result<AcquisitionId> {
    let reservation = ledger.reserve();
    ensure!(ledger.wait(reservation), "the reservation is unknown");
    let grant = ledger.grant().context("no slot is open")?;
    Ok(grant.acquisition)
}

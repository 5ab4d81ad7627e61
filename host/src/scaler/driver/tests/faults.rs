//! A schedule of faults drawn from a seed, against the real driver and provisioner in virtual time.
//!
//! ```text
//!  storm: jobs come, the cloud misbehaves ──► calm: who waits is served ──► no demand: rest
//!         every promise is checked at every call ──────────────────────────────────►
//! ```
//!
//! The cloud keeps its own truth and the jobs their own view; the promises are judged by those two and never by what
//! the scaler believes. `FLEETLING_SEED=7` runs one seed and prints its journal; `FLEETLING_SEEDS=5000` runs that many.

use std::sync::atomic::AtomicU64;
use std::time::Instant as RealInstant;

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::*;

mod breach;
mod cloud;
mod dice;
mod group;
mod job;
mod machine;
mod promises;
mod world;

use breach::{Breach, Crooked};
use group::FaultyGroup;
use job::Job;
use machine::FaultyPreparation;
use promises::Promise;
use world::World;

const SEEDS: u64 = 200;
/// How long nothing may move at the end.
const REST: Duration = Duration::from_secs(1800);

/// What one seed came to.
struct Verdict {
    broken: Vec<(Promise, String)>,
    journal: String,
    served: u32,
    told: u32,
    plain: u32,
}

/// Names the seed also of a run that panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("FLEETLING_SEED={} panics", self.0);
        }
    }
}

fn run(seed: u64, breach: Option<Breach>) -> Verdict {
    let _named = Named(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(live(seed, breach))
}

async fn live(seed: u64, breach: Option<Breach>) -> Verdict {
    let world = World::new(seed, breach);
    let group: Arc<dyn InstanceGroup> = match breach {
        None => Arc::new(FaultyGroup(Arc::clone(&world))),
        Some(_) => Arc::new(Crooked::new(Arc::clone(&world))),
    };
    let (scaler, _) = Scaler::start(ScalerOptions {
        group,
        preparation: Arc::new(FaultyPreparation::new(Arc::clone(&world))),
        autoscaler: world.climate.autoscaler.clone(),
        store: Store::in_memory(),
        adopt: true,
        heartbeats: world.climate.heartbeats,
    })
    .unwrap();
    tokio::spawn(Arc::clone(&world).weather());
    tokio::spawn(beliefs(Arc::clone(&world), scaler.status()));
    if serve(&world, &scaler).await {
        rest(&world, &scaler).await;
    }
    let state = world.state();
    Verdict {
        broken: state.promises.broken.clone(),
        journal: state.promises.journal(),
        served: state.promises.served,
        told: state.promises.told,
        plain: state.cloud.plain,
    }
}

/// Notes what the scaler believes beside what is so: for who reads a journal, judged by nobody.
async fn beliefs(world: Arc<World>, mut status: watch::Receiver<Status>) {
    while status.changed().await.is_ok() {
        let is = status.borrow_and_update().clone();
        let words = format!(
            "believed: wanted {}, available {}, in use {}, waiting {}, reserved {}, {:?}",
            is.wanted, is.available, is.in_use, is.waiting, is.reserved, is.instances
        );
        world.state().promises.note(words);
    }
}

/// Until faults are over and no job is left. False: a job cannot be served, which is noted.
async fn serve(world: &Arc<World>, scaler: &Scaler<FaultyPreparation>) -> bool {
    let mut jobs: JoinSet<()> = (0..world.climate.jobs)
        .map(|number| {
            Job {
                number,
                world: Arc::clone(world),
                scaler: scaler.clone(),
            }
            .run()
        })
        .collect();
    loop {
        match timeout(5 * SECOND, jobs.join_next()).await {
            Ok(None) => break,
            Ok(Some(ended)) => ended.unwrap(),
            Err(_) => {}
        }
        let mut state = world.state();
        let wanting = state.wanting.len();
        state.promises.step(wanting, tokio::time::Instant::now());
        if state.promises.breaks_off() {
            return false;
        }
    }
    sleep_until(world.calm).await;
    true
}

/// Without demand: the fleet reaches its idle target and stays there.
async fn rest(world: &World, scaler: &Scaler<FaultyPreparation>) {
    sleep(world.climate.idle_time() + 1500 * SECOND).await;
    let before = scaler.status().borrow().clone();
    let mutations = {
        let mut state = world.state();
        let now = tokio::time::Instant::now();
        let standing: Vec<_> = state
            .cloud
            .existing(now)
            .map(|(id, _)| id.clone())
            .collect();
        let offers: Vec<u32> = standing
            .iter()
            .map(|id| state.promises.offers(id))
            .collect();
        state.promises.note(format_args!(
            "at the end: {before:?}; standing: {standing:?}"
        ));
        if (before.reserved, before.waiting, before.in_use) != (0, 0, 0) {
            let how = format!("{before:?}");
            state.promises.breaks(Promise::ReservationsEnd, how);
        }
        let idle = world.climate.idle_count();
        let available: u32 = offers.iter().sum();
        let full = standing.len() == world.climate.max_instances() as usize;
        let too_few = available < idle && !full;
        let too_many = offers
            .iter()
            .max()
            .is_some_and(|most| available - most >= idle);
        if too_few || too_many {
            let how = format!("{standing:?} offer {offers:?}, {idle} wanted");
            state.promises.breaks(Promise::IdleTarget, how);
        }
        let all_known = before.instances.ready as usize == standing.len();
        let phases = Instances {
            ready: before.instances.ready,
            ..Instances::default()
        };
        if !all_known || before.instances != phases || before.wanted as usize != standing.len() {
            let how = format!("{standing:?} stand, {before:?} is believed");
            state.promises.breaks(Promise::NothingLeaked, how);
        }
        state.cloud.mutations
    };
    sleep(REST).await;
    let after = scaler.status().borrow().clone();
    let mut state = world.state();
    let more = state.cloud.mutations - mutations;
    if more > 0 || after.instances != before.instances {
        let how = format!("{more} calls change the group; {before:?} became {after:?}");
        state.promises.breaks(Promise::AtRest, how);
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a seed, or how many, is a number"))
}

#[test]
fn whatever_the_cloud_does_the_promises_hold() {
    if let Some(seed) = from_environment("FLEETLING_SEED") {
        let verdict = run(seed, None);
        println!("{}", verdict.journal);
        assert!(verdict.broken.is_empty(), "{:#?}", verdict.broken);
        return;
    }
    let seeds = from_environment("FLEETLING_SEEDS").unwrap_or(SEEDS);
    let begun = RealInstant::now();
    let verdicts = std::sync::Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds {
                        return;
                    }
                    let verdict = run(seed, None);
                    verdicts.lock().unwrap().push((seed, verdict));
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap();
    verdicts.sort_by_key(|(seed, _)| *seed);
    let sum = |of: fn(&Verdict) -> u32| verdicts.iter().map(|(_, v)| of(v)).sum::<u32>();
    let (served, told, plain) = (sum(|v| v.served), sum(|v| v.told), sum(|v| v.plain));
    println!(
        "{seeds} seeds in {:?}: {served} jobs served, {told} told lost, {plain} intruders",
        begun.elapsed()
    );
    let failed: Vec<_> = verdicts
        .iter()
        .filter(|(_, v)| !v.broken.is_empty())
        .collect();
    for (seed, verdict) in &failed {
        let (promise, how) = &verdict.broken[0];
        println!("FLEETLING_SEED={seed}: {promise:?}: {how}");
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds broke a promise",
        failed.len()
    );
    assert!(
        served > 0 && told > 0 && plain > 0,
        "the schedule is too mild to prove anything"
    );
}

#[test]
fn breaking_one_rule_is_objected_to() {
    for (promise, breach) in Breach::ALL {
        let objected = (0..SEEDS).find(|seed| {
            let broken = run(*seed, Some(breach)).broken;
            broken.iter().any(|(broken, _)| *broken == promise)
        });
        println!("{promise:?} broken by {breach:?}: seed {objected:?} objects");
        assert!(objected.is_some(), "{breach:?} does not break {promise:?}");
    }
}

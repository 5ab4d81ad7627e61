//! Driver and provisioner together, in virtual time, against a group and a preparation that are made up.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use tokio::time::{sleep, timeout};

use super::*;
use crate::config::usable;
use crate::fleet::group::{CallFailure, Problem, ProblemKind};
use crate::scaler::status::{Health, NoCapacity};

mod cloud;
mod complaints;
mod crash;
mod faults;
mod problems;
mod upkeep;
mod verdicts;

use cloud::{Cloud, FakeGroup, Preparing};

const SECOND: Duration = Duration::from_secs(1);

struct House {
    group: Arc<FakeGroup>,
    preparation: Arc<Preparing>,
    store: Store,
    scaler: Scaler<Preparing>,
    driver: JoinHandle<()>,
}

fn autoscaler(idle_count: u32, max_instances: u32) -> Autoscaler {
    Autoscaler {
        plugin: "fake".into(),
        plugin_config: serde_json::Value::Null,
        capacity_per_instance: 1,
        max_use_count: 1,
        max_instances: Some(max_instances),
        instance_ready_command: None,
        instance_acquire_timeout: 900 * SECOND,
        update_interval: 60 * SECOND,
        update_interval_when_expecting: 2 * SECOND,
        deletion_retry_interval: 60 * SECOND,
        shutdown_deletion_interval: 10 * SECOND,
        shutdown_deletion_retries: 3,
        failure_threshold: 3,
        scale_throttle: usable::Throttle {
            limit: Some(100.0),
            burst: 10,
        },
        reservation_throttling: true,
        delete_instances_on_shutdown: false,
        log_internal_ip: false,
        log_external_ip: false,
        buckets: usable::Buckets::default(),
        connector: usable::Connector {
            os: None,
            arch: None,
            protocol: None,
            protocol_port: None,
            username: None,
            password: None,
            key_path: None,
            use_static_credentials: false,
            keepalive: None,
            timeout: 300 * SECOND,
            use_external_addr: false,
        },
        policies: vec![usable::Policy {
            periods: Vec::new(),
            timezone: None,
            idle_count,
            idle_time: 1200 * SECOND,
            scale_factor: 0.0,
            scale_factor_limit: 0,
            preemptive_mode: idle_count > 0,
        }],
        state_storage: usable::StateStorage::default(),
    }
}

fn start(group: Arc<FakeGroup>, store: Store, autoscaler: Autoscaler) -> House {
    let preparation = Arc::new(Preparing::default());
    let (scaler, driver) = Scaler::start(ScalerOptions {
        group: group.clone(),
        preparation: preparation.clone(),
        autoscaler,
        store: store.clone(),
        adopt: true,
        heartbeats: true,
    })
    .unwrap();
    House {
        group,
        preparation,
        store,
        scaler,
        driver,
    }
}

fn group_of(standing: u32) -> Arc<FakeGroup> {
    let mut cloud = Cloud {
        target: standing,
        ..Cloud::default()
    };
    cloud.fill();
    Arc::new(FakeGroup {
        cloud: std::sync::Mutex::new(cloud),
        granted: watch::Sender::new(0),
    })
}

fn house(autoscaler: Autoscaler) -> House {
    start(group_of(0), Store::in_memory(), autoscaler)
}

impl House {
    async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.scaler.status();
        let met = timeout(600 * SECOND, status.wait_for(|s| holds(s))).await;
        let Ok(met) = met else {
            panic!("never {what}: {:?}", self.scaler.status().borrow().clone());
        };
        met.unwrap().clone()
    }

    async fn job(&self) -> Acquisition<Preparing> {
        served(self.scaler.clone()).await
    }
}

/// Asked for again and again, as GitLab is; a job that gets nothing within 15 minutes fails its test.
async fn served(scaler: Scaler<Preparing>) -> Acquisition<Preparing> {
    let all = async {
        let reservation = loop {
            match scaler.reserve().await {
                Ok(reservation) => break reservation,
                Err(_) => sleep(SECOND).await,
            }
        };
        scaler.acquire(reservation).await.unwrap()
    };
    timeout(900 * SECOND, all).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn twelve_jobs_on_the_documented_configuration() {
    let house = house(autoscaler(5, 10));
    house.until("five idle", |s| s.available == 5).await;
    assert_eq!(house.group.cloud().increases, [5]);
    let mut watched = house.scaler.status();
    let formula = tokio::spawn(async move {
        while watched.changed().await.is_ok() {
            let s = watched.borrow_and_update().clone();
            assert_eq!(
                s.requested,
                10.min(s.in_use + s.waiting + s.idle_target),
                "{s:?}"
            );
        }
    });
    let jobs: Vec<_> = (0..12)
        .map(|_| {
            let scaler = house.scaler.clone();
            tokio::spawn(async move {
                let reservation = loop {
                    match scaler.reserve().await {
                        Ok(reservation) => break reservation,
                        Err(_) => sleep(SECOND).await,
                    }
                };
                let acquisition = scaler.acquire(reservation).await.unwrap();
                let on = acquisition.instance().clone();
                sleep(20 * SECOND).await;
                acquisition.release(Health::Good);
                on
            })
        })
        .collect();
    let mut used = Vec::new();
    for job in jobs {
        used.push(job.await.unwrap());
    }
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 12, "each job had an instance of its own");
    let restored = house.until("five idle again", |s| {
        s.in_use == 0 && s.available == 5 && s.instances.removing == 0
    });
    timeout(60 * SECOND, restored).await.unwrap();
    let mut decreased = house.group.cloud().decreased.clone();
    decreased.sort();
    assert_eq!(decreased, used, "exactly the used ones were deleted");
    assert!(
        house.group.cloud().most <= 10,
        "never more than max_instances"
    );
    assert!(!formula.is_finished(), "the formula held at every decision");
    formula.abort();
}

#[tokio::test(start_paused = true)]
async fn complaint_7_no_demand_and_nothing_idle_wanted_goes_to_zero_and_stays() {
    let house = house(autoscaler(0, 10));
    let acquisition = house.job().await;
    acquisition.release(Health::Good);
    house
        .until("empty", |s| {
            s.instances == Instances::default() && s.wanted == 0
        })
        .await;
    sleep(3600 * SECOND).await;
    assert_eq!(house.group.cloud().increases, [1]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_under_its_job_is_replaced_once() {
    let house = house(autoscaler(1, 10));
    let acquisition = house.job().await;
    house
        .until("one idle beside the job", |s| {
            s.in_use == 1 && s.available == 1
        })
        .await;
    let before = house.group.cloud().increases.clone();
    {
        let mut cloud = house.group.cloud();
        cloud.instances.remove(acquisition.instance());
        cloud.fill();
    }
    // The connection breaks too, which asks for an update at once.
    acquisition.machine().up.store(false, Ordering::SeqCst);
    acquisition.machine().changes.send_modify(|n| *n += 1);
    let told = async {
        while acquisition.machine().gone.lock().unwrap().is_none() {
            sleep(SECOND / 10).await;
        }
    };
    timeout(15 * SECOND, told)
        .await
        .expect("the job is told within 15 s");
    acquisition.release(Health::Retire("instance gone".into()));
    house
        .until("the replacement is ready", |s| s.available == 2)
        .await;
    sleep(300 * SECOND).await;
    let cloud = house.group.cloud();
    assert_eq!(
        cloud.increases, before,
        "the group replaced it, we asked for none"
    );
    assert_eq!(cloud.decreased, [], "and deleted none");
}

#[tokio::test(start_paused = true)]
async fn a_dead_instance_that_the_cloud_still_lists_is_removed_after_its_patience() {
    let house = house(autoscaler(1, 10));
    let acquisition = house.job().await;
    acquisition.machine().up.store(false, Ordering::SeqCst);
    acquisition.machine().changes.send_modify(|n| *n += 1);
    let on = acquisition.instance().clone();
    sleep(61 * SECOND).await;
    assert!(
        !house.group.cloud().decreased.contains(&on),
        "never deleted under its job"
    );
    acquisition.release(Health::Retire("connection lost".into()));
    house
        .until("removed", |s| s.instances.removing == 0 && s.in_use == 0)
        .await;
    sleep(10 * SECOND).await;
    assert_eq!(house.group.cloud().decreased, [on]);
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_keep_gitlab_unasked_until_a_grant_changes() {
    let group = group_of(0);
    let problem = Problem {
        kind: ProblemKind::Unauthenticated,
        message: "profile default in /c was refused".into(),
        subject: None,
        code: None,
        retry_after: None,
    };
    group.cloud().open_fails = Some(problem);
    let house = start(group, Store::in_memory(), autoscaler(1, 10));
    house.until("a problem", |s| s.problem.is_some()).await;
    let refused = house.scaler.reserve().await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "the instance group cannot be used: unauthenticated: profile default in /c was refused"
    );
    house.group.cloud().open_fails = None;
    let mended = tokio::time::Instant::now();
    house.group.granted.send_modify(|n| *n += 1);
    house
        .until("healed", |s| s.available == 1 && s.problem.is_none())
        .await;
    assert!(mended.elapsed() < 15 * SECOND);
    assert_eq!(house.scaler.status().borrow().group_id(), Some("fake/one"));
}

#[tokio::test(start_paused = true)]
async fn an_increase_of_unknown_outcome_is_not_repeated_when_it_worked() {
    let group = group_of(0);
    {
        let mut cloud = group.cloud();
        cloud.increase_fails = vec![CallFailure::OutcomeUnknown("wall clock ran out".into())];
        cloud.acts_anyway = true;
    }
    let house = start(group, Store::in_memory(), autoscaler(3, 3));
    house
        .until("three idle", |s| s.available == 3 && s.wanted == 3)
        .await;
    sleep(600 * SECOND).await;
    assert_eq!(house.group.cloud().increases, [3]);
    assert_eq!(house.group.cloud().most, 3);
}

#[tokio::test(start_paused = true)]
async fn an_increase_of_unknown_outcome_that_did_nothing_is_asked_anew() {
    let group = group_of(0);
    group.cloud().increase_fails = vec![CallFailure::OutcomeUnknown("trap".into())];
    let house = start(group, Store::in_memory(), autoscaler(3, 3));
    house
        .until("three idle", |s| s.available == 3 && s.wanted == 3)
        .await;
    assert_eq!(house.group.cloud().increases, [3, 3]);
}

#[tokio::test(start_paused = true)]
async fn complaint_5_what_another_manager_uses_is_left_alone_until_its_jobs_end() {
    let house = start(group_of(2), Store::in_memory(), autoscaler(1, 10));
    house.preparation.foreign.store(true, Ordering::SeqCst);
    house
        .until("both quarantined", |s| s.instances.quarantined == 2)
        .await;
    sleep(300 * SECOND).await;
    assert_eq!(
        house.group.cloud().decreased,
        [],
        "never deleted under another manager's jobs"
    );
    house.preparation.foreign.store(false, Ordering::SeqCst);
    house
        .until("only ours", |s| {
            s.available == 1 && s.instances.quarantined == 0
        })
        .await;
    sleep(60 * SECOND).await;
    let cloud = house.group.cloud();
    assert_eq!((cloud.decreased.len(), cloud.target), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn surplus_that_the_cloud_makes_is_removed_unused() {
    let house = house(autoscaler(2, 10));
    house.until("two idle", |s| s.available == 2).await;
    {
        let mut cloud = house.group.cloud();
        cloud.target = 4;
        cloud.fill();
    }
    sleep(300 * SECOND).await;
    let cloud = house.group.cloud();
    assert_eq!(
        (cloud.decreased.len(), cloud.target, cloud.instances.len()),
        (2, 2, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn complaint_6_after_a_kill_jobs_are_served_within_30_s_by_what_stood_idle() {
    let first = house(autoscaler(2, 10));
    let acquisition = first.job().await;
    let on = acquisition.instance().clone();
    first
        .until("two idle beside it", |s| s.available == 2)
        .await;
    let (group, store) = (first.group.clone(), first.store.clone());
    // Killed: nothing is released, nothing drained.
    std::mem::forget(acquisition);
    drop(first);
    let killed = tokio::time::Instant::now();
    let second = start(group, store, autoscaler(2, 10));
    let next = second.job().await;
    let after = killed.elapsed();
    assert!(after < 30 * SECOND, "a job was served after {after:?}");
    assert_ne!(*next.instance(), on, "the killed job's is not used again");
    let used = next.instance().clone();
    next.release(Health::Good);
    second
        .until("two idle again", |s| {
            s.available == 2 && s.instances.removing == 0 && s.in_use == 0
        })
        .await;
    sleep(60 * SECOND).await;
    assert_eq!(second.group.cloud().decreased, [on, used]);
    assert_eq!(second.group.cloud().target, 2, "none leaked");
}

#[tokio::test(start_paused = true)]
async fn complaint_24_what_never_gets_ready_is_removed_slowly() {
    let house = house(autoscaler(2, 3));
    house.preparation.broken.store(true, Ordering::SeqCst);
    sleep(3600 * SECOND).await;
    let made = house.group.cloud().next;
    assert!(
        (3..40).contains(&made),
        "{made} instances were made in an hour"
    );
    house.preparation.broken.store(false, Ordering::SeqCst);
    house.until("ready at last", |s| s.available == 2).await;
}

#[tokio::test(start_paused = true)]
async fn giving_up_the_wait_gives_the_promise_back() {
    let house = house(autoscaler(0, 1));
    house
        .until("opened", |s| s.max == Some(1) && s.opened.is_some())
        .await;
    sleep(SECOND).await;
    let reservation = house.scaler.reserve().await.unwrap();
    assert_eq!(
        house.scaler.reserve().await.unwrap_err().to_string(),
        "no slot is free and max_instances leaves no room for more"
    );
    timeout(SECOND, house.scaler.acquire(reservation))
        .await
        .unwrap_err();
    house
        .until("nobody waits", |s| s.waiting == 0 && s.reserved == 0)
        .await;
    drop(house.job().await);
    house
        .until("a dropped acquisition retires", |s| {
            s.instances.removing == 1
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_for_good_leaves_nothing() {
    let house = house(autoscaler(3, 10));
    house.until("three idle", |s| s.available == 3).await;
    house.scaler.drain(true).await;
    assert_eq!(house.group.cloud().target, 0);
    let refused = house.scaler.reserve().await.unwrap_err();
    assert_eq!(refused, NoCapacity::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn a_plain_drain_keeps_what_is_idle() {
    let house = house(autoscaler(3, 10));
    house.until("three idle", |s| s.available == 3).await;
    house.scaler.drain(false).await;
    assert_eq!(house.group.cloud().target, 3);
}

//! What keeps a standing fleet fit: heartbeats, instances that never run, newer generations, calls that panic.

use std::sync::atomic::{AtomicBool, AtomicU32};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn asked(house: &House) -> u32 {
    house.preparation.asked.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_fresh_instance_serves_unasked_and_one_that_idled_is_asked_first() {
    let house = house(autoscaler(1, 2));
    house.until("one idle", |s| s.available == 1).await;
    house.job().await.release(Health::Good);
    assert_eq!(asked(&house), 0, "it had just become ready");
    house
        .until("one idle again", |s| s.available == 1 && s.in_use == 0)
        .await;
    sleep(MINUTE + SECOND).await;
    let before = tokio::time::Instant::now();
    house.job().await.release(Health::Good);
    assert_eq!(asked(&house), 1);
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "a ping is all it waits for"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_asked_every_five_minutes() {
    let house = house(autoscaler(2, 2));
    house.until("two idle", |s| s.available == 2).await;
    sleep(16 * MINUTE).await;
    assert_eq!(asked(&house), 6, "two instances, three times");
    house.until("both still serve", |s| s.available == 2).await;
    assert!(house.group.cloud().decreased.is_empty());
}

#[tokio::test(start_paused = true)]
async fn complaint_13_a_dead_instance_is_found_before_its_job_and_costs_none() {
    let mut configured = autoscaler(1, 2);
    configured.failure_threshold = 2;
    let house = house(configured);
    house.until("one idle", |s| s.available == 1).await;
    sleep(2 * MINUTE).await;
    let silent = std::mem::replace(
        &mut *house.preparation.silent.lock().unwrap(),
        Arc::new(AtomicBool::new(false)),
    );
    silent.store(true, Ordering::SeqCst);
    let job = house.scaler.clone();
    let reservation = job.reserve().await.unwrap();
    let acquisition = timeout(MINUTE, job.acquire(reservation))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(asked(&house), 2, "failure_threshold");
    assert_eq!(
        acquisition.instance().0,
        "i-0002",
        "another one took the job"
    );
    house
        .until("the silent one is gone", |s| s.instances.removing == 0)
        .await;
    assert_eq!(house.group.cloud().decreased, [InstanceId("i-0001".into())]);
}

#[tokio::test(start_paused = true)]
async fn one_missed_heartbeat_is_forgiven() {
    let house = house(autoscaler(1, 1));
    house.until("one idle", |s| s.available == 1).await;
    let silent = house.preparation.silent.lock().unwrap().clone();
    sleep(4 * MINUTE).await;
    silent.store(true, Ordering::SeqCst);
    house
        .until("it does not answer", |s| s.available == 0)
        .await;
    silent.store(false, Ordering::SeqCst);
    house.until("it serves again", |s| s.available == 1).await;
    assert!(house.group.cloud().decreased.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_never_runs_is_removed_and_asked_for_again() {
    let house = house(autoscaler(1, 3));
    house.group.cloud().stuck = true;
    house
        .until("one is listed", |s| s.instances.listed == 1)
        .await;
    sleep(14 * MINUTE).await;
    assert!(house.group.cloud().decreased.is_empty(), "it may still run");
    house.group.cloud().stuck = false;
    house.until("another serves", |s| s.available == 1).await;
    assert_eq!(house.group.cloud().decreased, [InstanceId("i-0001".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_generation_replaces_idle_instances_first_and_a_fifth_at_once() {
    let mut configured = autoscaler(9, 12);
    configured.max_use_count = 0;
    let group = group_of(0);
    group.cloud().generation = Some("lt-1:1".into());
    let house = start(group, Store::in_memory(), configured);
    house.until("nine idle", |s| s.available == 9).await;
    let busy = house.job().await;
    house
        .until("ten serve", |s| s.available == 9 && s.in_use == 1)
        .await;
    house.group.cloud().generation = Some("lt-1:2".into());
    let mut watched = house.scaler.status();
    let fewest = Arc::new(AtomicU32::new(u32::MAX));
    let least = fewest.clone();
    let watching = tokio::spawn(async move {
        while watched.changed().await.is_ok() {
            let s = watched.borrow_and_update().clone();
            least.fetch_min(s.instances.ready + s.instances.in_use, Ordering::SeqCst);
        }
    });
    sleep(20 * MINUTE).await;
    let idle = house.group.cloud().decreased.clone();
    assert_eq!(idle.len(), 9, "the idle ones went: {idle:?}");
    assert!(
        !idle.contains(busy.instance()),
        "the busy one stays for its job"
    );
    let on = busy.instance().clone();
    busy.release(Health::Good);
    house
        .until("ten serve again", |s| {
            s.available == 9 && s.instances.draining == 0
        })
        .await;
    sleep(MINUTE).await;
    assert!(house.group.cloud().decreased.contains(&on));
    let cloud = house.group.cloud();
    let mut made_from = cloud
        .instances
        .keys()
        .map(|id| cloud.made_from[id].as_str());
    assert!(
        made_from.all(|one| one == "lt-1:2"),
        "all are of the new generation"
    );
    drop(cloud);
    watching.abort();
    let fewest = fewest.load(Ordering::SeqCst);
    assert!(
        fewest >= 8,
        "at most a fifth of ten at once, {fewest} served"
    );
}

#[tokio::test(start_paused = true)]
async fn closing_serves_what_waits_and_makes_nothing_stand_idle() {
    let house = house(autoscaler(2, 10));
    house.until("two idle", |s| s.available == 2).await;
    let running = house.job().await;
    house
        .until("two idle beside it", |s| s.available == 2)
        .await;
    house.scaler.close().await;
    assert!(house.scaler.reserve().await.is_err(), "no further job");
    let asked_for: u32 = house.group.cloud().increases.iter().sum();
    running.release(Health::Good);
    sleep(10 * MINUTE).await;
    let now: u32 = house.group.cloud().increases.iter().sum();
    assert_eq!(now, asked_for, "nothing was made to stand idle");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_one_failed_call() {
    let house = house(autoscaler(1, 1));
    house.group.cloud().update_panics = true;
    house.until("one idle", |s| s.available == 1).await;
}

#[tokio::test(start_paused = true)]
async fn new_words_hold_for_instances_that_stand() {
    let mut configured = autoscaler(1, 4);
    configured.max_use_count = 0;
    let house = house(configured.clone());
    house.until("one idle", |s| s.available == 1).await;
    house.job().await.release(Health::Good);
    configured.policies[0].idle_count = 3;
    configured.max_use_count = 1;
    house.scaler.reconfigure(configured.clone()).await.unwrap();
    house.until("three idle", |s| s.available == 3).await;
    assert_eq!(
        house.group.cloud().decreased,
        [InstanceId("i-0001".into())],
        "it had served as often as is now allowed"
    );
    configured.policies[0].timezone = Some("Mars/Olympus".into());
    configured.max_instances = Some(0);
    assert!(house.scaler.reconfigure(configured).await.is_err());
    assert_eq!(
        house.scaler.status().borrow().max,
        Some(4),
        "nothing of it was taken"
    );
}

//! Complaints about where jobs go: not to what is about to end.

use super::*;

#[tokio::test(start_paused = true)]
async fn complaint_11_an_instance_that_the_cloud_ends_gets_no_job() {
    for listed in [InstanceState::Deleting, InstanceState::Stopped] {
        let mut configured = autoscaler(2, 6);
        configured.max_use_count = 0;
        let house = house(configured);
        house.until("two idle", |s| s.available == 2).await;
        let going = InstanceId("i-0001".into());
        {
            // The group is made smaller by somebody, and its list says so for as long as it takes.
            let mut cloud = house.group.cloud();
            cloud.instances.insert(going.clone(), listed);
            cloud.target -= 1;
        }
        house.until("it is known", |s| s.available == 1).await;
        let jobs = [house.job().await, house.job().await, house.job().await];
        assert!(
            jobs.iter().all(|job| *job.instance() != going),
            "{listed:?}: {jobs:?}"
        );
    }
}

/// The moment at which an idle instance is to go, and jobs that come around it.
#[tokio::test(start_paused = true)]
async fn complaint_11_no_job_is_sent_to_an_instance_that_we_delete() {
    for moment in 0..80 {
        let mut configured = autoscaler(0, 2);
        configured.max_use_count = 0;
        configured.policies[0].idle_time = 10 * SECOND;
        let house = house(configured);
        house.begin(SECOND).await.unwrap();
        sleep(8 * SECOND + Duration::from_millis(50 * moment)).await;
        let job = house.job().await;
        let on = job.instance().clone();
        for _ in 0..60 {
            sleep(SECOND).await;
            assert!(
                !house.group.cloud().decreased.contains(&on),
                "{on} was deleted under its job that came at {moment}"
            );
        }
        assert_eq!(*job.machine().gone.lock().unwrap(), None);
        job.release(Health::Good);
    }
}

#[tokio::test(start_paused = true)]
async fn complaint_13_an_instance_that_is_taken_back_gets_no_further_job_and_is_replaced_before() {
    let mut configured = autoscaler(1, 6);
    configured.capacity_per_instance = 2;
    configured.max_use_count = 0;
    configured.policies[0].preemptive_mode = false;
    configured.policies[0].idle_count = 0;
    let house = house(configured);
    let running = house.job().await;
    let going = running.instance().clone();
    let announced = tokio::time::Instant::now();
    house
        .group
        .cloud()
        .interrupted
        .insert(going.clone(), InterruptionKind::Reclaim);
    sleep(MINUTE + SECOND).await;
    // Its second slot is free, and stays so.
    let next = house.job().await;
    assert_ne!(*next.instance(), going);
    assert!(
        announced.elapsed() < 2 * MINUTE,
        "AWS gives two minutes' notice"
    );
    assert_eq!(*running.machine().gone.lock().unwrap(), None);
    assert!(!house.group.cloud().decreased.contains(&going));
    running.release(Health::Good);
    sleep(10 * SECOND).await;
    assert_eq!(house.group.cloud().decreased, [going]);
}

#[tokio::test(start_paused = true)]
async fn complaint_13_an_idle_instance_that_is_taken_back_is_replaced() {
    let mut configured = autoscaler(2, 6);
    configured.max_use_count = 0;
    let house = house(configured);
    house.until("two idle", |s| s.available == 2).await;
    let going = InstanceId("i-0002".into());
    house
        .group
        .cloud()
        .interrupted
        .insert(going.clone(), InterruptionKind::Rebalance);
    house.until("it is known", |s| s.available == 1).await;
    house.until("two idle again", |s| s.available == 2).await;
    sleep(MINUTE).await;
    let cloud = house.group.cloud();
    assert_eq!(
        (cloud.decreased.as_slice(), cloud.target),
        (&[going][..], 2)
    );
}

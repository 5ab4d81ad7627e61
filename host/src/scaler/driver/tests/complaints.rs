//! What users of GitLab Runner complain about, by the numbers of README's list, and how it is here: the fleet's size.
//! What has its place elsewhere carries its number there.

use super::*;
use crate::fleet::group::{InstanceState, InterruptionKind};
use crate::fleet::instance::RemovalReason;
use crate::scaler::Verdict;

mod jobs;

const MINUTE: Duration = Duration::from_secs(60);

impl House {
    /// A job that takes `length`, from its reservation on; answers where it ran.
    fn begin(&self, length: Duration) -> JoinHandle<InstanceId> {
        let scaler = self.scaler.clone();
        tokio::spawn(async move {
            let acquisition = served(scaler).await;
            let on = acquisition.instance().clone();
            sleep(length).await;
            acquisition.release(Health::Good);
            on
        })
    }

    /// Long polls that no job answers: each holds its reservation for `held`, then asks anew. The first ones begin one
    /// after the other.
    fn poll(&self, polls: u32, held: Duration) -> Vec<JoinHandle<()>> {
        let poll = |number: u32| {
            let scaler = self.scaler.clone();
            tokio::spawn(async move {
                sleep(number * held / polls).await;
                loop {
                    if let Ok(reservation) = scaler.reserve().await {
                        sleep(held).await;
                        drop(reservation);
                    }
                    sleep(SECOND).await;
                }
            })
        };
        (0..polls).map(poll).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn complaint_1_desired_capacity_never_falls_while_jobs_wait() {
    for preemptive_mode in [true, false] {
        let mut configured = autoscaler(15, 400);
        configured.max_use_count = 0;
        configured.policies[0].idle_time = 5 * SECOND;
        configured.policies[0].preemptive_mode = preemptive_mode;
        let house = house(configured);
        house.until("fifteen idle", |s| s.available == 15).await;
        let jobs: Vec<_> = (0..300).map(|_| house.begin(60 * MINUTE)).collect();
        let (mut status, mut least) = (house.scaler.status(), 15);
        let all_run = async {
            while status.borrow_and_update().in_use < 300 {
                let (wanted, target) = (status.borrow().wanted, house.group.cloud().target);
                assert!(wanted >= least, "{wanted} are wanted after {least}");
                assert!(target >= least, "the group is to have {target}");
                least = wanted;
                status.changed().await.unwrap();
            }
        };
        timeout(10 * MINUTE, all_run)
            .await
            .expect("300 jobs run within ten minutes");
        assert_eq!(house.group.cloud().decreased, []);
        jobs.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn complaint_3_an_instance_that_answers_keeps_its_job_whatever_the_cloud_lists() {
    let mut configured = autoscaler(0, 3);
    configured.max_use_count = 0;
    configured.update_interval = 10 * SECOND;
    let house = house(configured);
    let job = house.job().await;
    let on = job.instance().clone();
    house.group.cloud().hidden.insert(on.clone());
    sleep(10 * MINUTE).await;
    assert_eq!(*job.machine().gone.lock().unwrap(), None, "the job goes on");
    assert_eq!(house.group.cloud().decreased, []);
    let another = house.job().await;
    assert_ne!(*another.instance(), on, "it gets no further one");
    job.release(Health::Good);
    house
        .until("removed", |s| s.instances.removing == 0 && s.in_use == 1)
        .await;
    sleep(MINUTE).await;
    assert_eq!(
        house.group.cloud().decreased,
        [on],
        "none is left to be paid for"
    );
}

#[tokio::test(start_paused = true)]
async fn complaint_3_one_listing_that_leaves_it_out_changes_nothing() {
    let mut configured = autoscaler(1, 3);
    configured.max_use_count = 0;
    let house = house(configured);
    house.until("one idle", |s| s.available == 1).await;
    let only = InstanceId("i-0001".into());
    house.group.cloud().hidden.insert(only.clone());
    house.until("it is missed", |s| s.available == 0).await;
    house.group.cloud().hidden.clear();
    house.until("it serves again", |s| s.available == 1).await;
    assert_eq!(*house.job().await.instance(), only);
    assert_eq!(house.group.cloud().decreased, []);
}

#[tokio::test(start_paused = true)]
async fn complaint_7_polls_that_bring_no_job_make_no_instance() {
    let house = house(autoscaler(0, 10));
    let polls = house.poll(10, 50 * SECOND);
    sleep(60 * MINUTE).await;
    assert_eq!(house.group.cloud().increases, Vec::<u32>::new());
    polls.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn complaint_8_the_one_idle_instance_is_not_replaced_every_idle_time() {
    let mut configured = autoscaler(1, 10);
    configured.max_use_count = 0;
    configured.policies[0].idle_time = MINUTE;
    let house = house(configured);
    house.until("one idle", |s| s.available == 1).await;
    sleep(120 * MINUTE).await;
    {
        let cloud = house.group.cloud();
        assert_eq!((cloud.increases.as_slice(), cloud.most), (&[1][..], 1));
        assert_eq!(cloud.decreased, []);
    }
    let burst: Vec<_> = (0..3).map(|_| house.begin(2 * MINUTE)).collect();
    for job in burst {
        job.await.unwrap();
    }
    sleep(5 * MINUTE).await;
    let (made, standing) = {
        let cloud = house.group.cloud();
        (cloud.next, cloud.instances.len())
    };
    assert_eq!(standing, 1, "one is kept, not two");
    sleep(120 * MINUTE).await;
    assert_eq!(house.group.cloud().next, made, "and it stays the same one");
}

#[tokio::test(start_paused = true)]
async fn complaint_9_the_used_instance_goes_and_no_other_and_the_reason_is_told() {
    let house = house(autoscaler(3, 10));
    house.until("three idle", |s| s.available == 3).await;
    let mut events = house.scaler.events();
    let used = house.begin(MINUTE).await.unwrap();
    sleep(10 * MINUTE).await;
    assert_eq!(house.group.cloud().decreased, std::slice::from_ref(&used));
    let mut removals = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let FleetEvent::Decided(decided) = event
            && let Verdict::Remove(instances, reason) = decided.verdict
        {
            removals.push((instances, reason));
        }
    }
    assert_eq!(removals, [(vec![used], RemovalReason::MaxUseCount)]);
}

#[tokio::test(start_paused = true)]
async fn complaint_9_of_idle_instances_the_one_idle_for_longest_goes() {
    let mut configured = autoscaler(0, 10);
    configured.max_use_count = 0;
    configured.policies[0].idle_time = 5 * MINUTE;
    let house = house(configured);
    let both = [house.begin(MINUTE), house.begin(2 * MINUTE)];
    let [first, second] = both;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    house
        .until("one is gone", |s| {
            s.in_use == 0 && s.instances.ready == 1 && s.instances.removing == 0
        })
        .await;
    assert_eq!(house.group.cloud().decreased, std::slice::from_ref(&first));
    house.until("both are", |s| s.wanted == 0).await;
    assert_eq!(house.group.cloud().decreased, [first, second]);
}

#[tokio::test(start_paused = true)]
async fn complaint_10_jobs_beyond_an_instances_slots_get_another_at_once() {
    let mut configured = autoscaler(0, 3);
    configured.capacity_per_instance = 2;
    configured.max_use_count = 0;
    let house = house(configured);
    house.until("read", |s| s.opened.is_some()).await;
    sleep(SECOND).await;
    let begun = tokio::time::Instant::now();
    let jobs: Vec<_> = (0..5).map(|_| house.begin(60 * MINUTE)).collect();
    house.until("all five run", |s| s.in_use == 5).await;
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
    assert_eq!(house.group.cloud().instances.len(), 3);
    drop(house.job().await);
    let sixth = house.begin(60 * MINUTE);
    house.until("all six run", |s| s.in_use == 6).await;
    assert_eq!(
        house.scaler.reserve().await.unwrap_err().to_string(),
        "no slot is free and max_instances leaves no room for more",
        "and why there is no further one is said"
    );
    sixth.abort();
    jobs.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn complaint_16_hours_without_a_policy_end_no_job() {
    let mut configured = autoscaler(1, 4);
    configured.policies[0].idle_time = 5 * MINUTE;
    let house = house(configured.clone());
    let job = house.job().await;
    house
        .until("one idle beside it", |s| s.available == 1)
        .await;
    // There is no such day: from now on, no policy holds.
    configured.policies[0].periods = vec!["* * 31 2 *".into()];
    house.scaler.reconfigure(configured).await.unwrap();
    house
        .until("nothing is kept idle", |s| {
            s.available == 0 && s.instances.removing == 0
        })
        .await;
    sleep(180 * MINUTE).await;
    assert_eq!(*job.machine().gone.lock().unwrap(), None);
    let on = job.instance().clone();
    assert!(!house.group.cloud().decreased.contains(&on));
    job.release(Health::Good);
    house.until("empty", |s| s.wanted == 0).await;
    assert!(house.group.cloud().decreased.contains(&on));
}

/// Three instances of four slots where one is wanted, and a poll for each slot; answers how many stand afterwards.
async fn with_a_poll_for_every_slot(reservation_throttling: bool) -> u32 {
    let mut configured = autoscaler(12, 3);
    configured.capacity_per_instance = 4;
    configured.max_use_count = 0;
    configured.reservation_throttling = reservation_throttling;
    configured.policies[0].idle_time = MINUTE;
    let house = house(configured.clone());
    house.until("twelve idle", |s| s.available == 12).await;
    let polls = house.poll(12, 50 * SECOND);
    sleep(2 * MINUTE).await;
    configured.policies[0].idle_count = 4;
    house.scaler.reconfigure(configured).await.unwrap();
    sleep(10 * MINUTE).await;
    polls.iter().for_each(JoinHandle::abort);
    let status = house.scaler.status().borrow().clone();
    status.instances.ready
}

#[tokio::test(start_paused = true)]
async fn complaint_17_idle_instances_go_although_polls_take_turns_to_hold_every_slot() {
    assert_eq!(with_a_poll_for_every_slot(true).await, 1);
}

#[tokio::test(start_paused = true)]
async fn without_reservation_throttling_polls_keep_what_they_hold() {
    assert_eq!(with_a_poll_for_every_slot(false).await, 3);
}

#[tokio::test(start_paused = true)]
async fn complaint_25_what_one_pool_lacks_another_gives() {
    let house = house(autoscaler(0, 5));
    house.until("read", |s| s.opened.is_some()).await;
    sleep(SECOND).await;
    {
        let mut cloud = house.group.cloud();
        cloud.pools = vec!["zone a", "zone b", "zone c"];
        cloud.exhausted = ["zone a", "zone b"].into();
    }
    let begun = tokio::time::Instant::now();
    let job = house.job().await;
    assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());
    let avoided = |house: &House| -> Vec<Vec<String>> {
        let cloud = house.group.cloud();
        cloud.asked.iter().map(|(_, pools)| pools.clone()).collect()
    };
    assert_eq!(
        avoided(&house),
        [
            vec![],
            vec!["zone a".to_owned()],
            vec!["zone b".into(), "zone a".into()]
        ]
    );
    job.release(Health::Good);
    sleep(5 * MINUTE).await;
    house.group.cloud().exhausted.clear();
    drop(house.job().await);
    assert_eq!(
        avoided(&house).last(),
        Some(&vec![]),
        "what has cooled off is tried first again"
    );
}

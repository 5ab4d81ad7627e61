//! The manager is killed at any moment of its work, and what comes after knows of every use and every instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tokio::task::JoinSet;

use super::*;

const USES: u32 = 2;
const MOST: u32 = 4;

/// Jobs' own view, over all lives of the manager.
#[derive(Default)]
struct Seen {
    uses: BTreeMap<InstanceId, u32>,
    /// Where a job runs now.
    busy: BTreeSet<InstanceId>,
    /// Where a job was when the manager died: its containers may still be there.
    dirty: BTreeSet<InstanceId>,
}

impl Seen {
    fn begins(&mut self, on: &InstanceId) {
        let uses = self.uses.entry(on.clone()).or_default();
        *uses += 1;
        assert!(*uses <= USES, "{on} serves its job number {uses}");
        assert!(!self.dirty.contains(on), "{on} has a killed job's remains");
        assert!(self.busy.insert(on.clone()), "{on} serves two jobs at once");
    }

    fn ends(&mut self, on: &InstanceId) {
        self.busy.remove(on);
    }

    fn dies(&mut self) {
        self.dirty.append(&mut self.busy);
    }
}

/// Five jobs, one every four seconds, each of them nine seconds long.
fn jobs(house: &House, seen: &Arc<Mutex<Seen>>) -> JoinSet<()> {
    let job = |number: u32| {
        let (scaler, seen) = (house.scaler.clone(), Arc::clone(seen));
        async move {
            sleep(number * 4 * SECOND).await;
            let reservation = loop {
                match scaler.reserve().await {
                    Ok(reservation) => break reservation,
                    Err(_) => sleep(SECOND).await,
                }
            };
            let acquisition = scaler.acquire(reservation).await.unwrap();
            let on = acquisition.instance().clone();
            seen.lock().unwrap().begins(&on);
            sleep(9 * SECOND).await;
            seen.lock().unwrap().ends(&on);
            acquisition.release(Health::Good);
        }
    };
    (0..5).map(job).collect()
}

async fn killed_after(life: Duration) {
    let policy = || {
        let mut autoscaler = autoscaler(1, MOST);
        autoscaler.max_use_count = USES;
        autoscaler.policies[0].idle_time = 5 * SECOND;
        autoscaler
    };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let house = house(policy());
    let running = jobs(&house, &seen);
    sleep(life).await;
    house.driver.abort();
    drop(running);
    seen.lock().unwrap().dies();

    // Whatever was on its way to the cloud arrives; then the manager is there again.
    sleep(SECOND).await;
    let house = start(house.group, house.store, policy());
    let mut running = jobs(&house, &seen);
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let rested = house.until("at rest", |s| {
        s.in_use == 0 && s.instances.removing == 0 && s.available == 1 && s.wanted == 1
    });
    rested.await;
    sleep(600 * SECOND).await;
    let cloud = house.group.cloud();
    assert_eq!(
        cloud.instances.len(),
        1,
        "none leaked: {:?}",
        cloud.instances
    );
    assert_eq!(cloud.target, 1);
    assert!(cloud.most <= MOST as usize, "{} stood at once", cloud.most);
}

#[tokio::test(start_paused = true)]
async fn complaint_6_a_kill_at_any_moment_leaks_no_instance_and_uses_none_too_often() {
    // Calls take tenths of a second and preparation three: 400 moments meet every step of it.
    for moment in 0..400 {
        let life = Duration::from_millis(moment * 97);
        let told = tokio::spawn(killed_after(life)).await;
        assert!(told.is_ok(), "killed after {life:?}: {told:?}");
    }
}

//! What is told of decisions: each effective one once, with its reason.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::scaler::{Decided, Verdict};

/// Decisions so far, as `decision reason`; those that only go on are left out.
fn told(events: &mut Receiver<FleetEvent>) -> Vec<String> {
    decided(events)
        .into_iter()
        .filter(|decided| !decided.again)
        .map(|decided| {
            format!(
                "{} {}",
                decided.verdict.decision(),
                decided.verdict.reason()
            )
        })
        .collect()
}

fn decided(events: &mut Receiver<FleetEvent>) -> Vec<Decided> {
    let mut all = Vec::new();
    loop {
        match events.try_recv() {
            Ok(FleetEvent::Decided(decided)) => all.push(decided),
            Ok(_) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return all,
            Err(TryRecvError::Lagged(missed)) => panic!("{missed} events were missed"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_job_after_the_other_on_one_instance_is_told_in_order() {
    let house = house(autoscaler(0, 1));
    let mut events = house.scaler.events();
    house.until("read", |s| s.opened.is_some()).await;
    let first = house.job().await;
    let refused = house.scaler.reserve().await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no slot is free and max_instances leaves no room for more"
    );
    for _ in 0..20 {
        sleep(3 * SECOND).await;
        house.scaler.reserve().await.unwrap_err();
    }
    first.release(Health::Good);
    house
        .until("empty", |s| s.instances.removing == 0 && s.in_use == 0)
        .await;
    let told = told(&mut events);
    let after_start = told
        .iter()
        .skip_while(|line| line.starts_with("refuse group"));
    assert_eq!(
        after_start.collect::<Vec<_>>(),
        [
            "increase jobs_waiting",
            "hold instances_coming",
            "refuse nothing_possible",
            "remove max_use_count"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_free_needs_no_decision() {
    let mut autoscaler = autoscaler(0, 1);
    autoscaler.max_use_count = 0;
    let house = house(autoscaler);
    let first = house.job().await;
    first.release(Health::Good);
    house.until("idle", |s| s.available == 1).await;
    let mut events = house.scaler.events();
    let reservation = house.scaler.reserve().await.unwrap();
    let again = house.scaler.acquire(reservation).await.unwrap();
    assert_eq!(told(&mut events), Vec::<String>::new());
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_refusing_cloud_is_the_reason_that_nothing_is_asked_for() {
    let house = house(autoscaler(0, 5));
    house.until("read", |s| s.opened.is_some()).await;
    let refusal = CallFailure::Refused(Problem {
        kind: ProblemKind::OutOfCapacity,
        message: "none left".into(),
        subject: None,
        code: None,
        retry_after: None,
    });
    house.group.cloud().increase_fails.push(refusal);
    let mut events = house.scaler.events();
    let reservation = loop {
        match house.scaler.reserve().await {
            Ok(reservation) => break reservation,
            Err(_) => sleep(SECOND).await,
        }
    };
    let waiting = tokio::spawn({
        let scaler = house.scaler.clone();
        async move { scaler.acquire(reservation).await }
    });
    house.until("told", |s| s.problem.is_some()).await;
    let all = decided(&mut events);
    let held = all.iter().find_map(|decided| match &decided.verdict {
        Verdict::Hold(why) if decided.verdict.reason() == "problem" => {
            Some((why.to_string(), decided.numbers))
        }
        _ => None,
    });
    let (why, numbers) = held.unwrap();
    assert!(why.ends_with("none left"), "{why}");
    assert_eq!((numbers.waiting, numbers.max), (1, Some(5)));
    waiting.abort();
}

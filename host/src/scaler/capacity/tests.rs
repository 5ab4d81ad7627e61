//! The arithmetic by example; in `properties`, under random events.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fleet::group::InstanceState;
use crate::fleet::instance::{Cause, Phase};
use crate::scaler::ledger::{AcquisitionId, ReservationId, Shape};

mod model;
mod properties;

const MINUTE: Duration = Duration::from_secs(60);

fn policy(idle_count: u32, idle_time: Duration) -> Policy {
    Policy {
        periods: Vec::new(),
        timezone: None,
        idle_count,
        idle_time,
        scale_factor: 0.0,
        scale_factor_limit: 0,
        preemptive_mode: idle_count > 0,
    }
}

fn ledger(capacity_per_instance: u32, max_use_count: u32) -> Ledger {
    let mut ledger = Ledger::new(Shape {
        capacity_per_instance,
        max_use_count,
        heartbeats: true,
    });
    ledger.started(Some(0));
    ledger
}

fn id(n: u32) -> InstanceId {
    InstanceId(format!("i-{n:05}"))
}

/// A cloud that grants everything at once.
fn grow(ledger: &mut Ledger, first: u32, count: u32, now: Instant) {
    ledger.asked(format!("t{first}"), count);
    ledger.answered(&format!("t{first}"), count);
    for n in first..first + count {
        ledger.appeared(id(n), InstanceState::Running, false, now);
        ledger.advance(&id(n), Phase::Preparing, now);
        ledger.advance(&id(n), Phase::Ready, now);
        for slot in 0..ledger.shape().capacity_per_instance {
            ledger.set_slot(&id(n), slot, true);
        }
    }
}

#[test]
fn the_idle_target_follows_the_factor_within_its_limits() {
    let mut policy = policy(2, MINUTE);
    policy.scale_factor = 0.5;
    for (limit, in_use, expected) in [
        (0, 0, 2),
        (0, 4, 2),
        (0, 5, 3),
        (0, 40, 20),
        (8, 40, 8),
        (1, 40, 2),
    ] {
        policy.scale_factor_limit = limit;
        assert_eq!(
            idle_target(&policy, in_use),
            expected,
            "{in_use} in use, limit {limit}"
        );
    }
}

#[test]
fn waiting_jobs_and_the_idle_target_ask_up_to_the_maximum() {
    let now = Instant::now();
    let policy = policy(5, 20 * MINUTE);
    let mut ledger = ledger(1, 1);
    let first = decide(&policy, &ledger, Some(10), now);
    assert_eq!(
        (first.increase, first.requested, first.why),
        (5, 5, Why::BelowIdleTarget)
    );
    grow(&mut ledger, 0, 5, now);
    assert_eq!(decide(&policy, &ledger, Some(10), now).why, Why::Balanced);
    for _ in 0..12 {
        let reservation = ledger.reserve();
        ledger.wait(reservation);
    }
    while ledger.grant().is_some() {}
    let busy = decide(&policy, &ledger, Some(10), now);
    assert_eq!(
        (busy.increase, busy.requested, busy.why),
        (5, 10, Why::JobsWaiting)
    );
}

#[test]
fn what_is_coming_and_what_is_going_both_count() {
    let now = Instant::now();
    let policy = policy(5, 20 * MINUTE);
    let mut ledger = ledger(1, 1);
    grow(&mut ledger, 0, 3, now);
    ledger.asked("more".into(), 2);
    assert_eq!(decide(&policy, &ledger, Some(10), now).increase, 0);
    assert!(ledger.begin_removal(&id(0), &RemovalReason::Shutdown));
    ledger.removal_accepted(&id(0));
    // Two ready, two coming, one going: one is missing, and max leaves no room until it is gone.
    assert_eq!(decide(&policy, &ledger, Some(5), now).why, Why::AtMaximum);
    ledger.gone(&id(0));
    assert_eq!(decide(&policy, &ledger, Some(5), now).increase, 1);
}

#[test]
fn idle_beyond_the_target_goes_oldest_first_and_never_while_a_job_waits() {
    let start = Instant::now();
    let mut ledger = ledger(1, 0);
    for n in 0..4 {
        grow(&mut ledger, n, 1, start + n * Duration::from_secs(1));
    }
    let policy = policy(2, MINUTE);
    let early = decide(
        &policy,
        &ledger,
        None,
        start + MINUTE - Duration::from_secs(1),
    );
    assert_eq!(
        (early.remove.len(), early.revisit),
        (0, Some(start + MINUTE))
    );
    let later = decide(&policy, &ledger, None, start + 2 * MINUTE);
    let gone: Vec<_> = later.remove.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(gone, [id(0), id(1)]);
    for n in 0..5 {
        let reservation = ledger.reserve();
        assert!(ledger.wait(reservation), "job {n}");
    }
    assert_eq!(
        decide(&policy, &ledger, None, start + 2 * MINUTE).remove,
        []
    );
}

#[test]
fn an_instance_lost_under_its_job_is_replaced_by_the_group_and_not_by_us() {
    let now = Instant::now();
    let policy = policy(1, 20 * MINUTE);
    let mut ledger = ledger(1, 1);
    grow(&mut ledger, 0, 2, now);
    ledger.note_target(Some(2));
    let reservation = ledger.reserve();
    ledger.wait(reservation);
    let grant = ledger.grant().unwrap();
    assert_eq!(ledger.gone(&grant.instance), [grant.acquisition]);
    assert_eq!((ledger.wanted(), ledger.coming()), (2, 1));
    assert_eq!(decide(&policy, &ledger, Some(10), now).increase, 0);
    let cause = ledger.appeared(id(9), InstanceState::Running, false, now);
    assert_eq!(cause, Cause::Requested);
    assert_eq!(
        ledger.release(grant.acquisition, None, true, true, now),
        None
    );
}

#[test]
fn where_nothing_replaces_it_exactly_one_is_asked_for() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    ledger.started(None);
    grow(&mut ledger, 0, 2, now);
    ledger.gone(&id(0));
    assert_eq!(
        decide(&policy(2, MINUTE), &ledger, Some(10), now).increase,
        1
    );
}

#[test]
fn what_took_a_missing_ones_place_stays_wanted_when_that_comes_back() {
    let now = Instant::now();
    for target in [Some(2), None] {
        let mut ledger = ledger(1, 1);
        ledger.started(target.map(|_| 0));
        grow(&mut ledger, 0, 2, now);
        ledger.set_missing(&id(0), true);
        let cause = ledger.appeared(id(7), InstanceState::Running, false, now);
        assert_eq!(cause, Cause::Requested);
        ledger.set_missing(&id(0), false);
        assert_eq!(ledger.wanted(), 3, "target {target:?}");
        ledger.asked("more".into(), 1);
        assert_eq!(ledger.coming(), 1, "target {target:?}");
    }
}

#[test]
fn a_snapshot_that_leaves_one_out_settles_no_unknown_increase() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    ledger.started(None);
    grow(&mut ledger, 0, 2, now);
    ledger.asked("lost".into(), 1);
    ledger.unanswered("lost", 1);
    ledger.appeared(id(7), InstanceState::Creating, false, now);
    assert_eq!(ledger.settle(1, None, true), []);
    ledger.set_missing(&id(7), true);
    assert_eq!(ledger.settle(2, None, true), []);
    ledger.set_missing(&id(7), false);
    assert_eq!(ledger.settle(3, None, true), [(1, 1)]);
    assert_eq!((ledger.wanted(), ledger.coming()), (3, 0));
}

#[test]
fn what_was_taken_for_an_increase_that_is_then_refused_stays_wanted() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    ledger.started(None);
    grow(&mut ledger, 0, 1, now);
    ledger.asked("refused".into(), 1);
    let cause = ledger.appeared(id(7), InstanceState::Running, false, now);
    assert_eq!(cause, Cause::Requested);
    ledger.answered("refused", 0);
    assert_eq!(ledger.wanted(), 2);
    ledger.asked("more".into(), 1);
    assert_eq!(ledger.coming(), 1);
}

#[test]
fn a_loss_that_was_made_up_for_lowers_nothing() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    ledger.started(None);
    grow(&mut ledger, 0, 2, now);
    ledger.set_missing(&id(0), true);
    ledger.appeared(id(7), InstanceState::Running, false, now);
    ledger.gone(&id(0));
    assert_eq!((ledger.wanted(), ledger.counts().live), (2, 2));
    ledger.asked("more".into(), 1);
    assert_eq!(ledger.coming(), 1);
}

#[test]
fn surplus_is_not_requested_and_leaves_wanted_alone() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    grow(&mut ledger, 0, 1, now);
    assert_eq!(
        ledger.appeared(id(7), InstanceState::Running, false, now),
        Cause::Unexpected
    );
    ledger.doom(&id(7), RemovalReason::NotRequested(Cause::Unexpected), now);
    let decision = decide(&policy(1, MINUTE), &ledger, Some(10), now);
    assert_eq!((decision.remove.len(), decision.why), (1, Why::MustGo));
    assert!(ledger.begin_removal(&id(7), &decision.remove[0].1));
    ledger.removal_accepted(&id(7));
    assert_eq!(ledger.wanted(), 1);
}

#[test]
fn a_reservation_is_refused_by_what_the_mode_asks_for() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    let (eager, lazy) = (policy(1, MINUTE), policy(0, MINUTE));
    assert_eq!(
        may_reserve(&eager, &ledger, Some(2), 0),
        Err(Refusal::NothingAvailable)
    );
    assert_eq!(may_reserve(&lazy, &ledger, Some(2), 0), Ok(()));
    ledger.reserve();
    ledger.reserve();
    assert_eq!(
        may_reserve(&lazy, &ledger, Some(2), 0),
        Err(Refusal::NothingPossible)
    );
    grow(&mut ledger, 0, 1, now);
    assert_eq!(
        may_reserve(&eager, &ledger, None, 0),
        Err(Refusal::NothingAvailable)
    );
    assert_eq!(may_reserve(&lazy, &ledger, None, 0), Ok(()));
}

#[test]
fn a_decision_costs_what_changed_and_not_what_exists() {
    let now = Instant::now();
    let policy = policy(5, MINUTE);
    let mut times = Vec::new();
    for instances in [1_000, 10_000] {
        let mut ledger = ledger(1, 1);
        grow(&mut ledger, 0, instances, now);
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let begun = Instant::now();
            let reservation = ledger.reserve();
            ledger.wait(reservation);
            let grant = ledger.grant().unwrap();
            std::hint::black_box(decide(&policy, &ledger, Some(20_000), now));
            best = best.min(begun.elapsed());
            ledger.release(grant.acquisition, None, false, true, now);
        }
        times.push(best);
    }
    // Ten times the instances, and far from ten times the time; the bound leaves room for a busy machine.
    assert!(
        times[1] < 5 * times[0] + Duration::from_micros(200),
        "{times:?}"
    );
}

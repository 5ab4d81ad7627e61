//! The arithmetic by example, and under random events.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fleet::group::InstanceState;
use crate::fleet::instance::{Cause, Phase};
use crate::scaler::ledger::{AcquisitionId, ReservationId, Shape};

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
        may_reserve(&eager, &ledger, Some(2)),
        Err(Refusal::NothingAvailable)
    );
    assert_eq!(may_reserve(&lazy, &ledger, Some(2)), Ok(()));
    ledger.reserve();
    ledger.reserve();
    assert_eq!(
        may_reserve(&lazy, &ledger, Some(2)),
        Err(Refusal::NothingPossible)
    );
    grow(&mut ledger, 0, 1, now);
    assert_eq!(
        may_reserve(&eager, &ledger, None),
        Err(Refusal::NothingAvailable)
    );
    assert_eq!(may_reserve(&lazy, &ledger, None), Ok(()));
}

/// A model cloud and jobs, driven by random steps through the same calls as the driver's.
struct World {
    ledger: Ledger,
    policy: Policy,
    max: u32,
    now: Instant,
    next: u32,
    coming: u32,
    reserved: Vec<ReservationId>,
    running: HashMap<AcquisitionId, (InstanceId, u32)>,
    uses: HashMap<InstanceId, u32>,
}

#[derive(Clone, Debug)]
enum Step {
    Reserve,
    Wait(usize),
    Unreserve(usize),
    Release(usize, bool),
    Lose(usize),
    Intrude,
    Deliver,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Reserve),
        3 => any::<usize>().prop_map(Step::Wait),
        1 => any::<usize>().prop_map(Step::Unreserve),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(n, good)| Step::Release(n, good)),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Intrude),
        4 => Just(Step::Deliver),
        2 => (0u64..200).prop_map(Step::Pass),
    ]
}

impl World {
    fn take(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Reserve if may_reserve(&self.policy, &self.ledger, Some(self.max)).is_ok() => {
                self.reserved.push(self.ledger.reserve());
            }
            Step::Reserve => {}
            Step::Wait(n) if !self.reserved.is_empty() => {
                let id = self.reserved.remove(n % self.reserved.len());
                assert!(self.ledger.wait(id));
            }
            Step::Unreserve(n) if !self.reserved.is_empty() => {
                let id = self.reserved.remove(n % self.reserved.len());
                self.ledger.unreserve(id);
            }
            Step::Release(n, good) if !self.running.is_empty() => {
                let mut ids: Vec<_> = self.running.keys().copied().collect();
                ids.sort();
                let id = ids[n % ids.len()];
                self.running.remove(&id);
                let retire = (!good).then(|| "bad".to_owned());
                self.ledger.release(id, retire, true, true, now).unwrap();
            }
            Step::Lose(n) => {
                let mut ids: Vec<_> = self
                    .ledger
                    .entries()
                    .map(|e| e.instance.id().clone())
                    .collect();
                ids.sort();
                if let Some(id) = ids.get(n % ids.len().max(1)).cloned() {
                    for lost in self.ledger.gone(&id) {
                        self.running.remove(&lost).unwrap();
                    }
                    self.coming = self.ledger.coming();
                }
            }
            Step::Intrude => {
                self.next += 1;
                self.ledger
                    .appeared(id(self.next), InstanceState::Creating, false, now);
                self.coming = self.ledger.coming();
            }
            Step::Deliver => self.deliver(),
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
            Step::Wait(_) | Step::Unreserve(_) | Step::Release(..) => {}
        }
        self.settle();
    }

    fn deliver(&mut self) {
        for _ in 0..std::mem::take(&mut self.coming) {
            self.next += 1;
            self.ledger
                .appeared(id(self.next), InstanceState::Running, false, self.now);
        }
        let known: Vec<_> = self
            .ledger
            .entries()
            .map(|e| {
                (
                    e.instance.id().clone(),
                    e.instance.phase(),
                    e.instance.cause(),
                )
            })
            .collect();
        for (id, phase, cause) in known {
            match phase {
                Phase::Removing => drop(self.ledger.gone(&id)),
                Phase::Listed if cause != Cause::Requested => {
                    self.ledger
                        .doom(&id, RemovalReason::NotRequested(cause), self.now);
                }
                Phase::Listed => {
                    self.ledger.advance(&id, Phase::Preparing, self.now);
                    self.ledger.advance(&id, Phase::Ready, self.now);
                    for slot in 0..self.ledger.shape().capacity_per_instance {
                        self.ledger.set_slot(&id, slot, true);
                    }
                }
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        while let Some(grant) = self.ledger.grant() {
            let place = (grant.instance.clone(), grant.slot);
            assert!(
                !self.running.values().any(|taken| *taken == place),
                "slot counted twice"
            );
            self.running.insert(grant.acquisition, place);
            let uses = self.uses.entry(grant.instance).or_default();
            *uses += 1;
            let max = self.ledger.shape().max_use_count;
            assert!(max == 0 || *uses <= max, "max_use_count exceeded");
        }
        let decision = decide(&self.policy, &self.ledger, Some(self.max), self.now);
        let counts = self.ledger.counts().clone();
        let standing = counts.instances + self.ledger.coming();
        assert!(
            decision.increase == 0 || standing + decision.increase <= self.max,
            "asked above max"
        );
        let slots = self.ledger.shape().slots_of_new();
        let capacity = counts.in_use + self.ledger.waiting() + decision.idle_target;
        assert_eq!(decision.requested, self.max.min(capacity.div_ceil(slots)));
        assert_eq!(counts.in_use as usize, self.running.len());
        for (id, reason) in &decision.remove {
            assert!(
                !self.running.values().any(|(on, _)| on == id),
                "removed under a job"
            );
            assert!(*reason != RemovalReason::IdleTooLong || self.ledger.waiting() == 0);
            assert!(self.ledger.begin_removal(id, reason));
            self.ledger.removal_accepted(id);
        }
        if decision.increase > 0 {
            self.ledger.asked("t".into(), decision.increase);
            self.ledger.answered("t", decision.increase);
        }
        self.coming = self.ledger.coming();
    }

    fn quiet(&mut self) {
        for id in std::mem::take(&mut self.reserved) {
            self.ledger.unreserve(id);
        }
        for _ in 0..30 {
            while let Some((&id, _)) = self.running.iter().next() {
                self.take(Step::Release(0, true));
                let _ = id;
            }
            self.take(Step::Pass(1_000));
            self.take(Step::Deliver);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_happens_the_promises_hold(
        capacity in 1u32..4,
        max_use in 0u32..4,
        max in 1u32..8,
        idle in 0u32..5,
        has_target in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World {
            ledger: ledger(capacity, max_use),
            policy: policy(idle, MINUTE),
            max,
            now: Instant::now(),
            next: 0,
            coming: 0,
            reserved: Vec::new(),
            running: HashMap::new(),
            uses: HashMap::new(),
        };
        world.ledger.started(has_target.then_some(0));
        for step in steps {
            world.take(step);
        }
        world.quiet();
        prop_assert_eq!(world.ledger.reserved() + world.ledger.waiting(), 0, "a reservation leaked");
        let counts = world.ledger.counts().clone();
        prop_assert_eq!(counts.extra, 0, "surplus was kept");
        if idle == 0 {
            prop_assert_eq!(counts.instances, 0, "no demand and nothing idle wanted, yet something stands");
        } else {
            let full = counts.instances == max;
            prop_assert!(counts.available >= idle || full, "idle target not restored: {counts:?}");
        }
        let before = (counts, world.ledger.wanted());
        for _ in 0..5 {
            world.take(Step::Pass(1_000));
            world.take(Step::Deliver);
        }
        prop_assert_eq!(before, (world.ledger.counts().clone(), world.ledger.wanted()), "it did not stay");
    }
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

//! What holds whatever happens, one property a sentence.

use super::model::{Conditions, Model, Step, conditions, steps};
use super::*;

/// Long enough for every back-off and patience of the core.
const WHILE: usize = 30;

fn slots(conditions: Conditions) -> u32 {
    match conditions.max_use {
        0 => conditions.capacity,
        most => conditions.capacity.min(most),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_never_asks_above_max_instances(conditions in conditions(), steps in steps()) {
        for asked in Model::after(conditions, steps).history.asked {
            let sum = asked.known + asked.coming + asked.count;
            prop_assert!(sum <= conditions.max + asked.stand_ins, "{asked:?}");
        }
    }

    #[test]
    fn no_instance_with_an_acquisition_is_removed(conditions in conditions(), steps in steps()) {
        let history = Model::after(conditions, steps).history;
        prop_assert!(history.removed_busy.is_empty(), "{:?}", history.removed_busy);
    }

    #[test]
    fn no_slot_is_counted_twice(conditions in conditions(), steps in steps()) {
        let history = Model::after(conditions, steps).history;
        prop_assert!(history.granted_twice.is_empty(), "{:?}", history.granted_twice);
        prop_assert!(history.miscounted.is_empty(), "{:?}", history.miscounted);
    }

    #[test]
    fn reservations_never_leak(conditions in conditions(), steps in steps()) {
        let mut model = Model::after(conditions, steps);
        let held = (model.reserved.len(), model.waiting.len());
        let counted = (model.ledger.reserved() as usize, model.ledger.waiting() as usize);
        prop_assert_eq!(held, counted);
        model.without_demand();
        prop_assert_eq!((model.ledger.reserved(), model.ledger.waiting()), (0, 0));
    }

    #[test]
    fn with_no_demand_and_idle_0_the_fleet_reaches_zero_and_stays(
        conditions in conditions(),
        steps in steps(),
    ) {
        let mut model = Model::after(Conditions { idle: 0, ..conditions }, steps);
        model.without_demand();
        (0..WHILE).for_each(|_| model.calm());
        prop_assert_eq!(model.standing(), 0);
        let moves = model.history.moves();
        (0..WHILE).for_each(|_| model.calm());
        prop_assert_eq!((model.standing(), model.history.moves()), (0, moves));
    }

    #[test]
    fn with_constant_demand_it_converges_and_stops_oscillating(
        conditions in conditions(),
        steps in steps(),
        jobs in 0usize..12,
    ) {
        let mut model = Model::after(conditions, steps);
        for _ in 0..2 * WHILE {
            while model.running.len() + model.waiting.len() > jobs && !model.running.is_empty() {
                model.take(Step::Release(0, true));
            }
            while model.running.len() + model.waiting.len() < jobs && !model.reserved.is_empty() {
                model.take(Step::Wait(0));
            }
            if model.running.len() + model.waiting.len() < jobs {
                model.take(Step::Reserve);
            }
            model.calm();
        }
        let (moves, running) = (model.history.moves(), model.running.len());
        (0..WHILE).for_each(|_| model.calm());
        prop_assert_eq!((moves, running), (model.history.moves(), model.running.len()));
        prop_assert!(model.waiting.is_empty() || model.standing() >= conditions.max);
        let counts = model.ledger.counts();
        let enough = counts.available >= conditions.idle || model.standing() >= conditions.max;
        prop_assert!(enough, "fewer are idle than wanted: {counts:?}");
        prop_assert_eq!(model.ledger.wanted(), model.standing(), "wanted is not what stands");
    }

    #[test]
    fn max_use_count_is_exact(conditions in conditions(), steps in steps()) {
        let mut model = Model::after(conditions, steps);
        let most = conditions.max_use;
        prop_assert!(most == 0 || model.history.uses.values().all(|uses| *uses <= most));
        // Nothing goes for that reason before its time either.
        model.without_demand();
        let spent: Vec<_> = model
            .ledger
            .entries()
            .filter(|e| model.history.uses.get(e.instance.id()) == Some(&most))
            .map(|e| (e.instance.id().clone(), e.is_doomed()))
            .collect();
        prop_assert!(most == 0 || spent.iter().all(|(_, doomed)| *doomed), "{spent:?}");
        let uses = model.ledger.entries().map(|e| {
            let counted = model.history.uses.get(e.instance.id()).copied().unwrap_or(0);
            (counted, e.instance.use_count())
        });
        for (counted, known) in uses {
            prop_assert_eq!(counted, known);
        }
    }

    #[test]
    fn the_throttle_is_never_exceeded_over_any_window(conditions in conditions(), steps in steps()) {
        let asked = Model::after(conditions, steps).history.asked;
        let Some(limit) = conditions.throttle.limit else {
            return Ok(());
        };
        for (first, from) in asked.iter().enumerate() {
            let mut sum = 0;
            for to in &asked[first..] {
                sum += to.count;
                let window = (to.at - from.at).as_secs_f64();
                let most = f64::from(conditions.throttle.burst) + limit * window;
                prop_assert!(f64::from(sum) <= most + 0.01, "{sum} in {window} s, {most} the most");
            }
        }
    }

    #[test]
    fn unknown_outcomes_never_double_a_request(conditions in conditions(), steps in steps()) {
        let slots = slots(conditions);
        for asked in Model::after(conditions, steps).history.asked {
            let most = asked.slots_needed + slots - 1 + asked.stand_ins * slots;
            prop_assert!((asked.coming + asked.count) * slots <= most, "{asked:?}");
        }
    }
}

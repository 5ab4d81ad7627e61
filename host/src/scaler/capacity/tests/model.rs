//! A cloud, its snapshots and jobs in miniature, moved by random steps through the same calls as the driver's, and what
//! happened on the way: the properties are judged by that and by what truly stands, never by the ledger's own counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::config::usable;
use crate::scaler::throttle::Throttle;

#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) capacity: u32,
    pub(super) max_use: u32,
    pub(super) max: u32,
    pub(super) idle: u32,
    pub(super) has_target: bool,
    pub(super) throttle: usable::Throttle,
}

pub(super) fn conditions() -> impl Strategy<Value = Conditions> {
    let throttle = (prop::option::of(0.01f64..5.0), 1u32..6);
    (1u32..4, 0u32..4, 1u32..8, 0u32..5, any::<bool>(), throttle).prop_map(
        |(capacity, max_use, max, idle, has_target, (limit, burst))| Conditions {
            capacity,
            max_use,
            max,
            idle,
            has_target,
            throttle: usable::Throttle { limit, burst },
        },
    )
}

/// What becomes of an increase under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Accepted,
    Half,
    Refused,
    /// No answer comes; whether the cloud acted.
    Lost(bool),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Reserve,
    Wait(usize),
    Unreserve(usize),
    Release(usize, bool),
    Lose(usize),
    Intrude,
    Answer(Fate),
    /// A snapshot, which may leave one out.
    Survey(Option<usize>),
    /// What is listed gets ready.
    Boot,
    Pass(u64),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        3 => Just(Fate::Accepted),
        1 => Just(Fate::Half),
        1 => Just(Fate::Refused),
        2 => any::<bool>().prop_map(Fate::Lost),
    ];
    let step = prop_oneof![
        3 => Just(Step::Reserve),
        3 => any::<usize>().prop_map(Step::Wait),
        1 => any::<usize>().prop_map(Step::Unreserve),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(n, good)| Step::Release(n, good)),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Intrude),
        4 => fate.prop_map(Step::Answer),
        4 => Just(Step::Survey(None)),
        1 => any::<usize>().prop_map(|n| Step::Survey(Some(n))),
        3 => Just(Step::Boot),
        2 => (0u64..200).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..100)
}

/// One instance as it truly is.
struct Standing {
    asked_for: bool,
    /// Made by the group in the place of one that was listed and is lost.
    replaces: bool,
    listed: bool,
    hidden: bool,
    deleting: bool,
}

/// Increases were asked for: when, how many, and what there was to see at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) count: u32,
    /// Listed and still there.
    pub(super) known: u32,
    /// Asked for before and not listed yet, or possibly asked for.
    pub(super) coming: u32,
    pub(super) slots_needed: u32,
    /// Intruders that took the place of what was asked for, which then comes on top.
    pub(super) stand_ins: u32,
}

#[derive(Default)]
pub(super) struct History {
    pub(super) asked: Vec<Asked>,
    pub(super) removed: Vec<InstanceId>,
    pub(super) removed_busy: Vec<InstanceId>,
    pub(super) granted_twice: Vec<(InstanceId, u32)>,
    pub(super) uses: BTreeMap<InstanceId, u32>,
    pub(super) miscounted: Vec<String>,
}

impl History {
    pub(super) fn moves(&self) -> usize {
        self.asked.len() + self.removed.len()
    }
}

pub(super) struct Model {
    conditions: Conditions,
    pub(super) ledger: Ledger,
    policy: Policy,
    throttle: Throttle,
    now: Instant,
    standing: BTreeMap<InstanceId, Standing>,
    target: u32,
    next: u32,
    under_way: VecDeque<(String, u32)>,
    /// Increases without an answer that did nothing, with the snapshots read since.
    lost: Vec<(u32, u32)>,
    snapshots: u64,
    stand_ins: u32,
    pub(super) reserved: Vec<ReservationId>,
    pub(super) waiting: VecDeque<ReservationId>,
    pub(super) running: BTreeMap<AcquisitionId, (InstanceId, u32)>,
    pub(super) history: History,
}

impl Model {
    pub(super) fn new(conditions: Conditions) -> Self {
        let now = Instant::now();
        let mut ledger = ledger(conditions.capacity, conditions.max_use);
        ledger.started(conditions.has_target.then_some(0));
        Self {
            conditions,
            ledger,
            policy: policy(conditions.idle, MINUTE),
            throttle: Throttle::new(conditions.throttle, now),
            now,
            standing: BTreeMap::new(),
            target: 0,
            next: 0,
            under_way: VecDeque::new(),
            lost: Vec::new(),
            snapshots: 0,
            stand_ins: 0,
            reserved: Vec::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            history: History::default(),
        }
    }

    /// After these steps.
    pub(super) fn after(conditions: Conditions, steps: Vec<Step>) -> Self {
        let mut model = Self::new(conditions);
        for step in steps {
            model.take(step);
        }
        model
    }

    pub(super) fn standing(&self) -> u32 {
        u32::try_from(self.standing.len()).unwrap()
    }

    pub(super) fn take(&mut self, step: Step) {
        let now = self.now;
        let max = Some(self.conditions.max);
        match step {
            Step::Reserve => {
                if may_reserve(
                    &self.policy,
                    &self.ledger,
                    max,
                    leaving(&self.policy, &self.ledger, now),
                )
                .is_ok()
                {
                    self.reserved.push(self.ledger.reserve());
                }
            }
            Step::Wait(n) if !self.reserved.is_empty() => {
                let id = self.reserved.remove(n % self.reserved.len());
                assert!(
                    self.ledger.wait(id),
                    "a reservation that was given is known"
                );
                self.waiting.push_back(id);
            }
            Step::Unreserve(n) if !self.reserved.is_empty() => {
                let id = self.reserved.remove(n % self.reserved.len());
                self.ledger.unreserve(id);
            }
            Step::Release(n, good) if !self.running.is_empty() => {
                let id = *self.running.keys().nth(n % self.running.len()).unwrap();
                self.running.remove(&id);
                let retire = (!good).then(|| "bad".to_owned());
                self.ledger.release(id, retire, true, true, now).unwrap();
            }
            Step::Lose(n) if !self.standing.is_empty() => {
                let id = self.standing.keys().nth(n % self.standing.len()).unwrap();
                let gone = self.standing.remove(&id.clone()).unwrap();
                if self.conditions.has_target && !gone.deleting {
                    self.make(gone.asked_for, gone.listed || gone.replaces);
                }
            }
            Step::Intrude => {
                self.target += 1;
                self.make(false, false);
            }
            Step::Answer(fate) => self.answer(fate),
            Step::Survey(hide) => self.survey(hide),
            Step::Boot => self.boot(),
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
            Step::Wait(_) | Step::Unreserve(_) | Step::Release(..) | Step::Lose(_) => {}
        }
        self.turn();
    }

    fn make(&mut self, asked_for: bool, replaces: bool) {
        self.next += 1;
        let made = Standing {
            asked_for,
            replaces,
            listed: false,
            hidden: false,
            deleting: false,
        };
        self.standing.insert(id(self.next), made);
    }

    fn answer(&mut self, fate: Fate) {
        let Some((token, count)) = self.under_way.pop_front() else {
            return;
        };
        let acted = match fate {
            Fate::Accepted | Fate::Lost(true) => count,
            Fate::Half => count / 2,
            Fate::Refused | Fate::Lost(false) => 0,
        };
        self.target += acted;
        for _ in 0..acted {
            self.make(true, false);
        }
        match fate {
            Fate::Lost(acted) => {
                self.ledger.unanswered(&token, self.snapshots + 1);
                if !acted {
                    self.lost.push((count, 0));
                }
            }
            Fate::Accepted | Fate::Half | Fate::Refused => self.ledger.answered(&token, acted),
        }
    }

    /// As the driver takes a snapshot in: what went leaves first.
    fn survey(&mut self, hide: Option<usize>) {
        self.snapshots += 1;
        let target = self.conditions.has_target.then_some(self.target);
        self.ledger.note_target(target);
        let known: BTreeSet<_> = self
            .ledger
            .entries()
            .map(|entry| entry.instance.id().clone())
            .collect();
        for id in known.iter().filter(|id| !self.standing.contains_key(*id)) {
            for lost in self.ledger.gone(id) {
                self.running.remove(&lost).unwrap();
            }
        }
        let hidden = hide.and_then(|n| self.standing.keys().nth(n % self.standing.len().max(1)));
        let hidden = hidden.cloned();
        let (mut whole, settled) = (true, self.under_way.is_empty());
        for (id, standing) in &mut self.standing {
            let hide = hidden.as_ref() == Some(id) && standing.listed && !standing.hidden;
            whole &= !hide;
            if known.contains(id) && hide != standing.hidden {
                self.ledger.set_missing(id, hide);
            }
            standing.hidden = hide;
        }
        for (id, standing) in &mut self.standing {
            if standing.hidden || standing.listed {
                continue;
            }
            standing.listed = true;
            let state = InstanceState::Running;
            let cause = self.ledger.appeared(id.clone(), state, false, self.now);
            if cause != Cause::Requested {
                let reason = RemovalReason::NotRequested(cause);
                self.ledger.doom(id, reason, self.now);
            } else if !standing.asked_for {
                self.stand_ins += 1;
            }
        }
        self.standing.retain(|_, s| !s.deleting);
        self.ledger.settle(self.snapshots, target, settled);
        if settled {
            self.ledger.give_up(self.now);
        }
        self.ledger.compare_target(target, settled);
        if settled && whole {
            self.lost.retain_mut(|(_, snapshots)| {
                *snapshots += 1;
                *snapshots < 2
            });
        }
    }

    fn boot(&mut self) {
        let listed: Vec<_> = self
            .ledger
            .entries()
            .filter(|e| e.instance.phase() == Phase::Listed && !e.is_doomed())
            .map(|e| e.instance.id().clone())
            .collect();
        for id in listed {
            self.ledger.advance(&id, Phase::Preparing, self.now);
            self.ledger.advance(&id, Phase::Ready, self.now);
            for slot in 0..self.conditions.capacity {
                self.ledger.set_slot(&id, slot, true);
            }
        }
    }

    /// Grants, decides and acts, as the driver does after every event.
    fn turn(&mut self) {
        while let Some(grant) = self.ledger.grant() {
            assert_eq!(
                self.waiting.pop_front(),
                Some(grant.reservation),
                "first come, first served"
            );
            let place = (grant.instance.clone(), grant.slot);
            if self.running.values().any(|taken| *taken == place) {
                self.history.granted_twice.push(place.clone());
            }
            *self.history.uses.entry(grant.instance).or_default() += 1;
            self.running.insert(grant.acquisition, place);
        }
        let counts = self.ledger.counts();
        if counts.in_use as usize != self.running.len() {
            let words = format!("{} jobs run: {counts:?}", self.running.len());
            self.history.miscounted.push(words);
        }
        let max = Some(self.conditions.max);
        let decision = decide(&self.policy, &self.ledger, max, self.now);
        let count = match decision.increase {
            0 => 0,
            increase => self.throttle.take(increase, self.now),
        };
        if count > 0 {
            self.ask(count);
        }
        for (id, reason) in &decision.remove {
            if self.running.values().any(|(on, _)| on == id) {
                self.history.removed_busy.push(id.clone());
            }
            assert!(
                self.ledger.begin_removal(id, reason),
                "what is to go may go"
            );
            self.history.removed.push(id.clone());
            let standing = self.standing.get_mut(id);
            if let Some(standing) = standing.filter(|s| !s.deleting) {
                standing.deleting = true;
                self.target = self.target.saturating_sub(1);
                self.ledger.removal_accepted(id);
            }
        }
    }

    fn ask(&mut self, count: u32) {
        let unlisted = |s: &&Standing| s.asked_for && !s.listed && !s.replaces;
        let unlisted = self.standing.values().filter(unlisted);
        let unlisted = u32::try_from(unlisted.count()).unwrap();
        let under_way: u32 = self.under_way.iter().map(|(_, count)| count).sum();
        let lost: u32 = self.lost.iter().map(|(count, _)| count).sum();
        let known = self.standing.values().filter(|s| s.listed).count();
        self.history.asked.push(Asked {
            at: self.now,
            count,
            known: u32::try_from(known).unwrap(),
            coming: unlisted + under_way + lost,
            slots_needed: u32::try_from(self.waiting.len()).unwrap() + self.conditions.idle,
            stand_ins: self.stand_ins,
        });
        self.next += 1;
        let token = format!("t{}", self.next);
        self.ledger.asked(token.clone(), count);
        self.under_way.push_back((token, count));
    }

    /// A while in which nothing goes wrong.
    pub(super) fn calm(&mut self) {
        while !self.under_way.is_empty() {
            self.take(Step::Answer(Fate::Accepted));
        }
        self.take(Step::Survey(None));
        self.take(Step::Boot);
        self.take(Step::Pass(400));
    }

    /// No job is left, nor asked for.
    pub(super) fn without_demand(&mut self) {
        while !self.reserved.is_empty() {
            self.take(Step::Unreserve(0));
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.ledger.unreserve(waiting);
        }
        while !self.running.is_empty() {
            self.take(Step::Release(0, true));
        }
    }
}

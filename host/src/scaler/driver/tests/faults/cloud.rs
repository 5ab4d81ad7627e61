//! What truly stands in the group, whatever anybody was told of it.
//!
//! ```text
//!  made ──► listed, creating ──► running ──┬──────────────────────► vanished
//!                                          ├──► failed, stopped ──► deleting ──► gone
//!                                          └──► deleting ─────────► gone
//! ```
//!
//! A group with a target makes instances until as many live as it says; one without makes what it is asked for and
//! lists that at once, for nothing else tells an increase that worked from one that did not. An instance that nobody
//! asked for is *plain* when, as the snapshot that shows it first is read, nothing that was asked for is missing: then
//! it cannot be taken for that, and must never serve a job. One that is not plain stands in for what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use super::dice::{Dice, between};
use crate::fleet::group::{InstanceId, InstanceState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Asked,
    /// Made by the group in the place of one that was asked for.
    Replacement,
    /// Made by the group or by somebody else, beyond what was asked for.
    Surplus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ender {
    Us,
    Cloud,
}

#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) origin: Origin,
    /// Of surplus, once it was shown: whether it could be told from what was asked for.
    pub(super) plain: Option<bool>,
    pub(super) made: Instant,
    listed_from: Instant,
    running_from: Instant,
    broken: Option<InstanceState>,
    end: Option<(Ender, Instant)>,
    /// A snapshot that reached the manager showed it.
    pub(super) shown: bool,
    /// The manager asked to delete it.
    pub(super) decreased: bool,
    acknowledged: bool,
    hidden_in: u64,
}

impl Standing {
    pub(super) fn state(&self, now: Instant) -> Option<InstanceState> {
        match (self.end, self.broken) {
            _ if now < self.listed_from => None,
            (Some((_, gone)), _) => (now < gone).then_some(InstanceState::Deleting),
            (None, Some(broken)) => Some(broken),
            (None, None) if now < self.running_from => Some(InstanceState::Creating),
            (None, None) => Some(InstanceState::Running),
        }
    }

    pub(super) fn exists(&self, now: Instant) -> bool {
        self.end.is_none_or(|(_, gone)| now < gone)
    }

    /// Nobody is ending it.
    pub(super) fn lives(&self) -> bool {
        self.end.is_none()
    }

    pub(super) fn works(&self) -> bool {
        self.end.is_none() && self.broken.is_none()
    }

    pub(super) fn ended_by_cloud(&self) -> bool {
        matches!(self.end, Some((Ender::Cloud, _)))
    }

    fn is_recent(&self, now: Instant) -> bool {
        now < self.made + Duration::from_secs(900)
    }

    fn was_asked_for(&self) -> bool {
        self.origin != Origin::Surplus || self.plain == Some(false)
    }
}

/// What the manager may rightly believe was asked for: an upper bound, made exact again whenever all is quiet.
#[derive(Debug, Default)]
struct Belief {
    begun: bool,
    asked: u32,
    /// Something happened that makes the bound unfit to judge by.
    muddled: bool,
    /// Snapshots in a row in which nothing moved, and when the first of them was read.
    quiet: Option<(u32, Instant)>,
    mutations_seen: u64,
}

/// An increase whose answer was lost and which did nothing; reserved until two later snapshots were read.
struct Unknown {
    count: u32,
    returned: Instant,
    snapshots: u32,
}

pub(super) struct Cloud {
    pub(super) standing: BTreeMap<InstanceId, Standing>,
    pub(super) target: Option<u32>,
    dice: Dice,
    next: u64,
    tokens: BTreeSet<String>,
    under_way: BTreeMap<String, u32>,
    unknown: Vec<Unknown>,
    pub(super) mutations: u64,
    mutating: u32,
    belief: Belief,
    /// Plain surplus that was shown.
    pub(super) plain: u32,
    pub(super) revoked: bool,
}

impl Cloud {
    pub(super) fn new(dice: Dice, keeps_target: bool, standing: u32, now: Instant) -> Self {
        let mut cloud = Self {
            standing: BTreeMap::new(),
            target: keeps_target.then_some(standing),
            dice,
            next: 0,
            tokens: BTreeSet::new(),
            under_way: BTreeMap::new(),
            unknown: Vec::new(),
            mutations: 0,
            mutating: 0,
            belief: Belief::default(),
            plain: 0,
            revoked: false,
        };
        for _ in 0..standing {
            let id = cloud.make(Origin::Surplus, now);
            let there = cloud.standing.get_mut(&id).unwrap();
            (there.listed_from, there.running_from) = (now, now);
        }
        cloud
    }

    fn make(&mut self, origin: Origin, now: Instant) -> InstanceId {
        self.next += 1;
        let mut draw = self.dice.at("launch", self.next);
        let wait = match (self.target, draw.random_range(0..10)) {
            (None, _) => Duration::ZERO,
            (Some(_), 0) => between(&mut draw, 0.0, 240.0),
            (Some(_), _) => between(&mut draw, 0.0, 20.0),
        };
        let listed_from = now + wait;
        let id = InstanceId(format!("i-{:04}", self.next));
        let made = Standing {
            origin,
            plain: None,
            made: now,
            listed_from,
            running_from: listed_from + between(&mut draw, 0.0, 60.0),
            broken: None,
            end: None,
            shown: false,
            decreased: false,
            acknowledged: false,
            hidden_in: 0,
        };
        self.standing.insert(id.clone(), made);
        id
    }

    pub(super) fn existing(&self, now: Instant) -> impl Iterator<Item = (&InstanceId, &Standing)> {
        self.standing.iter().filter(move |(_, s)| s.exists(now))
    }

    // What the manager asks.

    pub(super) fn increase_begins(&mut self, token: &str, count: u32) {
        self.mutations += 1;
        self.mutating += 1;
        self.belief.asked += count;
        self.under_way.insert(token.into(), count);
    }

    /// The cloud acts on up to `accepted`; a token that it has acted on already adds nothing.
    pub(super) fn act(&mut self, token: &str, accepted: u32, now: Instant) {
        self.under_way.remove(token);
        if !self.tokens.insert(token.into()) {
            return;
        }
        self.target = self.target.map(|target| target + accepted);
        for _ in 0..accepted {
            self.make(Origin::Asked, now);
        }
    }

    /// The answer arrives: `accepted`, or nobody knows.
    pub(super) fn increase_ends(
        &mut self,
        token: &str,
        count: u32,
        accepted: Option<u32>,
        now: Instant,
    ) {
        self.mutating -= 1;
        let idle = self.under_way.remove(token).is_some();
        match accepted {
            Some(accepted) => {
                self.belief.asked = self.belief.asked.saturating_sub(count - accepted);
            }
            None => self.belief.muddled = true,
        }
        if accepted.is_none() && idle {
            self.unknown.push(Unknown {
                count,
                returned: now,
                snapshots: 0,
            });
        }
    }

    pub(super) fn decrease_begins(&mut self, ids: &[InstanceId]) {
        self.mutations += 1;
        self.mutating += 1;
        for id in ids {
            if let Some(standing) = self.standing.get_mut(id) {
                standing.decreased = true;
            }
        }
    }

    /// Begins to delete one. False: there is none.
    pub(super) fn delete(&mut self, id: &InstanceId, linger: Duration, now: Instant) -> bool {
        let Some(standing) = self.standing.get_mut(id).filter(|s| s.exists(now)) else {
            return false;
        };
        if standing.lives() {
            standing.end = Some((Ender::Us, now + linger));
            self.target = self.target.map(|target| target.saturating_sub(1));
        }
        true
    }

    /// The answer arrives: which of them were accepted; `None`: nobody knows.
    pub(super) fn decrease_ends(&mut self, accepted: Option<&[InstanceId]>) {
        self.mutating -= 1;
        let Some(accepted) = accepted else {
            self.belief.muddled = true;
            return;
        };
        for id in accepted {
            let standing = self.standing.get_mut(id);
            if let Some(standing) = standing.filter(|s| s.was_asked_for() && !s.acknowledged) {
                standing.acknowledged = true;
                self.belief.asked = self.belief.asked.saturating_sub(1);
            }
        }
    }

    // What happens by itself.

    /// Ends one without being asked to; a group with a target replaces it, unless the target falls with it.
    pub(super) fn lose(&mut self, id: &InstanceId, linger: Duration, replace: bool, now: Instant) {
        self.belief.muddled = true;
        let Some(standing) = self.standing.get_mut(id).filter(|s| s.lives()) else {
            return;
        };
        standing.end = Some((Ender::Cloud, now + linger));
        let origin = match standing.was_asked_for() {
            true => Origin::Replacement,
            false => Origin::Surplus,
        };
        match (self.target, replace) {
            (Some(_), true) => {
                self.make(origin, now);
            }
            (Some(target), false) => self.target = Some(target - 1),
            (None, _) => {}
        }
    }

    pub(super) fn break_down(&mut self, id: &InstanceId, state: InstanceState) {
        self.belief.muddled = true;
        if let Some(standing) = self.standing.get_mut(id) {
            standing.broken = Some(state);
        }
    }

    pub(super) fn intrude(&mut self, now: Instant) -> InstanceId {
        self.target = self.target.map(|target| target + 1);
        self.make(Origin::Surplus, now)
    }

    // What a snapshot shows.

    /// Everything listed now; `hiccup` may leave one out that an earlier snapshot showed, never twice in a row.
    pub(super) fn list(
        &mut self,
        number: u64,
        hiccup: Option<u64>,
        now: Instant,
    ) -> Vec<(InstanceId, InstanceState)> {
        let mut listed: Vec<_> = self
            .standing
            .iter()
            .filter_map(|(id, s)| Some((id.clone(), s.state(now)?)))
            .collect();
        if let Some(pick) = hiccup.filter(|_| !listed.is_empty()) {
            let at = usize::try_from(pick % listed.len() as u64).unwrap();
            let standing = self.standing.get_mut(&listed[at].0).unwrap();
            if standing.shown && standing.hidden_in + 1 < number {
                standing.hidden_in = number;
                self.belief.muddled = true;
                listed.remove(at);
            }
        }
        listed
    }

    /// A snapshot with these reaches the manager.
    pub(super) fn show(
        &mut self,
        listed: &[(InstanceId, InstanceState)],
        begun: Instant,
        now: Instant,
    ) {
        self.unknown.retain_mut(|unknown| {
            unknown.snapshots += u32::from(begun >= unknown.returned);
            unknown.snapshots < 2
        });
        if !std::mem::replace(&mut self.belief.begun, true) {
            // Who begins finds a group that may be about to make more.
            let standing = u32::try_from(listed.len()).unwrap();
            self.belief.asked = self
                .target
                .map_or(0, |target| target.saturating_sub(standing));
        }
        let there = |(id, state): &&(InstanceId, InstanceState)| {
            let standing = &self.standing[id];
            let working = matches!(state, InstanceState::Running | InstanceState::Creating);
            working && standing.shown && standing.was_asked_for() && !standing.acknowledged
        };
        let there = listed.iter().filter(there).count();
        let nothing_missing = !self.belief.muddled && there >= self.belief.asked as usize;
        for (id, _) in listed {
            let standing = self.standing.get_mut(id).unwrap();
            if !standing.shown && standing.origin == Origin::Surplus {
                standing.plain = Some(nothing_missing);
                self.plain += u32::from(nothing_missing);
                self.belief.muddled |= !nothing_missing;
            }
            standing.shown = true;
        }
        self.settle(listed, now);
    }

    /// After a few snapshots in which nothing moved, what stands is what was asked for.
    fn settle(&mut self, listed: &[(InstanceId, InstanceState)], now: Instant) {
        let belief = &mut self.belief;
        let moved = self.mutating > 0
            || std::mem::replace(&mut belief.mutations_seen, self.mutations) != self.mutations;
        let existing: Vec<_> = self.standing.values().filter(|s| s.exists(now)).collect();
        let all_well = listed.len() == existing.len()
            && existing
                .iter()
                .all(|s| s.works() && s.shown && !s.decreased && s.was_asked_for());
        if moved || !all_well {
            belief.quiet = None;
            return;
        }
        let (snapshots, since) = belief.quiet.get_or_insert((0, now));
        *snapshots += 1;
        // Without a target, what was made and lost before it was shown is waited for.
        let long = self.target.is_some() || now >= *since + Duration::from_secs(400);
        if *snapshots >= 4 && long {
            belief.asked = u32::try_from(existing.len()).unwrap();
            belief.muddled = false;
        }
    }

    // What the promises are judged by.

    /// Asked for and not shown yet, what is under way and what may have been lost on the way.
    pub(super) fn coming(&self, now: Instant) -> u32 {
        let unshown =
            |(_, s): &(&InstanceId, &Standing)| !s.shown && s.lives() && s.origin == Origin::Asked;
        let unshown = self.existing(now).filter(unshown).count();
        let unknown: u32 = self.unknown.iter().map(|u| u.count).sum();
        u32::try_from(unshown).unwrap() + self.under_way.values().sum::<u32>() + unknown
    }

    /// Shown and still there, but for what the cloud is ending by itself and may have replaced.
    pub(super) fn known(&self, now: Instant) -> u32 {
        let known = |(_, s): &(&InstanceId, &Standing)| s.shown && !s.ended_by_cloud();
        u32::try_from(self.existing(now).filter(known).count()).unwrap()
    }

    /// Surplus that was rightly taken for what was asked for, so that the latter comes on top.
    pub(super) fn stand_ins(&self, now: Instant) -> u32 {
        self.count(|s| s.plain == Some(false) && (s.exists(now) || s.is_recent(now)))
    }

    /// Replacements that may have been shown before the loss of what they replace was noticed: until then they pass for
    /// what was asked for.
    pub(super) fn early_replacements(&self, now: Instant) -> u32 {
        self.count(|s| s.origin == Origin::Replacement && s.shown && s.is_recent(now))
    }

    fn count(&self, which: impl Fn(&Standing) -> bool) -> u32 {
        let count = self.standing.values().filter(|s| which(s)).count();
        u32::try_from(count).unwrap()
    }
}

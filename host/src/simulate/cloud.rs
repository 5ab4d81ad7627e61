//! The simulated cloud of one runner, seen as the manager sees it: only when it is read; pure.
//!
//! ```text
//!  ask ──► unlisted ──read──► booting ──read after the boot──► running
//!                                └─ removed before it ran
//!  remove ──► deleting ──read after the deletion──► missing ──next read──► lost
//! ```
//!
//! Readings follow the manager's rhythm: `update_interval_when_expecting` while anything is to change,
//! `update_interval` otherwise; what is asked for hastens the next one. Invariant: an instance is in at most one of the
//! places above, or runs and is in none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::{Duration, Instant};

use super::boot::Boot;
use crate::config::usable::Autoscaler;
use crate::fleet::group::InstanceId;

/// What one reading shows for the first time.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) lost: Vec<InstanceId>,
    pub(super) appeared: Vec<InstanceId>,
    pub(super) running: Vec<InstanceId>,
}

impl Reading {
    pub(super) fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.appeared.is_empty() && self.running.is_empty()
    }
}

pub(super) struct Cloud {
    runner: usize,
    boot: Boot,
    deletion: Duration,
    calm: Duration,
    brisk: Duration,
    /// How many instances were ever made.
    made: u64,
    unlisted: Vec<(Instant, InstanceId)>,
    booting: BinaryHeap<Reverse<(Instant, InstanceId)>>,
    deleting: BinaryHeap<Reverse<(Instant, InstanceId)>>,
    missing: Vec<InstanceId>,
    expecting: bool,
    read_at: Instant,
}

impl Cloud {
    /// Empty, and read for the first time just now.
    pub(super) fn new(
        runner: usize,
        boot: Boot,
        deletion: Duration,
        rhythm: &Autoscaler,
        now: Instant,
    ) -> Self {
        Self {
            runner,
            boot,
            deletion,
            calm: rhythm.update_interval,
            brisk: rhythm.update_interval_when_expecting,
            made: 0,
            unlisted: Vec::new(),
            booting: BinaryHeap::new(),
            deleting: BinaryHeap::new(),
            missing: Vec::new(),
            expecting: false,
            read_at: now + rhythm.update_interval,
        }
    }

    pub(super) fn made(&self) -> u64 {
        self.made
    }

    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    pub(super) fn ask(&mut self, count: u32, now: Instant) {
        for _ in 0..count {
            let ends = now + self.boot.of(self.runner, self.made);
            self.made += 1;
            let id = InstanceId(format!("i-{:08}", self.made));
            self.unlisted.push((ends, id));
        }
        self.expect(true, now);
    }

    pub(super) fn remove(&mut self, id: InstanceId, now: Instant) {
        self.deleting.push(Reverse((now + self.deletion, id)));
        self.read_soon(now);
    }

    /// Instances that are removed before they ran.
    pub(super) fn give_up_boots(&mut self, of: &HashSet<&InstanceId>) {
        self.booting.retain(|Reverse((_, id))| !of.contains(id));
    }

    /// Whether instances are asked for that no reading has shown yet.
    pub(super) fn expect(&mut self, expecting: bool, now: Instant) {
        self.expecting = expecting;
        self.read_soon(now);
    }

    pub(super) fn read(&mut self, now: Instant) -> Reading {
        let lost = std::mem::take(&mut self.missing);
        self.missing = until(&mut self.deleting, now);
        let mut appeared = Vec::with_capacity(self.unlisted.len());
        for (ends, id) in self.unlisted.drain(..) {
            appeared.push(id.clone());
            self.booting.push(Reverse((ends, id)));
        }
        let running = until(&mut self.booting, now);
        self.read_at = now + self.soon();
        Reading {
            lost,
            appeared,
            running,
        }
    }

    fn read_soon(&mut self, now: Instant) {
        self.read_at = self.read_at.min(now + self.soon());
    }

    fn soon(&self) -> Duration {
        let changing =
            !self.booting.is_empty() || !self.deleting.is_empty() || !self.missing.is_empty();
        if self.expecting || changing {
            self.brisk
        } else {
            self.calm
        }
    }
}

/// What is due by `now`.
fn until(heap: &mut BinaryHeap<Reverse<(Instant, InstanceId)>>, now: Instant) -> Vec<InstanceId> {
    let mut due = Vec::new();
    while heap.peek().is_some_and(|Reverse((at, _))| *at <= now)
        && let Some(Reverse((_, id))) = heap.pop()
    {
        due.push(id);
    }
    due
}

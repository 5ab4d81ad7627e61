//! Instances made from what the group no longer makes new ones from, such as an older launch template version.

use std::time::{Duration, Instant};

use super::Ledger;
use crate::fleet::group::InstanceId;

/// The part of the fleet that may be in change at once for a new generation.
const SHARE: u32 = 5;
/// An instance that appears this long after the group changed was made from what it is now, whatever names the provider
/// gives: a provider whose names cannot be compared must not have the fleet replaced for ever.
const LATE: Duration = Duration::from_secs(600);

impl Ledger {
    /// What the group makes new instances from; false when that is no news. `None` is no news either: a provider that
    /// stops telling takes nothing back.
    pub fn set_generation(&mut self, current: Option<String>, now: Instant) -> bool {
        if current.is_none() || current == self.generation {
            return false;
        }
        let first = self.generation.is_none();
        self.generation = current;
        self.generation_since = Some(now);
        let all: Vec<InstanceId> = self.fleet.keys().cloned().collect();
        for id in all {
            self.judge(&id);
        }
        !first
    }

    pub fn set_instance_generation(&mut self, id: &InstanceId, generation: String) {
        self.touch(id, |entry| entry.generation = Some(generation));
        self.judge(id);
    }

    pub fn generation(&self) -> Option<&str> {
        self.generation.as_deref()
    }

    /// Outdated instances that may be taken out of service now, the idle ones first (true). At most a fifth of the
    /// fleet is in change at once, what boots and what goes included.
    pub fn outdated(&self) -> impl Iterator<Item = (bool, &InstanceId)> {
        let ours = self.counts.requested + self.coming();
        let in_change = ours - self.counts.serving;
        let room = (ours / SHARE).max(1).saturating_sub(in_change);
        let outdated = self.outdated.iter().map(|(busy, id)| (!busy, id));
        outdated.take(room as usize)
    }

    fn judge(&mut self, id: &InstanceId) {
        let (Some(current), Some(since)) = (self.generation.clone(), self.generation_since) else {
            return;
        };
        self.touch(id, |entry| {
            let differs = entry.generation.as_ref().is_some_and(|own| *own != current);
            entry.outdated = differs && entry.instance.first_seen() < since + LATE;
        });
    }
}

//! `wanted`: how many instances the group was asked for, and increases whose outcome is not known yet; pure.
//!
//! `wanted` = accepted increases − accepted decreases. A group that replaces lost instances by itself keeps its own
//! target, so a loss changes nothing here; a cloud without a target replaces nothing, so there a loss counts down.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An increase that has not been answered, or was answered by a trap or a timeout.
#[derive(Clone, Copy, Debug)]
struct Pending {
    count: u32,
    /// The first snapshot that may judge it and how many have, once its outcome is known to be unknown.
    unknown: Option<(u64, u32)>,
}

/// Two snapshots begun after a call returned settle it.
const SNAPSHOTS_TO_SETTLE: u32 = 2;

/// How long what was accepted may stay unlisted where no target vouches for it.
const APPEARANCE_PATIENCE: Duration = Duration::from_secs(300);

/// What a snapshot said of the group's target that was not what we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetDiffers {
    pub target: u32,
    pub wanted: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    wanted: u32,
    pending: BTreeMap<String, Pending>,
    pending_count: u32,
    /// Whether the last snapshot carried a target.
    has_target: bool,
    /// A differing target and in how many settled snapshots in a row it was seen.
    differing: Option<(u32, u32)>,
    /// How many are wanted and not listed, and since when.
    lacking: Option<(u32, Instant)>,
}

impl Balance {
    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Wanted, plus what unanswered increases may add.
    pub(super) fn reserved(&self) -> u32 {
        self.wanted.saturating_add(self.pending_count)
    }

    pub(super) fn start(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    pub(super) fn asked(&mut self, token: String, count: u32) {
        self.pending_count += count;
        let unknown = None;
        self.pending.insert(token, Pending { count, unknown });
    }

    pub(super) fn answered(&mut self, token: &str, accepted: u32) {
        if let Some(pending) = self.pending.remove(token) {
            self.pending_count -= pending.count;
            self.wanted = self.wanted.saturating_add(accepted.min(pending.count));
        }
    }

    /// The call trapped or timed out: snapshots from number `judged_from` on may judge it.
    pub(super) fn unknown(&mut self, token: &str, judged_from: u64) {
        if let Some(pending) = self.pending.get_mut(token) {
            pending.unknown = Some((judged_from, 0));
        }
    }

    /// What came to stand beside what was asked for, and was taken for it, is wanted too: the next increase would seem
    /// done before anything of it came.
    pub(super) fn at_least(&mut self, live: u32) {
        self.wanted = self.wanted.max(live.saturating_sub(self.pending_count));
    }

    /// A decrease was accepted.
    pub(super) fn decreased(&mut self) {
        self.wanted = self.wanted.saturating_sub(1);
    }

    /// An instance went without us. Answers whether that lowered `wanted`.
    pub(super) fn lost(&mut self) -> bool {
        if !self.has_target {
            self.decreased();
        }
        !self.has_target
    }

    pub(super) fn note_target(&mut self, target: Option<u32>) {
        self.has_target = target.is_some();
    }

    /// Lets a snapshot judge unknown increases, if no mutation was under way beside it (`settled`): what another call
    /// adds or takes at the same time proves nothing. `live` are instances that count towards `wanted`, `extra` those
    /// that do not but stand in the group. Answers (asked for, found accepted) of each settled one.
    pub(super) fn settle(
        &mut self,
        number: u64,
        target: Option<u32>,
        live: u32,
        extra: u32,
        settled: bool,
    ) -> Vec<(u32, u32)> {
        if !settled {
            return Vec::new();
        }
        let mut ripe = Vec::new();
        for (token, pending) in &mut self.pending {
            if let Some((from, seen)) = &mut pending.unknown
                && number >= *from
            {
                *seen += 1;
                if *seen >= SNAPSHOTS_TO_SETTLE {
                    ripe.push(token.clone());
                }
            }
        }
        let mut settled = Vec::new();
        for token in ripe {
            let count = self.pending.get(&token).map_or(0, |p| p.count);
            let found = match target {
                Some(target) => target.saturating_sub(self.wanted + extra),
                None => live.saturating_sub(self.wanted),
            };
            self.answered(&token, found);
            settled.push((count, found.min(count)));
        }
        settled
    }

    /// Compares the group's target with ours; `settled` is false while a mutation may not be in it yet. The second
    /// snapshot in a row that says less lowers `wanted`, so that the next decision asks anew; one that says more is
    /// only told, because the surplus is removed when it appears.
    pub(super) fn compare(
        &mut self,
        target: Option<u32>,
        extra: u32,
        settled: bool,
    ) -> Option<TargetDiffers> {
        let target = target.filter(|_| settled && self.pending.is_empty())?;
        let wanted = self.wanted;
        if target >= wanted && target <= wanted + extra {
            self.differing = None;
            return None;
        }
        let seen = match self.differing {
            Some((before, seen)) if before == target => seen + 1,
            _ => 1,
        };
        self.differing = Some((target, seen));
        if seen != SNAPSHOTS_TO_SETTLE {
            return None;
        }
        if target < wanted {
            self.wanted = target;
            self.differing = None;
        }
        Some(TargetDiffers { target, wanted })
    }

    /// Gives up what was accepted and never listed in a cloud without a target, which makes nothing in its place; called
    /// with snapshots beside which no mutation was under way. Answers how many.
    pub(super) fn give_up(&mut self, live: u32, now: Instant) -> u32 {
        let lacking = self.wanted.saturating_sub(live);
        if self.has_target || lacking == 0 || !self.pending.is_empty() {
            self.lacking = None;
            return 0;
        }
        let since = match self.lacking {
            Some((before, since)) if before == lacking => since,
            _ => now,
        };
        self.lacking = Some((lacking, since));
        if now < since + APPEARANCE_PATIENCE {
            return 0;
        }
        self.lacking = None;
        self.wanted = live;
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanting(n: u32) -> Balance {
        let mut balance = Balance::default();
        balance.start(n);
        balance
    }

    #[test]
    fn an_unknown_increase_stays_reserved_until_two_later_snapshots() {
        let mut balance = wanting(2);
        balance.asked("a".into(), 3);
        balance.unknown("a", 7);
        assert!(balance.settle(6, Some(5), 2, 0, true).is_empty());
        assert!(balance.settle(7, Some(5), 2, 0, true).is_empty());
        assert_eq!(balance.reserved(), 5);
        assert_eq!(balance.settle(8, Some(5), 2, 0, true), [(3, 3)]);
        assert_eq!((balance.wanted(), balance.reserved()), (5, 5));
    }

    #[test]
    fn an_increase_that_never_arrived_is_given_up() {
        let mut balance = wanting(2);
        balance.asked("a".into(), 3);
        balance.unknown("a", 1);
        balance.settle(1, None, 2, 0, true);
        assert_eq!(balance.settle(2, None, 2, 0, true), [(3, 0)]);
        assert_eq!(balance.reserved(), 2);
    }

    #[test]
    fn what_another_increase_brings_is_not_credited_to_the_unknown_one() {
        let mut balance = wanting(2);
        balance.asked("lost".into(), 1);
        balance.unknown("lost", 1);
        balance.asked("slow".into(), 1);
        for number in 1..5 {
            assert_eq!(balance.settle(number, None, 3, 0, false), []);
        }
        balance.answered("slow", 1);
        assert_eq!(balance.settle(5, None, 3, 0, true), []);
        assert_eq!(balance.settle(6, None, 3, 0, true), [(1, 0)]);
        assert_eq!(balance.reserved(), 3);
    }

    #[test]
    fn a_lower_target_is_believed_the_second_time() {
        let mut balance = wanting(5);
        assert_eq!(balance.compare(Some(3), 0, true), None);
        assert_eq!(balance.compare(Some(3), 0, false), None);
        let told = balance.compare(Some(3), 0, true);
        assert_eq!(
            told,
            Some(TargetDiffers {
                target: 3,
                wanted: 5
            })
        );
        assert_eq!(balance.wanted(), 3);
    }

    #[test]
    fn a_higher_target_is_told_once_and_never_followed() {
        let mut balance = wanting(5);
        let told: Vec<_> = (0..5)
            .filter_map(|_| balance.compare(Some(9), 1, true))
            .collect();
        assert_eq!(told.len(), 1);
        assert_eq!(balance.wanted(), 5);
        assert_eq!(balance.compare(Some(6), 1, true), None);
    }

    #[test]
    fn a_loss_lowers_wanted_only_where_nothing_replaces_it() {
        let mut balance = wanting(2);
        balance.note_target(Some(2));
        assert!(!balance.lost());
        balance.note_target(None);
        assert!(balance.lost());
        assert_eq!(balance.wanted(), 1);
    }

    #[test]
    fn what_was_accepted_and_never_came_is_given_up_only_where_nothing_replaces_it() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut balance = wanting(3);
        assert_eq!(balance.give_up(2, start), 0);
        assert_eq!(balance.give_up(1, start + 200 * second), 0);
        assert_eq!(balance.give_up(1, start + 499 * second), 0);
        assert_eq!(balance.give_up(1, start + 500 * second), 2);
        assert_eq!(balance.reserved(), 1);
        let mut balance = wanting(3);
        balance.note_target(Some(3));
        balance.give_up(2, start);
        assert_eq!(balance.give_up(2, start + 900 * second), 0);
        assert_eq!(balance.reserved(), 3);
    }
}

//! Polling must not fill the journal: a verdict that comes again is the entry it was, seen once more; pure.

use jiff::{SignedDuration, Timestamp};

use super::{Entry, Event};

/// A verdict that comes again after longer than this is a new one.
const SAME_VERDICT: SignedDuration = SignedDuration::from_mins(5);
/// How long the count of a verdict that goes on may be known to this process alone.
const WRITE_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// Verdicts that may come again: the newest of each runner and decision.
#[derive(Debug, Default)]
pub(super) struct Merge {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    entry: Entry,
    /// When its line was written, and how many times that line says.
    written: (Timestamp, u64),
}

impl Merge {
    /// What is to be written now that `entry` came.
    pub(super) fn take(&mut self, entry: Entry) -> Vec<Entry> {
        let Some(decision) = repeatable(&entry.event) else {
            return vec![entry];
        };
        let place = self.open.iter().position(|open| {
            open.entry.runner == entry.runner
                && repeatable(&open.entry.event).is_some_and(|of| of == decision)
        });
        if let Some(place) = place {
            let open = &mut self.open[place];
            let again = is_same(&open.entry.event, &entry.event)
                && entry.at.duration_since(open.entry.end()) <= SAME_VERDICT;
            if again {
                open.entry.until = Some(entry.at);
                open.entry.times += entry.times;
                open.entry.event = entry.event;
                return Vec::new();
            }
            let ended = self.open.swap_remove(place);
            let mut lines: Vec<Entry> = ended.unwritten().into_iter().collect();
            lines.push(entry.clone());
            self.open.push(Open::new(entry));
            return lines;
        }
        self.open.push(Open::new(entry.clone()));
        vec![entry]
    }

    /// Counts that should not wait any longer.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Entry> {
        self.write(
            |open| now.duration_since(open.written.0) >= WRITE_AGAIN,
            now,
        )
    }

    /// Every count that is not written.
    pub(super) fn flush(&mut self, now: Timestamp) -> Vec<Entry> {
        self.write(|_| true, now)
    }

    fn write(&mut self, which: impl Fn(&Open) -> bool, now: Timestamp) -> Vec<Entry> {
        let mut lines = Vec::new();
        for open in self.open.iter_mut().filter(|open| which(open)) {
            lines.extend(open.unwritten());
            open.written = (now, open.entry.times);
        }
        lines
    }
}

impl Open {
    fn new(entry: Entry) -> Self {
        let written = (entry.at, entry.times);
        Self { entry, written }
    }

    fn unwritten(&self) -> Option<Entry> {
        (self.entry.times > self.written.1).then(|| self.entry.clone())
    }
}

/// The decision, where it is one that is taken again and again.
fn repeatable(event: &Event) -> Option<&str> {
    match event {
        Event::Decided { decision, .. } if matches!(decision.as_str(), "refuse" | "hold") => {
            Some(decision)
        }
        _ => None,
    }
}

/// Whatever the numbers.
fn is_same(one: &Event, other: &Event) -> bool {
    match (one, other) {
        (Event::Decided { text: one, .. }, Event::Decided { text: other, .. }) => one == other,
        _ => false,
    }
}

/// Entries as they were read, with each beginning told once: by its last line.
pub fn merged(read: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in read {
        let before = entry.until.and_then(|_| {
            entries.iter().rposition(|before| {
                before.at == entry.at
                    && before.runner == entry.runner
                    && is_same(&before.event, &entry.event)
            })
        });
        match before {
            Some(place) => entries[place] = entry,
            None => entries.push(entry),
        }
    }
    // A beginning that was pruned leaves its later line where that was written.
    entries.sort_by_key(|entry| entry.at);
    entries
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::observe::journal::Numbers;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn decided(second: i64, decision: &str, text: &str) -> Entry {
        let event = Event::Decided {
            decision: decision.into(),
            reason: "r".into(),
            text: text.into(),
            instances: Vec::new(),
            numbers: Numbers {
                reserved: u32::try_from(second).unwrap(),
                ..Numbers::default()
            },
        };
        Entry::new(at(second), "x", None, event)
    }

    #[test]
    fn an_hour_of_polling_is_one_entry_and_few_lines() {
        let mut merge = Merge::default();
        let mut lines = Vec::new();
        for second in (0..3600).step_by(3) {
            lines.extend(merge.take(decided(second, "refuse", "full")));
            lines.extend(merge.due(at(second)));
        }
        lines.extend(merge.take(decided(3600, "increase", "more")));
        lines.extend(merge.take(decided(3601, "refuse", "broken")));
        assert!(lines.len() < 12, "{}", lines.len());
        assert_eq!(lines[0], decided(0, "refuse", "full"), "told at once");
        let entries = merged(lines);
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.at, entry.end(), entry.times))
            .collect();
        assert_eq!(
            told,
            [
                (at(0), at(3597), 1200),
                (at(3600), at(3600), 1),
                (at(3601), at(3601), 1)
            ]
        );
    }

    #[test]
    fn what_comes_back_late_or_from_another_runner_is_new() {
        let mut merge = Merge::default();
        assert_eq!(merge.take(decided(0, "hold", "coming")).len(), 1);
        assert_eq!(merge.take(decided(301, "hold", "coming")).len(), 1);
        let other = Entry {
            runner: "y".into(),
            ..decided(302, "hold", "coming")
        };
        assert_eq!(merge.take(other).len(), 1);
        assert_eq!(merge.take(decided(303, "increase", "more")).len(), 1);
        assert_eq!(merge.take(decided(304, "increase", "more")).len(), 1);
        assert_eq!(merge.take(decided(305, "hold", "coming")), []);
        let counted = merge.flush(at(305));
        assert_eq!((counted.len(), counted[0].times), (1, 2));
        assert_eq!(merge.flush(at(305)), []);
    }
}

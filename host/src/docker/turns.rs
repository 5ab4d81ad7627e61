//! Notes of things that are done side by side, shown as if one was done after the other.
//!
//! ```text
//!   strand 0 ── its turn: shown at once ──▶ dropped ─┐
//!   strand 1 ── held ────────────────────────────────┴─▶ its turn: what was held, then at once …
//! ```
//! Invariants: lines of one strand stay in order; no line is lost, whichever strand ends first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stage::Notes;

/// Whoever has ended its strand by dropping it lets the next one speak.
pub(super) struct Turns {
    notes: Arc<dyn Notes>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Whose turn it is.
    now: usize,
    strands: Vec<Held>,
}

#[derive(Default)]
struct Held {
    ended: bool,
    lines: Vec<Line>,
}

enum Line {
    Info(String),
    Notice(String),
    Warning(String),
    Error(String),
}

impl Turns {
    pub(super) fn of(notes: Arc<dyn Notes>) -> Self {
        Self {
            notes,
            state: Arc::default(),
        }
    }

    /// The next in order.
    pub(super) fn strand(&self) -> Arc<dyn Notes> {
        let mut state = lock(&self.state);
        state.strands.push(Held::default());
        Arc::new(Strand {
            number: state.strands.len() - 1,
            notes: Arc::clone(&self.notes),
            state: Arc::clone(&self.state),
        })
    }

    /// The next so many.
    pub(super) fn strands(&self, count: usize) -> Vec<Arc<dyn Notes>> {
        (0..count).map(|_| self.strand()).collect()
    }
}

struct Strand {
    number: usize,
    notes: Arc<dyn Notes>,
    state: Arc<Mutex<State>>,
}

impl Strand {
    fn put(&self, line: Line) {
        let mut state = lock(&self.state);
        if state.now == self.number {
            self.show(&line);
        } else {
            state.strands[self.number].lines.push(line);
        }
    }

    fn show(&self, line: &Line) {
        match line {
            Line::Info(text) => self.notes.info(text),
            Line::Notice(text) => self.notes.notice(text),
            Line::Warning(text) => self.notes.warn(text),
            Line::Error(text) => self.notes.error(text),
        }
    }
}

impl Notes for Strand {
    fn info(&self, line: &str) {
        self.put(Line::Info(line.to_owned()));
    }

    fn notice(&self, line: &str) {
        self.put(Line::Notice(line.to_owned()));
    }

    fn warn(&self, line: &str) {
        self.put(Line::Warning(line.to_owned()));
    }

    fn error(&self, line: &str) {
        self.put(Line::Error(line.to_owned()));
    }
}

impl Drop for Strand {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.strands[self.number].ended = true;
        while state.strands.get(state.now).is_some_and(|held| held.ended) {
            state.now += 1;
            let now = state.now;
            let held = state
                .strands
                .get_mut(now)
                .map(|held| std::mem::take(&mut held.lines));
            for line in held.into_iter().flatten() {
                self.show(&line);
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Shown(Mutex<Vec<String>>);

    impl Notes for Shown {
        fn info(&self, line: &str) {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line.into());
        }

        fn warn(&self, line: &str) {
            self.info(&format!("! {line}"));
        }
    }

    #[test]
    fn what_is_done_side_by_side_is_told_in_turn() {
        let shown = Arc::new(Shown::default());
        let turns = Turns::of(shown.clone());
        let (first, second, third) = (turns.strand(), turns.strand(), turns.strand());
        let so_far = || {
            shown
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .join(" ")
        };
        third.info("c1");
        second.info("b1");
        first.info("a1");
        drop(third);
        second.warn("b2");
        first.info("a2");
        assert_eq!(so_far(), "a1 a2");
        drop(first);
        assert_eq!(so_far(), "a1 a2 b1 ! b2");
        second.info("b3");
        drop(second);
        turns.strand().info("d1");
        assert_eq!(so_far(), "a1 a2 b1 ! b2 b3 c1 d1");
    }
}

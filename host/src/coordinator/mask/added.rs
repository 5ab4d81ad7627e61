//! Words that a job's own commands add to what is masked: a line `::add-mask::WORD` (`proxy_exec`).
//!
//! ```text
//! bytes → a line that begins like the command is held ─ its end → the word, then the line ─→ phrases
//!                                                      └ it does not go on so → the line as it is
//! ```
//! Invariant: a word is known to all streams before the line that names it is shown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::phrases::Phrases;

const COMMAND: &[u8] = b"::add-mask::";
/// Of a line, in bytes; a longer one is no command.
const LONGEST: usize = 16 * 1024;
/// All added words together, and in bytes: each makes the automaton anew.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 * 1024;

/// What is masked in all streams of one job, which grows.
pub(super) struct Words(Mutex<Known>);

struct Known {
    all: Vec<Vec<u8>>,
    added: usize,
    added_bytes: usize,
    phrases: Arc<Phrases>,
}

impl Words {
    pub(super) fn new(all: Vec<Vec<u8>>, phrases: Arc<Phrases>) -> Self {
        Self(Mutex::new(Known {
            all,
            added: 0,
            added_bytes: 0,
            phrases,
        }))
    }

    pub(super) fn phrases(&self) -> Arc<Phrases> {
        self.lock().phrases.clone()
    }

    /// `false` if there are too many already.
    pub(super) fn add(&self, word: &[u8]) -> bool {
        let mut known = self.lock();
        if known.all.iter().any(|other| other == word) {
            return true;
        }
        if known.added == MOST || known.added_bytes + word.len() > MOST_BYTES {
            return false;
        }
        known.added += 1;
        known.added_bytes += word.len();
        known.all.push(word.to_vec());
        known.phrases = Arc::new(Phrases::new(&known.all));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the commands in one stream.
#[derive(Default)]
pub(super) struct Commands {
    /// A line so far, as long as it may be a command.
    held: Vec<u8>,
    /// The rest of this line is none.
    is_plain: bool,
}

impl Commands {
    /// Hands on what is known not to be a command, and every command's whole line behind its word.
    pub(super) fn write(&mut self, mut input: &[u8], mut on: impl FnMut(Option<&[u8]>, &[u8])) {
        while !input.is_empty() {
            let end = input.iter().position(|byte| *byte == b'\n');
            let (part, rest) = input.split_at(end.map_or(input.len(), |at| at + 1));
            input = rest;
            if self.is_plain {
                on(None, part);
                self.is_plain = end.is_none();
                continue;
            }
            self.held.extend_from_slice(part);
            let begun = self.held.len().min(COMMAND.len());
            if self.held[..begun] != COMMAND[..begun] || self.held.len() > LONGEST {
                on(None, &std::mem::take(&mut self.held));
                self.is_plain = end.is_none();
            } else if end.is_some() {
                self.finish(&mut on);
            }
        }
    }

    /// The held line is whole.
    pub(super) fn finish(&mut self, mut on: impl FnMut(Option<&[u8]>, &[u8])) {
        let line = std::mem::take(&mut self.held);
        let word = line.strip_prefix(COMMAND).map(<[u8]>::trim_ascii);
        on(word.filter(|word| !word.is_empty()), &line);
        self.is_plain = false;
    }
}

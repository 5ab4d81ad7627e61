//! Writes entries off the path of those who record them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::merge::Merge;
use super::{Entry, Event};
use crate::store::journal::{Journal, KEPT_DAYS, MOST_BYTES};

/// Entries that may wait for the disk; hundreds of bytes each.
const WAITING: usize = 4096;
/// Entries written at once.
const BATCH: usize = 256;
/// How often counts of what goes on are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Cheap to clone. One that keeps nothing records into nothing.
#[derive(Clone, Default)]
pub struct Recorder {
    to: Option<mpsc::Sender<Note>>,
    lost: Arc<AtomicU64>,
}

enum Note {
    Entry(Box<Entry>),
    Flush(oneshot::Sender<()>),
}

impl Recorder {
    /// Records into the journal of `state`; the task ends with the last recorder.
    pub fn start(state: &Path) -> Self {
        let (to, notes) = mpsc::channel(WAITING);
        let lost = Arc::<AtomicU64>::default();
        let writer = Writer {
            notes,
            lost: lost.clone(),
            merge: Merge::default(),
            journal: Some(Journal::of(state)),
            broken: false,
        };
        tokio::spawn(writer.run());
        info!(
            days = KEPT_DAYS,
            most_bytes = MOST_BYTES,
            "decisions are kept in the journal; `fleetling why` reads it"
        );
        Self { to: Some(to), lost }
    }

    /// Never waits: what there is no room for is counted, and the journal says how much that was.
    pub fn record(&self, entry: Entry) {
        let Some(to) = &self.to else { return };
        if to.try_send(Note::Entry(Box::new(entry))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when everything recorded before is written.
    pub async fn flush(&self) {
        let Some(to) = &self.to else { return };
        let (done, written) = oneshot::channel();
        if to.send(Note::Flush(done)).await.is_ok() {
            // An error means that the writer is gone, and nothing more will be written.
            let _ = written.await;
        }
    }
}

struct Writer {
    notes: mpsc::Receiver<Note>,
    lost: Arc<AtomicU64>,
    merge: Merge,
    /// Away while a thread writes to it; gone for good if that thread panicked.
    journal: Option<Journal>,
    broken: bool,
}

impl Writer {
    async fn run(mut self) {
        let mut notes = Vec::with_capacity(BATCH);
        let mut look = tokio::time::interval(LOOK);
        loop {
            let mut flushed = Vec::new();
            let mut entries = Vec::new();
            tokio::select! {
                received = self.notes.recv_many(&mut notes, BATCH) => if received == 0 {
                    return;
                },
                _ = look.tick() => {}
            }
            let now = Timestamp::now();
            for note in notes.drain(..) {
                match note {
                    Note::Entry(entry) => entries.extend(self.merge.take(*entry)),
                    Note::Flush(done) => {
                        entries.extend(self.merge.flush(now));
                        flushed.push(done);
                    }
                }
            }
            entries.extend(self.merge.due(now));
            entries.extend(self.missed(now));
            self.write(&entries, now).await;
            for done in flushed {
                // Who does not wait any more needs no answer.
                let _ = done.send(());
            }
        }
    }

    fn missed(&self, now: Timestamp) -> Option<Entry> {
        let entries = self.lost.swap(0, Ordering::Relaxed);
        if entries == 0 {
            return None;
        }
        warn!(
            entries,
            "journal could not keep up; that many entries are missing"
        );
        Some(Entry::new(now, "", None, Event::Lost { entries }))
    }

    async fn write(&mut self, entries: &[Entry], now: Timestamp) {
        let lines = entries.iter().map(serde_json::to_string);
        let lines: Vec<String> = lines.filter_map(Result::ok).collect();
        if lines.is_empty() {
            return;
        }
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let written = tokio::task::spawn_blocking(move || {
            let written = journal.append(&lines, now);
            (journal, written)
        });
        let problem = match written.await {
            Ok((journal, written)) => {
                self.journal = Some(journal);
                written.err().map(|problem| problem.to_string())
            }
            Err(panic) => Some(panic.to_string()),
        };
        if let Some(problem) = &problem
            && !self.broken
        {
            warn!(%problem, "journal could not be written; `fleetling why` will not know of what happens now");
        }
        self.broken = problem.is_some();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::observe::journal::Numbers;
    use crate::store::journal::read;

    fn entry(job: u64) -> Entry {
        let event = Event::JobReceived {
            job,
            queued_ms: None,
        };
        Entry::new(Timestamp::now(), "x", Some("g"), event)
    }

    #[tokio::test]
    async fn what_was_recorded_is_read_back() {
        let state = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(state.path());
        let entries: Vec<Entry> = (1..=3).map(entry).collect();
        for entry in &entries {
            recorder.record(entry.clone());
        }
        recorder.flush().await;
        let lines = read(state.path()).unwrap().lines;
        let read: Vec<Entry> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read, entries);
    }

    #[test]
    fn a_decision_is_read_as_it_was_written() {
        let numbers = Numbers {
            instances: 3,
            max_instances: None,
            ..Numbers::default()
        };
        for instances in [vec![], vec!["i-1".to_owned(), "i-2".to_owned()]] {
            let event = Event::Decided {
                decision: "remove".into(),
                reason: "idle_too_long".into(),
                text: "remove".into(),
                instances,
                numbers,
            };
            let entry = Entry::new(Timestamp::now(), "x", None, event);
            let line = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
        }
    }

    #[tokio::test]
    async fn a_flood_never_waits_and_what_is_lost_is_said() {
        let state = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(state.path());
        // The writer has no turn before the first await.
        for job in 0..WAITING as u64 + 7 {
            recorder.record(entry(job));
        }
        recorder.flush().await;
        recorder.flush().await;
        let lines = read(state.path()).unwrap().lines;
        assert_eq!(lines.len(), WAITING + 1);
        assert!(
            lines
                .iter()
                .any(|line| line.contains(r#""event":"lost","entries":7"#)),
            "{:?}",
            lines.last()
        );
    }

    #[test]
    fn an_entry_of_another_version_can_be_read() {
        let line =
            r#"{"at":"2026-11-25T10:00:00Z","runner":"x","event":"instance_dreamt","of":"sheep"}"#;
        let entry: Entry = serde_json::from_str(line).unwrap();
        assert_eq!(entry.event, Event::Unknown);
    }
}

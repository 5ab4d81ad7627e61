//! The audit log: what plugins were loaded, trusted, granted and given, and which instances were made and deleted.
//!
//! ```text
//! <state directory>/
//!   audit.log          0600; one JSON object a line, only ever appended to
//!   audit.log.1 … .4   0600; older ones, once a file has 8 MiB: 40 MiB in all, then the oldest goes
//! ```
//! One thread writes. What was recorded together is forced onto the disk together, at once: a machine that loses power
//! loses what is not older than that write. Recording never waits; what the disk could not take in time is counted, and
//! the log says so. There is no field for a secret: only names.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tracing::{error, warn};

const FILE: &str = "audit.log";
/// Of one file.
const MOST_BYTES: u64 = 8 << 20;
/// Beside the one that is written.
const OLDER: u32 = 4;
/// Entries that may wait for the disk; hundreds of bytes each.
const WAITING: usize = 4096;
/// Entries written and forced onto the disk at once.
const BATCH: usize = 256;

/// What happened. `group` is the group as the manager's store names it: the GitLab runner's address and ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    PluginLoaded {
        plugin: String,
        group: String,
        digest: String,
        version: String,
        file: PathBuf,
        grants: Vec<String>,
        /// The digest that ran before, where this file took over.
        #[serde(skip_serializing_if = "Option::is_none")]
        instead_of: Option<String>,
    },
    /// From now on this digest is the one that may have the plugin's grants.
    PluginTrusted { plugin: String, digest: String },
    /// What the plugin may do from now on.
    GrantsChanged {
        plugin: String,
        group: String,
        digest: String,
        grants: Vec<String>,
    },
    /// By its granted name; repetitions within a minute are one entry.
    SecretRead {
        plugin: String,
        group: String,
        digest: String,
        secret: String,
        times: u64,
    },
    InstanceCreated {
        plugin: String,
        group: String,
        runner: String,
        digest: String,
        instance: String,
        reason: String,
    },
    /// The cloud agreed to make it, and lists it as failed from the first.
    InstanceFailed {
        plugin: String,
        group: String,
        runner: String,
        digest: String,
        instance: String,
        reason: String,
    },
    /// The cloud took the request to delete it, or it went by itself.
    InstanceDeleted {
        plugin: String,
        group: String,
        runner: String,
        digest: String,
        instance: String,
        reason: String,
    },
    /// So many entries found no room.
    Lost { entries: u64 },
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

/// Cheap to clone. One that keeps nothing records into nothing.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    to: To,
}

#[derive(Clone, Debug, Default)]
enum To {
    #[default]
    Nowhere,
    Disk {
        notes: SyncSender<Note>,
        lost: Arc<AtomicU64>,
    },
    Memory(Arc<Mutex<Vec<Event>>>),
}

#[derive(Debug)]
enum Note {
    Happened(Timestamp, Event),
    Flush(SyncSender<()>),
}

impl Audit {
    /// Appends to the audit log of a state directory. Its thread ends with the last clone.
    ///
    /// # Errors
    /// If the log cannot be opened or the system gives no thread.
    pub fn start(state: &Path) -> std::io::Result<Self> {
        Self::start_with(state, MOST_BYTES)
    }

    fn start_with(state: &Path, most_bytes: u64) -> std::io::Result<Self> {
        let (notes, waiting) = mpsc::sync_channel(WAITING);
        let lost = Arc::<AtomicU64>::default();
        let mut log = Log::open(state.join(FILE), most_bytes)?;
        let missing = lost.clone();
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || log.write_all(&waiting, &missing))?;
        let to = To::Disk { notes, lost };
        Ok(Self { to })
    }

    /// Keeps everything in memory, for a test to look at.
    pub fn in_memory() -> Self {
        let to = To::Memory(Arc::default());
        Self { to }
    }

    /// What an [`Audit::in_memory`] has; empty for every other.
    pub fn recorded(&self) -> Vec<Event> {
        match &self.to {
            To::Memory(events) => lock(events).clone(),
            To::Nowhere | To::Disk { .. } => Vec::new(),
        }
    }

    /// Never waits.
    pub fn record(&self, event: Event) {
        match &self.to {
            To::Nowhere => {}
            To::Memory(events) => lock(events).push(event),
            To::Disk { notes, lost } => {
                if notes
                    .try_send(Note::Happened(Timestamp::now(), event))
                    .is_err()
                {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Returns when everything recorded before is on the disk. Blocks.
    pub fn flush(&self) {
        let To::Disk { notes, .. } = &self.to else {
            return;
        };
        let (done, written) = mpsc::sync_channel(1);
        if notes.send(Note::Flush(done)).is_ok() {
            // An error means that the writer is gone, and nothing more will be written.
            let _ = written.recv();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Log {
    path: PathBuf,
    most_bytes: u64,
    file: File,
    length: u64,
    /// The last write failed, and that was told.
    is_broken: bool,
}

impl Log {
    fn open(path: PathBuf, most_bytes: u64) -> std::io::Result<Self> {
        let (file, length) = append_to(&path)?;
        Ok(Self {
            path,
            most_bytes,
            file,
            length,
            is_broken: false,
        })
    }

    fn write_all(&mut self, waiting: &Receiver<Note>, lost: &AtomicU64) {
        while let Ok(first) = waiting.recv() {
            let mut bytes = Vec::new();
            let mut flushed = Vec::new();
            let rest = waiting.try_iter().take(BATCH - 1);
            for note in std::iter::once(first).chain(rest) {
                match note {
                    Note::Happened(at, event) => line(&mut bytes, at, &event),
                    Note::Flush(done) => flushed.push(done),
                }
            }
            let entries = lost.swap(0, Ordering::Relaxed);
            if entries > 0 {
                warn!(
                    entries,
                    "audit log could not keep up; that many entries are missing"
                );
                line(&mut bytes, Timestamp::now(), &Event::Lost { entries });
            }
            let written = self.append(&bytes);
            if let (Err(problem), false) = (&written, self.is_broken) {
                error!(
                    file = %self.path.display(), %problem,
                    "audit log is not written; next: see that the manager's user owns it and that the disk has room"
                );
            }
            self.is_broken = written.is_err();
            for done in flushed {
                // Who does not wait any more needs no answer.
                let _ = done.send(());
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.length >= self.most_bytes || self.is_broken {
            self.turn_over()?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        self.file.sync_data()
    }

    /// Opens the log anew, and a new one where the old one is full.
    fn turn_over(&mut self) -> std::io::Result<()> {
        if self.length >= self.most_bytes {
            for number in (1..OLDER).rev() {
                rename(&self.older(number), &self.older(number + 1))?;
            }
            rename(&self.path, &self.older(1))?;
        }
        (self.file, self.length) = append_to(&self.path)?;
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        self.path.with_file_name(format!("{FILE}.{number}"))
    }
}

fn line(bytes: &mut Vec<u8>, at: Timestamp, event: &Event) {
    if let Ok(line) = serde_json::to_vec(&Line { at, event }) {
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
    }
}

fn append_to(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// What is not there need not be moved.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::rename(from, to) {
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn trusted(digest: &str) -> Event {
        Event::PluginTrusted {
            plugin: "aws".into(),
            digest: digest.into(),
        }
    }

    #[test]
    fn entries_are_lines_of_json_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::start(dir.path()).unwrap();
        audit.record(trusted("ab"));
        audit.record(Event::SecretRead {
            plugin: "aws".into(),
            group: "https://gitlab.example.com|7".into(),
            digest: "ab".into(),
            secret: "aws_credentials".into(),
            times: 1,
        });
        audit.flush();
        let again = Audit::start(dir.path()).unwrap();
        again.record(trusted("cd"));
        again.flush();
        let file = dir.path().join(FILE);
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["event"], "plugin_trusted");
        assert!(lines[0]["at"].as_str().is_some_and(|at| at.ends_with('Z')));
        assert_eq!(lines[1]["secret"], "aws_credentials");
        assert_eq!(lines[2]["digest"], "cd");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_full_log_moves_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::start_with(dir.path(), 1).unwrap();
        for number in 0..8 {
            audit.record(trusted(&format!("digest-{number}")));
            audit.flush();
        }
        let holds = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(holds("audit.log").contains("digest-7"));
        for (number, digest) in [(1, 6), (2, 5), (3, 4), (4, 3)] {
            let older = holds(&format!("audit.log.{number}"));
            assert!(older.contains(&format!("digest-{digest}")), "{older}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (notes, waiting) = mpsc::sync_channel(1);
        let lost = Arc::<AtomicU64>::default();
        let audit = Audit {
            to: To::Disk {
                notes,
                lost: lost.clone(),
            },
        };
        for _ in 0..3 {
            audit.record(trusted("ab"));
        }
        drop(audit);
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path().join(FILE), MOST_BYTES).unwrap();
        log.write_all(&waiting, &lost);
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains(r#""event":"lost","entries":2"#), "{text}");
    }
}

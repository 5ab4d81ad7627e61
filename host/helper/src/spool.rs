//! Keeps every output and exit frame until the manager has acknowledged it, and hands the rest to the writer.
//!
//! ```text
//!   stage threads ── output/exit ──▶ ┌ backlog: memory, then an unlinked file ┐ ── next_to_send ──▶ writer ──▶ stdout
//!                                    │  first unacked … cursor … last         │
//!   reader ── resume(n), ack(n) ───▶ └────────────────────────────────────────┘
//! ```
//!
//! Invariants: numbers have no gap; `first unacked <= cursor <= next_seq`; nothing is sent before the manager's first
//! `hello`; no output of a stage follows its exit. Producers wait only where memory is full and the disk refuses.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::frame::{Frame as _, FromHelper, Stream};

/// Bytes of frames kept in memory; what comes on top goes to the file.
const MEMORY: usize = 4 * 1024 * 1024;
/// The most bytes handed to the writer at once.
const BATCH: usize = 256 * 1024;

pub(crate) struct Spool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    backlog: Backlog,
    /// The next frame to send.
    cursor: u64,
    running: Option<u64>,
    /// A `hello` was received and not answered yet.
    greeted: bool,
    /// A `hello` was ever received.
    attached: bool,
}

impl Spool {
    pub(crate) fn new() -> Self {
        let state = State {
            backlog: Backlog::new(MEMORY),
            cursor: 1,
            running: None,
            greeted: false,
            attached: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// A stage begins: its output is taken from now on.
    pub(crate) fn begin(&self, stage: u64) {
        self.lock().running = Some(stage);
    }

    /// Output of a stage that has ended is dropped.
    pub(crate) fn output(&self, stage: u64, stream: Stream, bytes: &[u8]) {
        self.push(stage, |seq| FromHelper::Output {
            seq,
            stage,
            stream,
            bytes: bytes.to_vec(),
        });
    }

    pub(crate) fn exit(&self, stage: u64, code: i32) {
        self.push(stage, |seq| FromHelper::Exit { seq, stage, code });
    }

    fn push(&self, stage: u64, frame: impl Fn(u64) -> FromHelper) {
        let mut state = self.lock();
        while state.running == Some(stage) {
            let frame = frame(state.backlog.next_seq);
            let line = frame
                .encode()
                .expect("an output frame is far below the cap, because reads are");
            if state.backlog.push(line).is_ok() {
                if matches!(frame, FromHelper::Exit { .. }) {
                    state.running = None;
                }
                self.changed.notify_all();
                return;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The manager attached anew and has everything before `from`.
    pub(crate) fn resume(&self, from: u64) {
        let mut state = self.lock();
        state.cursor = from.clamp(state.backlog.first_seq(), state.backlog.next_seq);
        state.greeted = true;
        state.attached = true;
        self.changed.notify_all();
    }

    pub(crate) fn ack(&self, seq: u64) {
        let mut state = self.lock();
        state.backlog.forget(seq);
        state.cursor = state.cursor.max(state.backlog.first_seq());
        self.changed.notify_all();
    }

    /// Waits for bytes to send: the answer to a `hello` first, then frames in order.
    pub(crate) fn next_to_send(&self) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.greeted {
                state.greeted = false;
                let hello = FromHelper::Hello {
                    version: env!("CARGO_PKG_VERSION").into(),
                    next_seq: state.backlog.next_seq,
                    running: state.running,
                };
                return hello.encode().map_err(io::Error::other);
            }
            if state.attached && state.cursor < state.backlog.next_seq {
                let (bytes, next) = state.backlog.read(state.cursor, BATCH)?;
                state.cursor = next;
                return Ok(bytes);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encoded frames, oldest first.
struct Backlog {
    entries: VecDeque<Place>,
    next_seq: u64,
    in_memory: usize,
    limit: usize,
    file: Option<File>,
    /// End of the file, and how many entries lie in it.
    file_end: u64,
    in_file: usize,
}

enum Place {
    Memory(Vec<u8>),
    File { at: u64, len: usize },
}

impl Backlog {
    fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            next_seq: 1,
            in_memory: 0,
            limit,
            file: None,
            file_end: 0,
            in_file: 0,
        }
    }

    fn first_seq(&self) -> u64 {
        self.next_seq - self.entries.len() as u64
    }

    /// Fails, and keeps nothing, where memory is full and the file cannot take it.
    fn push(&mut self, line: Vec<u8>) -> io::Result<()> {
        if self.in_memory + line.len() <= self.limit {
            self.in_memory += line.len();
            self.entries.push_back(Place::Memory(line));
        } else {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(unlinked_file()?),
            };
            file.write_all_at(&line, self.file_end)?;
            self.entries.push_back(Place::File {
                at: self.file_end,
                len: line.len(),
            });
            self.file_end += line.len() as u64;
            self.in_file += 1;
        }
        self.next_seq += 1;
        Ok(())
    }

    /// Forgets everything up to and with `seq`.
    fn forget(&mut self, seq: u64) {
        while self.first_seq() <= seq {
            match self.entries.pop_front() {
                None => return,
                Some(Place::Memory(line)) => self.in_memory -= line.len(),
                Some(Place::File { .. }) => self.in_file -= 1,
            }
            if self.in_file == 0 {
                // The space of an unlinked file comes back when it is closed.
                self.file = None;
                self.file_end = 0;
            }
        }
    }

    /// Whole frames from `seq` on, at least one and about `most` bytes; and the number after the last.
    fn read(&self, seq: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut bytes = Vec::new();
        let mut next = seq;
        let skip = usize::try_from(seq - self.first_seq()).unwrap_or(usize::MAX);
        for place in self.entries.iter().skip(skip) {
            match (place, &self.file) {
                (Place::Memory(line), _) => bytes.extend_from_slice(line),
                (Place::File { at, len }, Some(file)) => {
                    let from = bytes.len();
                    bytes.resize(from + len, 0);
                    file.read_exact_at(&mut bytes[from..], *at)?;
                }
                (Place::File { .. }, None) => return Err(io::ErrorKind::NotFound.into()),
            }
            next += 1;
            if bytes.len() >= most {
                break;
            }
        }
        Ok((bytes, next))
    }
}

/// Nobody else can open it, and it is gone with this process.
fn unlinked_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("fleetling-spool-{}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::frame::Decoder;

    fn sent(spool: &Spool) -> Vec<FromHelper> {
        let mut decoder = Decoder::default();
        decoder.push(&spool.next_to_send().unwrap());
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    fn seqs(frames: &[FromHelper]) -> Vec<u64> {
        frames.iter().filter_map(FromHelper::seq).collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_after_hello() {
        let spool = Spool::new();
        spool.begin(7);
        spool.output(7, Stream::Out, b"one");
        spool.output(7, Stream::Err, b"two");
        spool.resume(1);
        let hello = FromHelper::Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            next_seq: 3,
            running: Some(7),
        };
        assert_eq!(sent(&spool), [hello]);
        assert_eq!(seqs(&sent(&spool)), [1, 2]);
        spool.ack(1);
        spool.exit(7, 3);
        spool.output(7, Stream::Out, b"late: dropped");
        spool.resume(1);
        assert!(matches!(
            sent(&spool)[..],
            [FromHelper::Hello {
                next_seq: 4,
                running: None,
                ..
            }]
        ));
        let again = sent(&spool);
        assert_eq!(seqs(&again), [2, 3]);
        assert!(matches!(
            again[1],
            FromHelper::Exit {
                stage: 7,
                code: 3,
                ..
            }
        ));
    }

    #[test]
    fn frames_beyond_the_memory_limit_come_back_from_the_file_in_order() {
        let mut backlog = Backlog::new(10);
        let lines: Vec<Vec<u8>> = (0..20)
            .map(|n| format!("line {n}\n").into_bytes())
            .collect();
        for line in &lines {
            backlog.push(line.clone()).unwrap();
        }
        assert!(backlog.in_memory <= 10 && backlog.in_file > 0);
        assert_eq!(backlog.read(1, usize::MAX).unwrap(), (lines.concat(), 21));
        let (some, next) = backlog.read(3, 8).unwrap();
        assert_eq!((some, next), (lines[2..4].concat(), 5));
        backlog.forget(19);
        assert_eq!(backlog.read(20, 1).unwrap(), (lines[19].clone(), 21));
        backlog.forget(99);
        assert!(backlog.file.is_none() && backlog.entries.is_empty());
        backlog.push(b"x\n".to_vec()).unwrap();
        assert_eq!(backlog.first_seq(), 21);
    }
}

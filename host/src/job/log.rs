//! Where a job's log goes, and the gate that keeps its order while stages run side by side.
//!
//! ```text
//!   stage output ─┐
//!   section marks ┼─▶ Gate ── closed: held, in order, up to a limit ── open: passed on at once ─▶ JobLog streams
//!   own lines ────┘
//! ```
//!
//! Invariants: nothing overtakes what is held; section times are the times they are shown; what is held beyond the
//! limit is dropped, and the limit is the log's own, which would have dropped it too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::coordinator::log::{Log, SCRIPTS};
use crate::docker::stage::{Notes, Output, Stream};

use super::lines;

/// The manager's and the executor's lines.
pub const MANAGER: u8 = 0;
/// What services print, for `CI_DEBUG_SERVICES`.
pub const SERVICES: u8 = 15;

/// A job's log; implemented by the coordinator's trace. Nothing in it blocks.
pub trait JobLog: Send + Sync + 'static {
    /// A stream of the log, [`MANAGER`], [`SCRIPTS`] or [`SERVICES`]; masking and timestamps are the log's affair.
    fn output(&self, stream: u8) -> Arc<dyn Output>;
}

impl JobLog for Log {
    fn output(&self, stream: u8) -> Arc<dyn Output> {
        Self::output(self, stream)
    }
}

/// One strand of a job's log, shown at once or held until it may be shown.
#[derive(Clone)]
pub struct Gate {
    held: Arc<Mutex<Held>>,
    manager: Arc<dyn Output>,
    scripts: Arc<dyn Output>,
    services: Arc<dyn Output>,
    with_sections: bool,
}

struct Held {
    open: bool,
    entries: Vec<Entry>,
    bytes: usize,
    limit: usize,
}

enum Entry {
    Bytes(u8, Stream, Vec<u8>),
    SectionStart(String),
    SectionEnd(String),
}

impl Gate {
    /// Shows everything at once.
    pub fn open(log: &dyn JobLog, with_sections: bool) -> Self {
        Self::new(log, with_sections, true, 0)
    }

    /// Holds everything until [`Gate::release`]; about `limit` bytes at most.
    pub fn closed(log: &dyn JobLog, with_sections: bool, limit: usize) -> Self {
        Self::new(log, with_sections, false, limit)
    }

    fn new(log: &dyn JobLog, with_sections: bool, open: bool, limit: usize) -> Self {
        let held = Held {
            open,
            entries: Vec::new(),
            bytes: 0,
            limit,
        };
        Self {
            held: Arc::new(Mutex::new(held)),
            manager: log.output(MANAGER),
            scripts: log.output(SCRIPTS),
            services: log.output(SERVICES),
            with_sections,
        }
    }

    /// Shows what was held; from now on nothing is.
    pub fn release(&self) {
        let mut held = self.lock();
        for entry in std::mem::take(&mut held.entries) {
            self.show(&entry);
        }
        held.open = true;
    }

    pub fn info(&self, text: &str) {
        self.line(lines::info(text));
    }

    pub fn plain(&self, text: &str) {
        self.line(lines::plain(text));
    }

    pub fn warning(&self, text: &str) {
        self.line(lines::warning(text));
    }

    pub fn error(&self, text: &str) {
        self.line(lines::error(text));
    }

    /// Lines with their colours and newlines.
    pub fn line(&self, line: String) {
        if !line.is_empty() {
            self.put(Entry::Bytes(MANAGER, Stream::Out, line.into_bytes()));
        }
    }

    pub fn section(&self, name: &str, title: &str) {
        self.put(Entry::SectionStart(name.into()));
        self.line(lines::title(title));
    }

    pub fn end_section(&self, name: &str) {
        self.put(Entry::SectionEnd(name.into()));
    }

    /// For a stage's script.
    pub fn scripts(&self) -> Arc<dyn Output> {
        Arc::new(self.clone())
    }

    /// For what services print.
    pub fn services(&self) -> Arc<dyn Output> {
        Arc::new(OfServices(self.clone()))
    }

    /// For the executor's own lines.
    pub fn notes(&self) -> Arc<dyn Notes> {
        Arc::new(self.clone())
    }

    fn put(&self, entry: Entry) {
        let mut held = self.lock();
        if held.open {
            return self.show(&entry);
        }
        if let Entry::Bytes(_, _, bytes) = &entry {
            if held.bytes > held.limit {
                return;
            }
            held.bytes += bytes.len();
        }
        held.entries.push(entry);
    }

    fn show(&self, entry: &Entry) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let mark = match entry {
            Entry::Bytes(stream, of, bytes) => {
                let output = match *stream {
                    SCRIPTS => &self.scripts,
                    SERVICES => &self.services,
                    _ => &self.manager,
                };
                return output.write(*of, bytes);
            }
            Entry::SectionStart(name) => lines::section_start(name, now),
            Entry::SectionEnd(name) => lines::section_end(name, now),
        };
        if self.with_sections {
            self.manager.write(Stream::Out, mark.as_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Gate {
    fn write(&self, stream: Stream, bytes: &[u8]) {
        self.put(Entry::Bytes(SCRIPTS, stream, bytes.to_vec()));
    }
}

struct OfServices(Gate);

impl Output for OfServices {
    fn write(&self, stream: Stream, bytes: &[u8]) {
        self.0.put(Entry::Bytes(SERVICES, stream, bytes.to_vec()));
    }
}

impl Notes for Gate {
    fn info(&self, line: &str) {
        self.plain(line);
    }

    fn notice(&self, line: &str) {
        Gate::info(self, line);
    }

    fn warn(&self, line: &str) {
        self.warning(line);
    }

    fn error(&self, line: &str) {
        Gate::error(self, line);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Output for Text {
        fn write(&self, _: Stream, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }

    impl JobLog for Text {
        fn output(&self, _: u8) -> Arc<dyn Output> {
            Arc::new(self.clone())
        }
    }

    impl Text {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_closed_gate_holds_in_order_and_drops_beyond_its_limit() {
        let log = Text::default();
        let gate = Gate::closed(&log, true, 20);
        gate.put(Entry::SectionStart("a".into()));
        gate.write(Stream::Out, b"0123456789");
        gate.write(Stream::Err, b"0123456789X");
        gate.write(Stream::Out, b"dropped");
        gate.end_section("a");
        assert_eq!(log.text(), "");
        gate.release();
        gate.write(Stream::Out, b"later");
        let text = log.text();
        let start = text.find("section_start:").unwrap();
        let end = text.find("section_end:").unwrap();
        assert!(
            start < end && text.contains("01234567890123456789X"),
            "{text}"
        );
        assert!(
            !text.contains("dropped") && text.ends_with("later"),
            "{text}"
        );
    }

    #[test]
    fn section_marks_are_only_for_logs_that_asked() {
        let log = Text::default();
        let gate = Gate::open(&log, false);
        gate.section("a", "Title");
        gate.end_section("a");
        assert_eq!(log.text(), lines::title("Title"));
    }
}

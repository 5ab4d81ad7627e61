//! A bounded journal: lines appended to segments, the oldest of which go when they are old or too many.
//!
//! ```text
//! <state directory>/journal/      0700
//!   2026-11-25-000.jsonl          0600; a day's first segment (UTC)
//!   2026-11-25-001.jsonl          the next, once that one is full
//! ```
//!
//! Invariants: a segment is only ever appended to, whole lines at a time, and never written to again once a newer one
//! exists. No line is older than [`KEPT_DAYS`], nor all of them larger than [`MOST_BYTES`]. A process that is killed
//! leaves at most a torn last line: it is closed before the next is written, and whoever reads skips it. Lines are not
//! forced onto the disk one by one, so a machine that loses power may lose its last seconds.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::StoreProblem;

pub const KEPT_DAYS: i64 = 14;
/// All segments together.
pub const MOST_BYTES: u64 = 64 << 20;
/// One segment; what a prune for size forgets at once.
const SEGMENT_BYTES: u64 = 4 << 20;
const FOLDER: &str = "journal";
const EXTENSION: &str = "jsonl";

type Result<T> = std::result::Result<T, StoreProblem>;

#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    limits: Limits,
    open: Option<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    all: u64,
    segment: u64,
}

#[derive(Debug)]
struct Segment {
    day: jiff::civil::Date,
    file: File,
    length: u64,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Oldest first, without their ends.
    pub lines: Vec<String>,
    /// Not UTF-8 or without an end: torn by a crash.
    pub torn: usize,
}

impl Journal {
    /// The journal of a state directory; nothing is written before the first line.
    pub fn of(state: &Path) -> Self {
        Self {
            folder: state.join(FOLDER),
            limits: Limits {
                all: MOST_BYTES,
                segment: SEGMENT_BYTES,
            },
            open: None,
        }
    }

    /// Appends `lines`, none of which may contain a line's end, as of `now`; prunes when it begins a segment.
    pub fn append(&mut self, lines: &[String], now: jiff::Timestamp) -> Result<()> {
        let day = day_of(now);
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        let segment = self.segment(day)?;
        let written = segment.file.write_all(&bytes);
        segment.length += bytes.len() as u64;
        if let Err(e) = written {
            // What stands there now is unknown; the next append looks.
            self.open = None;
            return Err(problem("write", &self.folder, &e));
        }
        Ok(())
    }

    fn segment(&mut self, day: jiff::civil::Date) -> Result<&mut Segment> {
        let limit = self.limits.segment;
        let open = self.open.take();
        let usable = open.filter(|open| open.day == day && open.length < limit);
        let segment = match usable {
            Some(open) => open,
            None => {
                let segment = self.begin(day)?;
                self.prune(day)?;
                segment
            }
        };
        Ok(self.open.insert(segment))
    }

    /// The day's newest segment if it has room, else the one after it.
    fn begin(&self, day: jiff::civil::Date) -> Result<Segment> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|e| problem("make", &self.folder, &e))?;
        let newest = segments(&self.folder)?.into_iter().rfind(|s| s.day == day);
        let number = match newest {
            Some(newest) if newest.length < self.limits.segment => newest.number,
            Some(newest) => newest.number + 1,
            None => 0,
        };
        let path = self.folder.join(format!("{day}-{number:03}.{EXTENSION}"));
        let opened = open(&path).map_err(|e| problem("open", &path, &e));
        let (file, length) = opened?;
        Ok(Segment { day, file, length })
    }

    /// Removes segments of days gone by, then the oldest until the rest leaves room for one more segment.
    fn prune(&self, today: jiff::civil::Date) -> Result<()> {
        let mut kept = segments(&self.folder)?;
        let mut total: u64 = kept.iter().map(|segment| segment.length).sum();
        let most = self.limits.all.saturating_sub(self.limits.segment);
        // The newest is the one being written.
        kept.pop();
        for old in kept {
            let age = today.since(old.day).map_or(0, |age| age.get_days());
            if i64::from(age) <= KEPT_DAYS && total <= most {
                continue;
            }
            std::fs::remove_file(&old.path).map_err(|e| problem("remove", &old.path, &e))?;
            total -= old.length;
        }
        Ok(())
    }
}

/// Reads the journal of a state directory, also while a manager writes to it. One that was never begun is empty.
pub fn read(state: &Path) -> Result<Lines> {
    let mut read = Lines::default();
    for segment in segments(&state.join(FOLDER))? {
        let bytes = match std::fs::read(&segment.path) {
            Ok(bytes) => bytes,
            // Pruned since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(problem("read", &segment.path, &e)),
        };
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        if lines.pop().is_some_and(|rest| !rest.is_empty()) {
            read.torn += 1;
        }
        for line in lines.into_iter().filter(|line| !line.is_empty()) {
            match std::str::from_utf8(line) {
                Ok(line) => read.lines.push(line.to_owned()),
                Err(_) => read.torn += 1,
            }
        }
    }
    Ok(read)
}

struct Listed {
    day: jiff::civil::Date,
    number: u32,
    path: PathBuf,
    length: u64,
}

/// Oldest first; files that are no segments are left alone.
fn segments(folder: &Path) -> Result<Vec<Listed>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(problem("list", folder, &e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| problem("list", folder, &e))?;
        let path = entry.path();
        if let Some((day, number)) = named(&path) {
            let length = entry.metadata().map_or(0, |metadata| metadata.len());
            found.push(Listed {
                day,
                number,
                path,
                length,
            });
        }
    }
    found.sort_by_key(|segment| (segment.day, segment.number));
    Ok(found)
}

fn named(path: &Path) -> Option<(jiff::civil::Date, u32)> {
    let is_segment = path.extension().is_some_and(|e| e == EXTENSION);
    let (day, number) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    let day = day.parse().ok().filter(|_| is_segment)?;
    Some((day, number.parse().ok()?))
}

/// For appending; a torn last line is closed.
fn open(path: &Path) -> std::io::Result<(File, u64)> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

fn day_of(now: jiff::Timestamp) -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(now).date()
}

fn problem(verb: &str, path: &Path, e: &std::io::Error) -> StoreProblem {
    StoreProblem(format!(
        "cannot {verb} {}: {e}; next: see that the manager's user owns it and that the disk has room",
        path.display()
    ))
}

#[cfg(test)]
mod tests;

//! How much of everything one plugin may use: the defaults, what the operator wrote over them, and what cannot be asked.
//!
//! ```text
//! limits = { memory = "256MiB" } ─► LimitsWritten ─ over(defaults) ─► Limits ─► quota, engine, log, egress, `inspect`
//! ```
//! Every limit has a ceiling: a table that switches a limit off is refused like any other wrong value.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::scalars::GoDuration;

/// What holds for one plugin in one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all linear memories of one instance together.
    pub memory: usize,
    /// Elements of all tables of one instance together.
    pub table_elements: usize,
    /// Core instances, memories and tables of one instance, each.
    pub pieces: usize,
    /// Processor time of one call.
    pub cpu: Duration,
    /// Requests at once.
    pub concurrent_requests: usize,
    /// Requests in a second, once the burst is used up.
    pub requests_per_second: u32,
    /// Requests that need not wait for their turn.
    pub request_burst: u32,
    /// Bytes of one request's body, and of one answer's.
    pub body: usize,
    /// Bytes of one request's headers, and of one answer's.
    pub headers: usize,
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// From the connection to the answer's head.
    pub first_byte: Duration,
    /// Between two pieces of an answer's body.
    pub idle: Duration,
    /// Log lines in a second.
    pub log_lines_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 128 << 20,
            table_elements: 65_536,
            pieces: 64,
            cpu: Duration::from_secs(2),
            concurrent_requests: 8,
            requests_per_second: 50,
            request_burst: 50,
            body: 16 << 20,
            headers: 128 << 10,
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            log_lines_per_second: 200,
        }
    }
}

/// What one value is, in the words and within the bounds of its key.
#[derive(Clone, Debug)]
enum Kind {
    Bytes(RangeInclusive<u64>),
    Count(RangeInclusive<u64>),
    /// Milliseconds.
    Time(RangeInclusive<u64>),
}

/// A number, the unit of which its key knows: bytes, pieces or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    Memory,
    TableElements,
    Pieces,
    Cpu,
    ConcurrentRequests,
    RequestsPerSecond,
    RequestBurst,
    Body,
    Headers,
    Connect,
    FirstByte,
    Idle,
    LogLinesPerSecond,
}

use Limit as L;

impl Limit {
    pub const ALL: [Self; 13] = [
        L::Memory,
        L::TableElements,
        L::Pieces,
        L::Cpu,
        L::ConcurrentRequests,
        L::RequestsPerSecond,
        L::RequestBurst,
        L::Body,
        L::Headers,
        L::Connect,
        L::FirstByte,
        L::Idle,
        L::LogLinesPerSecond,
    ];

    /// Its key in the `limits` table.
    pub fn key(self) -> &'static str {
        match self {
            L::Memory => "memory",
            L::TableElements => "table_elements",
            L::Pieces => "pieces",
            L::Cpu => "cpu",
            L::ConcurrentRequests => "concurrent_requests",
            L::RequestsPerSecond => "requests_per_second",
            L::RequestBurst => "request_burst",
            L::Body => "body",
            L::Headers => "headers",
            L::Connect => "connect",
            L::FirstByte => "first_byte",
            L::Idle => "idle",
            L::LogLinesPerSecond => "log_lines_per_second",
        }
    }

    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.key() == key)
    }

    /// The lower ends let a plugin do something at all; the upper ones keep the manager alive beside it.
    fn kind(self) -> Kind {
        match self {
            // One linear memory of a 32-bit guest ends at 4 GiB.
            L::Memory => Kind::Bytes(64 << 10..=4 << 30),
            L::TableElements => Kind::Count(1..=10_000_000),
            L::Pieces => Kind::Count(1..=1_000),
            L::Cpu => Kind::Time(10..=60_000),
            // As many as all plugins together.
            L::ConcurrentRequests => Kind::Count(1..=64),
            L::RequestsPerSecond => Kind::Count(1..=1_000),
            L::RequestBurst => Kind::Count(1..=10_000),
            // A request's body is held whole.
            L::Body => Kind::Bytes(1 << 10..=256 << 20),
            L::Headers => Kind::Bytes(1 << 10..=1 << 20),
            L::Connect | L::FirstByte | L::Idle => Kind::Time(10..=600_000),
            L::LogLinesPerSecond => Kind::Count(1..=10_000),
        }
    }

    /// The number that a string stands for; a whole number is read by [`Limit::number`].
    pub fn text(self, text: &str) -> Option<u64> {
        match self.kind() {
            Kind::Bytes(bounds) => bytes(text).filter(|n| bounds.contains(n)),
            Kind::Time(bounds) => {
                let time = text.parse::<GoDuration>().ok()?.positive()?;
                let millis = u64::try_from(time.as_millis()).ok()?;
                Some(millis).filter(|n| bounds.contains(n))
            }
            Kind::Count(_) => None,
        }
    }

    pub fn number(self, number: i64) -> Option<u64> {
        match self.kind() {
            Kind::Count(bounds) => u64::try_from(number).ok().filter(|n| bounds.contains(n)),
            Kind::Bytes(_) | Kind::Time(_) => None,
        }
    }

    /// What is to be written, as the end of "`memory` is …".
    pub fn wanted(self) -> String {
        match self.kind() {
            Kind::Bytes(bounds) => format!(
                "a size from {} to {}, such as \"{}\"",
                Size(*bounds.start()),
                Size(*bounds.end()),
                Size(self.in_force(&Limits::default()))
            ),
            Kind::Count(bounds) => {
                format!("a whole number from {} to {}", bounds.start(), bounds.end())
            }
            Kind::Time(bounds) => format!(
                "a duration from {:?} to {:?}, such as \"{:?}\"",
                Duration::from_millis(*bounds.start()),
                Duration::from_millis(*bounds.end()),
                Duration::from_millis(self.in_force(&Limits::default()))
            ),
        }
    }

    /// As `limits` has it.
    fn in_force(self, limits: &Limits) -> u64 {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        match self {
            L::Memory => count(limits.memory),
            L::TableElements => count(limits.table_elements),
            L::Pieces => count(limits.pieces),
            L::Cpu => millis(limits.cpu),
            L::ConcurrentRequests => count(limits.concurrent_requests),
            L::RequestsPerSecond => limits.requests_per_second.into(),
            L::RequestBurst => limits.request_burst.into(),
            L::Body => count(limits.body),
            L::Headers => count(limits.headers),
            L::Connect => millis(limits.connect),
            L::FirstByte => millis(limits.first_byte),
            L::Idle => millis(limits.idle),
            L::LogLinesPerSecond => limits.log_lines_per_second.into(),
        }
    }

    fn put(self, number: u64, limits: &mut Limits) {
        let time = Duration::from_millis(number);
        let count = usize::try_from(number).unwrap_or(usize::MAX);
        let small = u32::try_from(number).unwrap_or(u32::MAX);
        match self {
            L::Memory => limits.memory = count,
            L::TableElements => limits.table_elements = count,
            L::Pieces => limits.pieces = count,
            L::Cpu => limits.cpu = time,
            L::ConcurrentRequests => limits.concurrent_requests = count,
            L::RequestsPerSecond => limits.requests_per_second = small,
            L::RequestBurst => limits.request_burst = small,
            L::Body => limits.body = count,
            L::Headers => limits.headers = count,
            L::Connect => limits.connect = time,
            L::FirstByte => limits.first_byte = time,
            L::Idle => limits.idle = time,
            L::LogLinesPerSecond => limits.log_lines_per_second = small,
        }
    }

    /// The value as an operator would write it.
    fn shown(self, number: u64) -> String {
        match self.kind() {
            Kind::Bytes(_) => Size(number).to_string(),
            Kind::Count(_) => number.to_string(),
            Kind::Time(_) => format!("{:?}", Duration::from_millis(number)),
        }
    }
}

/// What a `limits` table says; every value is within its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsWritten(std::collections::BTreeMap<Limit, u64>);

impl LimitsWritten {
    /// False where the limit is written already.
    pub fn put(&mut self, limit: Limit, number: u64) -> bool {
        self.0.insert(limit, number).is_none()
    }

    pub fn extend(&mut self, over: &Self) {
        self.0.extend(&over.0);
    }

    /// What is written here, and the rest as `defaults` has it.
    pub fn over(&self, mut defaults: Limits) -> Limits {
        for (limit, number) in &self.0 {
            limit.put(*number, &mut defaults);
        }
        defaults
    }

    /// Those that were written, as [`Limits::shown`] shows them.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, String)> {
        let written = self.0.iter();
        written.map(|(limit, number)| (limit.key(), limit.shown(*number)))
    }
}

impl Limits {
    /// Every limit by its key, with its value as an operator would write it.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        Limit::ALL
            .into_iter()
            .map(|limit| (limit.key(), limit.shown(limit.in_force(self))))
            .collect()
    }
}

/// `memory 128MiB, table_elements 65536, …`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.shown().into_iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{key} {value}")?;
        }
        Ok(())
    }
}

const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// `128MiB`, `16 KiB`.
fn bytes(text: &str) -> Option<u64> {
    UNITS.into_iter().find_map(|(unit, shift)| {
        let number = text.strip_suffix(unit)?.trim_end();
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = digits.then(|| number.parse().ok())??;
        number.checked_mul(1 << shift)
    })
}

/// Bytes in the largest unit that divides them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS
            .into_iter()
            .find(|(_, shift)| self.0.trailing_zeros() >= *shift && self.0 > 0);
        match whole {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_is_written_replaces_its_default_alone() {
        let mut written = LimitsWritten::default();
        assert!(written.put(L::Memory, L::Memory.text("256MiB").unwrap()));
        assert!(written.put(L::Cpu, L::Cpu.text("1.5s").unwrap()));
        assert!(!written.put(L::Cpu, L::Cpu.text("500ms").unwrap()));
        let limits = written.over(Limits::default());
        let expected = Limits {
            memory: 256 << 20,
            cpu: Duration::from_millis(500),
            ..Limits::default()
        };
        assert_eq!(limits, expected);
        let mut over = LimitsWritten::default();
        over.put(L::Memory, L::Memory.text("1GiB").unwrap());
        written.extend(&over);
        assert_eq!(written.over(Limits::default()).memory, 1 << 30);
    }

    #[test]
    fn each_limit_has_a_ceiling_and_a_floor() {
        for (limit, good, bad) in [
            (L::Memory, "4GiB", "5GiB"),
            (L::Memory, "64KiB", "1KiB"),
            (L::Body, "256MiB", "257MiB"),
            (L::Headers, "1 MiB", "2MiB"),
            (L::Cpu, "1m", "61s"),
            (L::Cpu, "10ms", "0"),
            (L::Connect, "10m", "-1s"),
            (L::FirstByte, "1m30s", "30"),
            (L::Idle, "100ms", "MiB"),
        ] {
            assert!(limit.text(good).is_some(), "{limit:?} {good}");
            assert_eq!(limit.text(bad), None, "{limit:?} {bad}");
        }
        for (limit, good, bad) in [
            (L::ConcurrentRequests, 64, 65),
            (L::RequestsPerSecond, 1, 0),
            (L::RequestBurst, 10_000, -1),
            (L::Pieces, 1_000, 1_001),
            (L::TableElements, 1, 10_000_001),
            (L::LogLinesPerSecond, 1, 0),
        ] {
            assert!(limit.number(good).is_some(), "{limit:?} {good}");
            assert_eq!(limit.number(bad), None, "{limit:?} {bad}");
        }
    }

    #[test]
    fn every_limit_can_be_read_from_what_is_shown_of_it() {
        let mut odd = Limits::default();
        for limit in Limit::ALL {
            let now = limit.in_force(&odd);
            limit.put(now + now % 3 + 1, &mut odd);
        }
        for limit in Limit::ALL {
            assert_eq!(Limit::of_key(limit.key()), Some(limit));
            let mut copy = Limits::default();
            limit.put(limit.in_force(&odd), &mut copy);
            assert_ne!(
                copy,
                Limits::default(),
                "{limit:?} is not put where it is read"
            );
            let shown = limit.shown(limit.in_force(&Limits::default()));
            let read = limit
                .text(&shown)
                .or_else(|| limit.number(shown.parse().ok()?));
            assert_eq!(read, Some(limit.in_force(&Limits::default())), "{shown}");
        }
        insta::assert_snapshot!(Limits::default(), @"memory 128MiB, table_elements 65536, pieces 64, cpu 2s, concurrent_requests 8, requests_per_second 50, request_burst 50, body 16MiB, headers 128KiB, connect 10s, first_byte 30s, idle 30s, log_lines_per_second 200");
    }
}

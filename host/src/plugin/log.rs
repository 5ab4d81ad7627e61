//! What plugins say, in the manager's log: rated, cut, and unable to forge a line.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::{debug, error, info, trace, warn};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::grants::Limits;

const MAX_LINE_BYTES: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// One group's plugin, as its lines are signed; shared by all its instances, and so is the rate.
pub struct GuestLog {
    plugin: String,
    group: String,
    lines_per_second: AtomicU32,
    rate: Mutex<Rate>,
}

impl GuestLog {
    pub fn new(plugin: String, group: String) -> Self {
        let lines_per_second = Limits::default().log_lines_per_second;
        Self {
            plugin,
            group,
            lines_per_second: AtomicU32::new(lines_per_second),
            rate: Mutex::new(Rate::default()),
        }
    }

    /// Counts from the next line on.
    pub fn limit(&self, lines_per_second: u32) {
        self.lines_per_second
            .store(lines_per_second, Ordering::Relaxed);
    }

    pub fn write(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let (plugin, group) = (&self.plugin, &self.group);
        let admission = self
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(
                self.lines_per_second.load(Ordering::Relaxed),
                Instant::now(),
            );
        let Some(suppressed) = admission else {
            return;
        };
        if suppressed > 0 {
            warn!(%plugin, %group, suppressed, "log lines of a plugin suppressed");
        }
        let line = line(message, fields);
        match level {
            Level::Trace => trace!(%plugin, %group, "{line}"),
            Level::Debug => debug!(%plugin, %group, "{line}"),
            Level::Info => info!(%plugin, %group, "{line}"),
            Level::Warn => warn!(%plugin, %group, "{line}"),
            Level::Error => error!(%plugin, %group, "{line}"),
        }
    }
}

/// Lines in the current second, and those held back.
#[derive(Default)]
struct Rate {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Rate {
    /// The count of lines suppressed before this one; `None` when this one is suppressed.
    fn admit(&mut self, most: u32, now: Instant) -> Option<u64> {
        let is_over = self
            .window
            .is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        if is_over {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines >= most {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Control characters are escaped: a plugin must not write a line in another's name.
fn line(message: &str, fields: &[(String, String)]) -> String {
    let mut line = String::new();
    let pieces = fields
        .iter()
        .flat_map(|(key, value)| [" ", key, "=", value]);
    for piece in std::iter::once(message).chain(pieces) {
        for character in piece.chars() {
            if line.len() >= MAX_LINE_BYTES {
                line.push('…');
                return line;
            }
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
    }
    line
}

/// Stdout or stderr of one instance, cut into lines.
#[derive(Clone)]
pub struct Stdio {
    log: Arc<GuestLog>,
    level: Level,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl Stdio {
    pub fn new(log: Arc<GuestLog>, level: Level) -> Self {
        Self {
            log,
            level,
            partial: Arc::default(),
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if *byte == b'\n' || partial.len() == MAX_LINE_BYTES {
                let line = std::mem::take(&mut *partial);
                if !line.is_empty() {
                    let line = String::from_utf8_lossy(&line);
                    self.log.write(self.level, &line, &[]);
                }
            }
            if *byte != b'\n' {
                partial.push(*byte);
            }
        }
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    /// Written within the guest's own call: what a panic says is logged before the trap takes the instance away.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_a_rate_and_counted() {
        let mut rate = Rate::default();
        let now = Instant::now();
        let admitted = (0..1000).filter(|_| rate.admit(200, now).is_some()).count();
        assert_eq!(admitted, 200);
        let later = now + Duration::from_secs(1);
        assert_eq!(rate.admit(200, later), Some(800));
        assert_eq!(rate.admit(200, later), Some(0));
    }

    #[test]
    fn a_line_is_one_line_and_has_an_end() {
        let fields = [("key".to_owned(), "a\u{1b}[0m".to_owned())];
        assert_eq!(line("x\ny", &fields), "x\\ny key=a\\u{1b}[0m");
        let long = line(&"é".repeat(10_000), &[]);
        assert!(long.len() <= MAX_LINE_BYTES + 4 && long.ends_with('…'));
    }

    #[test]
    fn stdio_waits_for_the_end_of_a_line() {
        let log = Arc::new(GuestLog::new("p".into(), "g".into()));
        let stdio = Stdio::new(log.clone(), Level::Info);
        let lines = || log.rate.lock().expect("no test poisons it").lines;
        stdio.push(b"one");
        assert_eq!(lines(), 0);
        stdio.push(b" line\nand \n");
        assert_eq!(lines(), 2);
        stdio.push(&vec![b'x'; 2 * MAX_LINE_BYTES + 1]);
        assert_eq!(lines(), 4);
    }
}

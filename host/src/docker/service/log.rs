//! What a service prints, on its way into the job's log (`CI_DEBUG_SERVICES`): every line behind the service's names.
//!
//! Invariant: a connection that was lost costs no line and shows none twice: Docker stamps every line, and what is no
//! newer than the last one shown has been shown.

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use crate::docker::shell::LOSS_SHOWS;
use crate::docker::site::{PAUSE, Site};
use crate::docker::stage::{Output, Stream};

/// Of a line without an end, in bytes.
const LONGEST: usize = 1 << 20;

pub(super) struct Reading {
    site: Arc<Site>,
    container: String,
    /// Of standard output and of standard error.
    lines: [Lines; 2],
    output: Arc<dyn Output>,
}

impl Reading {
    pub(super) fn of(
        site: Arc<Site>,
        container: String,
        aliases: &[String],
        output: &Arc<dyn Output>,
    ) -> Self {
        Self {
            site,
            container,
            lines: [Lines::of(aliases), Lines::of(aliases)],
            output: Arc::clone(output),
        }
    }

    /// Until the container ends, or the instance.
    pub(super) async fn run(mut self) {
        while let Ok(at) = self.site.connected().await {
            let since = self.lines.each_mut().map(Lines::resume);
            let options = LogsOptionsBuilder::default()
                .follow(true)
                .stdout(true)
                .stderr(true)
                .timestamps(true)
                .since(since[0].min(since[1]))
                .build();
            let mut log = at.docker.logs(&self.container, Some(options));
            while let Some(Ok(item)) = log.next().await {
                let (n, stream) = match item {
                    LogOutput::StdErr { .. } => (1, Stream::Err),
                    _ => (0, Stream::Out),
                };
                if let Some(line) = self.lines[n].next(&item.into_bytes()) {
                    self.output.write(stream, &line);
                }
            }
            if timeout(LOSS_SHOWS, at.lost()).await.is_err() {
                break;
            }
            sleep(PAUSE).await;
        }
        for (lines, stream) in self.lines.iter_mut().zip([Stream::Out, Stream::Err]) {
            if let Some(line) = lines.rest() {
                self.output.write(stream, &line);
            }
        }
    }
}

/// The lines of one of a service's two streams: pure. Stamps have one length and sort as text; within one stream they
/// never fall, and the parts of a long line have the same one.
struct Lines {
    prefix: String,
    last: Stamped,
    /// What was taken before the connection was lost.
    taken: Stamped,
    /// The parts of a line so far: Docker cuts long ones, and a secret may lie across the cut.
    begun: Vec<u8>,
}

#[derive(Clone, Default)]
struct Stamped {
    stamp: Vec<u8>,
    /// How many lines bear it.
    lines: u64,
}

impl Lines {
    fn of(aliases: &[String]) -> Self {
        Self {
            prefix: format!("\x1b[0;90m[service:{}]\x1b[0;m ", aliases.join("-")),
            last: Stamped::default(),
            taken: Stamped::default(),
            begun: Vec::new(),
        }
    }

    /// From here on lines come again that were shown; they come from this second on.
    fn resume(&mut self) -> i32 {
        self.taken = std::mem::take(&mut self.last);
        let stamp = std::str::from_utf8(&self.taken.stamp).ok();
        let second = stamp.and_then(|stamp| stamp.parse::<jiff::Timestamp>().ok());
        second.map_or(0, |at| i32::try_from(at.as_second()).unwrap_or(0))
    }

    /// A whole line as the job's log shows it; `None` for a part of one, and for what came before. It always ends, as
    /// others may speak next.
    fn next(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let stamp = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        if stamp != self.last.stamp {
            self.last = Stamped {
                stamp: stamp.to_vec(),
                lines: 0,
            };
        }
        self.last.lines += 1;
        let again = match stamp.cmp(&self.taken.stamp) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.last.lines <= self.taken.lines,
            std::cmp::Ordering::Greater => false,
        };
        if again {
            return None;
        }
        if self.begun.is_empty() {
            self.begun.extend_from_slice(self.prefix.as_bytes());
            self.begun.extend_from_slice(line);
        } else {
            let text = line.get(stamp.len() + 1..).unwrap_or_default();
            self.begun.extend_from_slice(text);
        }
        let is_whole = self.begun.ends_with(b"\n") || self.begun.len() > LONGEST;
        is_whole.then(|| self.rest()).flatten()
    }

    /// What was begun and is never ended.
    fn rest(&mut self) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.begun);
        if line.is_empty() {
            return None;
        }
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_line_stands_behind_its_service_s_names() {
        let mut lines = Lines::of(&["group__app".into(), "group-app".into()]);
        let shown = lines.next(b"2026-01-02T03:04:05.000000001Z up\n").unwrap();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "\x1b[0;90m[service:group__app-group-app]\x1b[0;m 2026-01-02T03:04:05.000000001Z up\n"
        );
        assert_eq!(lines.next(b"2026-01-02T03:04:05.000000002Z cu"), None);
        assert_eq!(lines.resume(), 1767323045);
        let whole = lines.next(b"2026-01-02T03:04:05.000000003Z t\n").unwrap();
        assert!(
            whole.ends_with(b"] \x1b[0;m 2026-01-02T03:04:05.000000002Z cut\n")
                || whole.ends_with(b"000000002Z cut\n")
        );
        assert_eq!(lines.next(b"2026-01-02T03:04:05.000000004Z end"), None);
        assert!(lines.rest().unwrap().ends_with(b"Z end\n"));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn a_lost_connection_costs_no_line_and_shows_none_twice() {
        // The second and third are parts of one long line.
        let log = ["05.1Z a", "06.2Z b", "06.2Z c", "07.3Z d"]
            .map(|end| format!("2026-01-02T03:04:{end}\n"));
        for cut in 0..=log.len() {
            let mut lines = Lines::of(&["a".into()]);
            assert_eq!(lines.resume(), 0);
            let mut shown: Vec<_> = log[..cut]
                .iter()
                .filter_map(|line| lines.next(line.as_bytes()))
                .collect();
            let since = lines.resume();
            assert_eq!(since == 0, cut == 0, "{since}");
            shown.extend(log.iter().filter_map(|line| lines.next(line.as_bytes())));
            let texts: Vec<_> = shown.iter().map(|line| line[line.len() - 2]).collect();
            assert_eq!(texts, *b"abcd", "cut after {cut}");
        }
    }
}

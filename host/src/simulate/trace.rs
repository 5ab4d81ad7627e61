//! Jobs as a CSV file tells them: `arrival,duration` in seconds, and `runner` where several are configured; pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::replay::Job;

/// Second 0 is the start of the simulation; an arrival beyond this is taken for a mistake, such as Unix time.
const LATEST: f64 = 366.0 * 24.0 * 3600.0;
const COLUMNS: &str = "arrival,duration or arrival,duration,runner";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {text}", path.display())]
pub struct BadTrace {
    path: PathBuf,
    line: u64,
    /// In characters, from 1; exact where no quoted field stands before it.
    column: usize,
    text: String,
}

/// Where the columns stand.
struct Columns {
    arrival: usize,
    duration: usize,
    runner: Option<usize>,
}

/// Reads the text of a trace into jobs in the order of arrival; those of one moment stay in the file's order. `names`
/// are the runners that can be named, `default` is whose a job is that names none. `path` names the file in problems.
pub fn read(path: &Path, text: &str, names: &[&str], default: usize) -> Result<Vec<Job>, BadTrace> {
    let reading = Reading { path, names };
    let mut reader = ReaderBuilder::new()
        .trim(Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let header = reader.headers().cloned();
    let header = header.map_err(|problem| reading.unreadable(&problem))?;
    let columns = reading.columns(&header)?;
    let mut lines = Lines {
        text,
        at: 0,
        line: 1,
    };
    let mut jobs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|problem| reading.unreadable(&problem))?;
        let record = Record {
            line: lines.of(&record),
            fields: &record,
        };
        jobs.push(reading.job(record, &columns, header.len(), default)?);
    }
    jobs.sort_by_key(|job| job.arrival);
    Ok(jobs)
}

/// Finds lines by what was read: the parser counts them before it passes over empty ones and the second half of CRLF.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn of(&mut self, record: &StringRecord) -> u64 {
        let at = record.position().map_or(0, csv::Position::byte);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at)
            && (self.at < at || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

#[derive(Clone, Copy)]
struct Record<'a> {
    line: u64,
    fields: &'a StringRecord,
}

struct Reading<'a> {
    path: &'a Path,
    names: &'a [&'a str],
}

impl Reading<'_> {
    fn columns(&self, header: &StringRecord) -> Result<Columns, BadTrace> {
        let first = Record {
            line: 1,
            fields: header,
        };
        let place = |name: &str| header.iter().position(|column| column == name);
        for (field, column) in header.iter().enumerate() {
            let text = if !matches!(column, "arrival" | "duration" | "runner") {
                format!("{column:?} is no column of a trace; its first line is {COLUMNS}")
            } else if place(column) != Some(field) {
                format!("column {column:?} stands twice; remove one")
            } else {
                continue;
            };
            return Err(self.problem(first, field, text));
        }
        let needed = |name: &str| {
            place(name).ok_or_else(|| {
                let text = format!("no column {name:?}; a trace's first line is {COLUMNS}");
                self.problem(first, 0, text)
            })
        };
        Ok(Columns {
            arrival: needed("arrival")?,
            duration: needed("duration")?,
            runner: place("runner"),
        })
    }

    fn job(
        &self,
        record: Record<'_>,
        columns: &Columns,
        width: usize,
        default: usize,
    ) -> Result<Job, BadTrace> {
        if record.fields.len() > width {
            let text = format!(
                "{} fields where the first line names {width}; remove the rest, or quote a name with a comma",
                record.fields.len()
            );
            return Err(self.problem(record, width, text));
        }
        let runner = match columns.runner.and_then(|field| record.fields.get(field)) {
            None | Some("") => default,
            Some(name) => self
                .names
                .iter()
                .position(|known| *known == name)
                .ok_or_else(|| {
                    let field = columns.runner.unwrap_or_default();
                    let text = format!(
                        "no runner is called {name:?}; the configuration has {:?}",
                        self.names
                    );
                    self.problem(record, field, text)
                })?,
        };
        Ok(Job {
            arrival: self.seconds(record, columns.arrival, "arrival")?,
            duration: self.seconds(record, columns.duration, "duration")?,
            runner,
            line: record.line,
        })
    }

    /// A decimal number of seconds, to the millisecond.
    fn seconds(
        &self,
        record: Record<'_>,
        field: usize,
        column: &str,
    ) -> Result<Duration, BadTrace> {
        let Some(text) = record.fields.get(field).filter(|text| !text.is_empty()) else {
            let text = format!("{column} is missing; write a number of seconds");
            return Err(self.problem(record, field.min(record.fields.len()), text));
        };
        let seconds = text.parse::<f64>().ok().filter(|s| *s >= 0.0);
        match seconds {
            None => {
                let text = format!(
                    "{column} {text:?} is no number of seconds; write one from 0, such as 12.5"
                );
                Err(self.problem(record, field, text))
            }
            Some(seconds) if seconds > LATEST => {
                let text = format!(
                    "{column} {text} is more than a year; seconds count from the start, so subtract the first arrival"
                );
                Err(self.problem(record, field, text))
            }
            Some(seconds) => Ok(Duration::from_millis((seconds * 1000.0).round() as u64)),
        }
    }

    fn problem(&self, record: Record<'_>, field: usize, text: String) -> BadTrace {
        let before = record.fields.iter().take(field);
        BadTrace {
            path: self.path.to_owned(),
            line: record.line,
            column: 1 + before.map(|field| field.chars().count() + 1).sum::<usize>(),
            text,
        }
    }

    fn unreadable(&self, problem: &csv::Error) -> BadTrace {
        BadTrace {
            path: self.path.to_owned(),
            line: problem.position().map_or(1, csv::Position::line),
            column: 1,
            text: format!("no CSV: {problem}; mend this line"),
        }
    }
}

/// The text that [`read`] reads as these jobs, all of the default runner.
pub fn write(jobs: &[Job]) -> String {
    let lines = jobs.iter().map(|job| {
        let (arrival, duration) = (job.arrival.as_secs_f64(), job.duration.as_secs_f64());
        format!("{arrival},{duration}\n")
    });
    std::iter::once("arrival,duration\n".to_owned())
        .chain(lines)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Job>, BadTrace> {
        read(Path::new("jobs.csv"), text, &["small", "large, fast"], 0)
    }

    #[test]
    fn jobs_come_in_the_order_of_arrival_whatever_the_files() {
        let text = "duration,runner,arrival\n60,,30\n1.5,\"large, fast\",0\r\n\n2,small,30\n";
        let jobs = parse(text).unwrap();
        let told: Vec<_> = jobs
            .iter()
            .map(|job| {
                (
                    job.arrival.as_secs(),
                    job.duration.as_millis(),
                    job.runner,
                    job.line,
                )
            })
            .collect();
        assert_eq!(
            told,
            [(0, 1500, 1, 3), (30, 60_000, 0, 2), (30, 2000, 0, 5)]
        );
    }

    #[test]
    fn a_trace_without_jobs_is_a_trace() {
        assert_eq!(parse("arrival,duration\n").unwrap(), []);
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "arrival,duration\n0.25,1\n3,7.125\n";
        assert_eq!(write(&parse(text).unwrap()), text);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            (
                "",
                "jobs.csv:1:1: no column \"arrival\"; a trace's first line is arrival,duration or arrival,duration,runner",
            ),
            (
                "arrival\n",
                "jobs.csv:1:1: no column \"duration\"; a trace's first line is arrival,duration or arrival,duration,runner",
            ),
            (
                "arrival,duration,tag\n",
                "jobs.csv:1:18: \"tag\" is no column of a trace; its first line is arrival,duration or arrival,duration,runner",
            ),
            (
                "arrival,arrival,duration\n",
                "jobs.csv:1:9: column \"arrival\" stands twice; remove one",
            ),
            (
                "arrival,duration\n1,2\n3,soon\n",
                "jobs.csv:3:3: duration \"soon\" is no number of seconds; write one from 0, such as 12.5",
            ),
            (
                "arrival,duration\n-1,2\n",
                "jobs.csv:2:1: arrival \"-1\" is no number of seconds; write one from 0, such as 12.5",
            ),
            (
                "arrival,duration\nnan,2\n",
                "jobs.csv:2:1: arrival \"nan\" is no number of seconds; write one from 0, such as 12.5",
            ),
            (
                "arrival,duration\n1\n",
                "jobs.csv:2:3: duration is missing; write a number of seconds",
            ),
            (
                "arrival,duration\n1,2,3\n",
                "jobs.csv:2:5: 3 fields where the first line names 2; remove the rest, or quote a name with a comma",
            ),
            (
                "arrival,duration\n1764040000,2\n",
                "jobs.csv:2:1: arrival 1764040000 is more than a year; seconds count from the start, so subtract the first arrival",
            ),
            (
                "arrival,duration,runner\n1,2,big\n",
                "jobs.csv:2:5: no runner is called \"big\"; the configuration has [\"small\", \"large, fast\"]",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), told);
        }
    }
}

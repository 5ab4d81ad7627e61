//! A job that prints 100 MB: how fast the manager spools them, what that takes, and whether GitLab got what was printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobRecord;
use fleetling_lab::figures::{Figures, Goal, Table, Value};
use fleetling_lab::{Job, Lab, Manager};
use serde_json::json;
use tokio::task::JoinHandle;

use super::engine::Engine;
use super::peer;
use super::process::Process;
use crate::extent::Extent;

/// `output_limit`, beyond anything printed here.
pub(super) const LIMIT_KIB: usize = 400_000;
const LINES: usize = 10_000;
/// 10 000 lines of 100 bytes, each with its number twice.
const BLOCK: &str = "awk \"BEGIN { for (i = 0; i < 10000; i++) printf \\\"%015d %083d\\\\n\\\", i, i }\" >/tmp/block";
const BEGIN: &str = "first-to-come";
const END: &str = "last-to-come";
/// Seconds: nothing is sent while the job prints, as when nobody watches its log.
const UNWATCHED: u64 = 60;
/// What the lab's GitLab says otherwise.
const WATCHED: u64 = 1;
/// How long a timestamp with its stream is.
const STAMP: usize = 32;
const LOOK: Duration = Duration::from_millis(2);

/// One job's way into the spool and on.
struct LogTimes {
    spooled: Duration,
    spooling_took: Duration,
    uploaded: Duration,
    uploading_took: Duration,
}

pub(super) async fn measure(
    extent: &Extent,
    table: &mut Table,
    lab: &Lab,
    manager: &Manager,
    instance: &str,
    engine: &Engine,
) -> Result<()> {
    let process = Process(manager.id());
    let megabytes = extent.log_megabytes;
    let print = print(megabytes);
    let script = format!("{BLOCK}; {print}");
    let (mut alone, mut attached) = (Vec::new(), Vec::new());
    let (mut stamped, mut plain) = (Vec::new(), Vec::new());
    lab.gitlab.trace_interval(UNWATCHED);
    for _ in 0..extent.logs {
        alone.push(peer::docker_reads(lab, instance, &script).await?);
        attached.push(attach(engine, &script).await?);
        for (stamps, times) in [(true, &mut stamped), (false, &mut plain)] {
            let job = Job::named("bench-log")
                .script([BLOCK, print.as_str()])
                .without_sources()
                .variable("FF_TIMESTAMPS", &stamps.to_string());
            times.push(one(lab, process, job, megabytes, stamps).await?);
        }
    }
    lab.gitlab.trace_interval(WATCHED);

    table.heading(format!(
        "a log of {megabytes} MB: size and CRC at GitLab equal to what was printed; from first to last byte"
    ));
    table.row(
        "`docker run` on the instance, to nothing",
        Figures::of_times(alone.iter().copied()),
    );
    let attached = Figures::of_times(attached);
    table.row("attach through OpenSSH, to nothing", attached.clone());
    for (name, times) in [
        ("with timestamps", &stamped),
        ("without timestamps", &plain),
    ] {
        let of = |part: fn(&LogTimes) -> Duration| Figures::of_times(times.iter().map(part));
        table.row(format!("{name}: spooled"), of(|times| times.spooled));
        table.row(
            format!("{name}: the manager's processor time meanwhile"),
            of(|times| times.spooling_took),
        );
        table.row(
            format!("{name}: uploaded afterwards"),
            of(|times| times.uploaded),
        );
        table.row(
            format!("{name}: the manager's processor time for that"),
            of(|times| times.uploading_took),
        );
        table.goal(
            format!("{name}: spooled, of the same attach to nothing"),
            of(|times| times.spooled).median().over(attached.median()),
            Goal::AtMost(Value::times(1.1)),
        );
        table.goal(
            format!("{name}: the manager's processor time to spool"),
            of(|times| times.spooling_took).median(),
            Goal::AtMost(Value::time(Duration::from_secs(1))),
        );
    }
    Ok(())
}

fn print(megabytes: usize) -> String {
    format!("echo {BEGIN}; for n in $(seq {megabytes}); do cat /tmp/block; done; echo {END}")
}

fn block() -> Vec<u8> {
    let lines = (0..LINES).map(|n| format!("{n:015} {n:083}\n"));
    lines.collect::<String>().into_bytes()
}

/// The same container without a manager, on the same kind of connection.
async fn attach(engine: &Engine, script: &str) -> Result<Duration> {
    let id = engine
        .create(&json!({
            "Image": "busybox:latest", "Cmd": ["sh", "-c", script],
            "AttachStdout": true, "AttachStderr": true,
        }))
        .await?;
    let read = engine.reads(&id).await;
    engine
        .delete(&format!("/containers/{id}?force=1&v=1"))
        .await?;
    read
}

async fn one(
    lab: &Lab,
    process: Process,
    job: Job,
    megabytes: usize,
    stamps: bool,
) -> Result<LogTimes> {
    let watch = Watch::begin(lab.home().join("state/trace"), process);
    let record = super::run(lab, job).await?;
    let took = process.processor_time()?;
    let mut seen = watch.end().await?;
    // The spool of the job before may have stood there a moment longer.
    seen.retain(|seen| record.given_at.is_some_and(|given| seen.at > given));
    let log = &record.log_bytes;
    let begin = position(log, BEGIN)? + BEGIN.len() + 1;
    let end = position(log, END)? - if stamps { STAMP } else { 0 };
    is_whole(&log[begin..end], megabytes, stamps)?;
    let first = reached(&seen, begin + 1)?;
    let last = reached(&seen, end)?;
    Ok(LogTimes {
        spooled: last.at - first.at,
        spooling_took: last.took - first.took,
        uploaded: complete_at(&record)?.saturating_duration_since(last.at),
        uploading_took: took - last.took,
    })
}

/// Where the script printed `line`; its own text is followed by a change of colour, not by a new line.
fn position(log: &[u8], line: &str) -> Result<usize> {
    let whole = format!("{line}\n").into_bytes();
    let found = log.windows(whole.len()).position(|window| window == whole);
    found.with_context(|| format!("{line} is not in the log"))
}

fn complete_at(record: &JobRecord) -> Result<Instant> {
    let (at, _) = record.growth.last().context("the log never grew")?;
    Ok(*at)
}

/// Size and CRC of what GitLab got, equal to those of what was printed.
fn is_whole(got: &[u8], megabytes: usize, stamps: bool) -> Result<()> {
    let (mut size, mut got_crc) = (0, crc32fast::Hasher::new());
    for line in got.split_inclusive(|byte| *byte == b'\n') {
        let text = if stamps {
            line.get(STAMP..).context("a line without its timestamp")?
        } else {
            line
        };
        got_crc.update(text);
        size += text.len();
    }
    let (block, mut printed_crc) = (block(), crc32fast::Hasher::new());
    for _ in 0..megabytes {
        printed_crc.update(&block);
    }
    let (printed, printed_crc) = (block.len() * megabytes, printed_crc.finalize());
    let got_crc = got_crc.finalize();
    ensure!(
        (size, got_crc) == (printed, printed_crc),
        "{printed} bytes with CRC {printed_crc:08x} were printed, GitLab got {size} with {got_crc:08x}"
    );
    Ok(())
}

/// How far the spool had grown, and what the manager had taken by then.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    length: u64,
    took: Duration,
}

fn reached(seen: &[Seen], length: usize) -> Result<Seen> {
    let found = seen.iter().find(|seen| seen.length >= length as u64);
    found
        .copied()
        .with_context(|| format!("the spool was never seen with {length} bytes"))
}

/// Looks at the spool of the one job that runs, until told to stop.
struct Watch {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Result<Vec<Seen>>>,
}

impl Watch {
    fn begin(folder: PathBuf, process: Process) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looking = tokio::spawn(async move {
            let mut seen: Vec<Seen> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Some(length) = length(&folder)
                    && seen.last().is_none_or(|last| last.length != length)
                {
                    seen.push(Seen {
                        at: Instant::now(),
                        length,
                        took: process.processor_time()?,
                    });
                }
                tokio::time::sleep(LOOK).await;
            }
            Ok(seen)
        });
        Self { stop, looking }
    }

    async fn end(self) -> Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await?
    }
}

fn length(folder: &Path) -> Option<u64> {
    let mut files = std::fs::read_dir(folder).ok()?;
    let file = files.next()?.ok()?;
    Some(file.metadata().ok()?.len())
}

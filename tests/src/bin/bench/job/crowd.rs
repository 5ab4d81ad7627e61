//! Many jobs at once: what each takes of the manager, and whether GitLab's interval is kept meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::figures::{Figures, Goal, Table, Value};
use fleetling_lab::{Job, Lab};

use super::LIMIT;
use super::process::Process;
use crate::extent::Extent;

const INSTANCES: u32 = 3;
/// Seconds between two parts of a log: GitLab's own for a log that somebody watches.
const INTERVAL: u64 = 3;
const FIRST: &str = "tick-1";

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let lab = Lab::start().await?;
    lab.gitlab.trace_interval(INTERVAL);
    let jobs = extent.crowd;
    let slots = u32::try_from(jobs)?.div_ceil(INSTANCES);
    let configuration = lab
        .configuration()
        .idle_count(slots * INSTANCES)
        .max_instances(INSTANCES)
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace(
            "capacity_per_instance = 1",
            &format!("capacity_per_instance = {slots}"),
        )
        .replace("concurrent = 10", &format!("concurrent = {jobs}"));
    let mut manager = lab.start_manager(&configuration)?;
    let ready = || (manager.lines("instance ready").len() >= INSTANCES as usize).then_some(());
    lab.journal.until("every instance", LIMIT, ready).await?;

    let process = Process(manager.id());
    let (took, resident) = (process.processor_time()?, process.resident()?);
    process.forget_peak()?;
    // Long enough for all of them to have begun before the first has ended.
    let seconds = 2 * jobs;
    let script = format!("for n in $(seq {seconds}); do echo tick-$n; sleep 1; done");
    let queue = |_| {
        let job = Job::named("bench-crowd");
        lab.gitlab
            .queue(job.script([script.as_str()]).without_sources())
    };
    let ids: Vec<_> = (0..jobs).map(queue).collect();
    let records = lab.gitlab.ended(&ids, LIMIT).await?;
    let took = (process.processor_time()? - took) / u32::try_from(jobs)?;
    let memory = (process.peak()? - resident) / jobs as f64;
    lab.was_correct()?;
    manager.quit()?;
    manager.ended(LIMIT).await?;

    for record in &records {
        ensure!(
            record.state == JobState::Success,
            "{}:\n{}",
            record.state,
            record.log()
        );
    }
    let at_once = at_once(&records)?;
    table.heading(format!(
        "{jobs} jobs on {INSTANCES} instances, {at_once} of them at once, each printing every second for {seconds} s"
    ));
    let gaps = Figures::of_times(records.iter().flat_map(gaps));
    table.row("between two parts of a log", gaps.clone());
    table.row(
        "processor time of the manager, a job",
        Figures::of_times([took]),
    );
    table.row(
        "peak memory of the manager, a job",
        Figures::of_sizes([memory]),
    );
    table.goal(
        "shortest time between two parts of a log",
        gaps.min(),
        Goal::AtLeast(Value::time(Duration::from_secs(INTERVAL))),
    );
    table.goal(
        "peak memory, a job",
        Value::bytes(memory),
        Goal::AtMost(Value::bytes(3_000_000.0)),
    );
    Ok(())
}

/// How many had begun when the first of them ended.
fn at_once(records: &[JobRecord]) -> Result<usize> {
    let first_end = records.iter().filter_map(told).min();
    let first_end = first_end.context("no job ended")?;
    let begun = |record: &&JobRecord| record.shown_at(FIRST).is_some_and(|at| at < first_end);
    Ok(records.iter().filter(begun).count())
}

fn told(record: &JobRecord) -> Option<Instant> {
    let last = record
        .updates
        .iter()
        .find(|update| update.state == "success");
    last.map(|update| update.at)
}

/// Between parts of one log; what is left when a job ends is sent at once, so the last does not count.
fn gaps(record: &JobRecord) -> Vec<Duration> {
    let parts: Vec<_> = record.growth.iter().map(|(at, _)| *at).collect();
    let kept = &parts[..parts.len().saturating_sub(1)];
    kept.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

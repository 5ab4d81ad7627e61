//! Jobs on a ready instance, one after the other, each followed by `docker run` of the same image and script there.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::figures::{Figures, Table};
use fleetling_lab::{Job, Lab};

use crate::extent::Extent;

const LIMIT: Duration = Duration::from_secs(180);
/// Prints what it does not say, so that the command line in the log is not taken for its output.
const SCRIPT: &str = "echo good-$((40 + 2))";
const GREETING: &str = "good-42";
/// Seconds.
const DAY: f64 = 86_400.0;
/// Before anything counts: they pull the image and fill every cache.
const WARM_UP: usize = 2;

/// From the payload handed out by GitLab.
struct JobTimes {
    /// Any part of the log.
    log: Duration,
    /// The script's own first line, when the manager read it: by the timestamp that it put into the log.
    read: Duration,
    /// The same line, when GitLab got it: the manager sends as often as GitLab says, the lab's says every second.
    output: Duration,
    /// The first `PUT` with the job's end.
    end: Duration,
}

/// From the start of the docker command.
struct DockerTimes {
    output: Duration,
    end: Duration,
}

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let lab = Lab::start().await?;
    // One instance, used again and again: what is measured is a job, not the making of its instance.
    let configuration = lab
        .configuration()
        .idle_count(1)
        .max_instances(1)
        .replace("max_use_count = 1", "max_use_count = 0");
    let mut manager = lab.start_manager(&configuration)?;
    manager.says(&["instance ready"], LIMIT).await?;
    let (mut jobs, mut runs, mut pulls) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..WARM_UP + extent.jobs {
        let (times, instance) = job(&lab).await?;
        let run = docker_run(&lab, &instance, "").await?;
        let pull = docker_run(&lab, &instance, "--pull always").await?;
        if n >= WARM_UP {
            jobs.push(times);
            runs.push(run);
            pulls.push(pull);
        }
    }
    lab.was_correct()?;
    manager.quit()?;
    manager.ended(LIMIT).await?;

    let of = |part: fn(&JobTimes) -> Duration| Figures::of_times(jobs.iter().map(part));
    table.heading(format!(
        "job on a ready instance: busybox, `{SCRIPT}`, no sources, pull_policy always; since its payload was handed out"
    ));
    table.row("first part of the log received", of(|times| times.log));
    table.row(
        "script's first output read by the manager",
        of(|times| times.read),
    );
    table.row("script's first output received", of(|times| times.output));
    table.row("final update received", of(|times| times.end));
    for (name, times) in [
        ("docker run --rm", &runs),
        ("docker run --rm --pull always", &pulls),
    ] {
        table.heading(format!(
            "peer: `{name}` of the same image and script, in a shell on that instance"
        ));
        table.row(
            "first output",
            Figures::of_times(times.iter().map(|times| times.output)),
        );
        table.row(
            "end of the command",
            Figures::of_times(times.iter().map(|times| times.end)),
        );
    }
    Ok(())
}

/// One job from its payload to its end, and the instance it ran on.
async fn job(lab: &Lab) -> Result<(JobTimes, String)> {
    let job = Job::named("bench").script([SCRIPT]).without_sources();
    let id = lab.gitlab.queue(job);
    let ended = lab.gitlab.ended(&[id], LIMIT).await?;
    let record = ended.first().context("the job is not known")?;
    ensure!(
        record.state == JobState::Success,
        "{}:\n{}",
        record.state,
        record.log()
    );
    let instance = record.instance().context("the log names no instance")?;
    Ok((times(record)?, instance))
}

fn times(record: &JobRecord) -> Result<JobTimes> {
    let given = record.given_at.context("the job was not given")?;
    let since = |at: Option<Instant>, what: &str| -> Result<Duration> {
        Ok(at.with_context(|| format!("no {what}:\n{}", record.log()))? - given)
    };
    let last = record
        .updates
        .iter()
        .find(|update| update.state == "success");
    Ok(JobTimes {
        log: since(record.growth.first().map(|(at, _)| *at), "log")?,
        read: read_at(record, given)?,
        output: since(record.shown_at(GREETING), "output")?,
        end: since(last.map(|update| update.at), "final update")?,
    })
}

/// From `given` to the timestamp of the script's first line (`…T12:34:56.123456Z 01O good…`).
fn read_at(record: &JobRecord, given: Instant) -> Result<Duration> {
    let log = record.log();
    let line = log.lines().find(|line| line.contains(GREETING));
    let read = line
        .and_then(|line| of_day(line.split_once('T')?.1.split_once('Z')?.0))
        .with_context(|| format!("no line of the script has a timestamp:\n{log}"))?;
    let given = SystemTime::now() - given.elapsed();
    let given = given.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() % DAY;
    // A job may begin before midnight and print after it.
    Ok(Duration::from_secs_f64((read - given).rem_euclid(DAY)))
}

/// Seconds since midnight of `12:34:56.123456`.
fn of_day(clock: &str) -> Option<f64> {
    clock.split(':').try_fold(0.0, |seconds, part| {
        Some(seconds * 60.0 + part.parse::<f64>().ok()?)
    })
}

/// Timed by the instance's own clock, so that getting there costs nothing. Three lines: begin, first output, end.
async fn docker_run(lab: &Lab, instance: &str, options: &str) -> Result<DockerTimes> {
    let script = format!(
        "date +%s%N
         docker run --rm {options} busybox sh -c '{SCRIPT}' 2>/dev/null | {{
           read -r line; [ \"$line\" = '{GREETING}' ] && date +%s%N; cat >/dev/null; }}
         date +%s%N"
    );
    let printed = lab.instances.exec(instance, &script).await?;
    let moments: Result<Vec<u64>, _> = printed.lines().map(str::parse).collect();
    let moments = moments.with_context(|| format!("not three moments: {printed:?}"))?;
    let [begin, output, end] = moments[..] else {
        bail!("docker run printed no {GREETING:?}; the clock said {printed:?}");
    };
    Ok(DockerTimes {
        output: Duration::from_nanos(output - begin),
        end: Duration::from_nanos(end - begin),
    })
}

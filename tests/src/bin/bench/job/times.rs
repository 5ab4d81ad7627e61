//! When what happened to one job: as GitLab received it, and as Docker on the instance tells it.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use fleetling_lab::Lab;
use fleetling_lab::coordinator::JobRecord;

use super::GREETING;
use super::events::Events;

/// Seconds.
const DAY: f64 = 86_400.0;

/// From the payload handed out by GitLab, but for the last.
pub(super) struct JobTimes {
    /// Any part of the log.
    pub(super) log: Duration,
    pub(super) helper: Duration,
    pub(super) build: Duration,
    /// The script's own first line, when the manager read it: by the timestamp that it put into the log.
    pub(super) read: Duration,
    /// The build container, when it ended.
    pub(super) exit: Duration,
    /// The script's first line, when GitLab got it: the manager sends as often as GitLab says, the lab's says every second.
    pub(super) output: Duration,
    /// The first `PUT` with the job's end.
    pub(super) end: Duration,
    /// The same, since the build container ended.
    pub(super) told: Duration,
}

pub(super) async fn of(lab: &Lab, instance: &str, record: &JobRecord) -> Result<JobTimes> {
    let given = record.given_at.context("the job was not given")?;
    let given_by_clock = SystemTime::now() - given.elapsed();
    let events = Events::since(lab, instance, given_by_clock).await?;
    let happened = |action: &str, kind: &str| -> Result<Duration> {
        let at = events.first(action, kind)?;
        Ok(at.duration_since(given_by_clock)?)
    };
    let since = |at: Option<Instant>, what: &str| -> Result<Duration> {
        Ok(at.with_context(|| format!("no {what}:\n{}", record.log()))? - given)
    };
    let last = record
        .updates
        .iter()
        .find(|update| update.state == "success");
    let exit = happened("die", "build")?;
    let end = since(last.map(|update| update.at), "final update")?;
    Ok(JobTimes {
        log: since(record.growth.first().map(|(at, _)| *at), "log")?,
        helper: happened("start", "predefined")?,
        build: happened("start", "build")?,
        read: read_at(record, given_by_clock)?,
        exit,
        output: since(record.shown_at(GREETING), "output")?,
        end,
        told: end.saturating_sub(exit),
    })
}

/// From `given` to the timestamp of the script's first line (`…T12:34:56.123456Z 01O good…`).
fn read_at(record: &JobRecord, given: SystemTime) -> Result<Duration> {
    let log = record.log();
    let line = log.lines().find(|line| line.contains(GREETING));
    let read = line
        .and_then(|line| of_day(line.split_once('T')?.1.split_once('Z')?.0))
        .with_context(|| format!("no line of the script has a timestamp:\n{log}"))?;
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

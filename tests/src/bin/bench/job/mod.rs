//! Jobs on ready instances, as GitLab sees them, beside what else could have run the same script there.
//!
//! ```text
//! one by one, on one instance:  job A · docker run · docker run --pull · upstream's sequence · job B · upstream's sequence
//! then                          a log of 100 MB, beside the daemon alone
//! all at once, on three:        30 jobs, and what they take of the manager
//! ```

pub(crate) mod crowd;
mod engine;
mod events;
mod long_log;
mod peer;
mod process;
mod times;
mod upstream;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::figures::{Figures, Goal, Table, Value};
use fleetling_lab::{Job, Lab, Tunnel};

use crate::extent::Extent;
use engine::Engine;
use peer::PeerTimes;
use times::JobTimes;
use upstream::{Sequence, Sources};

const LIMIT: Duration = Duration::from_secs(240);
/// Prints what it does not say, so that the command line in the log is not taken for its output.
const SCRIPT: &str = "echo good-$((40 + 2))";
const GREETING: &str = "good-42";
/// Before anything counts: they pull the image and fill every cache.
const WARM_UP: usize = 2;
/// What job B fetches; it does not compress.
const REPOSITORY_BYTES: usize = 1_000_000;

/// Everything that was timed in one run on one instance.
#[derive(Default)]
struct Measured {
    without_sources: Vec<JobTimes>,
    with_sources: Vec<JobTimes>,
    runs: Vec<PeerTimes>,
    pulls: Vec<PeerTimes>,
    upstream_without: Vec<PeerTimes>,
    upstream_with: Vec<PeerTimes>,
}

pub(crate) async fn one_by_one(extent: &Extent, table: &mut Table) -> Result<()> {
    let lab = Lab::start().await?;
    let commit = lab.gitlab.push("payload.bin", REPOSITORY_BYTES)?;
    // One instance, used again and again: what is measured is a job, not the making of its instance.
    let configuration = lab
        .configuration()
        .idle_count(1)
        .max_instances(1)
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace(
            "  executor = ",
            &format!("  output_limit = {}\n  executor = ", long_log::LIMIT_KIB),
        );
    let mut manager = lab.start_manager(&configuration)?;
    manager.says(&["instance ready"], LIMIT).await?;
    let instance = run(&lab, job_a())
        .await?
        .instance()
        .context("the log names no instance")?;
    let tunnel = Tunnel::open(&lab.instances, &instance).await?;
    let engine = Engine::at(tunnel.socket())?;
    let sequence = Sequence::on(&engine, &lab, &instance).await?;
    let fetch = Sources::Fetched {
        url: lab.gitlab.deploy_url(),
        commit,
    };

    let mut measured = Measured::default();
    for n in 0..WARM_UP + extent.jobs {
        let a = times::of(&lab, &instance, &run(&lab, job_a()).await?).await?;
        let docker = peer::docker_run(&lab, &instance, "").await?;
        let pull = peer::docker_run(&lab, &instance, "--pull always").await?;
        let upstream_a = sequence.run(&Sources::None).await?;
        let b = times::of(&lab, &instance, &run(&lab, job_b()).await?).await?;
        let upstream_b = sequence.run(&fetch).await?;
        if n >= WARM_UP {
            measured.without_sources.push(a);
            measured.runs.push(docker);
            measured.pulls.push(pull);
            measured.upstream_without.push(upstream_a);
            measured.with_sources.push(b);
            measured.upstream_with.push(upstream_b);
        }
    }
    measured.show(table);
    eprintln!("bench: long logs");
    long_log::measure(extent, table, &lab, &manager, &instance, &engine).await?;

    lab.was_correct()?;
    manager.quit()?;
    manager.ended(LIMIT).await?;
    Ok(())
}

fn job_a() -> Job {
    Job::named("bench-a").script([SCRIPT]).without_sources()
}

/// Fetches everything every time, whatever the job before it left.
fn job_b() -> Job {
    Job::named("bench-b")
        .script([SCRIPT])
        .variable("GIT_STRATEGY", "clone")
}

/// One job from its payload to its end.
async fn run(lab: &Lab, job: Job) -> Result<JobRecord> {
    let id = lab.gitlab.queue(job);
    let ended = lab.gitlab.ended(&[id], LIMIT).await?;
    let record = ended
        .into_iter()
        .next()
        .context("the job is not known any more")?;
    ensure!(
        record.state == JobState::Success,
        "{}:\n{}",
        record.state,
        record.log()
    );
    Ok(record)
}

impl Measured {
    fn show(&self, table: &mut Table) {
        table.heading(format!(
            "job A on a ready instance: busybox, `{SCRIPT}`, GIT_STRATEGY none, pull_policy always; since its payload"
        ));
        show_job(table, &self.without_sources);
        table.heading("job B: the same, with a clone of a repository of 1 MB".to_owned());
        show_job(table, &self.with_sources);
        for (name, times) in [
            (
                "`docker run --rm` of the same image and script, in a shell on that instance",
                &self.runs,
            ),
            ("the same with `--pull always`", &self.pulls),
            (
                "GitLab Runner's sequence for job A, on the same engine through SSH",
                &self.upstream_without,
            ),
            ("GitLab Runner's sequence for job B", &self.upstream_with),
        ] {
            table.heading(format!("peer: {name}"));
            let of = |part: fn(&PeerTimes) -> Duration| Figures::of_times(times.iter().map(part));
            table.row("first output", of(|times| times.output));
            table.row("end", of(|times| times.end));
        }
        table.heading("goals of a job, by the medians");
        self.show_goals(table);
    }

    fn show_goals(&self, table: &mut Table) {
        let output =
            |times: &[JobTimes]| Figures::of_times(times.iter().map(|times| times.output)).median();
        let peer = |times: &[PeerTimes]| {
            Figures::of_times(times.iter().map(|times| times.output)).median()
        };
        let (a, b) = (output(&self.without_sources), output(&self.with_sources));
        table.goal(
            "job A: first output, of `docker run`'s",
            a.over(peer(&self.runs)),
            Goal::AtMost(Value::times(1.7)),
        );
        table.goal(
            "job A: upstream's first output, of ours",
            peer(&self.upstream_without).over(a),
            Goal::AtLeast(Value::times(2.5)),
        );
        table.goal(
            "job B: upstream's first output, of ours",
            peer(&self.upstream_with).over(b),
            Goal::AtLeast(Value::times(1.0)),
        );
        for (name, times) in [("A", &self.without_sources), ("B", &self.with_sources)] {
            table.goal(
                format!("job {name}: from its container's exit to the final update"),
                Figures::of_times(times.iter().map(|times| times.told)).median(),
                Goal::AtMost(Value::time(Duration::from_millis(200))),
            );
        }
    }
}

/// A row's name, and what stands in it.
type Row = (&'static str, fn(&JobTimes) -> Duration);

/// What is shown of a job, in the order in which it happens.
const ROWS: [Row; 8] = [
    ("first part of the log received", |times| times.log),
    ("helper container started", |times| times.helper),
    ("build container started", |times| times.build),
    ("script's first output read by the manager", |times| {
        times.read
    }),
    ("build container ended", |times| times.exit),
    ("script's first output received", |times| times.output),
    ("final update received", |times| times.end),
    ("final update, since the build container's end", |times| {
        times.told
    }),
];

fn show_job(table: &mut Table, jobs: &[JobTimes]) {
    for (what, part) in ROWS {
        table.row(what, Figures::of_times(jobs.iter().map(part)));
    }
}

//! What is taken away from under a job: packets while it prints much, its build container, its daemon. Each ends as it should.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Job, JobId, Lab, Manager};

const MINUTE: Duration = Duration::from_secs(60);

/// Of 100 bytes each.
const LINES: usize = 200_000;
/// How much of the log GitLab has when the packets stop.
const BEFORE_THE_CUT: usize = 2_000_000;
const CUT: Duration = Duration::from_secs(45);
/// What a manager may need more of while it reads a log again, however long that is.
const MORE_MEMORY: u64 = 16 << 20;

fn line(number: usize) -> String {
    format!("line {number:07} {number:086}\n")
}

/// An instance that is ready for its first job.
async fn ready(manager: &Manager) -> Result<String> {
    manager.says(&["instance ready"], 2 * MINUTE).await?;
    let lines = manager.lines("instance ready");
    let instance = lines.first().and_then(|line| line.field("instance"));
    let instance = instance.context("the manager does not say which")?;
    Ok(instance.to_owned())
}

/// Every line once and in order; nothing of another between them.
fn complete(log: &str) -> Result<()> {
    let begin = log.find(&line(1)).context("no first line")?;
    let mut rest = &log[begin..];
    for number in 1..=LINES {
        let line = line(number);
        rest = rest.strip_prefix(&line).with_context(|| {
            let found: String = rest.chars().take(200).collect();
            format!("after line {} comes not the next but {found:?}", number - 1)
        })?;
    }
    ensure!(!rest.contains("line 0"), "lines come again:\n{rest}");
    Ok(())
}

/// The daemon rotates its logs as many operators let it, long before 20 MB.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_prints_20_mb_while_no_packet_passes_for_45_s_goes_on_and_its_log_is_complete()
-> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(1).max_instances(2);
    let configuration = configuration.replace(
        "  executor = \"docker-autoscaler\"",
        "  output_limit = 65536\n  executor = \"docker-autoscaler\"",
    );
    let manager = lab.start_manager(&configuration)?;
    let instance = ready(&manager).await?;
    let rotated = "--log-opt max-size=1m --log-opt max-file=2";
    let instances = &lab.instances;
    instances.restart_daemon(&instance, "TERM", rotated).await?;
    let is_restarted =
        "grep -q max-size /proc/$(cat /var/run/docker.pid)/cmdline && docker version";
    instances.until(&instance, is_restarted, MINUTE).await?;

    // About a megabyte a second, so that the cut falls into the midst of it.
    let print = format!(
        "awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) {{ printf \"line %07d %086d\\n\", i, i; \
         if (i % 2500 == 0) system(\"sleep 0.2\") }} }}'"
    );
    let job = Job::named("much").without_sources();
    let job = job.variable("FF_TIMESTAMPS", "false");
    let id = lab
        .gitlab
        .queue(job.script([&print, "echo the script is 'over'"]));
    let printed = || (lab.gitlab.job(id).log_bytes.len() > BEFORE_THE_CUT).then_some(());
    let awaited = "the first lines of the job";
    lab.journal.until(awaited, 2 * MINUTE, printed).await?;
    let memory = manager.peak_memory()?;
    instances.swallow_packets(&instance).await?;
    let ended = || {
        let job = lab.gitlab.job(id);
        job.state.is_final().then(|| format!("it is {}", job.state))
    };
    lab.journal.holds("the job waits", CUT, ended).await?;
    let at_the_cut = lab.gitlab.job(id).log_bytes.len();
    ensure!(
        at_the_cut < LINES * line(1).len(),
        "all was printed before the cut"
    );
    instances.let_packets_pass(&instance).await?;

    let job = lab.gitlab.ended(&[id], 3 * MINUTE).await?.remove(0);
    let log = job.log();
    let tail: Vec<_> = log.lines().rev().take(20).collect();
    ensure!(job.state == JobState::Success, "{tail:#?}");
    complete(&log)?;
    ensure!(
        log.matches("the script is over\n").count() == 1,
        "{tail:#?}"
    );
    let more = manager.peak_memory()?.saturating_sub(memory);
    println!("{at_the_cut} bytes at the cut; {more} bytes of memory more for the rest");
    ensure!(more < MORE_MEMORY, "{more} bytes more than before the cut");
    lab.was_correct()
}

/// Says that it began, and how often: a file of the build folder outlives its container.
fn long(name: &str) -> Job {
    Job::named(name)
        .script(["echo x >>count; echo begun $(grep -c x count)", "sleep 600"])
        .without_sources()
}

/// Its instance, once its script has begun so often.
async fn begun(lab: &Lab, id: JobId, times: u32) -> Result<String> {
    let begun = format!("begun {times}\n");
    lab.gitlab.shows(id, &begun, 3 * MINUTE).await?;
    let instance = lab.gitlab.job(id).instance();
    instance.context("the log names no instance")
}

const BUILD: &str = "docker ps -q --filter label=com.gitlab.gitlab-runner.type=build";

async fn remove_build(lab: &Lab, instance: &str) -> Result<()> {
    let remove = format!("docker rm -f $({BUILD})");
    lab.instances.exec(instance, &remove).await.map(drop)
}

fn failed(job: &JobRecord, why: &str) -> Result<()> {
    let (log, reason) = (job.log(), job.failure_reason.as_deref());
    ensure!(job.state == JobState::Failed, "{}:\n{log}", job.state);
    ensure!(reason == Some("runner_system_failure"), "{reason:?}\n{log}");
    ensure!(log.contains(why), "no {why:?} in the log:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_container_or_daemon_that_vanishes_fails_its_job_for_its_reason_or_is_replaced()
-> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(0).max_instances(4))?;
    let removed = lab.gitlab.queue(long("removed"));
    let twice = long("removed twice").variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2");
    let twice = lab.gitlab.queue(twice);
    let stopped = lab.gitlab.queue(long("daemon is restarted"));
    let killed = lab.gitlab.queue(long("daemon is killed"));

    let instance = begun(&lab, removed, 1).await?;
    remove_build(&lab, &instance).await?;
    let instance = begun(&lab, twice, 1).await?;
    remove_build(&lab, &instance).await?;
    for (id, signal) in [(stopped, "TERM"), (killed, "KILL")] {
        let instance = begun(&lab, id, 1).await?;
        let instances = &lab.instances;
        instances.restart_daemon(&instance, signal, "").await?;
    }
    let instance = begun(&lab, twice, 2).await?;
    remove_build(&lab, &instance).await?;

    let all = [removed, twice, stopped, killed];
    let ended = lab.gitlab.ended(&all, 2 * MINUTE).await?;
    let [removed, twice, stopped, killed] = &ended[..] else {
        anyhow::bail!("{} ended", ended.len());
    };
    failed(removed, "not found or removed")?;
    ensure!(!removed.log().contains("Will retry"), "{}", removed.log());
    for line in [
        "not found or removed. Will retry...",
        "Retrying step_script",
        "Execution attempts exceeded",
    ] {
        failed(twice, line)?;
    }
    for job in [stopped, killed] {
        failed(job, "the Docker daemon on the instance was restarted")?;
    }
    for job in &ended {
        let waited = job.ended_at.map(|at| at - job.queued_at);
        println!(
            "{} ended {:.1?} after it was queued",
            job.name,
            waited.unwrap_or_default()
        );
    }
    // Whatever became of its daemon, an instance goes after its one job.
    let gone = || lab.living().is_empty().then_some(());
    lab.journal
        .until("the end of every instance", MINUTE, gone)
        .await?;
    drop(manager);
    lab.was_correct()
}

//! The connection to an instance is cut: never a success that did not run, never a script that ran twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{Endpoint, Fault, JobRecord, JobState};
use fleetling_lab::{Job, JobId, Lab, Manager};

const MINUTE: Duration = Duration::from_secs(60);
const TICKS: usize = 30;

/// Its script tells GitLab that it runs, past the log, and prints a numbered line every 0.2 s.
fn job(name: &str) -> Job {
    Job::named(name).script([
        "wget -q -O /dev/null \"$CI_SERVER_URL/script-began/$CI_JOB_ID\" || true",
        "echo the script 'begins'",
        "n=0; while [ $n -lt 30 ]; do n=$((n+1)); echo \"tick $n.\"; sleep 0.2; done",
        "echo the script is 'over'",
    ])
}

async fn begin(lab: &Lab, job: Job, until: &str) -> Result<(JobId, String)> {
    let id = lab.gitlab.queue(job);
    lab.gitlab.shows(id, until, 2 * MINUTE).await?;
    let instance = lab.gitlab.job(id).instance();
    Ok((id, instance.context("the log names no instance")?))
}

/// Cuts every connection to the instance and waits until the manager knows.
async fn cut(lab: &Lab, manager: &Manager, instance: &str) -> Result<()> {
    lab.instances.cut_connections(instance).await?;
    let words = ["connection lost", instance];
    manager.says(&words, MINUTE).await.map(drop)
}

/// How often the script began, by its own word.
fn begun(lab: &Lab, id: JobId) -> usize {
    lab.asked(&format!("/script-began/{}", id.0))
}

/// What must hold whatever was cut.
fn honest(lab: &Lab, job: &JobRecord) -> Result<()> {
    let (log, begun) = (job.log(), begun(lab, job.id));
    ensure!(begun <= 1, "the script ran {begun} times:\n{log}");
    match job.state {
        JobState::Success => complete(&log).with_context(|| format!("{begun} began:\n{log}")),
        _ => {
            let reason = job.failure_reason.as_deref();
            ensure!(reason == Some("runner_system_failure"), "{reason:?}\n{log}");
            Ok(())
        }
    }
}

/// Every line of the script once and in order.
fn complete(log: &str) -> Result<()> {
    let mut rest = log;
    let ticks = (1..=TICKS).map(|n| format!("tick {n}.\n"));
    let lines = std::iter::once("the script begins\n".to_owned())
        .chain(ticks)
        .chain(["the script is over\n".to_owned()]);
    for line in lines {
        let count = log.matches(&line).count();
        ensure!(count == 1, "{count} times in the log: {line:?}");
        let at = rest.find(&line);
        rest = &rest[at.with_context(|| format!("out of order: {line:?}"))? + line.len()..];
    }
    Ok(())
}

/// The job goes on as if nothing had been.
async fn goes_on(lab: &Lab, id: JobId) -> Result<JobRecord> {
    let job = lab.gitlab.ended(&[id], 3 * MINUTE).await?.remove(0);
    ensure!(job.state == JobState::Success, "{}", job.log());
    ensure!(begun(lab, id) == 1, "{}", begun(lab, id));
    honest(lab, &job)?;
    Ok(job)
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_before_the_script_the_job_goes_on() -> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    // The build container already waits for the script while the sources come slowly.
    let slowly = Fault::delay(Endpoint::Git, Duration::from_secs(10));
    lab.gitlab.fault(slowly);
    let (id, instance) = begin(&lab, job("before"), "Getting source").await?;
    ensure!(
        begun(&lab, id) == 0,
        "the script began too early to be cut before"
    );
    cut(&lab, &manager, &instance).await?;
    let job = goes_on(&lab, id).await?;
    ensure!(job.fetches > 0, "the sources did not come from GitLab");
    lab.was_correct()
}

/// Its build container holds still from before the script is sent until after the cut, so that no luck is needed.
#[tokio::test(flavor = "multi_thread")]
async fn cut_between_the_start_of_its_container_and_its_begin_the_script_is_sent_again()
-> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let slowly = Fault::delay(Endpoint::Git, Duration::from_secs(10));
    lab.gitlab.fault(slowly);
    let (id, instance) = begin(&lab, job("between"), "Getting source").await?;
    let build = "docker ps -q --no-trunc --filter name=-build";
    let started = format!("{build} | grep -q .");
    lab.instances.until(&instance, &started, MINUTE).await?;
    let build = lab.instances.exec(&instance, build).await?;
    ensure!(begun(&lab, id) == 0, "the script began before the stop");
    let stop = format!("kill -STOP $(docker inspect -f '{{{{.State.Pid}}}}' {build})");
    lab.instances.exec(&instance, &stop).await?;
    let attached = format!(
        "docker events --since 10m --until 0s --filter event=attach --filter container={build} | grep -q ."
    );
    lab.instances.until(&instance, &attached, MINUTE).await?;
    cut(&lab, &manager, &instance).await?;
    // Nobody wakes the stopped one: only another container can have run the script.
    goes_on(&lab, id).await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_in_the_middle_of_the_script_the_job_goes_on_and_its_log_is_complete() -> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let job = job("middle").without_sources();
    let (id, instance) = begin(&lab, job, "tick 2.\n").await?;
    cut(&lab, &manager, &instance).await?;
    goes_on(&lab, id).await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_after_the_script_its_result_is_kept() -> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let job = job("after").without_sources().after_script([
        "echo after-script 'begins'",
        "sleep 5",
        "echo after-script is 'over'",
    ]);
    let (id, instance) = begin(&lab, job, "after-script begins\n").await?;
    cut(&lab, &manager, &instance).await?;
    let job = goes_on(&lab, id).await?;
    for line in ["after-script begins\n", "after-script is over\n"] {
        let count = job.log().matches(line).count();
        ensure!(count == 1, "{line:?} is {count} times in:\n{}", job.log());
    }
    lab.was_correct()
}

/// Its container runs and takes the attach: without a limit the job would ask it until its own timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_does_not_answer_after_a_cut_is_waited_for_no_longer_than_a_connection()
-> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    lab.gitlab
        .fault(Fault::delay(Endpoint::Git, Duration::from_secs(20)));
    let (id, instance) = begin(&lab, job("silent"), "Getting source").await?;
    let helper = "docker ps -q --filter label=com.gitlab.gitlab-runner.type=predefined";
    let stop = format!("kill -STOP $(docker inspect -f '{{{{.State.Pid}}}}' $({helper}))");
    lab.instances.exec(&instance, &stop).await?;
    lab.instances.cut_connections(&instance).await?;
    let job = lab.gitlab.ended(&[id], 2 * MINUTE).await?.remove(0);
    let (log, reason) = (job.log(), job.failure_reason.as_deref());
    ensure!(reason == Some("runner_system_failure"), "{reason:?}\n{log}");
    ensure!(log.contains("did not answer for 60 s"), "{log}");
    ensure!(begun(&lab, id) == 0, "{log}");
    lab.was_correct()
}

/// Wherever a cut falls, also between the start of a container and the begin mark of its script.
#[tokio::test(flavor = "multi_thread")]
async fn cut_again_and_again_the_job_ends_honestly() -> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let (id, instance) = begin(&lab, job("often"), "Running on").await?;
    let mut cuts = 0;
    while cuts < 12 && !lab.gitlab.job(id).state.is_final() {
        if lab.instances.cut_connections(&instance).await.is_err() {
            break; // The job is over and its instance gone.
        }
        cuts += 1;
        // The next cut is to find a connection again, or the end.
        let restored = || {
            let said = manager.said();
            let lost = said.matches("connection lost").count();
            let over = lab.gitlab.job(id).state.is_final();
            (over || said.matches("connection restored").count() >= lost.max(1)).then_some(())
        };
        lab.journal
            .until("the connection again", 2 * MINUTE, restored)
            .await?;
    }
    let job = lab.gitlab.ended(&[id], 3 * MINUTE).await?.remove(0);
    ensure!(cuts > 0, "nothing was cut");
    honest(&lab, &job)?;
    lab.was_correct()
}

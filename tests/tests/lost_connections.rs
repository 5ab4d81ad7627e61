//! The connection to an instance is cut: never a success that did not run, never a script that ran twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Job, JobId, Lab};

const MINUTE: Duration = Duration::from_secs(60);

/// Cuts the connections of the job's instance once its log shows `after`, and checks what must hold whatever happened.
async fn cut(lab: &Lab, job: Job, after: &str) -> Result<()> {
    let id: JobId = lab.gitlab.queue(job);
    lab.gitlab.shows(id, after, 2 * MINUTE).await?;
    let instance = lab
        .gitlab
        .job(id)
        .instance()
        .context("the log names no instance")?;
    lab.instances.cut_connections(&instance).await?;
    let ended = lab.gitlab.ended(&[id], 3 * MINUTE).await?;
    let log = ended[0].log();
    let begun = log.matches("the script begins\n").count();
    let over = log.matches("the script is over\n").count();
    ensure!(begun <= 1, "the script ran {begun} times:\n{log}");
    match ended[0].state {
        JobState::Success => ensure!(
            begun == 1 && over == 1,
            "a success that did not run:\n{log}"
        ),
        _ => ensure!(
            ended[0].failure_reason.as_deref() == Some("runner_system_failure"),
            "{log}"
        ),
    }
    Ok(())
}

fn job(name: &str) -> Job {
    Job::named(name).script([
        "echo the script 'begins'",
        "sleep 5",
        "echo the script is 'over'",
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_script_it_is_sent_again_or_the_job_fails() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    cut(&lab, job("before"), "Preparing environment").await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_the_script_it_goes_on_or_the_job_fails() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    cut(&lab, job("middle").without_sources(), "the script begins\n").await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_script_its_result_is_kept_or_the_job_fails() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let job = job("after").without_sources().after_script(["sleep 5"]);
    cut(&lab, job, "the script is over\n").await?;
    lab.was_correct()
}

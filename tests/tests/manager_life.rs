//! The manager stops, is stopped, and dies: what becomes of its jobs and instances.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Job, Lab};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn quit_lets_running_jobs_end_and_takes_no_new_ones() -> Result<()> {
    let lab = Lab::start().await?;
    let mut manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let running = lab.gitlab.queue(
        Job::named("runs")
            .script(["echo begun", "sleep 15", "echo over"])
            .without_sources(),
    );
    lab.gitlab.shows(running, "begun\n", 2 * MINUTE).await?;
    manager.quit()?;
    let late = lab.gitlab.queue(Job::named("late").without_sources());
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    let job = lab.gitlab.job(running);
    ensure!(
        job.state == JobState::Success && job.log().contains("over\n"),
        "{}",
        job.log()
    );
    ensure!(
        lab.gitlab.job(late).state == JobState::Queued,
        "a job was taken after SIGQUIT"
    );
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn term_ends_jobs_says_what_became_of_each_and_is_gone_in_time() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab
        .configuration()
        .idle_count(1)
        .max_instances(2)
        .global("shutdown_timeout = 20");
    let mut manager = lab.start_manager(&configuration)?;
    let id = lab.gitlab.queue(
        Job::named("runs")
            .script(["echo begun", "sleep 600"])
            .without_sources(),
    );
    lab.gitlab.shows(id, "begun\n", 2 * MINUTE).await?;
    manager.terminate()?;
    manager.ended(Duration::from_secs(25)).await?;
    let job = lab.gitlab.job(id);
    ensure!(
        job.state == JobState::Failed,
        "{} {}",
        job.state,
        manager.said()
    );
    ensure!(
        manager.said().contains(&id.0.to_string()),
        "the manager did not name its job:\n{}",
        manager.said()
    );
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_killed_manager_is_reported_at_the_next_start_and_nothing_leaks() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(1).max_instances(3);
    let manager = lab.start_manager(&configuration)?;
    let id = lab.gitlab.queue(
        Job::named("runs")
            .script(["echo begun", "sleep 600"])
            .without_sources(),
    );
    lab.gitlab.shows(id, "begun\n", 2 * MINUTE).await?;
    let used = lab
        .gitlab
        .job(id)
        .instance()
        .context("the log names no instance")?;
    manager.kill().await?;

    let _manager = lab.start_manager(&configuration)?;
    let job = &lab.gitlab.ended(&[id], Duration::from_secs(10)).await?[0];
    ensure!(
        job.failure_reason.as_deref() == Some("runner_system_failure"),
        "{job:?}"
    );
    ensure!(
        job.log().contains("the manager stopped while this job ran"),
        "{}",
        job.log()
    );
    let gone = || (!lab.living().contains(&used)).then_some(());
    lab.journal
        .until("the end of the used instance", 2 * MINUTE, gone)
        .await?;
    let next = lab
        .gitlab
        .queue(Job::named("next").script(["echo fresh"]).without_sources());
    let next = &lab.gitlab.ended(&[next], 2 * MINUTE).await?[0];
    ensure!(
        next.state == JobState::Success && next.instance().is_some_and(|i| i != used),
        "{}",
        next.log()
    );
    ensure!(lab.living().len() <= 3, "{:?}", lab.living());
    lab.was_correct()
}

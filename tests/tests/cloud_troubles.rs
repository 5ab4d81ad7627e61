//! What goes wrong in the cloud: refused secrets, denied hosts, instances that end under a job.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Fact, Job, Lab};

const MINUTE: Duration = Duration::from_secs(60);

/// Whether GitLab was ever asked for a job.
fn asked_for_jobs(lab: &Lab) -> bool {
    let entries = lab.journal.entries();
    entries.iter().any(
        |entry| matches!(&entry.fact, Fact::Asked { path, .. } if path.ends_with("/jobs/request")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named_and_a_corrected_file_heals_without_a_restart() -> Result<()> {
    let lab = Lab::start().await?;
    let right = lab.configuration().idle_count(1).max_instances(2);
    let mut wrong = right.clone();
    wrong.credentials = wrong
        .credentials
        .replace(&lab.cloud.access.secret_key, "not-the-secret-of-this-key");
    let manager = lab.start_manager(&wrong)?;
    let id = lab.gitlab.queue(
        Job::named("waits")
            .script(["echo at last"])
            .without_sources(),
    );
    let said = manager
        .says(&["unauthenticated", "default", "credentials"], MINUTE)
        .await?;
    ensure!(
        !said.contains("not-the-secret"),
        "the secret is in the log: {said}"
    );
    tokio::time::sleep(Duration::from_secs(5)).await; // a request for jobs would come every 3 s
    ensure!(
        !asked_for_jobs(&lab),
        "GitLab was asked for jobs that nobody can run"
    );

    std::fs::write(lab.home().join(".aws/credentials"), &right.credentials)?;
    let ended = lab.gitlab.ended(&[id], 2 * MINUTE).await?;
    ensure!(ended[0].state == JobState::Success, "{}", ended[0].log());
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_not_granted_is_never_reached_until_the_named_line_is_added() -> Result<()>
{
    let lab = Lab::start().await?;
    let granted = lab.configuration().idle_count(1).max_instances(2);
    let mut denied = granted.clone();
    denied.plugins = "[aws]\nplaintext = true\n".to_owned();
    let manager = lab.start_manager(&denied)?;
    let id = lab.gitlab.queue(
        Job::named("waits")
            .script(["echo at last"])
            .without_sources(),
    );
    // The line to add, whole.
    manager
        .says(&[&lab.cloud.access.endpoint, "http = ["], MINUTE)
        .await?;
    let packets = |fact: &Fact| matches!(fact, Fact::CloudAsked { .. });
    ensure!(
        !lab.journal.entries().iter().any(|e| packets(&e.fact)),
        "the cloud was reached without a grant"
    );

    std::fs::write(lab.home().join("plugins.toml"), &granted.plugins)?;
    let ended = lab.gitlab.ended(&[id], 2 * MINUTE).await?;
    ensure!(ended[0].state == JobState::Success, "{}", ended[0].log());
    lab.was_correct()
}

/// A running job, with its instance.
async fn running(lab: &Lab) -> Result<(JobRecord, String)> {
    let job = Job::named("long")
        .script(["echo begun", "sleep 600"])
        .without_sources();
    let id = lab.gitlab.queue(job);
    lab.gitlab.shows(id, "begun\n", 2 * MINUTE).await?;
    let record = lab.gitlab.job(id);
    let instance = record.instance().context("the log names no instance")?;
    Ok((record, instance))
}

fn lost(job: &JobRecord) -> Result<()> {
    ensure!(job.state == JobState::Failed, "{}", job.log());
    ensure!(
        job.failure_reason.as_deref() == Some("runner_system_failure"),
        "{:?}",
        job.failure_reason
    );
    ensure!(
        job.log().contains("instance"),
        "the log does not say why:\n{}",
        job.log()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_terminated_in_the_cloud_fails_its_job_within_15_s_and_is_replaced_once()
-> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(4))?;
    let (job, instance) = running(&lab).await?;
    let two = || (lab.living().len() == 2).then_some(());
    lab.journal
        .until("one busy and one idle instance", MINUTE, two)
        .await?;
    let before = lab.launched().len();
    lab.cloud.terminate(&instance).await?;
    lost(&lab.gitlab.ended(&[job.id], Duration::from_secs(15)).await?[0])?;

    // The group launches one for it by itself; idle_count asks for no more than the one that idles.
    tokio::time::sleep(Duration::from_secs(20)).await; // long enough for a second decision
    ensure!(
        lab.launched().len() == before + 1,
        "{} were launched for one",
        lab.launched().len() - before
    );
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_died_unnoticed_fails_its_job_within_75_s_and_is_removed() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(3))?;
    let (job, instance) = running(&lab).await?;
    lab.instances.kill(&instance).await?;
    lost(&lab.gitlab.ended(&[job.id], Duration::from_secs(75)).await?[0])?;
    let removed = || {
        let asked = lab.cloud_requests("TerminateInstanceInAutoScalingGroup");
        asked
            .iter()
            .any(|(p, _)| p["InstanceId"] == instance.as_str())
            .then_some(())
    };
    lab.journal
        .until("its removal through the Auto Scaling API", MINUTE, removed)
        .await?;
    lab.was_correct()
}

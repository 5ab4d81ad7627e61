//! What goes wrong in the cloud: refused secrets, denied hosts, instances that end under a job.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Detour, Fact, Job, JobId, Lab};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Whether GitLab was ever asked for a job.
fn asked_for_jobs(lab: &Lab) -> bool {
    let entries = lab.journal.entries();
    entries.iter().any(
        |entry| matches!(&entry.fact, Fact::Asked { path, .. } if path.ends_with("/jobs/request")),
    )
}

/// Longer than the three seconds between two requests for jobs.
async fn no_job_is_asked_for(lab: &Lab) -> Result<()> {
    let asked = || asked_for_jobs(lab).then(|| "GitLab was asked".to_owned());
    let what = "no request for jobs that nobody can run";
    lab.journal.holds(what, 7 * SECOND, asked).await
}

fn waiting_job(lab: &Lab) -> JobId {
    let job = Job::named("waits").script(["echo at last"]);
    lab.gitlab.queue(job.without_sources())
}

async fn succeeds(lab: &Lab, id: JobId) -> Result<()> {
    let job = lab.gitlab.ended(&[id], 3 * MINUTE).await?.remove(0);
    ensure!(job.state == JobState::Success, "{}", job.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named_and_a_corrected_file_heals_without_a_restart() -> Result<()> {
    let lab = Lab::start().await?;
    let right = lab.configuration().idle_count(1).max_instances(2);
    let mut wrong = right.clone();
    wrong.credentials = wrong
        .credentials
        .replace(&lab.cloud.access.secret_key, "not-the-secret-of-this-key");
    let mut manager = lab.start_manager(&wrong)?;
    let id = waiting_job(&lab);
    let file = lab.home().join(".aws/credentials");
    let words = [
        "unauthenticated",
        "profile `default`",
        &*file.to_string_lossy(),
    ];
    manager.says(&words, MINUTE).await?;
    ensure!(
        !manager.said().contains("not-the-secret"),
        "the secret is in the log: {}",
        manager.said()
    );
    no_job_is_asked_for(&lab).await?;

    std::fs::write(&file, &right.credentials)?;
    succeeds(&lab, id).await?;
    ensure!(manager.is_running(), "it was another process that healed");
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_not_granted_is_never_reached_until_the_named_line_is_added() -> Result<()>
{
    let lab = Lab::start().await?;
    let detour = Detour::to(&lab.cloud).await?;
    let endpoint = &detour.endpoint;
    let mut denied = lab.configuration().idle_count(1).max_instances(2);
    denied.aws_config = denied
        .aws_config
        .replace(&lab.cloud.access.endpoint, endpoint);
    denied.plugins = "[aws]\nplaintext = true\n".to_owned();
    let mut manager = lab.start_manager(&denied)?;
    let id = waiting_job(&lab);
    let said = manager
        .says(&["request denied", "http = ["], MINUTE)
        .await?;
    let file = lab.home().join("plugins.toml");
    let place = format!("add under [aws] in {} ", file.display());
    let (_, line) = said.split_once(&place).with_context(|| said.clone())?;
    let (_, line) = line.split_once(": `").with_context(|| said.clone())?;
    let (line, _) = line.split_once("` plugin=").with_context(|| said.clone())?;
    ensure!(line == format!("http = [\"{endpoint}\"]"), "{line:?}");
    no_job_is_asked_for(&lab).await?;
    let reached = detour.connections();
    ensure!(
        reached == 0,
        "{reached} connections were made without a grant"
    );

    std::fs::write(&file, format!("{}{line}\n", denied.plugins))?;
    succeeds(&lab, id).await?;
    ensure!(detour.connections() > 0, "the cloud was reached elsewhere");
    ensure!(manager.is_running(), "it was another process that healed");
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

fn lost(job: &JobRecord, instance: &str, why: &str) -> Result<()> {
    let (log, reason) = (job.log(), job.failure_reason.as_deref());
    ensure!(job.state == JobState::Failed, "{log}");
    ensure!(reason == Some("runner_system_failure"), "{reason:?}");
    let says_why = |line: &str| line.contains(instance) && line.contains(why);
    ensure!(
        log.lines().any(says_why),
        "no line of the log names {instance} and {why:?}:\n{log}"
    );
    Ok(())
}

/// Two instances of which one runs the job: nothing is under way any more.
async fn settled(lab: &Lab) -> Result<()> {
    let settled = || {
        let entries = lab.journal.entries();
        let booted = |fact: &Fact| matches!(fact, Fact::InstanceBooted(_));
        let booted = entries.iter().filter(|entry| booted(&entry.fact)).count();
        (lab.living().len() == 2 && booted == 2).then_some(())
    };
    let awaited = "one busy and one idle instance";
    lab.journal.until(awaited, 2 * MINUTE, settled).await
}

/// The group launches one in the place of one of two that were lost; the manager asks for no more and removes nothing.
async fn replaced_once(lab: &Lab, asked_before: usize) -> Result<()> {
    let three = || (lab.launched().len() == 3).then_some(());
    lab.journal.until("one in its place", MINUTE, three).await?;
    let more = || {
        let (launched, removed) = (lab.launched(), lab.removed());
        let resized = lab.cloud_requests("SetDesiredCapacity").len() - asked_before;
        (launched.len() > 3 || lab.living().len() != 2 || !removed.is_empty() || resized > 0)
            .then(|| format!("launched {launched:?}, removed {removed:?}, resized {resized} times"))
    };
    let what = "no further instance made or deleted";
    lab.journal.holds(what, 30 * SECOND, more).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_terminated_in_the_cloud_fails_its_job_within_15_s_and_is_replaced_once()
-> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(4))?;
    let (job, instance) = running(&lab).await?;
    settled(&lab).await?;
    let asked = lab.cloud_requests("SetDesiredCapacity").len();
    lab.cloud.terminate(&instance).await?;
    let ended = lab.gitlab.ended(&[job.id], 15 * SECOND).await?.remove(0);
    lost(&ended, &instance, "the cloud")?;
    replaced_once(&lab, asked).await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_on_an_instance_that_is_lost_both_fail_within_15_s_and_one_takes_its_place()
-> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(2).max_instances(4);
    let configuration = configuration
        .replace("capacity_per_instance = 1", "capacity_per_instance = 2")
        .replace("max_use_count = 1", "max_use_count = 0");
    let _manager = lab.start_manager(&configuration)?;
    // The fullest instance comes first, so the second job joins the first one.
    let (one, instance) = running(&lab).await?;
    let (two, other) = running(&lab).await?;
    ensure!(instance == other, "they run on {instance} and {other}");
    settled(&lab).await?;
    let asked = lab.cloud_requests("SetDesiredCapacity").len();
    lab.cloud.terminate(&instance).await?;
    for ended in lab.gitlab.ended(&[one.id, two.id], 15 * SECOND).await? {
        lost(&ended, &instance, "the cloud")?;
    }
    replaced_once(&lab, asked).await?;
    lab.was_correct()
}

/// The cloud calls it running all the while.
async fn dies_unnoticed(how: impl AsyncFnOnce(&Lab, &str) -> Result<()>) -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(3))?;
    let (job, instance) = running(&lab).await?;
    how(&lab, &instance).await?;
    let since = Instant::now();
    let ended = lab.gitlab.ended(&[job.id], 75 * SECOND).await?.remove(0);
    println!("the job failed {:.1?} after its instance", since.elapsed());
    lost(&ended, &instance, "did not answer")?;
    let removed = || lab.removed().contains(&instance).then_some(());
    let awaited = "its removal through the Auto Scaling API";
    lab.journal.until(awaited, MINUTE, removed).await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_died_unnoticed_fails_its_job_within_75_s_and_is_removed() -> Result<()> {
    dies_unnoticed(async |lab, instance| lab.instances.kill(instance).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_packets_are_swallowed_fails_its_job_within_75_s_and_is_removed()
-> Result<()> {
    dies_unnoticed(async |lab, instance| lab.instances.swallow_packets(instance).await).await
}

//! The manager stops, is stopped, and dies: what becomes of its jobs and instances.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{Endpoint, Fault, JobState};
use fleetling_lab::{Job, JobId, Lab};

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
    let configuration = lab.configuration().idle_count(1).max_instances(3);
    let configuration = configuration.global("shutdown_timeout = 20");
    let mut manager = lab.start_manager(&configuration)?;
    let jobs = [endless(&lab, "one").await?, endless(&lab, "two").await?];
    manager.terminate()?;
    let status = manager.ended(Duration::from_secs(20)).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    for id in jobs {
        told_of_its_end(&lab, id, "the manager was stopped while this job ran")?;
        let number = format!("job={}", id.0);
        for fact in ["job ended", "accepted by GitLab"] {
            let says = |line: &str| line.contains(fact) && line.contains(&number);
            ensure!(
                manager.said().lines().any(says),
                "no line with {fact:?} and {number}:\n{}",
                manager.said()
            );
        }
    }
    lab.was_correct()
}

/// The instance is dead, so that cleaning up would take longer than there is; GitLab hears of the job all the same.
#[tokio::test(flavor = "multi_thread")]
async fn term_waits_for_no_cleanup_beyond_shutdown_timeout() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(1).max_instances(3);
    let configuration = configuration.global("shutdown_timeout = 5");
    let mut manager = lab.start_manager(&configuration)?;
    let id = endless(&lab, "stuck").await?;
    let used = lab.gitlab.job(id).instance();
    let used = used.context("the log names no instance")?;
    lab.instances.kill(&used).await?;
    manager.says(&["connection lost", &used], MINUTE).await?;
    manager.terminate()?;
    // The second is for the process itself to end.
    manager.ended(Duration::from_secs(6)).await?;
    told_of_its_end(&lab, id, "the manager was stopped while this job ran")?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn term_while_gitlab_is_silent_names_the_job_and_the_next_start_tells_its_end() -> Result<()>
{
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(1).max_instances(3);
    let configuration = configuration.global("shutdown_timeout = 5");
    let mut manager = lab.start_manager(&configuration)?;
    let id = endless(&lab, "untold").await?;
    for endpoint in [
        Endpoint::RequestJob,
        Endpoint::AppendTrace,
        Endpoint::UpdateJob,
    ] {
        lab.gitlab.fault(Fault::hang(endpoint).times(u32::MAX));
    }
    manager.terminate()?;
    // The second is for the process itself to end.
    let status = manager.ended(Duration::from_secs(6)).await?;
    ensure!(!status.success(), "{status}: {}", manager.said());
    let number = format!("job={}", id.0);
    let words = ["GitLab was not told of this job's end", &number];
    manager.says(&words, Duration::from_secs(1)).await?;
    let state = lab.gitlab.job(id).state;
    ensure!(state == JobState::Running, "GitLab was told: {state}");

    lab.gitlab.recover();
    let _manager = lab.start_manager(&configuration)?;
    lab.gitlab.ended(&[id], Duration::from_secs(10)).await?;
    told_of_its_end(&lab, id, "the manager stopped before")?;
    lab.was_correct()
}

/// A job that runs and would not end by itself.
async fn endless(lab: &Lab, name: &str) -> Result<JobId> {
    let job = Job::named(name).script(["echo begun", "sleep 600"]);
    let id = lab.gitlab.queue(job.without_sources());
    lab.gitlab.shows(id, "begun\n", 2 * MINUTE).await?;
    Ok(id)
}

fn told_of_its_end(lab: &Lab, id: JobId, why: &str) -> Result<()> {
    let job = lab.gitlab.job(id);
    let reason = job.failure_reason.as_deref();
    ensure!(job.state == JobState::Failed, "{} is {}", id, job.state);
    ensure!(reason == Some("runner_system_failure"), "{reason:?}");
    ensure!(job.log().contains(why), "{}", job.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_killed_manager_is_reported_at_the_next_start_and_nothing_leaks() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(1).max_instances(3);
    let manager = lab.start_manager(&configuration)?;
    let id = endless(&lab, "killed").await?;
    let used = lab.gitlab.job(id).instance();
    let used = used.context("the log names no instance")?;
    manager.kill().await?;

    // Waiting before the start, so that it would get the used instance if anybody could.
    let next = Job::named("next").script(["echo fresh"]).without_sources();
    let next = lab.gitlab.queue(next);
    let _manager = lab.start_manager(&configuration)?;
    lab.gitlab.ended(&[id], Duration::from_secs(10)).await?;
    told_of_its_end(&lab, id, "the manager stopped while this job ran")?;

    let job = lab.gitlab.ended(&[next], 3 * MINUTE).await?.remove(0);
    ensure!(job.state == JobState::Success, "{}", job.log());
    let other = job.instance().context("the log names no instance")?;
    ensure!(other != used, "{used} was used twice");
    // Both used ones go, through the Auto Scaling API, and the idle one that is wanted stays.
    let one_left = || match &lab.living()[..] {
        [left] if *left != used && *left != other => Some(()),
        _ => None,
    };
    lab.journal
        .until("one idle instance and no other", 2 * MINUTE, one_left)
        .await?;
    let removed = lab.cloud_requests("TerminateInstanceInAutoScalingGroup");
    for id in [&used, &other] {
        let accepted = |(p, status): &(serde_json::Value, u16)| {
            p["InstanceId"] == id.as_str() && *status == 200
        };
        ensure!(
            removed.iter().any(accepted),
            "{id} was not removed through the API"
        );
    }
    for (parameters, _) in lab.cloud_requests("SetDesiredCapacity") {
        let desired = parameters["DesiredCapacity"].as_str();
        let desired: u32 = desired.unwrap_or_default().parse()?;
        ensure!(
            desired <= 3,
            "{desired} instances were asked for; max_instances is 3"
        );
    }
    lab.was_correct()
}

/// With `keep_instance_with_acquisitions` the next start uses the instance again, but nothing of the job that ran there.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_instance_is_cleared_of_the_old_job_before_it_is_used_again() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(1).max_instances(1);
    let configuration = configuration
        .replace("max_use_count = 1", "max_use_count = 9")
        .replace(
            "[runners.autoscaler.plugin_config]",
            "[runners.autoscaler.state_storage]\n\
             enabled = true\n\
             keep_instance_with_acquisitions = true\n\
             [runners.autoscaler.plugin_config]",
        );
    let manager = lab.start_manager(&configuration)?;
    let id = endless(&lab, "killed").await?;
    let used = lab.gitlab.job(id).instance();
    let used = used.context("the log names no instance")?;
    manager.kill().await?;
    let left = "docker ps -aq --filter label=com.gitlab.gitlab-runner.job.id=";
    let left = format!("{left}{}; docker volume ls -q", id.0);
    let before = lab.instances.exec(&used, &left).await?;
    ensure!(before.lines().count() > 2, "nothing was left: {before:?}");

    let next = Job::named("next").script(["echo fresh"]).without_sources();
    let next = lab.gitlab.queue(next);
    let manager = lab.start_manager(&configuration)?;
    let job = lab.gitlab.ended(&[next], 3 * MINUTE).await?.remove(0);
    ensure!(job.state == JobState::Success, "{}", job.log());
    ensure!(job.instance().as_ref() == Some(&used), "{}", job.log());
    told_of_its_end(&lab, id, "the manager stopped while this job ran")?;
    let after = lab.instances.exec(&used, &left).await?;
    let shared = |line: &&str| line.contains("-cache-") && !line.contains("-concurrent-");
    ensure!(
        after.lines().all(|line| shared(&line)),
        "left of the old job: {after:?}"
    );
    let lines = manager.said();
    let place = |words: &str| {
        lines
            .find(words)
            .with_context(|| format!("no {words:?}:\n{lines}"))
    };
    ensure!(place("what earlier jobs left was removed")? < place("instance ready")?);
    lab.was_correct()
}

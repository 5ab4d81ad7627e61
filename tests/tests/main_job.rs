//! The main job: the documented configuration runs jobs, each on an instance of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Job, Lab};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn twelve_jobs_at_once_each_get_an_instance_that_is_deleted_afterwards() -> Result<()> {
    let lab = Lab::start().await?;
    let mut manager = lab.start_manager(&lab.configuration())?;
    // Five idle instances before the first job, and no more.
    let five = || (lab.living().len() == 5).then_some(());
    lab.journal
        .until("five idle instances", MINUTE, five)
        .await?;

    let jobs: Vec<_> = (1..=12)
        .map(|n| {
            let job =
                Job::named(&format!("job {n}")).script(["echo started", "sleep 3", "echo done"]);
            lab.gitlab.queue(job.without_sources())
        })
        .collect();
    let ended = lab.gitlab.ended(&jobs, 6 * MINUTE).await?;
    for job in &ended {
        ensure!(
            job.state == JobState::Success,
            "{} is {}:\n{}",
            job.name,
            job.state,
            job.log()
        );
    }
    let used: BTreeSet<_> = ended.iter().filter_map(|job| job.instance()).collect();
    ensure!(
        used.len() == 12,
        "twelve jobs ran on {} instances: {used:?}",
        used.len()
    );

    let gone = || {
        used.iter()
            .all(|id| !lab.living().contains(id))
            .then_some(())
    };
    lab.journal
        .until("the end of every used instance", MINUTE, gone)
        .await?;
    let removed: BTreeSet<_> = lab
        .cloud_requests("TerminateInstanceInAutoScalingGroup")
        .iter()
        .filter(|(_, status)| *status == 200)
        .filter_map(|(parameters, _)| parameters["InstanceId"].as_str().map(str::to_owned))
        .collect();
    ensure!(
        used.is_subset(&removed),
        "used {used:?}, removed through the API {removed:?}"
    );
    // Never more asked for than the configuration allows.
    for (parameters, _) in lab.cloud_requests("SetDesiredCapacity") {
        let desired: u32 = parameters["DesiredCapacity"]
            .as_str()
            .unwrap_or_default()
            .parse()?;
        ensure!(
            desired <= 10,
            "{desired} instances were asked for; max_instances is 10"
        );
    }
    lab.journal
        .until("five idle instances again", MINUTE, five)
        .await?;

    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_its_sources_its_variables_and_its_after_script() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(2).max_instances(3))?;
    let job = Job::named("all of it")
        .variable("GREETING", "good morning")
        .masked("SECRET", "mellon-and-more")
        .file("LETTER", "dear reader")
        .script([
            "echo \"$GREETING\"",
            "cat \"$LETTER\"",
            "echo \"the word is $SECRET\"",
            "bin/greet",
            "git --version 2>/dev/null; grep -c gitlab-ci-token .git/config || true",
        ])
        .after_script(["echo \"after: $CI_JOB_STATUS\""]);
    let id = lab.gitlab.queue(job);
    let failing = lab.gitlab.queue(
        Job::named("fails")
            .script(["echo before", "exit 3"])
            .without_sources(),
    );
    let ended = lab.gitlab.ended(&[id, failing], 3 * MINUTE).await?;
    let log = ended[0].log();
    ensure!(ended[0].state == JobState::Success, "{log}");
    for part in [
        "good morning",
        "dear reader",
        "the word is [MASKED]",
        "greetings from the sources",
        "after: success",
    ] {
        ensure!(log.contains(part), "{part:?} is missing:\n{log}");
    }
    ensure!(
        !log.contains("mellon-and-more"),
        "a masked value is in the log:\n{log}"
    );
    ensure!(
        !log.contains(&ended[0].token),
        "the job token is in the log"
    );
    ensure!(ended[0].fetches > 0, "the sources did not come from GitLab");

    ensure!(ended[1].state == JobState::Failed, "{}", ended[1].log());
    ensure!(
        ended[1].failure_reason.as_deref() == Some("script_failure"),
        "{:?}",
        ended[1].failure_reason
    );
    ensure!(ended[1].exit_code == Some(3), "{:?}", ended[1].exit_code);
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_its_after_script_runs() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(2).max_instances(3))?;
    let job = Job::named("long")
        .script(["echo begun", "sleep 600"])
        .after_script(["echo cleaned up"]);
    let cancelled = lab.gitlab.queue(job.without_sources());
    let aborted = lab.gitlab.queue(
        Job::named("longer")
            .script(["echo begun", "sleep 600"])
            .without_sources(),
    );
    let timed_out = Job::named("slow")
        .script(["echo begun", "sleep 600"])
        .without_sources();
    let timed_out = lab.gitlab.queue(timed_out.timeout(Duration::from_secs(20)));
    lab.gitlab.shows(cancelled, "begun\n", 2 * MINUTE).await?;
    lab.gitlab.cancel(cancelled);
    lab.gitlab.shows(aborted, "begun\n", 2 * MINUTE).await?;
    lab.gitlab.abort(aborted);
    let ended = lab
        .gitlab
        .ended(&[cancelled, aborted, timed_out], 3 * MINUTE)
        .await?;
    ensure!(
        ended[0].state == JobState::Canceled && ended[0].log().contains("cleaned up"),
        "{}",
        ended[0].log()
    );
    ensure!(
        ended[2].failure_reason.as_deref() == Some("job_execution_timeout"),
        "{:?}",
        ended[2]
    );
    lab.was_correct()
}

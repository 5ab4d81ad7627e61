//! `executor = "docker"`: jobs run in the daemon of the machine that the manager runs on, and nothing of them stays.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Job, Lab};
use tokio::process::Command;

const MINUTE: Duration = Duration::from_secs(60);

/// Containers and volumes of this runner's jobs, whatever state they are in.
async fn left(runner: &str) -> Result<String> {
    let of_runner = format!("label=com.gitlab.gitlab-runner.runner.id={runner}");
    let mut found = String::new();
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"]] {
        let mut docker = Command::new("docker");
        let listed = docker
            .args(list)
            .args(["--filter", &of_runner])
            .output()
            .await?;
        ensure!(listed.status.success(), "{listed:?}");
        found.push_str(&String::from_utf8(listed.stdout)?);
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_side_by_side_in_the_managers_own_daemon_and_leave_nothing() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().own_daemon();
    let mut manager = lab.start_manager(&configuration)?;
    manager.says(&["instance ready"], MINUTE).await?;
    let jobs: Vec<_> = (1..=3)
        .map(|n| {
            let job = Job::named(&format!("job {n}"))
                .script(["echo hello from $HOSTNAME", "test -f README.md"]);
            lab.gitlab.queue(job)
        })
        .collect();
    let failing = lab
        .gitlab
        .queue(Job::named("fails").script(["exit 7"]).without_sources());
    for job in lab.gitlab.ended(&jobs, 2 * MINUTE).await? {
        let log = job.log();
        ensure!(
            job.state == JobState::Success,
            "{} is {}:\n{log}",
            job.name,
            job.state
        );
        ensure!(log.contains("hello from runner-"), "{log}");
        ensure!(log.contains("Preparing the \"docker\" executor"), "{log}");
        ensure!(!log.contains("Dialing instance"), "{log}");
    }
    let failed = lab.gitlab.ended(&[failing], MINUTE).await?;
    let failed = failed.first().context("it ended")?;
    ensure!(
        failed.state == JobState::Failed,
        "{}:\n{}",
        failed.state,
        failed.log()
    );
    ensure!(lab.launched().is_empty(), "{:?}", lab.launched());

    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    let token = lab.gitlab.runner_token();
    let runner: String = token.trim_start_matches("glrt-").chars().take(9).collect();
    let left = left(&runner).await?;
    ensure!(left.is_empty(), "left: {left}");
    lab.was_correct()
}

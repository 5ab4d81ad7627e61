//! Scripts, variables and flags where only a real container tells: busybox's own shell, users, the first process.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Job, Lab};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

fn by_user(name: &str, user: &str) -> Job {
    let image =
        json!({ "name": "busybox:latest", "executor_opts": { "docker": { "user": user } } });
    Job::named(name).part("image", image)
}

fn has(job: &JobRecord, parts: &[&str]) -> Result<()> {
    let log = job.log();
    ensure!(job.state == JobState::Success, "{log}");
    for part in parts {
        ensure!(log.contains(part), "{part:?} is missing:\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_find_their_variables_their_files_and_who_they_are() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab.configuration().idle_count(2).max_instances(3);
    let configuration = configuration.replace("max_use_count = 1", "max_use_count = 0");
    let _manager = lab.start_manager(&configuration)?;

    let handed_on = Job::named("hands on")
        .part(
            "steps",
            json!([
                { "name": "script", "script": ["echo 'WORD=two words' >> \"$GITLAB_ENV\"", "printf '[%s]\\n' \"$ODD\""] },
                { "name": "release", "script": ["echo \"released with $WORD\""] },
                { "name": "after_script", "script": ["echo \"after: $WORD, $CI_JOB_STATUS\""] },
            ]),
        )
        .variable("ODD", "it's `x` \\n é \"q\"")
        .variable("WORD", "no word")
        .without_sources();
    let whose =
        "echo \"I am $(id -u), it is $(stat -c '%u %a' bin/greet)\"; echo mine > new && bin/greet";
    // A checkout that is fetched into keeps the modes of the job before.
    let anew = |name, user| {
        let job = by_user(name, user).script([whose]);
        job.variable("GIT_STRATEGY", "clone")
    };
    let open = anew("open to all", "1000");
    let owned = anew("owned", "1000:100").variable("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "true");
    let first = Job::named("first process")
        .script(["echo \"first is $(cat /proc/1/comm)\""])
        .variable("FF_USE_INIT_WITH_DOCKER_EXECUTOR", "true")
        .without_sources();
    let jobs = [handed_on, open, owned, first].map(|job| lab.gitlab.queue(job));
    let ended = lab.gitlab.ended(&jobs, 4 * MINUTE).await?;
    has(
        &ended[0],
        &[
            "[it's `x` \\n é \"q\"]",
            "released with no word",
            "after: two words, success",
        ],
    )?;
    has(
        &ended[1],
        &["I am 1000, it is 0 777", "greetings from the sources"],
    )?;
    has(
        &ended[2],
        &["I am 1000, it is 1000 755", "greetings from the sources"],
    )?;
    has(&ended[3], &["first is docker-init"])?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_stop_ends_the_script_and_after_script_still_runs() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(1))?;
    let job = Job::named("long")
        .script(["echo begun", "sleep 600"])
        .after_script(["echo cleaned up"])
        .variable("FF_USE_NATIVE_CONTAINER_STOP", "true")
        .without_sources();
    let job = lab.gitlab.queue(job);
    lab.gitlab.shows(job, "begun\n", 2 * MINUTE).await?;
    lab.gitlab.cancel(job);
    let ended = lab.gitlab.ended(&[job], 2 * MINUTE).await?;
    ensure!(
        ended[0].state == JobState::Canceled && ended[0].log().contains("cleaned up"),
        "{}",
        ended[0].log()
    );
    lab.was_correct()
}

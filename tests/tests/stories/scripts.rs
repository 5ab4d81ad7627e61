//! Scripts, variables and flags where only a real container tells: busybox's own shell, users, the first process, a daemon
//! that the script itself asks.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Job, Lab};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// The instance's own socket, as an operator hands it to jobs, and its programs for want of an image with a client.
const DOCKER_OF_INSTANCE: &str = r#"    image = "busybox:latest"
    volumes = ["/cache", "/var/run/docker.sock:/var/run/docker.sock", "/usr:/of-instance:ro"]"#;

const CLIENT: &str = "docker() { /of-instance/lib/*-linux-gnu/ld-linux-*.so.* \
    --library-path \"$(echo /of-instance/lib/*-linux-gnu)\" /of-instance/bin/docker \"$@\"; }";

/// What an entrypoint has to say before it runs its command.
const TALKATIVE: [&str; 4] = ["sh", "-c", "echo welcome, 4 and 5 >&2; exec \"$@\"", "sh"];

fn by_user(name: &str, user: &str) -> Job {
    let options = json!({ "docker": { "user": user } });
    let image =
        json!({ "name": "busybox:latest", "entrypoint": TALKATIVE, "executor_opts": options });
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
    let configuration = configuration
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace("  shell = ", "  proxy_exec = true\n  shell = ")
        .replace("    image = \"busybox:latest\"", DOCKER_OF_INSTANCE);
    let _manager = lab.start_manager(&configuration)?;

    let handed_on = Job::named("hands on")
        .part(
            "steps",
            json!([
                { "name": "script", "script": [
                    "echo 'WORD=two words' >> \"$GITLAB_ENV\"", "printf '[%s]\\n' \"$ODD\"",
                    "made=\"of $(printf '%s-' my own)\"; echo \"::add-mask::$made\"; echo \"MADE=$made\" >> \"$GITLAB_ENV\"",
                ] },
                { "name": "release", "script": ["echo \"released with $WORD\""] },
                { "name": "after_script", "script": ["echo \"after: $WORD, $CI_JOB_STATUS, $MADE\""] },
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
    // Of its own: the helper beside it, a service that has ended, what a stage has left.
    let prunes = Job::named("prunes")
        .part(
            "services",
            json!([{
                "name": "busybox:latest", "alias": "gone", "command": ["true"],
                "variables": [{ "key": "PASSWORD", "value": "of-the-service", "masked": true }],
            }]),
        )
        .variable("FF_NETWORK_PER_BUILD", "true")
        .file("NOTE", "still here")
        .script([
            CLIENT,
            "echo its password is of-the-service",
            "n=0; until docker ps -aq --filter status=exited | grep -q . || [ $n = 30 ]; do sleep 1; n=$((n+1)); done",
            "docker container prune -f",
            "docker network prune -f && docker volume prune -f",
            "echo \"$(docker ps -aq --filter status=exited | wc -l) are left\"",
        ])
        .after_script(["cat README.md \"$NOTE\" > /dev/null && echo \"nothing is $(echo missing)\""]);
    let jobs = [handed_on, open, owned, first, prunes].map(|job| lab.gitlab.queue(job));
    let ended = lab.gitlab.ended(&jobs, 4 * MINUTE).await?;
    has(
        &ended[0],
        &[
            "[it's `x` \\n é \"q\"]",
            "released with no word",
            "::add-mask::[MASKED]",
            "after: two words, success, [MASKED]",
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
    let said = [
        "its password is [MASKED]",
        "Deleted Containers:",
        "0 are left",
        "nothing is missing",
    ];
    has(&ended[4], &said)?;
    lab.was_correct()
}

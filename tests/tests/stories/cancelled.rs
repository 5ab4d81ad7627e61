//! Jobs that are cancelled while their script runs: what its processes hear in a real container, and what the log shows.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Job, Lab};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Stands in the second line of a command, which the log does not show.
const HIDDEN: &str = "no reader of the log sees this";

/// A first process that is no shell of ours: it runs the command it is given, and hands on what it hears.
const FIRST: &str = "exec 3<&0; \"$@\" <&3 3<&- & pid=$!; \
    trap 'echo first heard TERM; kill -TERM -1' TERM; \
    while :; do wait $pid; code=$?; kill -0 $pid 2> /dev/null || exit $code; done";

/// A script whose own shell and whose program both tell of TERM.
fn job(name: &str) -> Job {
    let program = "sh -c 'trap \"echo program heard TERM; exit 0\" TERM; echo it runs; while :; do sleep 0.2; done'";
    Job::named(name)
        .script([
            &format!("echo begun\nHIDDEN='{HIDDEN}'"),
            "trap 'echo script heard TERM; exit 3' TERM",
            program,
        ])
        .after_script(["echo cleaned up, $CI_JOB_STATUS"])
        .without_sources()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_script_s_processes_hear_term_and_the_log_shows_no_more_than_they_say()
-> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(3).max_instances(3))?;
    let without_init = job("without init");
    let with_init = job("with init").variable("FF_USE_INIT_WITH_DOCKER_EXECUTOR", "true");
    let entrypoint = ["sh", "-c", FIRST, "sh"];
    let native = job("native stop")
        .part(
            "image",
            json!({ "name": "busybox:latest", "entrypoint": entrypoint }),
        )
        .variable("FF_USE_NATIVE_CONTAINER_STOP", "true");
    let jobs = [without_init, with_init, native].map(|job| lab.gitlab.queue(job));
    for job in jobs {
        lab.gitlab.shows(job, "it runs\n", 3 * MINUTE).await?;
        lab.gitlab.cancel(job);
    }
    let ended = lab.gitlab.ended(&jobs, 2 * MINUTE).await?;
    for job in &ended {
        let log = job.log();
        ensure!(
            job.state == JobState::Canceled,
            "{} is {}:\n{log}",
            job.name,
            job.state
        );
        let mut said = vec![
            "program heard TERM\n",
            "script heard TERM\n",
            "script canceled externally (UI, API)",
            "cleaned up, canceled\n",
        ];
        if job.name == "native stop" {
            said.insert(0, "first heard TERM\n");
        }
        for words in said {
            ensure!(
                log.contains(words),
                "{}: {words:?} is missing:\n{log}",
                job.name
            );
        }
        for hidden in [HIDDEN, "HIDDEN", "eval '"] {
            ensure!(
                !log.contains(hidden),
                "{}: the log has {hidden:?}:\n{log}",
                job.name
            );
        }
    }
    lab.was_correct()
}

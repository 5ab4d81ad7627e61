//! Services beside a job, on real engines: found by every name, waited for, read, and gone with the job.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Configuration, Job, JobId, Lab};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// Instances live on after their jobs, so that what a job leaves there shows. A service has `wait` seconds to answer:
/// few only where it never does.
fn configuration(lab: &Lab, wait: u32) -> Configuration {
    let image = "image = \"busybox:latest\"";
    lab.configuration()
        .idle_count(1)
        .max_instances(2)
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace(
            image,
            &format!("{image}\n    wait_for_services_timeout = {wait}"),
        )
}

/// A web server that tells who it is.
fn web(alias: &str, port: u16) -> Value {
    let serve = format!(
        "mkdir /www; echo \"served by $WHO\" > /www/index.html; echo \"$WHO was here\" > /builds/$WHO; \
         hostname > /builds/id-of-$WHO; echo \"$WHO listens\"; exec httpd -f -p {port} -h /www"
    );
    json!({
        "name": "library/$SERVED_BY",
        "alias": alias,
        "entrypoint": ["/bin/sh", "-c"],
        "command": [serve],
        "variables": [
            {"key": "HEALTHCHECK_TCP_PORT", "value": port.to_string(), "public": true},
            {"key": "WHO", "value": format!("$PREFIX-{port}"), "public": true},
        ],
    })
}

fn with_services(name: &str, services: Value) -> Job {
    Job::named(name)
        .part("services", services)
        .variable("SERVED_BY", "busybox")
        .without_sources()
}

pub(super) async fn succeeded(lab: &Lab, job: JobId) -> Result<JobRecord> {
    let ended = lab.gitlab.ended(&[job], 3 * MINUTE).await?.remove(0);
    let (state, log) = (ended.state, ended.log());
    ensure!(state == JobState::Success, "{state}:\n{log}");
    Ok(ended)
}

/// All of these, in this order.
pub(super) fn in_order(log: &str, parts: &[&str]) -> Result<()> {
    let mut rest = log;
    for part in parts {
        let at = rest.find(part);
        let at = at.with_context(|| format!("{part:?} is not behind the others in:\n{log}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}

/// Waits until nothing of the job is left on its instance: no container, no network, no volume of its own.
pub(super) async fn leaves_nothing(lab: &Lab, job: &JobRecord) -> Result<()> {
    let instance = job.instance().context("the log names no instance")?;
    let label = format!(
        "--filter label=com.gitlab.gitlab-runner.job.id={}",
        job.id.0
    );
    let left = format!(
        "docker ps -aq {label}; docker network ls -q {label}; docker volume ls -q {label} --filter \
         label=com.gitlab.gitlab-runner.reusable=false"
    );
    let nothing = format!("[ -z \"$({left})\" ]");
    lab.instances.until(&instance, &nothing, MINUTE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links()
-> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&configuration(&lab, 60))?;
    for own_network in [false, true] {
        let names = "web library__busybox library-busybox";
        let ask = format!(
            "for name in {names}; do wget -qO- http://$name:8080/; done; wget -qO- http://other:9090/"
        );
        let job = with_services("web", json!([web("web", 8080), web("other", 9090)]))
            .variable("PREFIX", "job")
            .variable("FF_NETWORK_PER_BUILD", &own_network.to_string())
            .script([
                &ask,
                // Docker's own name for a container without one: the first digits of its id.
                "id=$(cat /builds/id-of-job-9090); echo \"id of ${#id} digits\"; wget -qO- http://$id:9090/",
                "cat /builds/job-9090",
                "echo \"network <$CI_BUILD_NETWORK_NAME>\"",
            ]);
        let ended = succeeded(&lab, lab.gitlab.queue(job)).await?;
        let log = ended.log();
        in_order(
            &log,
            &[
                "Using Docker executor with image",
                "Skipping alias \"library__busybox\" for service \"library/busybox\" (services[1])",
                "Starting service library/busybox:latest...",
                "Starting service library/busybox:latest...",
                "Waiting for services to be up and running (timeout 60 seconds)...",
                "Using effective pull policy of [always] for container busybox:latest",
                "served by job-8080\n",
                "served by job-8080\n",
                "served by job-8080\n",
                "served by job-9090\n",
                "id of 12 digits\n",
                "served by job-9090\n",
                "job-9090 was here\n",
            ],
        )?;
        ensure!(!log.contains("probably didn't start"), "{log}");
        let has_network = log.contains("network <runner-");
        ensure!(has_network == own_network, "{log}");
        leaves_nothing(&lab, &ended).await?;
    }
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_told_and_one_that_cannot_start_fails_the_job()
-> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&configuration(&lab, 4))?;
    let shell = |alias: &str, script: &str, port: Option<&str>| {
        let port = port.map(|port| json!({"key": "HEALTHCHECK_TCP_PORT", "value": port}));
        json!({
            "name": "busybox", "alias": alias, "command": ["sh", "-c", script],
            "variables": port.into_iter().collect::<Vec<_>>(),
        })
    };
    let services = json!([
        shell(
            "silent",
            "echo I never listen; exec sleep 600",
            Some("8080")
        ),
        shell("portless", "echo I have no port; exec sleep 600", None),
        shell("broken", "echo I give up; exit 7", Some("8080")),
        shell("garrulous", "seq 1000000 1100000; exec sleep 600", None),
    ]);
    let unhealthy = |own_network: &str| {
        let job = with_services("unhealthy", services.clone())
            .variable("FF_NETWORK_PER_BUILD", own_network)
            .script(["echo ran anyway"]);
        lab.gitlab.queue(job)
    };
    for job in [unhealthy("false"), unhealthy("true")] {
        let ended = succeeded(&lab, job).await?;
        let log = ended.log();
        for part in [
            "probably didn't start properly.",
            "Health check error:",
            "timeout: no answer within 4 s",
            "Health check container logs:",
            "Connection refused",
            "Service container logs:",
            "I never listen",
            "has no exposed TCP port; set HEALTHCHECK_TCP_PORT among its variables",
            "I have no port",
            "ended with exit code 7",
            "I give up",
            "ran anyway\n",
        ] {
            ensure!(log.contains(part), "{part:?} is missing:\n{log}");
        }
        ensure!(log.matches("*** WARNING:").count() == 4, "{log}");
        shows_64_kib_of_numbers(&log)?;
        leaves_nothing(&lab, &ended).await?;
    }

    let services = json!([{"name": "busybox", "command": ["/nowhere/at/all"]}]);
    let unstartable = lab.gitlab.queue(with_services("unstartable", services));
    let absent = format!("{}/nobody/has-this", lab.registry());
    let absent = lab
        .gitlab
        .queue(with_services("absent", json!([{ "name": absent }])));
    let begun = [
        (unstartable, "service busybox:latest could not be started"),
        (absent, "nobody/has-this\" with specified policies [always]"),
    ];
    let reasons = ["runner_system_failure", "runner_configuration_error"];
    for ((job, why), reason) in begun.into_iter().zip(reasons) {
        let ended = lab.gitlab.ended(&[job], 3 * MINUTE).await?.remove(0);
        let (log, found) = (ended.log(), ended.failure_reason.as_deref());
        ensure!(ended.state == JobState::Failed, "{log}");
        ensure!(found == Some(reason), "{found:?}:\n{log}");
        ensure!(log.contains(why), "no {why:?}:\n{log}");
        leaves_nothing(&lab, &ended).await?;
    }
    lab.was_correct()
}

/// What the garrulous service says is shown from its beginning, as far as it is shown at all.
fn shows_64_kib_of_numbers(log: &str) -> Result<()> {
    // Behind the job log's own stamp, and before the end of its colour.
    let texts = log.lines().filter_map(|line| line.split_once("\x1b[0K"));
    let texts = texts.filter_map(|(_, text)| text.strip_suffix("\x1b[0;m"));
    let is_number = |text: &&str| text.split_once("Z 10").is_some_and(|(_, n)| n.len() == 5);
    let shown: Vec<_> = texts.filter(is_number).collect();
    let bytes: usize = shown.iter().map(|line| line.len() + 1).sum();
    let first = shown.first().context("no number is shown")?;
    ensure!(first.ends_with(" 1000000"), "the first is {first:?}");
    ensure!((60_000..=65_536).contains(&bytes), "{bytes} bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_print_is_in_the_log_where_the_job_asks_for_it() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&configuration(&lab, 60))?;
    let asks = |asked: &str| {
        with_services("chatty", json!([web("web", 8080)]))
            .variable("PREFIX", "job")
            .variable("CI_DEBUG_SERVICES", asked)
            .masked("SECRET", "mellon-and-more")
            .script(["wget -qO- http://web:8080/"])
    };
    let shown = "[service:library__busybox-library-busybox-web]";
    let ended = succeeded(&lab, lab.gitlab.queue(asks("true"))).await?;
    let log = ended.log();
    let mut lines = log.lines().filter(|line| line.contains(shown));
    ensure!(
        lines.any(|line| line.ends_with("job-8080 listens")),
        "{log}"
    );
    let ended = succeeded(&lab, lab.gitlab.queue(asks("false"))).await?;
    ensure!(!ended.log().contains(shown), "{}", ended.log());
    let ended = succeeded(&lab, lab.gitlab.queue(asks("blammo"))).await?;
    let log = ended.log();
    ensure!(
        !log.contains(shown) && log.contains("CI_DEBUG_SERVICES: \"blammo\" is not understood"),
        "{log}"
    );
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_killed_leaves_no_service_and_no_network_behind() -> Result<()> {
    let lab = Lab::start().await?;
    // The next start uses the instance again.
    let kept = "[runners.autoscaler.state_storage]\nenabled = true\nkeep_instance_with_acquisitions = true\n";
    let plugin = "[runners.autoscaler.plugin_config]";
    let configuration = configuration(&lab, 60).replace(plugin, &format!("{kept}{plugin}"));
    let manager = lab.start_manager(&configuration)?;
    // What the job itself puts into its network goes with it.
    let job = with_services("long", json!([web("web", 8080)]))
        .variable("PREFIX", "job")
        .variable("FF_NETWORK_PER_BUILD", "true")
        .script(["echo begun", "sleep 600"]);
    let job = lab.gitlab.queue(job);
    lab.gitlab.shows(job, "begun\n", 3 * MINUTE).await?;
    let instance = lab
        .gitlab
        .job(job)
        .instance()
        .context("the log names no instance")?;
    let label = format!("label=com.gitlab.gitlab-runner.job.id={}", job.0);
    let begun = format!(
        "network=$(docker network ls -q --filter {label}) && docker run -d --network $network busybox sleep 600 && \
         docker ps -q --filter {label} --filter label=com.gitlab.gitlab-runner.type=service | grep ."
    );
    lab.instances.exec(&instance, &begun).await?;
    manager.kill().await?;
    let _manager = lab.start_manager(&configuration)?;
    leaves_nothing(&lab, &lab.gitlab.job(job)).await?;
    let alone = "[ -z \"$(docker ps -q --filter ancestor=busybox)\" ]";
    lab.instances.until(&instance, alone, MINUTE).await?;
    ensure!(
        lab.living().contains(&instance),
        "nothing is left there because {instance} is gone"
    );
    lab.was_correct()
}

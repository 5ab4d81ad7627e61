//! What an operator is told: the present while the manager runs, the past after it died.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::{Job, JobId, Lab};

const MINUTE: Duration = Duration::from_secs(60);
const SECRET: &str = "correct-horse-battery";

/// One run of `fleetling` that succeeds or not, and says all of `pieces` in order.
async fn fleetling(
    lab: &Lab,
    arguments: &[&str],
    succeeds: bool,
    pieces: &[&str],
) -> Result<String> {
    let mut command = lab.command(arguments)?;
    let status = command.ended(MINUTE).await?;
    ensure!(status.success() == succeeds, "{status}: {}", command.said());
    // Its last lines may be read after its end.
    let all = || has(&command.said(), pieces).then(|| command.said());
    let said = lab
        .journal
        .until("all of the answer", MINUTE / 4, all)
        .await;
    said.with_context(|| {
        format!(
            "it said:\n{}\nof which not all of {pieces:?}",
            command.said()
        )
    })
}

fn has(text: &str, pieces: &[&str]) -> bool {
    let mut rest = text;
    pieces.iter().all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_the_present_and_why_tells_the_past_of_a_manager_that_was_killed() -> Result<()>
{
    let lab = Lab::start().await?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let configuration = lab
        .configuration()
        .idle_count(0)
        .max_instances(1)
        .replace(
            "max_instances = 1",
            "max_instances = 1\n    instance_operation_time_buckets = [1, 90]",
        )
        .global(&format!("listen_address = \"{free}\""));
    let manager = lab.start_manager(&configuration)?;
    let job = lab.gitlab.queue(
        Job::named("held")
            .script(["echo begun", "while [ ! -e /tmp/go ]; do sleep 0.2; done"])
            .masked("SECRET", SECRET)
            .without_sources(),
    );
    lab.gitlab.shows(job, "begun\n", 4 * MINUTE).await?;
    let instance = lab.gitlab.job(job).instance().context("no instance")?;
    // There is room for no second job, which is said once and not at each request.
    manager
        .says(&["GitLab is not asked for jobs", "max_instances"], MINUTE)
        .await?;
    let id = job.0.to_string();
    let config = lab.home().join("config.toml");
    let config = config.to_string_lossy();

    let status = ["status", "--config", &config];
    let shown = [
        "is running",
        "1 in use",
        "jobs wait for a slot",
        "INSTANCE",
        &instance,
        "in use",
        &id,
        "JOB",
        &instance,
    ];
    fleetling(&lab, &status, true, &shown).await?;
    the_scrape_is_gitlab_runners(&format!("http://{free}/metrics")).await?;

    let script = "for c in $(docker ps -q); do docker exec $c touch /tmp/go || true; done";
    lab.instances.exec(&instance, script).await?;
    lab.gitlab.ended(&[job], 2 * MINUTE).await?;
    manager
        .says(&["instance gone", &instance], 2 * MINUTE)
        .await?;
    let refusals = manager.lines("GitLab is not asked for jobs");
    let full = refusals
        .iter()
        .filter(|line| line.to_string().contains("max_instances"));
    ensure!(full.count() == 1, "said more than once: {}", manager.said());
    // One turn of the journal's task is long past when the next status is answered.
    fleetling(&lab, &status, true, &["is running"]).await?;
    manager.kill().await?;

    let why = ["why", "job", &id, "--config", &config];
    let story = [
        "received from GitLab",
        "decided to ask for 1 more: jobs wait for a slot",
        "listed by the cloud (requested)",
        &format!("job {id} got slot 0 of {instance}"),
        "ended after",
        "success",
        &format!("decided to remove {instance}: max_use_count reached"),
        &format!("{instance} gone"),
    ];
    let told = fleetling(&lab, &why, true, &story).await?;
    ensure!(!told.contains("torn"), "{told}");
    let then = [
        "why", "instance", &instance, "--at", "-1ms", "--format", "json",
    ];
    let state = format!("\"state\": \"{instance} gone\"");
    let arguments = [&then[..], &["--config", &config]].concat();
    fleetling(&lab, &arguments, true, &[&state]).await?;
    unknown_and_unreachable_say_what_next(&lab, &config).await?;
    nothing_secret_is_kept(&lab, job)?;
    lab.was_correct()
}

async fn unknown_and_unreachable_say_what_next(lab: &Lab, config: &str) -> Result<()> {
    let unknown = ["why", "job", "99999999", "--config", config];
    let told = [
        "job 99999999 is not in the journal",
        "which covers",
        "next:",
    ];
    fleetling(lab, &unknown, false, &told).await?;
    let told = ["no manager answers at", "next:"];
    fleetling(lab, &["status", "--config", config], false, &told).await?;
    Ok(())
}

fn nothing_secret_is_kept(lab: &Lab, job: JobId) -> Result<()> {
    let journal = lab.home().join("state/journal");
    let mut read = 0;
    for entry in std::fs::read_dir(&journal)? {
        let text = std::fs::read_to_string(entry?.path())?;
        read += text
            .lines()
            .filter(|line| line.contains(&job.0.to_string()))
            .count();
        for secret in [
            lab.gitlab.runner_token(),
            lab.gitlab.job(job).token,
            SECRET.to_owned(),
        ] {
            ensure!(!text.contains(&secret), "the journal has a secret");
        }
    }
    ensure!(read > 0, "{} was not read", journal.display());
    Ok(())
}

async fn the_scrape_is_gitlab_runners(url: &str) -> Result<()> {
    let text = reqwest::get(url).await?.error_for_status()?.text().await?;
    for (metric, kind) in [
        ("fleeting_provisioner_instances", "gauge"),
        ("fleeting_provisioner_max_instances", "gauge"),
        ("fleeting_provisioner_missed_updates_total", "counter"),
        ("fleeting_provisioner_instance_operations_total", "counter"),
        ("fleeting_provisioner_internal_operations_total", "counter"),
        (
            "fleeting_provisioner_instance_creation_time_seconds",
            "histogram",
        ),
        (
            "fleeting_provisioner_instance_is_running_time_seconds",
            "histogram",
        ),
        (
            "fleeting_provisioner_instance_deletion_time_seconds",
            "histogram",
        ),
        (
            "fleeting_provisioner_instance_life_duration_seconds",
            "histogram",
        ),
        ("fleeting_taskscaler_tasks", "gauge"),
        ("fleeting_taskscaler_desired_instances", "gauge"),
        ("fleeting_taskscaler_max_use_count_per_instance", "gauge"),
        ("fleeting_taskscaler_max_tasks_per_instance", "gauge"),
        ("fleeting_taskscaler_task_operations_total", "counter"),
        ("fleeting_taskscaler_scale_operations_total", "counter"),
        (
            "fleeting_taskscaler_task_instance_readiness_time_seconds",
            "histogram",
        ),
    ] {
        ensure!(
            text.contains(&format!("# TYPE {metric} {kind}\n")),
            "no {kind} {metric} in\n{text}"
        );
        let mut samples = text.lines().filter(|line| line.starts_with(metric));
        let labelled = samples.all(|line| {
            ["runner=\"", "runner_name=\"", "system_id=\""]
                .iter()
                .all(|label| line.contains(label))
        });
        ensure!(labelled, "{metric} lacks a label in\n{text}");
    }
    for (sample, value) in [
        ("fleeting_provisioner_instances{", "state=\"running\"} 1"),
        (
            "fleeting_provisioner_instance_operations_total{",
            "operation=\"create\"} 1",
        ),
        (
            "fleeting_provisioner_instance_creation_time_seconds_bucket{le=\"90.0\"",
            "} 1",
        ),
        (
            "fleeting_taskscaler_task_instance_readiness_time_seconds_bucket{le=\"1.0\"",
            "} ",
        ),
        ("fleeting_taskscaler_tasks{", "state=\"acquired\"} 1"),
        (
            "fleeting_taskscaler_scale_operations_total{",
            "operation=\"up\"} 1",
        ),
        (
            "fleetling_scaler_decisions_total{",
            "decision=\"increase\",reason=\"jobs_waiting\"} 1",
        ),
        (
            "fleetling_scaler_decisions_total{",
            "decision=\"refuse\",reason=\"nothing_possible\"} 1",
        ),
    ] {
        let is_sample = |line: &str| line.starts_with(sample) && line.contains(value);
        ensure!(
            text.lines().any(is_sample),
            "no sample {sample}…{value} in\n{text}"
        );
    }
    ensure!(
        !text.contains("fleeting_provisioner_instance_deletion_time_seconds_bucket{le=\"600.0\""),
        "the buckets of the configuration are not used"
    );
    Ok(())
}

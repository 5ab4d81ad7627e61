//! Keys of `[runners.docker]` on a real engine: what `docker inspect` says of a job's containers and volumes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Configuration, Job, Lab, Manager};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

const KEYS: &str = r#"image = "busybox:latest"
    hostname = "ci"
    user = "1000"
    allowed_users = ["1000"]
    container_labels = { team = "team of $CI_JOB_NAME" }
    log_options = { labels = "team" }
    cpu_shares = 512
    oom_score_adjust = 100
    ulimit = { nofile = "1024:2048" }
    shm_size = 1048576
    devices = ["/dev/null:/dev/nothing:rw"]
    device_cgroup_rules = ["c 1:3 rwm"]
    cap_add = ["SYS_NICE"]
    cap_drop = ["MKNOD"]
    group_add = ["100"]
    security_opt = ["no-new-privileges"]
    ipcmode = "shareable"
    isolation = "default"
    dns = ["192.0.2.53"]
    dns_search = ["lab.example"]
    extra_hosts = ["db.lab:192.0.2.7"]
    mac_address = "92:d0:c6:0a:29:33"
    tmpfs = { "/scratch" = "rw,size=1m" }
    volumes = ["/cache", "/srv/of-instance:/data/$CI_JOB_NAME:ro"]"#;

/// One instance that every job is run on.
fn configuration(lab: &Lab, keys: &str) -> Configuration {
    lab.configuration()
        .replace("image = \"busybox:latest\"", keys)
        .replace("max_use_count = 1", "max_use_count = 0")
        .idle_count(1)
        .max_instances(1)
}

/// Until it is let go.
const WAIT: &str = "while [ ! -e /tmp/go ]; do sleep 0.2; done";

async fn inspected(lab: &Lab, instance: &str, what: &str) -> Result<Value> {
    let text = lab.instances.exec(instance, what).await?;
    serde_json::from_str(&text).with_context(|| format!("{what} says {text}"))
}

fn of_type<'a>(containers: &'a Value, kind: &str) -> Result<&'a Value> {
    let mut all = containers.as_array().context("no list")?.iter();
    all.find(|container| container["Config"]["Labels"]["com.gitlab.gitlab-runner.type"] == kind)
        .with_context(|| format!("no container of type {kind}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job() -> Result<()> {
    let lab = Lab::start().await?;
    let mut manager = lab.start_manager(&configuration(&lab, KEYS))?;
    // As a user who is nobody in the image: all of it must be open.
    let job = Job::named("keys")
        .script([
            "id -u",
            "echo kept > /cache/file",
            "touch \"$CI_PROJECT_DIR/made\" /scratch/made",
            "grep db.lab /etc/hosts",
            "echo ready",
            WAIT,
        ])
        .without_sources();
    let id = lab.gitlab.queue(job);
    lab.gitlab.shows(id, "ready\n", 4 * MINUTE).await?;
    let instance = lab.gitlab.job(id).instance().context("no instance")?;
    let containers = inspected(
        &lab,
        &instance,
        "docker inspect $(docker ps -q --filter status=running)",
    )
    .await?;
    let version = lab
        .instances
        .exec(&instance, "docker version -f '{{.Server.APIVersion}}'");
    let version = version.await?;

    let build = of_type(&containers, "build")?;
    let helper = of_type(&containers, "predefined")?;
    ensure!(build["Config"]["User"] == "1000" && helper["Config"]["User"] == "");
    for container in [build, helper] {
        let host = &container["HostConfig"];
        for (field, expected) in [
            ("CpuShares", json!(512)),
            ("OomScoreAdj", json!(100)),
            (
                "Ulimits",
                json!([{ "Name": "nofile", "Soft": 1024, "Hard": 2048 }]),
            ),
            ("ShmSize", json!(1_048_576)),
            (
                "Devices",
                json!([{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw" }]),
            ),
            ("DeviceCgroupRules", json!(["c 1:3 rwm"])),
            ("GroupAdd", json!(["100"])),
            ("SecurityOpt", json!(["no-new-privileges"])),
            ("IpcMode", json!("shareable")),
            ("Isolation", json!("default")),
            ("Dns", json!(["192.0.2.53"])),
            ("DnsSearch", json!(["lab.example"])),
            ("ExtraHosts", json!(["db.lab:192.0.2.7"])),
            ("Tmpfs", json!({ "/scratch": "rw,size=1m" })),
            (
                "LogConfig",
                json!({ "Type": "json-file", "Config": { "labels": "team", "max-size": "1000000t", "mode": "blocking" } }),
            ),
            ("Binds", json!(["/srv/of-instance:/data/keys:ro"])),
        ] {
            ensure!(host[field] == expected, "{field} is {}", host[field]);
        }
        // Newer engines write the name with its prefix.
        for (field, name) in [("CapAdd", "SYS_NICE"), ("CapDrop", "MKNOD")] {
            let named = host[field][0].as_str().unwrap_or_default();
            ensure!(named.trim_start_matches("CAP_") == name, "{field}: {named}");
        }
        ensure!(container["Config"]["Hostname"] == "ci");
        ensure!(container["Config"]["Labels"]["team"] == "team of keys");
    }
    // API 1.44 came with Docker 25.
    let minor: u32 = version
        .trim()
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .parse()?;
    let address = &build["NetworkSettings"]["Networks"]["bridge"]["MacAddress"];
    let is_set = address == "92:d0:c6:0a:29:33";
    ensure!(is_set == (minor >= 44), "API 1.{minor}: {address}");
    let warned = lab.gitlab.job(id).log().contains("mac_address is not set");
    ensure!(warned == (minor < 44), "API 1.{minor}: warned {warned}");

    // The checkout's ends with the job, as nothing is fetched into it.
    let prefix = "com.gitlab.gitlab-runner";
    let of_cache =
        format!("docker volume inspect $(docker volume ls -q --filter label={prefix}.type=cache)");
    let volumes = inspected(&lab, &instance, &of_cache).await?;
    let mut seen = Vec::new();
    for volume in volumes.as_array().context("no list")? {
        let label = |name: &str| volume["Labels"][format!("{prefix}.{name}")].clone();
        seen.push(["destination", "reusable", "protected"].map(label));
    }
    seen.sort_by_key(|[destination, ..]| destination.to_string());
    let expected = [["/builds", "false", "false"], ["/cache", "true", "false"]];
    ensure!(json!(seen) == json!(expected), "{seen:?}");

    let let_go = "for c in $(docker ps -q); do docker exec -u 0 $c touch /tmp/go || true; done";
    lab.instances.exec(&instance, let_go).await?;
    let ended = lab.gitlab.ended(&[id], 2 * MINUTE).await?;
    ensure!(ended[0].state == JobState::Success, "{}", ended[0].log());
    let log = ended[0].log();
    for line in ["1000\n", "192.0.2.7"] {
        ensure!(log.contains(line), "no {line:?} in {log}");
    }
    let left = "docker volume ls -q --filter label=com.gitlab.gitlab-runner.type=cache | grep -c .";
    lab.instances
        .until(&instance, &format!("[ $({left}) = 1 ]"), MINUTE)
        .await?;

    let again = Job::named("keys")
        .script(["cat /cache/file", "ls \"$CI_PROJECT_DIR\""])
        .without_sources();
    let again = lab.gitlab.queue(again);
    let ended = lab.gitlab.ended(&[again], 2 * MINUTE).await?;
    let log = ended[0].log();
    ensure!(ended[0].state == JobState::Success, "{log}");
    ensure!(log.contains("kept\n") && !log.contains("made\n"), "{log}");

    // A checkout that is fetched into is there for the next job, cleaned.
    for (line, shown) in [
        ("touch left && ls .git/HEAD", ".git/HEAD\n"),
        ("[ ! -e left ] && echo clean", "clean\n"),
    ] {
        let id = lab.gitlab.queue(Job::named("keys").script([line]));
        let ended = lab.gitlab.ended(&[id], 2 * MINUTE).await?;
        let log = ended[0].log();
        ensure!(
            ended[0].state == JobState::Success && log.contains(shown),
            "{log}"
        );
    }
    let kept =
        "docker volume ls -q --filter label=com.gitlab.gitlab-runner.reusable=true | grep -c .";
    lab.instances
        .until(&instance, &format!("[ $({kept}) = 2 ]"), MINUTE)
        .await?;

    what_a_job_cannot_have(&lab, &manager, &instance).await?;
    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    lab.was_correct()
}

/// Changes the configuration for the `n`th time, and runs a job by it.
async fn run_with(lab: &Lab, manager: &Manager, n: usize, keys: &str) -> Result<JobRecord> {
    let image = "image = \"busybox:latest\"";
    lab.rewrite(&configuration(lab, &format!("{image}\n    {keys}")))?;
    manager.reload()?;
    let applied = || {
        let said = manager.said();
        (said.matches("changed configuration is applied").count() == n).then_some(())
    };
    let what = format!("{keys:?} is applied");
    lab.journal.until(&what, MINUTE, applied).await?;
    let job = Job::named("cache").script(["echo it runs"]);
    let job = lab.gitlab.queue(job.without_sources());
    Ok(lab.gitlab.ended(&[job], 2 * MINUTE).await?.remove(0))
}

/// What cannot be had is left out where the job can do without, and fails it for its own reason where it cannot.
async fn what_a_job_cannot_have(lab: &Lab, manager: &Manager, instance: &str) -> Result<()> {
    let anchor = "docker run -d --name anchor busybox:latest sleep 600";
    lab.instances.exec(instance, anchor).await?;
    // There is no network that the address could belong to, or it is another container's.
    for (n, mode) in [(1, "none"), (2, "container:anchor")] {
        let keys = format!("network_mode = {mode:?}\n    mac_address = \"92:d0:c6:0a:29:33\"");
        let ended = run_with(lab, manager, n, &keys).await?;
        let (state, log) = (ended.state, ended.log());
        ensure!(state == JobState::Success, "{mode}: {state} {log}");
    }
    // Known only once the job's variables are.
    let twice = "volumes = [\"/cache\", \"/$CI_JOB_NAME\"]";
    let ended = run_with(lab, manager, 3, twice).await?;
    let (reason, log) = (ended.failure_reason.as_deref(), ended.log());
    ensure!(
        reason == Some("runner_configuration_error"),
        "{reason:?} {log}"
    );
    let told = "Job failed: two volumes stand for \"/cache\"";
    ensure!(log.contains(told), "no {told:?} in {log}");
    Ok(())
}

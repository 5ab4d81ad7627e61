//! Images from real registries: with a login and without, allowed and not, by every pull policy, for the platform that a
//! job names, with the registry away or in trouble.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::registry::{Door, ImageRegistry, PASSWORD, USER};
use fleetling_lab::{Configuration, Installation, Job, Lab};
use serde_json::{Value, json};

use super::services::in_order;

const MINUTE: Duration = Duration::from_secs(60);
const NOT_USED: &str = "Credentials from this source will not be used";

/// One instance that every job is run on, so that what is there and what is not is the story's to say.
fn one_instance(lab: &Lab, keys: &str) -> Configuration {
    let image = "image = \"busybox:latest\"";
    lab.configuration()
        .idle_count(1)
        .max_instances(1)
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace(image, &format!("{image}\n{keys}"))
}

async fn the_instance(lab: &Lab) -> Result<String> {
    let living = || lab.living().first().cloned();
    lab.journal.until("an instance", 2 * MINUTE, living).await
}

/// A job of this image that tells what it runs on.
fn job(image: &str, policies: &[&str]) -> Job {
    job_of(json!({ "name": image, "pull_policy": policies, "ports": [] }))
}

/// The same with the image as the payload says it.
fn job_of(image: Value) -> Job {
    Job::named("of an image")
        .part("image", image)
        .variable("HELPER", "busybox:latest")
        .script(["cat /etc/os-release || echo no 'Debi'an"])
        .without_sources()
}

async fn ended(lab: &Lab, job: Job) -> Result<JobRecord> {
    let id = lab.gitlab.queue(job);
    let ended = lab.gitlab.ended(&[id], 3 * MINUTE).await?;
    ended.into_iter().next().context("no job")
}

/// It passed, and its log has these words in this order.
fn passed(job: &JobRecord, words: &[&str]) -> Result<()> {
    ensure!(job.state == JobState::Success, "{}", job.log());
    in_order(&job.log(), words)
}

fn failed(job: &JobRecord, reason: &str, words: &[&str]) -> Result<()> {
    ensure!(
        job.state == JobState::Failed && job.failure_reason.as_deref() == Some(reason),
        "{} for {:?}, {reason} was expected:\n{}",
        job.state,
        job.failure_reason,
        job.log()
    );
    in_order(&job.log(), words)
}

/// Makes a Debian image of the instance's own files, pushes it and forgets it; answers its digest.
async fn push_debian(lab: &Lab, instance: &str, registry: &ImageRegistry) -> Result<String> {
    let image = format!("{}/team/debian:bookworm", registry.address);
    let login = registry.login(USER, PASSWORD).to_string();
    let script = format!(
        r#"set -e
        files='/bin /lib /lib64 /etc/debian_version /etc/os-release /usr/lib/os-release /etc/passwd /etc/group'
        for program in bash dash sh cat ls id sleep mkdir chmod rm uname; do
          program=/usr/bin/$program
          files="$files $program $(ldd $(readlink -f $program) | grep -o '/[^ ]*' | sed 's|^/lib|/usr/lib|')"
        done
        for file in $files; do
          case $file in /usr/*) files="$files $(readlink -f "$file")" ;; esac
        done
        tar -C / -c $(printf '%s\n' $files | sort -u | sed 's|^/||') |
          docker import -c 'CMD ["bash"]' - {image} >/dev/null
        mkdir -p /tmp/login && printf '%s' '{login}' >/tmp/login/config.json
        docker --config /tmp/login push -q {image} >/dev/null
        docker inspect -f '{{{{index .RepoDigests 0}}}}' {image}
        docker rmi {image} >/dev/null"#
    );
    lab.instances.exec(instance, &script).await
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_come_from_every_source_and_never_by_a_helper_that_a_job_names() -> Result<()> {
    let lab = Lab::start().await?;
    let registry = lab.start_registry(Door::Locked).await?;
    let address = &registry.address;
    let bin = lab.home().join("bin");
    let installation = Installation::built()?.on_path(&bin)?;
    let _manager = lab.start_manager_of(&installation, &one_instance(&lab, ""))?;
    let instance = the_instance(&lab).await?;
    lab.instances
        .until(&instance, "docker version", 3 * MINUTE)
        .await?;
    let by_digest = push_debian(&lab, &instance, &registry).await?;
    let debian = format!("{address}/team/debian:bookworm");
    let with = |config: &Value| {
        job(&debian, &["always"]).variable("DOCKER_AUTH_CONFIG", &config.to_string())
    };

    // Without a registry's name it is the one that stands for Docker Hub, which asks nobody.
    let open = ended(&lab, job("busybox", &["always"])).await?;
    let words = [
        "Using Docker executor with image busybox ...",
        "Using effective pull policy of [always] for container busybox",
        "Pulling docker image busybox ...",
        "Using docker image sha256:",
        "for busybox with digest busybox@sha256:",
        "no Debian",
    ];
    passed(&open, &words)?;

    let nobody = ended(&lab, job(&debian, &["always"])).await?;
    let words = [
        "Failed to pull image with policy \"always\"",
        "no basic auth credentials",
    ];
    failed(&nobody, "runner_configuration_error", &words)?;
    ensure!(!nobody.log().contains("retrying"), "{}", nobody.log());

    let wrong = ended(&lab, with(&registry.login(USER, "guessed"))).await?;
    let words = [
        "Authenticating with credentials from $DOCKER_AUTH_CONFIG",
        "unauthorized",
    ];
    failed(&wrong, "runner_configuration_error", &words)?;
    ensure!(!wrong.log().contains("guessed"), "{}", wrong.log());

    // A job may name any helper, and none of them runs.
    let touched = lab.home().join("touched");
    helper(&bin, "evil", &format!("touch {}", touched.display()))?;
    let named = json!({ "credHelpers": { address: "evil" }, "credsStore": "evil" });
    let evil = ended(&lab, with(&named)).await?;
    let words = [
        "names the credential helper \"evil\", which is not run",
        "no basic auth credentials",
    ];
    failed(&evil, "runner_configuration_error", &words)?;
    ensure!(!touched.exists(), "the helper of a job was run");

    let payload =
        json!([{ "type": "registry", "url": address, "username": USER, "password": PASSWORD }]);
    let given = ended(&lab, job(&debian, &["always"]).part("credentials", payload)).await?;
    let words = [
        "Authenticating with credentials from job payload (GitLab Registry)",
        &format!("Pulling docker image {debian} ..."),
        &format!("with digest {address}/team/debian@sha256:"),
        "ID=debian",
    ];
    passed(&given, &words)?;

    // The manager's own: first a helper that fails, then one that answers.
    let file = lab.home().join(".docker/config.json");
    std::fs::create_dir_all(file.parent().context("it has a parent")?)?;
    std::fs::write(
        &file,
        json!({ "credHelpers": { address: "lab" } }).to_string(),
    )?;
    let from = format!(
        "Failed to resolve credentials from {}. {NOT_USED}",
        file.display()
    );
    let absent = ended(&lab, job(&debian, &["always"])).await?;
    failed(
        &absent,
        "runner_configuration_error",
        &[&from, "no basic auth credentials"],
    )?;
    let answer = json!({ "Username": USER, "Secret": PASSWORD }).to_string();
    helper(&bin, "lab", &format!("cat >/dev/null; echo '{answer}'"))?;
    let from = format!("Authenticating with credentials from {}", file.display());
    let own = ended(&lab, job(&by_digest, &["always"])).await?;
    passed(
        &own,
        &[
            &from,
            &format!("Pulling docker image {by_digest} ..."),
            "ID=debian",
        ],
    )?;
    lab.was_correct()
}

fn helper(bin: &Path, name: &str, script: &str) -> Result<()> {
    std::fs::create_dir_all(bin)?;
    let file = bin.join(format!("docker-credential-{name}"));
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_allow_lists_say_which_image_a_job_gets() -> Result<()> {
    let lab = Lab::start().await?;
    let registry = lab.start_registry(Door::Open).await?;
    let address = &registry.address;
    let keys = format!(
        "allowed_images = [\"{address}/library/*\", \"busybox:?.*\"]\n\
         pull_policy = \"if-not-present\"\n\
         allowed_pull_policies = [\"always\", \"if-not-present\", \"never\"]\n\
         helper_image = \"{address}/library/$HELPER\""
    );
    let _manager = lab.start_manager(&one_instance(&lab, &keys))?;
    let busybox = format!("{address}/library/busybox");

    let nobody = format!("{address}/library/nobody");
    let not_here = ended(&lab, job(&nobody, &["never"])).await?;
    let words = [
        &format!("Using helper image:  {busybox}:latest  (overridden, default would be"),
        &format!("Using effective pull policy of [if-not-present] for container {busybox}:latest"),
        &format!("Pulling docker image {busybox}:latest ..."),
        &format!("Using effective pull policy of [never] for container {nobody}"),
        "Failed to pull image with policy \"never\"",
        "No such image",
    ];
    failed(&not_here, "runner_system_failure", &words)?;

    // Lists are held against what a name with variables comes to.
    let named = |registry: &str, policy: &str| {
        job("$REGISTRY/library/busybox", &[policy]).variable("REGISTRY", registry)
    };
    let elsewhere = format!("{}/library/busybox", lab.registry());
    let refused = ended(&lab, named(&lab.registry(), "always")).await?;
    let words = [
        &format!("The \"{elsewhere}\" image is not present on list of allowed images:"),
        &format!("- {address}/library/*"),
        "- busybox:?.*",
        "disallowed image",
    ];
    failed(&refused, "runner_system_failure", &words)?;

    // The default image needs no list.
    let default = Job::named("default")
        .part("image", Value::Null)
        .variable("HELPER", "busybox:latest")
        .script(["echo it runs"]);
    let default = ended(&lab, default.without_sources()).await?;
    passed(
        &default,
        &[
            "Using default image",
            "Using Docker executor with image busybox:latest ...",
            "it runs",
        ],
    )?;

    let pulled = ended(&lab, named(address, "always")).await?;
    let words = [
        "Using locally found image version",
        &format!("Using Docker executor with image {busybox} ..."),
        &format!("Using effective pull policy of [always] for container {busybox}"),
        &format!("Pulling docker image {busybox} ..."),
        &format!("for {busybox} with digest {busybox}@sha256:"),
        "no Debian",
    ];
    passed(&pulled, &words)?;

    // Whose entrypoint is the job's own becomes the shell that the script is for.
    let entrypoint = ["sh", "-c", "export BEGUN=here; exec \"$0\" \"$@\""];
    let begun = job_of(json!({ "name": busybox, "entrypoint": entrypoint, "ports": [] }));
    let begun = ended(&lab, begun.script(["echo \"begun <$BEGUN>\""])).await?;
    passed(&begun, &["begun <here>"])?;

    registry.stop()?;
    // Whether its address still answers is no matter of luck then.
    let host = registry.address.split(':').next().unwrap_or_default();
    let refuse = format!("ip route add unreachable {host}");
    let instance = the_instance(&lab).await?;
    lab.instances.exec(&instance, &refuse).await?;
    let away = ended(&lab, job(&busybox, &["always", "if-not-present"])).await?;
    let words = [
        &format!("Using effective pull policy of [always if-not-present] for container {busybox}"),
        "(attempt #1), retrying:",
        "(attempt #2), retrying:",
        "Failed to pull image with policy \"always\"",
        "Attempt #2: Trying \"if-not-present\" pull policy",
        "Using locally found image version due to \"if-not-present\" pull policy",
        "no Debian",
    ];
    passed(&away, &words)?;
    let away = ended(&lab, job(&busybox, &["always"])).await?;
    let words = ["failed to pull image", "with specified policies [always]"];
    failed(&away, "runner_external_dependency_failure", &words)?;
    lab.was_correct()
}

/// Makes of busybox an image for two platforms, with a file that tells which is which, and forgets it. Nothing here runs
/// programs of a foreign processor, so both have the same ones: what is shown is which image a job gets.
async fn push_for_two_platforms(lab: &Lab, instance: &str, image: &str) -> Result<()> {
    let script = format!(
        r#"set -e
        export DOCKER_CLI_EXPERIMENTAL=enabled
        docker pull -q busybox:latest >/dev/null
        mkdir -p /tmp/foreign && cd /tmp/foreign
        for processor in amd64 arm64; do
          container=$(docker create busybox:latest)
          echo "made for $processor" >/tmp/made-for
          docker cp /tmp/made-for $container:/made-for
          docker commit $container {image}:$processor >/dev/null
          docker rm $container >/dev/null
        done
        docker save {image}:arm64 | tar -x
        config=$(sed 's/.*"Config":"\([^"]*\)".*/\1/' manifest.json)
        sed -i 's/"architecture":"amd64"/"architecture":"arm64"/' $config
        tar -c . | docker load >/dev/null
        for processor in amd64 arm64; do docker push -q {image}:$processor >/dev/null; done
        docker manifest create --insecure {image}:latest {image}:amd64 {image}:arm64
        docker manifest push --insecure {image}:latest
        docker rmi {image}:amd64 {image}:arm64 >/dev/null"#
    );
    lab.instances.exec(instance, &script).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_the_platform_it_names_from_a_registry_that_comes_back_between_two_tries()
-> Result<()> {
    let lab = Lab::start().await?;
    let registry = lab.start_registry(Door::Open).await?;
    // A pull asks once or twice before it gives up.
    let busy = lab.start_busy_registry(&registry, 2).await?;
    let keys = "allowed_pull_policies = [\"always\", \"if-not-present\"]";
    let _manager = lab.start_manager(&one_instance(&lab, keys))?;
    let instance = the_instance(&lab).await?;
    lab.instances
        .until(&instance, "docker version", 3 * MINUTE)
        .await?;

    let busybox = format!("{}/library/busybox", busy.address);
    let troubled = ended(&lab, job(&busybox, &["always"])).await?;
    let words = [
        &format!("Pulling docker image {busybox} ..."),
        &format!("Failed to pull image \"{busybox}\" (attempt #1), retrying:"),
        "503 Service Unavailable",
        "Using docker image sha256:",
        "no Debian",
    ];
    passed(&troubled, &words)?;

    let image = format!("{}/team/both", registry.address);
    push_for_two_platforms(&lab, &instance, &image).await?;
    let on = |platform: &str, policy: &str| {
        let options = json!({ "docker": { "platform": platform } });
        job_of(json!({
            "name": image, "pull_policy": [policy], "executor_opts": options, "ports": []
        }))
        .script(["cat /made-for"])
    };
    let foreign = ended(&lab, on("linux/arm64", "always")).await?;
    let words = [
        &format!("Pulling docker image {image} for platform linux/arm64 ..."),
        &format!("for {image} with digest {image}@sha256:"),
        "made for arm64",
    ];
    passed(&foreign, &words)?;
    // The other one is there, and is not the one that is wanted.
    let own = ended(&lab, on("linux/amd64", "if-not-present")).await?;
    let words = [
        &format!("Pulling docker image {image} for platform linux/amd64 ..."),
        "made for amd64",
    ];
    passed(&own, &words)?;
    lab.was_correct()
}

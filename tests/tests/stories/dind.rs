//! Docker in Docker as people use it: jobs build, push and run images with a Docker that runs beside them as a service,
//! without TLS and with it, two on one instance, at a registry with a login and an authority of its own; and with the
//! instance's Docker, whose socket is mounted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::registry::{Door, PASSWORD, USER};
use fleetling_lab::{Configuration, Job, Lab, Manager};
use serde_json::json;

use super::services::{in_order, leaves_nothing, succeeded};

const MINUTE: Duration = Duration::from_secs(60);

/// Only the service may do anything, and who signs for registries is the instance's to say.
const ONLY_THE_SERVICE: &str = "services_privileged = true\nallowed_privileged_services = [\"docker:*dind\"]\n\
     volumes = [\"/certs/client\", \"/etc/docker/certs.d:/etc/docker/certs.d:ro\"]";
/// The instance's own Docker.
const SOCKET: &str = "volumes = [\"/var/run/docker.sock:/var/run/docker.sock\", \"/cache\"]";

const BUILD: &str = r#"cat >Dockerfile <<END
FROM busybox:latest
RUN echo "built by $CI_JOB_NAME" >/by
CMD ["cat", "/by"]
END
docker build -t "$IMAGE" ."#;
/// And runs it as somebody else would.
const PUSH: &str = r#"docker push "$IMAGE" && docker rmi "$IMAGE" && docker run --rm "$IMAGE""#;

/// What runs there, by a name and at a port that no other container may have: the job's own files, served.
const SERVE: &str = r#"echo "served for $CI_JOB_NAME" >"$CI_PROJECT_DIR/served"
docker run -d --name web -p 8080:80 -v "$CI_PROJECT_DIR:/www" busybox httpd -f -h /www
echo "$CI_JOB_NAME serves""#;
/// Until both do.
const BOTH: &str = r#"until [ -e /cache/both ]; do sleep 0.2; done
busybox wget -qO- http://docker:8080/served http://docker:8080/README.md
echo "runs here: $(docker ps --format '{{.Names}}' | xargs)"
echo "images here: $(docker images --format '{{.Repository}}' | sort | xargs)""#;

/// As the documentation has it: everything is privileged, and the service leaves its certificates where the job finds them.
/// A Docker looks up names of registries: where it asks nobody listens, which is said at once, not after ten seconds.
fn privileged(lab: &Lab) -> String {
    let hub = lab.registry();
    let nobody = hub.trim_end_matches(":5000");
    format!("privileged = true\nvolumes = [\"/certs/client\", \"/cache\"]\ndns = [\"{nobody}\"]")
}

/// One instance for two jobs at once, which lives on.
fn configuration(lab: &Lab, keys: &str) -> Configuration {
    let image = "image = \"busybox:latest\"";
    lab.configuration()
        .idle_count(1)
        .max_instances(1)
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace("capacity_per_instance = 1", "capacity_per_instance = 2")
        .replace(image, &format!("{image}\n{keys}"))
}

/// With Docker as its image, and pushing to this registry.
fn job(name: &str, registry: &str) -> Job {
    Job::named(name)
        .image("docker:cli")
        .variable("IMAGE", &format!("{registry}/team/{name}:1"))
}

/// With a Docker of its own beside it, which finds the lab's Docker Hub.
fn with_docker(lab: &Lab, job: Job) -> Job {
    let hub = lab.registry();
    let command = [
        format!("--registry-mirror=http://{hub}"),
        // With a scheme, although it warns: BuildKit knows by it alone that there is no TLS.
        format!("--insecure-registry=http://{hub}"),
    ];
    job.part(
        "services",
        json!([{ "name": "docker:dind", "command": command }]),
    )
}

/// Other keys for the jobs to come, and how often that was done.
async fn change(lab: &Lab, manager: &Manager, keys: &str, times: usize) -> Result<()> {
    lab.rewrite(&configuration(lab, keys))?;
    manager.reload()?;
    let applied = || {
        let said = manager.lines("changed configuration is applied").len();
        (said == times).then_some(())
    };
    let what = "the changed configuration";
    lab.journal.until(what, MINUTE / 2, applied).await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_build_push_and_run_with_dockers_beside_them_and_with_the_instances_own() -> Result<()>
{
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&configuration(&lab, &privileged(&lab)))?;
    let instance = two_on_one_instance(&lab).await?;

    change(&lab, &manager, ONLY_THE_SERVICE, 1).await?;
    at_a_registry_with_a_login_and_an_authority(&lab, &instance).await?;

    change(&lab, &manager, SOCKET, 2).await?;
    through_the_instances_socket(&lab, &instance).await?;
    lab.was_correct()
}

/// One Docker on 2375, the other on 2376 behind TLS; neither sees anything of the other. Answers the instance.
async fn two_on_one_instance(lab: &Lab) -> Result<String> {
    let hub = lab.registry();
    let script = [BUILD, PUSH, SERVE, BOTH];
    let plain = with_docker(lab, job("plain", &hub))
        .variable("DOCKER_HOST", "tcp://docker:2375")
        .variable("DOCKER_TLS_CERTDIR", "")
        .variable("FF_NETWORK_PER_BUILD", "true")
        .script(script);
    let without_certificates =
        "env -u DOCKER_TLS_VERIFY -u DOCKER_CERT_PATH docker version || echo needs certificates";
    let secured = with_docker(lab, job("secured", &hub))
        .variable("DOCKER_HOST", "tcp://docker:2376")
        .variable("DOCKER_TLS_CERTDIR", "/certs")
        .variable("DOCKER_TLS_VERIFY", "1")
        .variable("DOCKER_CERT_PATH", "$DOCKER_TLS_CERTDIR/client")
        .variable("DOCKER_BUILDKIT", "1")
        .script([without_certificates, BUILD, PUSH, SERVE, BOTH]);
    let jobs = [plain, secured].map(|job| lab.gitlab.queue(job));
    lab.gitlab
        .shows(jobs[0], "plain serves\n", 4 * MINUTE)
        .await?;
    lab.gitlab
        .shows(jobs[1], "secured serves\n", MINUTE)
        .await?;
    let on = jobs.map(|job| lab.gitlab.job(job).instance());
    let instance = on[0].clone().context("the log names no instance")?;
    ensure!(on[0] == on[1], "one instance runs both: {on:?}");
    let both = "for cache in $(docker volume ls -q --filter label=com.gitlab.gitlab-runner.destination=/cache); do \
                touch /var/lib/docker/volumes/$cache/_data/both; done";
    lab.instances.exec(&instance, both).await?;
    for (job, name) in jobs.into_iter().zip(["plain", "secured"]) {
        let ended = succeeded(lab, job).await?;
        let log = ended.log();
        let parts = [
            format!("built by {name}\n"),
            format!("served for {name}\n"),
            "The lab's project.\n".to_owned(),
            "runs here: web\n".to_owned(),
            format!("images here: {hub}/team/{name} busybox\n"),
        ];
        in_order(&log, &parts.each_ref().map(String::as_str))?;
        ensure!(!log.contains("probably didn't start"), "{log}");
        leaves_nothing(lab, &ended).await?;
    }
    let log = lab.gitlab.job(jobs[1]).log();
    ensure!(log.contains("an HTTP request to an HTTPS server"), "{log}");
    ensure!(log.contains("needs certificates\n"), "{log}");
    no_daemon_is_left(lab, &instance).await?;
    Ok(instance)
}

/// Where a service had its images, in a volume without a name.
async fn no_daemon_is_left(lab: &Lab, instance: &str) -> Result<()> {
    let none = "! docker volume ls -q | grep -xE '[0-9a-f]{64}' && ! pgrep -f [t]cp://0.0.0.0";
    lab.instances.until(instance, none, MINUTE).await
}

/// The job logs in by hand, then by `DOCKER_AUTH_CONFIG`; what it pushed is the image of the next job.
async fn at_a_registry_with_a_login_and_an_authority(lab: &Lab, instance: &str) -> Result<()> {
    let registry = lab.start_secured_registry(Door::Locked).await?;
    let address = &registry.address;
    let log_in =
        r#"echo "$PASSWORD" | docker login --username "$LOGIN" --password-stdin "$REGISTRY""#;
    let job = with_docker(lab, job("login", address))
        .without_sources()
        .variable("REGISTRY", address)
        .variable("LOGIN", USER)
        .variable("PASSWORD", PASSWORD)
        .variable(
            "DOCKER_AUTH_CONFIG",
            &registry.login(USER, PASSWORD).to_string(),
        )
        .script([
            "mount -t tmpfs none /mnt || echo the job is not privileged",
            &format!("{log_in} 2>&1 || echo nobody signs for it"),
            "until [ -e \"/etc/docker/certs.d/$REGISTRY/ca.crt\" ]; do sleep 0.2; done",
            BUILD,
            "docker push \"$IMAGE\" 2>&1 || echo nobody is logged in",
            log_in,
            "docker push \"$IMAGE\" && docker logout \"$REGISTRY\" && docker rmi \"$IMAGE\"",
            "docker pull \"$IMAGE\" 2>&1 || echo nobody is logged in any more",
            "echo \"$DOCKER_AUTH_CONFIG\" >~/.docker/config.json && docker run --rm \"$IMAGE\"",
        ]);
    let job = lab.gitlab.queue(job);
    lab.gitlab
        .shows(job, "nobody signs for it\n", 3 * MINUTE)
        .await?;
    let authority = registry.authority()?;
    let folder = format!("/etc/docker/certs.d/{address}");
    let trust = format!(
        "mkdir -p {folder} && echo '{authority}' >{folder}/new && mv {folder}/new {folder}/ca.crt"
    );
    lab.instances.exec(instance, &trust).await?;
    let ended = succeeded(lab, job).await?;
    let parts = [
        "the job is not privileged\n",
        "certificate signed by unknown authority",
        "nobody signs for it\n",
        "no basic auth credentials",
        "nobody is logged in\n",
        "Login Succeeded",
        "no basic auth credentials",
        "nobody is logged in any more\n",
        "built by login\n",
    ];
    in_order(&ended.log(), &parts)?;
    leaves_nothing(lab, &ended).await?;
    no_daemon_is_left(lab, instance).await?;

    let next = Job::named("next")
        .image(&format!("{address}/team/login:1"))
        .variable(
            "DOCKER_AUTH_CONFIG",
            &registry.login(USER, PASSWORD).to_string(),
        )
        .script(["cat /by"])
        .without_sources();
    let ended = succeeded(lab, lab.gitlab.queue(next)).await?;
    let parts = [
        "Authenticating with credentials from $DOCKER_AUTH_CONFIG",
        "built by login\n",
    ];
    in_order(&ended.log(), &parts)
}

/// The job's container is one of those it sees, and what it starts in its own network goes with it.
async fn through_the_instances_socket(lab: &Lab, instance: &str) -> Result<()> {
    let itself = "docker ps -q --filter label=com.gitlab.gitlab-runner.job.id=$CI_JOB_ID \
                  --filter label=com.gitlab.gitlab-runner.type=build | grep -q . && echo sees itself";
    let beside =
        "docker run -d --name beside --network \"$CI_BUILD_NETWORK_NAME\" busybox sleep 600";
    let job = job("socket", &lab.registry())
        .without_sources()
        // Newer engines build with BuildKit, which the instance's own does not tell that its mirror has no TLS.
        .variable("DOCKER_BUILDKIT", "0")
        .variable("FF_NETWORK_PER_BUILD", "true")
        .script([BUILD, PUSH, itself, beside]);
    let ended = succeeded(lab, lab.gitlab.queue(job)).await?;
    in_order(&ended.log(), &["built by socket\n", "sees itself\n"])?;
    leaves_nothing(lab, &ended).await?;
    let alone =
        "docker image inspect $(docker images -q '*/team/socket') && ! docker inspect beside";
    lab.instances.until(instance, alone, MINUTE).await
}

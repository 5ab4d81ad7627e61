//! What Docker is asked for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn config() -> usable::Docker {
    let text = "[[runners]]\nname = \"x\"\nurl = \"https://gitlab.com\"\ntoken = \"t\"\nexecutor = \"docker-autoscaler\"\n\
                [runners.autoscaler]\nplugin = \"aws\"\n[runners.docker]\ndns = [\"1.1.1.1\"]\ncap_add = [\"NET_ADMIN\"]\n\
                user = \"builder\"\nmac_address = \"92:d0:c6:0a:29:33\"\nextra_hosts = [\"a:10.0.0.1\"]\nshm_size = 7\nmemory = \"1g\"\n\
                container_labels = { team = \"$TEAM\" }\n";
    let path = std::path::Path::new("config.toml");
    let no_file = |_: &std::path::Path| -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    };
    let loaded = crate::config::check::check(path, text, &|_| None, &no_file).unwrap();
    loaded.config.runners[0].docker.clone()
}

fn plan() -> Plan {
    Plan {
        labels: vec![("com.gitlab.gitlab-runner.managed".into(), "true".into())],
        container_labels: vec![("team".into(), "data".into())],
        init: true,
        ..crate::docker::container::tests::plan()
    }
}

fn redis() -> Service {
    Service {
        index: 0,
        image: "db/redis:7".into(),
        title: "db/redis:7".into(),
        name: "db/redis".into(),
        slug: "db__redis".into(),
        version: "7".into(),
        aliases: vec!["db__redis".into(), "db-redis".into()],
        environment: vec![("A".into(), "1".into())],
        entrypoint: Some(vec!["/start".into()]),
        command: Some(vec!["redis-server".into()]),
        user: Some("999".into()),
        platform: None,
        pull_policies: Vec::new(),
    }
}

#[test]
fn a_service_has_its_own_parts_the_job_s_volumes_and_none_of_its_rights() {
    let volumes = Volumes {
        binds: vec!["/srv:/srv".into()],
        ..Volumes::default()
    };
    let body = service(&redis(), "sha256:1", &plan(), &config(), &volumes);
    assert_eq!(body.image.as_deref(), Some("sha256:1"));
    assert_eq!(body.user.as_deref(), Some("999"));
    assert_eq!(body.entrypoint.unwrap(), ["/start"]);
    assert_eq!(body.cmd.unwrap(), ["redis-server"]);
    assert_eq!(body.env.unwrap(), ["A=1"]);
    assert_eq!((body.hostname, body.networking_config), (None, None));
    let labels = body.labels.unwrap();
    for (key, value) in [
        ("type", "service"),
        ("service", "db/redis"),
        ("service.version", "7"),
        ("managed", "true"),
        ("team", "data"),
    ] {
        assert_eq!(labels[&format!("com.gitlab.gitlab-runner.{key}")], value);
    }
    let host = body.host_config.unwrap();
    assert_eq!(host.binds.unwrap(), ["/srv:/srv"]);
    assert_eq!(host.dns.unwrap(), ["1.1.1.1"]);
    assert_eq!(host.extra_hosts.unwrap(), ["a:10.0.0.1"]);
    assert_eq!((host.shm_size, host.init), (Some(7), Some(true)));
    assert_eq!((host.cap_add, host.memory), (None, None));
    assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("json-file"));
}

#[test]
fn privileges_are_the_services_own_where_they_are_written_and_only_for_listed_images() {
    let listed = || vec!["docker:*".to_owned()];
    for (privileged, of_services, allowed, image, expected) in [
        (false, None, vec![], "docker:dind", false),
        (true, None, vec![], "docker:dind", true),
        (true, Some(false), vec![], "docker:dind", false),
        (false, Some(true), vec![], "docker:dind", true),
        (false, Some(true), listed(), "docker:dind", true),
        (true, None, listed(), "redis", false),
    ] {
        let mut config = config();
        config.privileged = privileged;
        config.services.privileged = of_services;
        config.services.allowed_privileged = allowed;
        let service = Service {
            image: image.into(),
            ..redis()
        };
        assert_eq!(
            is_privileged(&service, &config),
            expected,
            "{privileged} {of_services:?} {image}"
        );
    }
}

#[test]
fn the_wait_container_dials_every_port_of_every_address_and_knows_no_variable() {
    let up = Up {
        name: "runner-x-db__redis-0".into(),
        id: "0123456789abcdef".into(),
        addresses: vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        ports: vec![80, 443],
        aliases: vec!["redis".into()],
    };
    let body = wait(&up, "sha256:helper", &plan());
    let command = body.cmd.unwrap();
    assert_eq!(
        command,
        [
            "health-check",
            "172.17.0.2:80",
            "172.17.0.2:443",
            "[fd00::2]:80",
            "[fd00::2]:443"
        ]
    );
    assert_eq!(body.env, None);
    let labels = body.labels.unwrap();
    assert_eq!(labels["com.gitlab.gitlab-runner.type"], "wait");
    assert_eq!(labels["com.gitlab.gitlab-runner.wait"], "0123456789abcdef");
    let links: Vec<_> = up.links().collect();
    assert_eq!(
        links,
        [
            "redis:172.17.0.2",
            "redis:fd00::2",
            "0123456789ab:172.17.0.2",
            "0123456789ab:fd00::2"
        ]
    );
}

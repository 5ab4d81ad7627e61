//! What a job's containers are created with.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::docker::stage::{BuildImage, HelperImage, Network, Services};

/// A job with nothing of its own.
pub(in crate::docker) fn plan() -> Plan {
    Plan {
        job_id: 7,
        project_id: 3,
        container_base: "runner-t-project-3-concurrent-0".into(),
        volume_base: "runner-abc".into(),
        labels: vec![("com.gitlab.gitlab-runner.job.id".into(), "7".into())],
        container_labels: Vec::new(),
        image: BuildImage {
            name: "ruby:3".into(),
            is_default: false,
            configured: None,
            entrypoint: None,
            user: None,
            platform: None,
            pull_policies: Vec::new(),
        },
        helper_image: None,
        environment: vec![("A".into(), "b".into())],
        init: false,
        helper_umask: 0,
        native_stop: false,
        builds_dir: "/builds".into(),
        keep_builds: false,
        volumes: Vec::new(),
        protected: false,
        credentials: Vec::new(),
        network: Network::Given(None),
        services: Services::default(),
    }
}

fn made(role: &Role, plan: &Plan, config: &usable::Docker) -> ContainerCreateBody {
    let volumes = Volumes {
        open: vec!["/builds".into()],
        ..Volumes::default()
    };
    spec(role, "sha256:1", plan, config, &volumes)
}

const BUILD: Role = Role::Build {
    entrypoint: None,
    platform: None,
};

#[test]
fn both_containers_have_the_job_s_environment_host_name_and_open_streams() {
    for role in [BUILD, Role::FedHelper, Role::PlainHelper] {
        let plan = plan();
        let spec = made(&role, &plan, &usable::Docker::default());
        assert_eq!(spec.hostname.as_deref(), Some(plan.container_base.as_str()));
        assert_eq!(spec.env, Some(vec!["A=b".into()]));
        assert_eq!(
            (spec.open_stdin, spec.stdin_once),
            (Some(true), Some(false))
        );
        let named = usable::Docker {
            hostname: Some("ci".into()),
            ..usable::Docker::default()
        };
        assert_eq!(made(&role, &plan, &named).hostname.as_deref(), Some("ci"));
    }
}

#[test]
fn a_container_in_another_s_network_has_no_host_name_of_its_own() {
    let config = usable::Docker {
        hostname: Some("ci".into()),
        network_mode: Some("container:vpn".into()),
        ..usable::Docker::default()
    };
    assert_eq!(made(&BUILD, &plan(), &config).hostname, None);
}

#[test]
fn the_user_is_the_build_container_s_alone() {
    let mut plan = plan();
    plan.image.user = Some("ci".into());
    let config = usable::Docker::default();
    assert_eq!(made(&BUILD, &plan, &config).user.as_deref(), Some("ci"));
    assert_eq!(made(&Role::FedHelper, &plan, &config).user, None);
}

#[test]
fn the_operator_s_labels_stand_beside_ours_and_never_in_their_place() {
    let mut plan = plan();
    let of_operator = [
        ("team", "a"),
        ("com.gitlab.gitlab-runner.job.id", "8"),
        ("com.gitlab.gitlab-runner.type", "mine"),
    ];
    plan.container_labels = of_operator
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    for (role, kind) in [(BUILD, "build"), (Role::FedHelper, "predefined")] {
        let labels = made(&role, &plan, &usable::Docker::default())
            .labels
            .unwrap();
        assert_eq!(labels["team"], "a");
        assert_eq!(labels["com.gitlab.gitlab-runner.job.id"], "7");
        assert_eq!(labels["com.gitlab.gitlab-runner.type"], kind);
        assert_eq!(labels.len(), 3);
    }
}

#[test]
fn a_mac_address_belongs_to_the_endpoint_of_the_network() {
    let endpoint = |network_mode: Option<&str>| {
        let config = usable::Docker {
            network_mode: network_mode.map(Into::into),
            mac_address: Some("92:d0:c6:0a:29:33".into()),
            ..usable::Docker::default()
        };
        let networking = made(&BUILD, &plan(), &config).networking_config.unwrap();
        let endpoints = networking.endpoints_config.unwrap();
        let (name, endpoint) = endpoints.into_iter().next().unwrap();
        (name, endpoint.mac_address.unwrap())
    };
    let mac = || "92:d0:c6:0a:29:33".to_owned();
    assert_eq!(endpoint(None), ("bridge".into(), mac()));
    assert_eq!(endpoint(Some("own")), ("own".into(), mac()));
}

#[test]
fn the_pid_namespace_is_the_build_container_s() {
    let config = usable::Docker {
        pid_mode: Some("host".into()),
        ..usable::Docker::default()
    };
    let host = |role: &Role| made(role, &plan(), &config).host_config.unwrap();
    let (build, helper) = (host(&BUILD), host(&Role::FedHelper));
    assert_eq!(build.pid_mode.as_deref(), Some("host"));
    assert_eq!(helper.pid_mode, None);
}

#[test]
fn only_listed_images_are_privileged() {
    for (allowed, helper, build_is, helper_is) in [
        (&[][..], None, true, true),
        (&["ruby:*"], None, true, false),
        (&["node:*"], None, false, false),
        (&["**"], None, true, true),
        (&["own/*"], Some("own/helper"), false, true),
    ] {
        let config = usable::Docker {
            privileged: true,
            allowed_privileged_images: allowed.iter().map(ToString::to_string).collect(),
            ..usable::Docker::default()
        };
        let plan = Plan {
            helper_image: helper.map(|name: &str| HelperImage {
                name: name.into(),
                pull_policies: Vec::new(),
            }),
            ..plan()
        };
        let is = |role| made(&role, &plan, &config).host_config.unwrap().privileged;
        assert_eq!(is(BUILD), Some(build_is), "{allowed:?}");
        assert_eq!(is(Role::FedHelper), Some(helper_is), "{allowed:?}");
    }
}

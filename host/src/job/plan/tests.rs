//! Names, directories and refusals of a plan.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;
use crate::job::tests::work;

#[test]
fn names_directories_and_labels_are_gitlab_runner_s() {
    let Prepared {
        plan, directories, ..
    } = prepare(&work(&json!({}))).unwrap();
    assert_eq!(directories.project, "/builds/group/project");
    assert_eq!(directories.tmp, "/builds/group/project.tmp");
    assert_eq!(plan.cache_dir, "/cache/group/project");
    assert_eq!(
        plan.container_base,
        "runner-tok123456-project-3-concurrent-2"
    );
    assert_eq!(plan.volume_base.len(), "runner-".len() + 32);
    assert_eq!(plan.image.name, "busybox");
    let label = |key: &str| {
        let key = format!("com.gitlab.gitlab-runner.{key}");
        plan.labels
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(label("job.timeout"), Some("1h0m0s"));
    assert_eq!(label("managed"), Some("true"));
    assert_eq!(label("runner.id"), Some("tok123456"));
}

#[test]
fn a_clone_path_outside_of_the_builds_directory_is_refused() {
    let at = |path: &str| {
        prepare(&work(
            &json!({ "variables": [{ "key": "GIT_CLONE_PATH", "value": path }] }),
        ))
        .map(|prepared| prepared.directories.project)
    };
    assert_eq!(
        at("$CI_BUILDS_DIR/here//./now").unwrap(),
        "/builds/here/now"
    );
    for outside in ["/etc", "/builds/../etc", "/buildsx", "/builds"] {
        assert!(
            at(outside)
                .unwrap_err()
                .contains("not below the builds directory"),
            "{outside}"
        );
    }
}

#[test]
fn the_default_image_and_pull_policies_come_from_the_configuration() {
    let default = prepare(&work(&json!({ "image": null })))
        .unwrap()
        .plan
        .image;
    assert!(default.is_default && default.name == "busybox:latest");
    assert_eq!(default.pull_policies, [PullPolicy::Always]);
    let never = json!({ "image": { "name": "a", "pull_policy": ["never"] } });
    assert!(
        prepare(&work(&never))
            .unwrap_err()
            .contains("pull_policy ([never]) defined in GitLab pipeline config")
    );
}

#[test]
fn registry_logins_come_from_payload_and_variable() {
    let auth = r#"{"auths":{"registry.example.com":{"auth":"dXNlcjpwYXNz"}}}"#;
    let parts = json!({
        "credentials": [{ "type": "registry", "url": "r", "username": "u", "password": "p" },
                        { "type": "other", "url": "r", "username": "u", "password": "p" }],
        "variables": [{ "key": "DOCKER_AUTH_CONFIG", "value": auth, "raw": true }],
    });
    let found = prepare(&work(&parts)).unwrap().plan.credentials;
    let names: Vec<_> = found
        .iter()
        .map(|c| (c.registry.as_str(), c.username.as_str()))
        .collect();
    assert_eq!(names, [("r", "u"), ("registry.example.com", "user")]);
}

#[test]
fn what_cannot_be_understood_is_a_warning_and_a_submodule_typo_an_error() {
    let with = |key: &str, value: &str| {
        prepare(&work(
            &json!({ "variables": [{ "key": key, "value": value }] }),
        ))
    };
    assert!(with("GIT_STRATEGY", "copy").unwrap().warnings[0].starts_with("GIT_STRATEGY"));
    let attempts = with("GET_SOURCES_ATTEMPTS", "99").unwrap();
    assert_eq!(
        (
            attempts.settings.get_sources_attempts,
            attempts.warnings.len()
        ),
        (10, 1)
    );
    let typo = with("GIT_SUBMODULE_STRATEGY", "recursiv").unwrap_err();
    assert!(typo.starts_with("unknown GIT_SUBMODULE_STRATEGY"), "{typo}");
}

#[test]
fn flags_shape_the_containers_and_stand_in_the_variables() {
    let plain = prepare(&work(&json!({}))).unwrap();
    assert_eq!(
        (
            plain.plan.helper_umask,
            plain.plan.init,
            plain.plan.native_stop
        ),
        (0, false, false)
    );
    assert_eq!(
        plain.variables.get("FF_TIMESTAMPS").as_deref(),
        Some("true")
    );
    let set = |key: &str, value: &str| json!({ "key": key, "value": value });
    let variables = json!([
        set("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "true"),
        set("FF_USE_INIT_WITH_DOCKER_EXECUTOR", "T"),
        set("FF_USE_NATIVE_CONTAINER_STOP", "1"),
        set("FF_TIMESTAMPS", "0"),
        set("FF_SCRIPT_SECTIONS", "perhaps"),
    ]);
    let prepared = prepare(&work(&json!({ "variables": variables }))).unwrap();
    let plan = &prepared.plan;
    assert_eq!(
        (plan.helper_umask, plan.init, plan.native_stop),
        (0o022, true, true)
    );
    // As what holds, not as it was written.
    for (key, value) in [("FF_TIMESTAMPS", "false"), ("FF_SCRIPT_SECTIONS", "false")] {
        assert_eq!(prepared.variables.get(key).as_deref(), Some(value), "{key}");
    }
    let warning =
        "FF_SCRIPT_SECTIONS: \"perhaps\" is neither true nor false, using the default (false)";
    assert_eq!(prepared.warnings, [warning]);
}

#[test]
fn builds_in_a_directory_of_the_instance_keep_apart() {
    let project = |volume: &str| {
        let mut work = work(&json!({}));
        let mut runner = (*work.runner).clone();
        runner.docker.volumes = vec!["/cache".into(), volume.into()];
        work.runner = runner.into();
        prepare(&work).unwrap().directories.project
    };
    for (volume, apart) in [
        ("/srv/builds:/builds", true),
        ("/srv/builds:/builds/:rw", true),
        ("/srv:/", true),
        ("builds:/builds", false),
        ("/srv/builds:/builds/group", false),
        ("/srv/builds:/buildsx", false),
        ("/builds", false),
    ] {
        let expected = match apart {
            true => "/builds/tok123456/2/group/project",
            false => "/builds/group/project",
        };
        assert_eq!(project(volume), expected, "{volume}");
    }
}

#[test]
fn settings_that_cannot_hold_are_told() {
    let told = |key: &str, value: &str| {
        let variables = json!([{ "key": key, "value": value }]);
        prepare(&work(&json!({ "variables": variables })))
            .unwrap()
            .warnings
            .join("|")
    };
    insta::assert_snapshot!(told("RUNNER_SCRIPT_TIMEOUT", "2h"), @"RUNNER_SCRIPT_TIMEOUT: 2h0m0s is longer than the job may take (1h0m0s), which holds");
    insta::assert_snapshot!(told("RUNNER_AFTER_SCRIPT_TIMEOUT", "-1m"), @r#"RUNNER_AFTER_SCRIPT_TIMEOUT: "-1m" is not understood, using the default"#);
    assert_eq!(told("RUNNER_AFTER_SCRIPT_TIMEOUT", "0"), "");
    // A typo costs nothing where there are no sources.
    let parts = json!({ "variables": [{ "key": "GIT_STRATEGY", "value": "none" },
                                      { "key": "GIT_SUBMODULE_STRATEGY", "value": "recursiv" }] });
    assert!(prepare(&work(&parts)).is_ok());
    let mut work = work(&json!({ "variables": [{ "key": "CI_DEBUG_TRACE", "value": "true" }] }));
    let mut runner = (*work.runner).clone();
    runner.debug_trace_disabled = true;
    work.runner = runner.into();
    let prepared = prepare(&work).unwrap();
    assert!(!prepared.settings.debug_trace);
    assert!(
        prepared.warnings[0].contains("debug_trace_disabled"),
        "{:?}",
        prepared.warnings
    );
}

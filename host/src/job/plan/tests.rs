//! Names, directories and refusals of a plan.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;
use crate::config::usable::Docker;
use crate::job::tests::work;

#[test]
fn names_directories_and_labels_are_gitlab_runner_s() {
    let Prepared {
        plan, directories, ..
    } = prepare(&work(&json!({}))).unwrap();
    assert_eq!(directories.project, "/builds/group/project");
    assert_eq!(directories.tmp, "/builds/group/project.tmp");
    assert_eq!(directories.cache, "/cache/group/project");
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
fn without_custom_build_dir_no_job_says_where_its_sources_go() {
    let by = |job: bool, entry: bool| {
        let path = "$CI_BUILDS_DIR/here";
        let variable = json!([{ "key": "GIT_CLONE_PATH", "value": path }]);
        let mut work = work(&match job {
            true => json!({ "variables": variable }),
            false => json!({}),
        });
        let runner = std::sync::Arc::make_mut(&mut work.runner);
        runner.custom_build_dir_enabled = false;
        if entry {
            runner
                .environment
                .push(("GIT_CLONE_PATH".into(), path.into()));
        }
        prepare(&work).map(|prepared| prepared.directories.project)
    };
    for (job, entry) in [(true, false), (false, true)] {
        assert_eq!(
            by(job, entry).unwrap_err(),
            "GIT_CLONE_PATH is set, but custom_build_dir.enabled is false in config.toml"
        );
    }
    assert_eq!(by(false, false).unwrap(), "/builds/group/project");
}

#[test]
fn what_cannot_be_understood_is_a_warning_and_a_submodule_typo_an_error() {
    let with = |key: &str, value: &str| {
        prepare(&work(
            &json!({ "variables": [{ "key": key, "value": value }] }),
        ))
    };
    assert!(with("GIT_STRATEGY", "copy").unwrap().warnings[0].starts_with("GIT_STRATEGY"));
    let of_sources = |prepared: &Prepared| prepared.settings.get_sources_attempts;
    let of_sections = |prepared: &Prepared| prepared.settings.section_attempts;
    for (key, read) in [
        ("GET_SOURCES_ATTEMPTS", of_sources as fn(&Prepared) -> u32),
        ("EXECUTOR_JOB_SECTION_ATTEMPTS", of_sections),
    ] {
        for (value, attempts, warning) in [
            ("99", 10, Some("99 is not within 1 to 10, using 10")),
            ("0", 1, Some("0 is not within 1 to 10, using 1")),
            ("-3", 1, Some("-3 is not within 1 to 10, using 1")),
            (
                "often",
                1,
                Some("\"often\" is not understood, using the default"),
            ),
            ("10", 10, None),
            ("", 1, None),
        ] {
            let prepared = with(key, value).unwrap();
            assert_eq!(read(&prepared), attempts, "{key}={value}");
            let told = warning.map(|text| format!("{key}: {text}"));
            assert_eq!(prepared.warnings, Vec::from_iter(told), "{key}={value}");
        }
    }
    let typo = with("GIT_SUBMODULE_STRATEGY", "recursiv").unwrap_err();
    assert!(typo.starts_with("unknown GIT_SUBMODULE_STRATEGY"), "{typo}");
}

/// The plan of a job with these parts, by an entry with these keys of `[runners.docker]`.
fn planned(parts: &serde_json::Value, docker: Docker) -> Result<Prepared, String> {
    let mut work = work(parts);
    let runner = std::sync::Arc::make_mut(&mut work.runner);
    runner.docker = Docker {
        image: runner.docker.image.clone(),
        pull_policies: runner.docker.pull_policies.clone(),
        ..docker
    };
    prepare(&work)
}

#[test]
fn the_operator_s_user_wins() {
    let parts =
        json!({ "image": { "name": "a", "executor_opts": { "docker": { "user": "root" } } } });
    let docker = Docker {
        user: Some("ci".into()),
        ..Docker::default()
    };
    let user = |docker| planned(&parts, docker).unwrap().plan.image.user;
    assert_eq!(user(docker).as_deref(), Some("ci"));
    assert_eq!(user(Docker::default()).as_deref(), Some("root"));
}

#[test]
fn only_a_checkout_that_is_fetched_into_is_kept() {
    for (strategy, kept) in [
        ("fetch", true),
        ("clone", false),
        ("none", false),
        ("empty", false),
    ] {
        let variables = json!({ "variables": [{ "key": "GIT_STRATEGY", "value": strategy }] });
        let found = planned(&variables, Docker::default()).unwrap();
        assert_eq!(found.plan.keep_builds, kept, "{strategy}");
    }
}

#[test]
fn a_protected_branch_is_known_by_what_a_job_cannot_write() {
    let of_gitlab = json!({ "key": "CI_COMMIT_REF_PROTECTED", "value": "false" });
    let of_job = json!({ "key": "CI_COMMIT_REF_PROTECTED", "value": "true" });
    for (parts, protected) in [
        (json!({}), false),
        (json!({ "variables": [of_gitlab, of_job] }), false),
        (json!({ "variables": [of_job, of_gitlab] }), true),
        (json!({ "cache": [{ "key": "gems-protected" }] }), true),
        (json!({ "cache": [{ "key": "gems-non_protected" }] }), false),
    ] {
        let found = planned(&parts, Docker::default()).unwrap();
        assert_eq!(found.plan.protected, protected, "{parts}");
    }
    let mut work = work(&json!({ "variables": [of_job] }));
    std::sync::Arc::make_mut(&mut work.payload)
        .git_info
        .protected = Some(false);
    assert!(
        !prepare(&work).unwrap().plan.protected,
        "GitLab's own word wins"
    );
}

#[test]
fn what_the_operator_wrote_may_name_variables() {
    let docker = Docker {
        container_labels: [("team".to_owned(), "$TEAM".to_owned())].into(),
        volumes: vec!["/srv/$TEAM:/data/$TEAM".parse().unwrap()],
        ..Docker::default()
    };
    let parts = json!({ "variables": [{ "key": "TEAM", "value": "a" }] });
    let plan = planned(&parts, docker).unwrap().plan;
    assert_eq!(plan.container_labels, [("team".to_owned(), "a".to_owned())]);
    assert!(!plan.labels.iter().any(|(key, _)| key == "team"));
    // The source is the operator's alone.
    assert_eq!(plan.volumes[0].source.as_deref(), Some("/srv/$TEAM"));
    assert_eq!(plan.volumes[0].destination, "/data/a");
}

#[test]
fn jobs_do_not_meet_in_a_builds_directory_of_the_instance() {
    let project = |volume: &str| {
        let docker = Docker {
            volumes: vec![volume.parse().unwrap()],
            ..Docker::default()
        };
        planned(&json!({}), docker).unwrap().directories.project
    };
    let apart = "/builds/tok123456/2/group/project";
    assert_eq!(project("/srv:/builds"), apart);
    assert_eq!(project("named:/builds/"), apart);
    assert_eq!(project("/builds"), "/builds/group/project");
    assert_eq!(project("/srv:/build"), "/builds/group/project");
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

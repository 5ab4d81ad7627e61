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

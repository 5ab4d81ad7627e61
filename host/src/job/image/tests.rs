//! Images, policies, platforms and registry logins of a job, by tables.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::config::usable::Runner;
use crate::job::plan::{self, Prepared};
use crate::job::tests::{runner, work};

fn prepared(parts: &Value, edit: impl FnOnce(&mut Runner)) -> Result<Prepared, String> {
    let mut runner = runner();
    edit(&mut runner);
    let work = Work {
        runner: Arc::new(runner),
        ..work(parts)
    };
    plan::prepare(&work)
}

#[test]
fn the_job_s_image_is_expanded_twice_and_the_default_once() {
    let variables = json!([
        { "key": "IMAGE", "value": "$BASE:3" }, { "key": "BASE", "value": "$NAME" }, { "key": "NAME", "value": "ruby" },
    ]);
    let image = |parts: Value| prepared(&parts, |_| {}).unwrap().plan.image;
    for (written, expected) in [
        ("ruby:3", "ruby:3"),
        ("$NAME:3", "ruby:3"),
        ("${IMAGE}", "$NAME:3"),
        ("$BASE", "ruby"),
    ] {
        let found = image(json!({ "image": { "name": written }, "variables": variables }));
        assert_eq!(
            (found.name.as_str(), found.is_default),
            (expected, false),
            "{written}"
        );
    }
    let default = |image: Option<&str>| {
        let image = image.map(String::from);
        let parts = json!({ "image": null, "variables": variables });
        prepared(&parts, |runner| runner.docker.image = image).map(|prepared| prepared.plan.image)
    };
    let found = default(Some("$NAME:1")).unwrap();
    assert_eq!((found.name.as_str(), found.is_default), ("ruby:1", true));
    for none in [None, Some("$NOTHING")] {
        assert!(default(none).unwrap_err().contains("names no image"));
    }
}

#[test]
fn policies_are_the_job_s_or_the_operator_s_and_the_helper_s_are_the_operator_s() {
    use PullPolicy::*;
    let policies = |job: Value, helper: &str| {
        let parts = json!({ "image": { "name": "a", "pull_policy": job }, "variables": [{ "key": "TAG", "value": "2" }] });
        prepared(&parts, |runner| {
            runner.docker.pull_policies = vec![Always, IfNotPresent];
            runner.docker.helper_image = Some(helper.into());
        })
    };
    let plan = policies(json!(["if-not-present"]), "helper:$TAG")
        .unwrap()
        .plan;
    assert_eq!(plan.image.pull_policies, [IfNotPresent]);
    let helper = plan.helper_image.unwrap();
    assert_eq!(helper.name, "helper:2");
    assert_eq!(helper.pull_policies, [Always, IfNotPresent]);
    let plan = policies(Value::Null, "$NOTHING").unwrap().plan;
    assert_eq!(plan.image.pull_policies, [Always, IfNotPresent]);
    assert!(plan.helper_image.is_none());
    let never = policies(json!(["never"]), "").unwrap_err();
    assert!(
        never.contains("pull_policy ([never]) defined in GitLab pipeline config"),
        "{never}"
    );
    let unknown = policies(json!(["sometimes"]), "").unwrap_err();
    insta::assert_snapshot!(unknown, @r#"invalid pull policy for image "a": unsupported pull_policy "sometimes" in the job; write always, if-not-present or never"#);
}

#[test]
fn a_platform_is_told_as_the_daemon_reads_it() {
    for (written, told, warned) in [
        ("linux/amd64", "linux/amd64", 0),
        ("$ARCH", "linux/arm64", 0),
        ("darwin/arm64", "linux/arm64", 1),
        ("a/b/c/d", "a/b/c/d", 0),
    ] {
        let image = json!({ "name": "a", "executor_opts": { "docker": { "platform": written } } });
        let parts = json!({ "image": image, "variables": [{ "key": "ARCH", "value": "arm64" }] });
        let found = prepared(&parts, |_| {}).unwrap();
        assert_eq!(found.plan.image.platform.as_deref(), Some(told));
        assert_eq!(found.warnings.len(), warned, "{:?}", found.warnings);
    }
}

#[test]
fn an_entrypoint_that_is_not_taken_is_a_warning() {
    let parts = json!({ "image": { "name": "a", "entrypoint": ["/bin/own"] } });
    let found = prepared(&parts, |_| {}).unwrap();
    assert_eq!(found.plan.image.entrypoint, Some(vec!["/bin/own".into()]));
    let found = prepared(&parts, |runner| {
        runner.docker.disable_entrypoint_overwrite = true;
    })
    .unwrap();
    assert_eq!(found.plan.image.entrypoint, None);
    assert_eq!(found.warnings, ["Entrypoint override disabled"]);
}

/// Sources as text: what they hold, and their helpers where some are left.
fn sources(found: &Prepared) -> Vec<String> {
    let sources = found.plan.credentials.iter();
    let text = sources.map(|source| match source {
        Source::Variable(config) => {
            let holds = format!("{config:?}").contains(r#"registry: "r.example""#);
            let helpers = config.clone().take_helpers();
            let registry = if holds { "r.example" } else { "" };
            format!("variable {registry} {helpers:?}")
        }
        Source::Home => "home".to_owned(),
        Source::Payload(known) => {
            let known: Vec<_> = known.iter().map(|c| c.registry.as_str()).collect();
            format!("payload {}", known.join(","))
        }
    });
    text.collect()
}

const WITH_HELPERS: &str = r#"{"auths":{"r.example":{"auth":"dXNlcjpwYXNz"}},"credsStore":"pass","credHelpers":{"s.example":"evil\u001b[31m"}}"#;

#[test]
fn logins_come_from_variable_home_and_payload_in_this_order() {
    let parts = json!({
        "credentials": [{ "type": "registry", "url": "gitlab.example", "username": "u", "password": "p" },
                        { "type": "other", "url": "s", "username": "u", "password": "p" }],
        "variables": [{ "key": "DOCKER_AUTH_CONFIG", "value": r#"{"auths":{"r.example":{"auth":"dXNlcjpwYXNz"}}}"#,
                        "file": true }],
    });
    let found = prepared(&parts, |_| {}).unwrap();
    assert_eq!(
        sources(&found),
        ["variable r.example []", "home", "payload gitlab.example"]
    );
    let found = prepared(&json!({}), |_| {}).unwrap();
    assert_eq!(sources(&found), ["home", "payload "]);
    assert!(found.warnings.is_empty());
}

#[test]
fn a_helper_that_a_job_s_variable_names_never_runs() {
    let parts = json!({ "variables": [{ "key": "DOCKER_AUTH_CONFIG", "value": WITH_HELPERS, "raw": true }] });
    // Not even where the operator's has the very same words.
    let same = |runner: &mut Runner| {
        runner
            .environment
            .push(("DOCKER_AUTH_CONFIG".into(), WITH_HELPERS.into()))
    };
    let found = prepared(&parts, same).unwrap();
    let other = prepared(&parts, |_| {}).unwrap();
    assert_eq!(found.warnings, other.warnings);
    assert_eq!(sources(&found)[0], "variable r.example []");
    insta::assert_snapshot!(found.warnings.join("\n"), @r#"
    DOCKER_AUTH_CONFIG names the credential helper "evil[31m", which is not run: helpers run only from the manager's own configuration
    DOCKER_AUTH_CONFIG names the credential helper "pass", which is not run: helpers run only from the manager's own configuration
    "#);
}

#[test]
fn the_operator_s_variable_names_helpers_unless_a_job_has_a_word_in_it() {
    let own = |text: &str| {
        let text = text.to_owned();
        move |runner: &mut Runner| runner.environment.push(("DOCKER_AUTH_CONFIG".into(), text))
    };
    let found = prepared(&json!({}), own(r#"{"credsStore":"pass"}"#)).unwrap();
    assert_eq!(sources(&found)[0], r#"variable  ["pass"]"#);
    assert!(found.warnings.is_empty());
    let text = r#"{"auths":{"$WHERE":{"auth":"dXNlcjpwYXNz"}},"credsStore":"pass"}"#;
    let parts = json!({ "variables": [{ "key": "WHERE", "value": "r.example" }] });
    let found = prepared(&parts, own(text)).unwrap();
    assert_eq!(sources(&found)[0], "variable r.example []");
    assert_eq!(found.warnings.len(), 1);
}

#[test]
fn a_variable_that_is_no_configuration_is_a_warning_without_its_content() {
    let parts =
        json!({ "variables": [{ "key": "DOCKER_AUTH_CONFIG", "value": "hush", "raw": true }] });
    let found = prepared(&parts, |_| {}).unwrap();
    assert_eq!(sources(&found), ["home", "payload "]);
    insta::assert_snapshot!(found.warnings.join("\n"), @"DOCKER_AUTH_CONFIG is of no use, no credentials are taken from it: it is no Docker configuration in JSON: line 1, column 1");
    let empty = json!({ "variables": [{ "key": "DOCKER_AUTH_CONFIG", "value": " " }] });
    assert!(prepared(&empty, |_| {}).unwrap().warnings.is_empty());
}

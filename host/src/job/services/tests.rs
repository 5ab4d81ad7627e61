//! Which services a job gets, and as what.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::config::service::Definition;
use crate::config::usable::Docker;
use crate::config::usable::PullPolicy;
use crate::docker::stage::Plan;
use crate::job::plan::prepare;
use crate::job::tests::work;

fn planned(parts: &Value, change: impl FnOnce(&mut Docker)) -> Result<Plan, String> {
    let mut work = work(parts);
    let mut runner = work.runner.as_ref().clone();
    change(&mut runner.docker);
    work.runner = Arc::new(runner);
    prepare(&work).map(|prepared| prepared.plan)
}

fn services(parts: &Value) -> Services {
    planned(parts, |_| {}).unwrap().services
}

fn definition(name: &str) -> Definition {
    Definition {
        name: name.into(),
        alias: String::new(),
        command: None,
        entrypoint: None,
        environment: Vec::new(),
    }
}

fn found<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    let mut values = service.environment.iter().filter(|(k, _)| k == key);
    let value = values.next().map(|(_, value)| value.as_str());
    assert_eq!(values.next(), None, "{key} is there twice");
    value
}

#[test]
fn the_configuration_s_come_first_and_every_part_arrives() {
    let parts = json!({
        "variables": [{ "key": "TAG", "value": "16", "public": true }],
        "services": [{
            "name": "registry.example.com:5000/db/postgres:$TAG",
            "alias": "db,sql-$TAG  main",
            "command": ["postgres", "-c", "$TAG"],
            "entrypoint": ["/start"],
            "pull_policy": ["if-not-present"],
            "executor_opts": { "docker": { "user": "u$TAG", "platform": "linux/arm64" } },
        }],
    });
    let plan = planned(&parts, |docker| {
        docker.allowed_pull_policies = vec![PullPolicy::Always, PullPolicy::IfNotPresent];
        docker.services.definitions = vec![Definition {
            alias: "cache".into(),
            command: Some(vec!["redis-server".into()]),
            environment: vec![("FOR".into(), "$TAG".into())],
            ..definition("redis:$TAG")
        }];
    });
    let [redis, postgres] = &plan.unwrap().services.list[..] else {
        panic!("two were asked for");
    };
    assert_eq!(
        (redis.index, redis.image.as_str(), redis.title.as_str()),
        (0, "redis:16", "redis:16")
    );
    assert_eq!(redis.aliases, ["redis", "cache"]);
    assert_eq!(
        redis.command.as_deref(),
        Some(&["redis-server".to_owned()][..])
    );
    assert_eq!(found(redis, "FOR"), Some("16"));
    assert_eq!(redis.pull_policies, [PullPolicy::Always]);

    assert_eq!(postgres.image, "registry.example.com:5000/db/postgres:16");
    assert_eq!(postgres.slug, "registry.example.com__db__postgres");
    let derived = [
        "registry.example.com__db__postgres",
        "registry.example.com-db-postgres",
    ];
    assert_eq!(
        postgres.aliases,
        [&derived[..], &["db", "sql-16", "main"]].concat()
    );
    assert_eq!(postgres.command.as_deref().unwrap().last().unwrap(), "$TAG");
    assert_eq!(
        postgres.entrypoint.as_deref(),
        Some(&["/start".to_owned()][..])
    );
    assert_eq!(postgres.pull_policies, [PullPolicy::IfNotPresent]);
    assert_eq!(
        (postgres.user.as_deref(), postgres.platform.as_deref()),
        (Some("u16"), Some("linux/arm64"))
    );
}

#[test]
fn a_service_sees_what_is_public_and_what_is_its_own() {
    let parts = json!({
        "variables": [
            { "key": "OPEN", "value": "seen", "public": true },
            { "key": "SECRET", "value": "hidden", "public": false, "masked": true },
            { "key": "TURNED", "value": "seen", "public": true },
            { "key": "TURNED", "value": "hidden", "public": false },
            { "key": "BOTH", "value": "the job's", "public": true },
        ],
        "services": [{ "name": "db", "variables": [
            { "key": "PASSWORD", "value": "<$SECRET>" },
            { "key": "BOTH", "value": "own, not $BOTH" },
            { "key": "RAW", "value": "$OPEN", "raw": true },
        ] }],
    });
    let services = services(&parts);
    let db = &services.list[0];
    for (key, value) in [
        ("OPEN", Some("seen")),
        ("SECRET", None),
        ("TURNED", None),
        ("CI_JOB_TOKEN", None),
        ("CI_PROJECT_DIR", Some("/builds/group/project")),
        ("PASSWORD", Some("<hidden>")),
        ("BOTH", Some("own, not the job's")),
        ("RAW", Some("$OPEN")),
    ] {
        assert_eq!(found(db, key), value, "{key}");
    }
    assert!(!format!("{services:?}").contains("hidden"));
}

#[test]
fn a_name_is_one_service_s_and_a_service_without_one_is_told() {
    let services = services(&json!({ "services": [
        { "name": "alpine", "alias": "alpine alpine svc-1 svc-1" },
        { "name": "alpine", "alias": "svc-1 svc-2" },
        { "name": "alpine:3" },
    ] }));
    let names: Vec<_> = services
        .list
        .iter()
        .map(|s| (s.index, s.aliases.join(" ")))
        .collect();
    assert_eq!(
        names,
        [(0, "alpine svc-1".to_owned()), (1, "svc-2".to_owned())]
    );
    let taken = |alias: &str, n: usize| {
        format!(
            "Skipping alias {alias:?} for service \"alpine\" (services[{n}]): alias is already in use by another service."
        )
    };
    assert_eq!(
        services.notices[..3],
        [taken("alpine", 1), taken("svc-1", 1), taken("alpine", 2)]
    );
    assert!(
        services.notices[3].contains("\"alpine:3\" (services[2]) is not started"),
        "{:?}",
        services.notices
    );
}

#[test]
fn what_cannot_be_started_fails_the_job_before_an_instance_is_asked_for() {
    let two = json!({ "services": [{ "name": "a" }, { "name": "b" }] });
    let limited = |limit| {
        planned(&two, |docker| {
            docker.services.limit = limit;
            docker.services.definitions = vec![definition("c")];
        })
    };
    let refused = limited(Some(2)).unwrap_err();
    assert!(
        refused.starts_with("too many services requested: 3, only 2 allowed"),
        "{refused}"
    );
    assert_eq!(limited(Some(3)).unwrap().services.list.len(), 3);
    assert_eq!(limited(None).unwrap().services.list.len(), 3);

    let empty = json!({ "services": [{ "name": "$NOT_THERE" }] });
    let refused = planned(&empty, |_| {}).unwrap_err();
    assert!(
        refused.starts_with("invalid service image name"),
        "{refused}"
    );
    let never = json!({ "services": [{ "name": "a", "pull_policy": ["never"] }] });
    let refused = planned(&never, |_| {}).unwrap_err();
    assert!(refused.contains("allowed_pull_policies"), "{refused}");
}

#[test]
fn an_entrypoint_may_be_kept_by_the_operator() {
    let parts =
        json!({ "services": [{ "name": "a", "entrypoint": ["sh"], "command": ["-c", "true"] }] });
    let services = planned(&parts, |docker| docker.disable_entrypoint_overwrite = true)
        .unwrap()
        .services;
    assert_eq!(services.list[0].entrypoint, None);
    assert!(services.list[0].command.is_some());
    assert_eq!(services.notices, ["Entrypoint override disabled"]);
}

#[test]
fn a_job_has_a_network_of_its_own_only_where_it_asks_and_the_operator_names_none() {
    let asked = json!({ "variables": [{ "key": "FF_NETWORK_PER_BUILD", "value": "true" }] });
    let plan = planned(&asked, |docker| docker.network_mtu = Some(1400)).unwrap();
    let own = Network::PerBuild {
        name: "runner-tok123456-3-2-7".into(),
        mtu: Some(1400),
        ipv6: false,
    };
    assert_eq!(plan.network, own);
    let told = plan
        .environment
        .iter()
        .find(|(key, _)| key == "CI_BUILD_NETWORK_NAME");
    assert_eq!(
        told.map(|(_, name)| name.as_str()),
        Some("runner-tok123456-3-2-7")
    );
    let named = planned(&asked, |docker| docker.network_mode = Some("mine".into())).unwrap();
    assert_eq!(named.network, Network::Given(Some("mine".into())));
    // As every flag: the operator's word comes before the job's.
    let mut work = work(&asked);
    let mut runner = work.runner.as_ref().clone();
    let refused = (NETWORK_PER_BUILD.to_owned(), false);
    runner.feature_flags.extend([refused]);
    work.runner = Arc::new(runner);
    let of_operator = prepare(&work).unwrap().plan;
    assert_eq!(of_operator.network, Network::Given(None));
    let plain = planned(&json!({}), |_| {}).unwrap();
    assert_eq!(plain.network, Network::Given(None));
    assert!(
        plain
            .environment
            .iter()
            .all(|(key, _)| key != "CI_BUILD_NETWORK_NAME")
    );
}

#[test]
fn what_services_print_is_shown_only_where_the_operator_lets_it() {
    let asked =
        |value: &str| json!({ "variables": [{ "key": "CI_DEBUG_SERVICES", "value": value }] });
    assert!(services(&asked("true")).debug && !services(&asked("false")).debug);
    assert!(!services(&json!({})).debug);
    let prepared = prepare(&work(&asked("blammo"))).unwrap();
    assert!(!prepared.plan.services.debug);
    assert!(
        prepared.warnings[0].starts_with("CI_DEBUG_SERVICES"),
        "{:?}",
        prepared.warnings
    );
    let mut work = work(&asked("true"));
    let mut runner = work.runner.as_ref().clone();
    runner.debug_trace_disabled = true;
    work.runner = Arc::new(runner);
    assert!(!prepare(&work).unwrap().plan.services.debug);
}

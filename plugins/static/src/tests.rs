//! The provider from end to end, with a store and nothing else: the tutorial's tests.

use fleetling_plugin_sdk::script::Script;
use fleetling_plugin_sdk::{ProblemKind, Reach};

use super::*;

const CONFIG: &str = r#"{"instances": {
    "rack-1": {"username": "ci", "password": "s3cret", "internal_addr": "10.0.0.1"},
    "rack-2": {"internal_addr": "10.0.0.2:2222", "external_addr": "[2001:db8::2]:22"}}}"#;

/// Each value of it is one that a rebuild would make: only what the script stores is common to them.
fn provider(host: &Rc<Script>) -> Static {
    Static::init(host.clone(), CONFIG, Settings::for_tests()).expect("the configuration is valid")
}

fn wish(token: &str, count: u32) -> IncreaseRequest {
    IncreaseRequest {
        token: token.into(),
        count,
        avoid_pools: Vec::new(),
        extras: Vec::new(),
    }
}

fn of(id: &str) -> InstanceRef {
    InstanceRef {
        id: id.into(),
        memo: String::new(),
    }
}

fn listed(provider: &Static) -> Vec<String> {
    let snapshot = provider.update().expect("the store can be read");
    snapshot.instances.into_iter().map(|one| one.id).collect()
}

#[test]
fn machines_are_lent_once_a_token_and_survive_a_rebuild() {
    let host = Rc::new(Script::default());
    assert_eq!(listed(&provider(&host)), [""; 0]);
    assert_eq!(provider(&host).increase(wish("a", 1)).ids, ["rack-1.1"]);
    let again = provider(&host).increase(wish("a", 1));
    assert_eq!(
        (again.accepted, again.ids),
        (1, vec!["rack-1.1".to_owned()])
    );
    assert_eq!(listed(&provider(&host)), ["rack-1.1"]);
    let snapshot = provider(&host).update().expect("the store can be read");
    assert_eq!(snapshot.instances[0].state, InstanceState::Running);
    assert_eq!(snapshot.instances[0].request.as_deref(), Some("a"));
    assert_eq!(snapshot.max_size, Some(2));
}

#[test]
fn more_than_there_are_is_a_quota_and_the_rest_is_lent() {
    let host = Rc::new(Script::default());
    let outcome = provider(&host).increase(wish("a", 3));
    assert_eq!((outcome.accepted, outcome.ids.len()), (2, 2));
    assert_eq!(outcome.problems[0].kind, ProblemKind::Quota);
    assert_eq!(
        outcome.problems[0].message,
        "all 2 machines are in use; next: lower max_instances to 2, or add machines to plugin_config.instances"
    );
}

#[test]
fn a_machine_that_came_back_is_another_instance_the_next_time() {
    let host = Rc::new(Script::default());
    provider(&host).increase(wish("a", 2));
    let removals = provider(&host).decrease(vec![of("rack-1.1"), of("unknown"), of("rack-1.1")]);
    assert_eq!(removals, [Removal::Accepted, Removal::Gone, Removal::Gone]);
    assert_eq!(provider(&host).decrease(Vec::new()), []);
    assert_eq!(listed(&provider(&host)), ["rack-2.1"]);
    assert_eq!(provider(&host).increase(wish("b", 1)).ids, ["rack-1.2"]);

    provider(&host).shutdown(false).expect("the store works");
    assert_eq!(listed(&provider(&host)).len(), 2);
    provider(&host).shutdown(true).expect("the store works");
    assert_eq!(listed(&provider(&host)), [""; 0]);
}

#[test]
fn how_a_machine_is_dialled_is_what_the_operator_wrote() {
    let host = Rc::new(Script::default());
    provider(&host).increase(wish("a", 2));
    let first = provider(&host)
        .connect_info(of("rack-1.1"))
        .expect("it is lent");
    assert_eq!(first.username.as_deref(), Some("ci"));
    assert_eq!(first.login, Login::Password("s3cret".into()));
    let second = provider(&host)
        .connect_info(of("rack-2.1"))
        .expect("it is lent");
    assert_eq!(second.login, Login::PublicKey);
    let addresses: Vec<_> = second
        .addresses
        .iter()
        .map(|one| (one.reach, one.host.as_str(), one.port))
        .collect();
    assert_eq!(
        addresses,
        [
            (Reach::Internal, "10.0.0.2", Some(2222)),
            (Reach::External, "2001:db8::2", Some(22))
        ]
    );
    let problem = provider(&host)
        .connect_info(of("rack-1.9"))
        .expect_err("it is not lent");
    assert_eq!(problem.kind, ProblemKind::NotFound);
}

#[test]
fn the_group_has_one_name_and_says_which_key_the_machines_need() {
    let group = provider(&Rc::default()).open().expect("nothing is asked");
    assert_eq!(group.id, "static/rack-1@10.0.0.1");
    assert_eq!(group.max_size, Some(2));
    assert!(group.notices[0].message.contains("ssh-ed25519 AAAA"));

    let mut settings = Settings::for_tests();
    settings.connector.static_credentials = true;
    let provider = Static::init(Rc::new(Script::default()), CONFIG, settings).expect("it is valid");
    assert_eq!(provider.open().expect("nothing is asked").notices, []);
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    for (config, key) in [
        ("{}", "plugin_config.instances"),
        (r#"{"instances":{}}"#, "plugin_config.instances"),
        (
            r#"{"instances":{"a":{}}}"#,
            "plugin_config.instances.a.internal_addr",
        ),
        (
            r#"{"instances":{"a":{"internal_addr":"x:y"}}}"#,
            "plugin_config.instances.a.internal_addr",
        ),
        (
            r#"{"instances":{"a":{"internal_addr":"x","protocol":"telnet"}}}"#,
            "plugin_config.instances.a.protocol",
        ),
        (
            r#"{"instances":{"a":{"internal_addr":1}}}"#,
            "plugin_config.instances.a.internal_addr",
        ),
    ] {
        let Err(problem) = Static::init(Rc::new(Script::default()), config, Settings::for_tests())
        else {
            panic!("{config} is accepted");
        };
        assert_eq!(problem.kind, ProblemKind::InvalidConfig, "{config}");
        assert_eq!(problem.subject.as_deref(), Some(key), "{config}");
    }
}

//! The provider against a small cloud of the SDK's: over real sockets, natively, in milliseconds.

use std::rc::Rc;

use fleeting_plugin_template::Plugin;
use fleetling_plugin_sdk::testing::{Cloud, Native, Recorder, Replay, Reply};
use fleetling_plugin_sdk::{
    Host, IncreaseRequest, InstanceRef, InstanceState, ProblemKind, Provider, Removal, Settings,
};

fn plugin_at(host: Rc<dyn Host>, endpoint: &str) -> Plugin {
    let config = format!(r#"{{"endpoint": "{endpoint}", "group": "ci"}}"#);
    Plugin::init(host, &config, Settings::for_tests()).expect("the configuration is valid")
}

fn plugin(cloud: &Cloud) -> Plugin {
    let host = Native::default();
    host.around().set_secret("token", "s3cret\n");
    plugin_at(Rc::new(host), &cloud.url())
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

#[test]
fn instances_come_are_dialled_and_go() {
    let cloud = Cloud::start("s3cret", 5);
    let plugin = plugin(&cloud);
    assert_eq!(plugin.open().expect("it is there").max_size, Some(5));
    let outcome = plugin.increase(wish("a", 3));
    assert_eq!((outcome.accepted, outcome.problems.len()), (3, 0));
    let early = plugin.connect_info(of("vm-1")).expect_err("it boots");
    assert_eq!(early.kind, ProblemKind::NotReady);
    let booting = plugin.update().expect("every page is read").instances;
    assert!(
        booting
            .iter()
            .all(|one| one.state == InstanceState::Creating)
    );
    assert_eq!(booting.len(), 3);
    assert_eq!(booting[0].request.as_deref(), Some("a"));
    // It takes its time to boot: until it has been listed six times.
    for _ in 0..5 {
        plugin.update().expect("every page is read");
    }
    let connection = plugin.connect_info(of("vm-1")).expect("it runs");
    assert_eq!(connection.addresses[0].host, "127.0.0.1");
    assert!(plugin.heartbeat(of("vm-1")).is_ok());

    let removals = plugin.decrease(vec![of("vm-1"), of("vm-1"), of("../x?y")]);
    assert_eq!(removals, [Removal::Accepted, Removal::Gone, Removal::Gone]);
    assert_eq!(plugin.decrease(Vec::new()), []);
    assert_eq!(plugin.update().expect("it is listed").instances.len(), 2);
}

#[test]
fn the_same_wish_twice_is_one_and_more_than_the_limit_is_a_quota() {
    let cloud = Cloud::start("s3cret", 3);
    let plugin = plugin(&cloud);
    assert_eq!(plugin.increase(wish("a", 2)).accepted, 2);
    assert_eq!(plugin.increase(wish("a", 2)).accepted, 2);
    assert_eq!(cloud.instances().len(), 2);
    let outcome = plugin.increase(wish("b", 4));
    assert_eq!(outcome.accepted, 1);
    assert_eq!(outcome.problems[0].kind, ProblemKind::Quota);
}

#[test]
fn whatever_is_lost_on_the_way_the_next_try_loses_nothing_and_adds_nothing() {
    // The pages of the list and each wish: every call of it once.
    for call in 0..4 {
        for reply in [
            Reply::text(500, "oops"),
            Reply::text(200, "<html>"),
            Reply::text(201, "{}").cut(),
            Reply::text(201, "{}").lost(),
        ] {
            let cloud = Cloud::start("s3cret", 9);
            cloud.fail(call, reply);
            let plugin = plugin(&cloud);
            let first = plugin.increase(wish("a", 3));
            assert!(first.accepted <= 3);
            let second = plugin.increase(wish("a", 3));
            assert_eq!(second.accepted, 3, "call {call}");
            assert_eq!(cloud.instances().len(), 3, "call {call}");
            assert_eq!(plugin.update().expect("all is well").instances.len(), 3);
        }
    }
}

#[test]
fn a_wrong_token_a_missing_one_and_a_missing_key_are_told_apart() {
    let cloud = Cloud::start("another", 1);
    let problem = plugin(&cloud).open().expect_err("the token is wrong");
    assert_eq!(problem.kind, ProblemKind::Unauthenticated);
    let without = plugin_at(Rc::new(Native::default()), &cloud.url());
    let problem = without.open().expect_err("no secret is granted");
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    let Err(problem) = Plugin::init(
        Rc::new(Native::default()),
        r#"{"group": 3}"#,
        Settings::for_tests(),
    ) else {
        panic!("3 is no name");
    };
    assert_eq!(problem.subject.as_deref(), Some("plugin_config.group"));
}

#[test]
fn what_was_recorded_once_is_replayed_without_the_cloud() {
    let (file, url) = {
        let cloud = Cloud::start("s3cret", 5);
        let recorder = Rc::new(Recorder::new(Native::default()));
        recorder.host().around().set_secret("token", "s3cret");
        plugin_at(recorder.clone(), &cloud.url()).increase(wish("a", 1));
        let name = format!("fleeting-plugin-recorded-{}.json", std::process::id());
        let file = std::env::temp_dir().join(name);
        recorder.save(&file).expect("it is written");
        (file, cloud.url())
    };
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it was written");
    assert!(!text.contains("s3cret"), "{text}");
    let replay = Rc::new(Replay::from_text(&text).expect("it is a recording"));
    replay.around().set_secret("token", "any");
    let outcome = plugin_at(replay.clone(), &url).increase(wish("a", 1));
    assert_eq!(outcome.ids, ["vm-1"]);
    replay.is_over();
}

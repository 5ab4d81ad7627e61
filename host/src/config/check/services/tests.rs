//! What is read of services, and each default.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use super::*;
use crate::config::check::check;

fn checked(keys: &str) -> (Option<Services>, Vec<String>) {
    let text = format!(
        "[[runners]]\nname = \"x\"\nurl = \"https://gitlab.com\"\ntoken = \"t\"\nexecutor = \"docker-autoscaler\"\n\
         [runners.autoscaler]\nplugin = \"aws\"\n[runners.docker]\n{keys}\n"
    );
    let loaded = check(Path::new("config.toml"), &text, &|_| None, &|_| {
        Err(std::io::ErrorKind::NotFound.into())
    })
    .unwrap();
    let services = loaded
        .config
        .runners
        .first()
        .map(|runner| runner.docker.services.clone());
    let problems = loaded.problems.iter();
    (
        services,
        problems
            .map(|problem| format!("{}: {}", problem.key, problem.text))
            .collect(),
    )
}

#[test]
fn every_key_of_a_service_is_read() {
    let (services, problems) = checked(
        "services_limit = 4\nwait_for_services_timeout = 90\nallowed_services = [\"redis:*\"]\n\
         services_privileged = true\nallowed_privileged_services = [\"docker:*\"]\n\
         [[runners.docker.services]]\nname = \"postgres:16\"\nalias = \"db, sql\"\ncommand = [\"a\", \"b\"]\n\
         entrypoint = [\"c\"]\nenvironment = [\"A=1=2\"]\nsuspend_data_path = \"/x\"\n\
         [[runners.docker.services]]\nname = \"redis\"",
    );
    assert_eq!(problems, Vec::<String>::new());
    let words = |all: &[&str]| Some(all.iter().map(ToString::to_string).collect());
    let plain = |name: &str| Definition {
        name: name.into(),
        alias: String::new(),
        command: None,
        entrypoint: None,
        environment: Vec::new(),
    };
    let postgres = Definition {
        alias: "db, sql".into(),
        command: words(&["a", "b"]),
        entrypoint: words(&["c"]),
        environment: vec![("A".into(), "1=2".into())],
        ..plain("postgres:16")
    };
    let expected = Services {
        definitions: vec![postgres, plain("redis")],
        limit: Some(4),
        wait: Some(Duration::from_secs(90)),
        allowed: vec!["redis:*".into()],
        privileged: Some(true),
        allowed_privileged: vec!["docker:*".into()],
    };
    assert_eq!(services, Some(expected));
}

#[test]
fn unset_is_no_limit_and_half_a_minute_s_patience() {
    for (keys, limit, wait) in [
        ("", None, Some(30)),
        (
            "services_limit = -1\nwait_for_services_timeout = 0",
            None,
            Some(30),
        ),
        (
            "services_limit = 0\nwait_for_services_timeout = -1",
            Some(0),
            None,
        ),
        ("wait_for_services_timeout = 1", None, Some(1)),
    ] {
        let (services, problems) = checked(keys);
        assert_eq!(problems, Vec::<String>::new(), "{keys}");
        let services = services.unwrap();
        assert_eq!(services.limit, limit, "{keys}");
        assert_eq!(services.wait, wait.map(Duration::from_secs), "{keys}");
    }
}

#[test]
fn a_service_without_an_image_disables_its_entry() {
    let (services, problems) =
        checked("[[runners.docker.services]]\nalias = \"db\"\nimage = \"postgres\"");
    assert_eq!(services, None);
    assert_eq!(
        problems,
        [
            "docker.services[0].name: missing; name the service's image, such as name = \"postgres:16\"",
            "docker.services[0].image: unknown key, ignored; remove it",
        ]
    );
}

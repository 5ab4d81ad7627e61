//! What loads, and what each default is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod problems;
mod tls;

use secrecy::ExposeSecret as _;

use super::*;
use crate::config::usable::{Executor, PullPolicy, Runner, Shell, Throttle};

fn env(name: &str) -> Option<String> {
    (name == "RUNNER_TOKEN").then(|| "glrt-from-env".to_owned())
}

fn checked(text: &str) -> Result<Loaded, Fatal> {
    check(Path::new("config.toml"), text, &env, &|_| {
        Err(io::ErrorKind::NotFound.into())
    })
}

/// An entry that works, with `more` lines right after its own keys.
fn entry(more: &str) -> String {
    format!(
        "[[runners]]\nname = \"x\"\nurl = \"https://gitlab.com\"\ntoken = \"t\"\nexecutor = \"docker-autoscaler\"\n\
         {more}\n[runners.docker]\n[runners.autoscaler]\nplugin = \"aws\"\n"
    )
}

fn only_runner(text: &str) -> Runner {
    let loaded = checked(text).unwrap();
    assert_eq!(loaded.config.runners.len(), 1, "{:?}", loaded.problems);
    loaded.config.runners[0].clone()
}

fn problems(text: &str) -> Vec<String> {
    match checked(text) {
        Ok(loaded) => loaded.problems,
        Err(Fatal::Unusable { problems }) => problems,
        Err(other) => panic!("{other}"),
    }
    .iter()
    .map(Problem::to_string)
    .collect()
}

#[test]
fn the_documented_configuration_has_no_problem() {
    let loaded = checked(include_str!("tests/documented.toml")).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.config.concurrent, 10);
    let runner = &loaded.config.runners[0];
    assert_eq!(runner.name, "instance autoscaler example");
    assert_eq!(runner.url.to_string(), "https://gitlab.com/");
    assert_eq!(runner.token.expose_secret(), "<token>");
    assert_eq!(runner.shell, Shell::Sh);
    assert_eq!(runner.docker.image.as_deref(), Some("busybox:latest"));
    let scaler = &runner.autoscaler;
    assert_eq!(scaler.plugin, "fleeting-plugin-aws");
    assert_eq!(
        (
            scaler.capacity_per_instance,
            scaler.max_use_count,
            scaler.max_instances
        ),
        (1, 1, Some(10))
    );
    assert_eq!(
        scaler.plugin_config.to_string(),
        r#"{"config_file":"/home/user/.aws/config","credentials_file":"/home/user/.aws/credentials","name":"my-docker-asg","profile":"default"}"#
    );
    assert_eq!(scaler.connector.username.as_deref(), Some("ec2-user"));
    assert!(scaler.connector.use_external_addr);
    assert_eq!(scaler.policies.len(), 1);
    assert_eq!(scaler.policies[0].idle_count, 5);
    assert_eq!(scaler.policies[0].idle_time, Duration::from_secs(1200));
    assert!(scaler.policies[0].preemptive_mode);
    assert_eq!(scaler.policies[0].periods, ["* * * * *"]);
}

#[test]
fn what_gitlab_runner_registered_has_no_problem() {
    let loaded = checked(include_str!("tests/registered.toml")).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.config.check_interval, Duration::from_secs(3));
    assert_eq!(loaded.config.shutdown_timeout, Duration::from_secs(30));
    let runner = &loaded.config.runners[0];
    assert_eq!(runner.id, Some(42));
    assert_eq!(runner.token.expose_secret(), "glrt-from-env");
    assert_eq!(runner.docker.resources.memory, Some(2 << 30));
    assert_eq!(runner.docker.resources.nano_cpus, Some(1_500_000_000));
    assert_eq!(runner.docker.shm_size, None);
    let both = [PullPolicy::Always, PullPolicy::IfNotPresent];
    assert_eq!(runner.docker.pull_policies, both);
    assert_eq!(runner.docker.allowed_pull_policies, both);
    let scaler = &runner.autoscaler;
    assert_eq!(scaler.update_interval, Duration::from_secs(60));
    assert_eq!(
        scaler.update_interval_when_expecting,
        Duration::from_secs(1)
    );
    assert_eq!(
        scaler.scale_throttle,
        Throttle {
            limit: None,
            burst: 20
        }
    );
    assert_eq!(scaler.connector.keepalive, Some(Duration::from_secs(30)));
    assert_eq!(scaler.connector.timeout, Duration::from_secs(300));
    assert_eq!(
        scaler.plugin_config,
        serde_json::json!({"name": "group", "zones": ["a", "b"], "ratio": 1.5, "nested": {"deep": true}})
    );
    assert!(!scaler.reservation_throttling, "written");
    assert!(!scaler.policies[0].preemptive_mode, "idle_count is 0");
    assert!(!scaler.policies[1].preemptive_mode, "written");
    assert!((scaler.policies[1].scale_factor - 2.0).abs() < f64::EPSILON);
}

#[test]
fn defaults_are_those_of_gitlab_runner() {
    let loaded = checked(&entry("")).unwrap();
    assert_eq!(loaded.problems, []);
    let config = &loaded.config;
    assert_eq!(config.concurrent, 1);
    assert_eq!(config.check_interval, Duration::from_secs(3));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(
        (
            &config.log_level,
            &config.log_format,
            &config.listen_address
        ),
        (&None, &None, &None)
    );
    let runner = &config.runners[0];
    assert_eq!(
        (runner.limit, runner.request_concurrency, runner.id),
        (0, 1, None)
    );
    assert_eq!(runner.output_limit, 4096 * 1024);
    assert_eq!(runner.unhealthy_requests_limit, 3);
    assert_eq!(runner.unhealthy_interval, Duration::from_secs(3600));
    assert_eq!(runner.job_status_final_update_retry_limit, 10);
    assert_eq!(
        (runner.builds_dir.as_str(), runner.cache_dir.as_str()),
        ("/builds", "/cache")
    );
    assert_eq!(runner.shell, Shell::Bash);
    assert!(runner.safe_directory_checkout && runner.custom_build_dir_enabled);
    assert_eq!(runner.clean_git_config, None);
    assert_eq!(runner.docker.pull_policies, [PullPolicy::Always]);
    assert_eq!(runner.docker.allowed_pull_policies, [PullPolicy::Always]);
    assert!(!runner.docker.privileged);
    let scaler = &runner.autoscaler;
    assert!(scaler.reservation_throttling);
    assert_eq!(scaler.plugin_config, serde_json::json!({}));
    assert_eq!(
        (
            scaler.capacity_per_instance,
            scaler.max_use_count,
            scaler.max_instances
        ),
        (1, 0, None)
    );
    assert_eq!(scaler.instance_acquire_timeout, Duration::from_secs(900));
    assert_eq!(scaler.update_interval, Duration::from_secs(60));
    assert_eq!(
        scaler.update_interval_when_expecting,
        Duration::from_secs(2)
    );
    assert_eq!(scaler.deletion_retry_interval, Duration::from_secs(60));
    assert_eq!(scaler.shutdown_deletion_interval, Duration::from_secs(10));
    assert_eq!(
        (scaler.shutdown_deletion_retries, scaler.failure_threshold),
        (3, 3)
    );
    assert_eq!(
        scaler.scale_throttle,
        Throttle {
            limit: Some(100.0),
            burst: 100
        }
    );
    assert_eq!(scaler.connector.timeout, Duration::from_secs(300));
    assert_eq!(scaler.policies, []);
    assert_eq!(scaler.state_storage.enabled, None);
}

#[test]
fn addresses_lose_what_the_api_does_not_want() {
    for (written, used) in [
        ("https://gitlab.com/", "https://gitlab.com/"),
        ("https://gitlab.com/ci", "https://gitlab.com/"),
        ("https://gitlab.com/ci/", "https://gitlab.com/"),
        ("https://a.example/gitlab/", "https://a.example/gitlab"),
    ] {
        let text = entry("").replace("https://gitlab.com", written);
        assert_eq!(only_runner(&text).url.to_string(), used, "{written}");
    }
}

#[test]
fn keys_match_without_regard_to_case_as_in_gitlab_runner() {
    let runner = only_runner(&entry("Limit = 7\nenvironment = [\"A=b=c\", \"B=\"]"));
    assert_eq!(runner.limit, 7);
    let variables = [
        ("A".to_owned(), "b=c".to_owned()),
        ("B".to_owned(), String::new()),
    ];
    assert_eq!(runner.environment, variables);
}

#[test]
fn each_histogram_has_its_own_buckets_or_those_of_all_operations() {
    let runner = only_runner(&format!(
        "{}instance_operation_time_buckets = [1, 2.5]\ninstance_deletion_time_buckets = [9]\n\
         instance_creation_time_buckets = []\n",
        entry("")
    ));
    let any = Some(vec![1.0, 2.5]);
    let buckets = runner.autoscaler.buckets;
    assert_eq!(buckets.deletion, Some(vec![9.0]));
    assert_eq!(
        [buckets.creation, buckets.is_running, buckets.readiness],
        [any.clone(), any.clone(), any]
    );
    assert_eq!(buckets.life, None, "a life is no operation");
    assert_eq!(only_runner(&entry("")).autoscaler.buckets.creation, None);
}

#[test]
fn the_managers_own_daemon_needs_no_autoscaler() {
    let runner = only_runner(
        "[[runners]]\nname = \"x\"\nurl = \"https://gitlab.com\"\ntoken = \"t\"\nexecutor = \"docker\"\n\
         [runners.docker]\nhost = \"tcp://localhost:2376\"\ntls_verify = true\ntls_cert_path = \"/certs\"\n",
    );
    assert_eq!(runner.executor, Executor::Docker);
    assert_eq!(runner.autoscaler.max_instances, Some(1));
    assert!(runner.docker.tls_verify);
    assert_eq!(runner.docker.tls_cert_path.as_deref(), Some("/certs"));
}

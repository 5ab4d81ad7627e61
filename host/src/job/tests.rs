//! What the tests of this module share: a runner, a payload, a work.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ManagerIdentity, Work};
use crate::config::server_tls::ServerTls;
use crate::config::usable::{
    Autoscaler, Connector, Docker, Executor, PullPolicy, Runner, Shell, StateStorage, Throttle,
};

/// A job with these parts over the usual ones.
pub(super) fn work(parts: &Value) -> Work {
    let mut payload = json!({
        "id": 7,
        "token": "job-token",
        "job_info": { "project_id": 3 },
        "git_info": {
            "repo_url": "https://gitlab-ci-token:job-token@git.example.com/group/project.git",
            "ref": "main", "sha": "0123456789abcdef", "refspecs": ["+refs/heads/*:refs/remotes/origin/*"],
        },
        "runner_info": { "timeout": 3600 },
        "image": { "name": "busybox" },
        "steps": [{ "name": "script", "script": ["echo hello"] }],
        "features": { "trace_sections": true },
    });
    for (key, value) in parts.as_object().unwrap() {
        payload[key] = value.clone();
    }
    Work {
        payload: Arc::new(serde_json::from_value(payload).unwrap()),
        runner: Arc::new(runner()),
        manager: Arc::new(ManagerIdentity {
            version: "0.1.0".into(),
            revision: "abc".into(),
            system_id: "s_1".into(),
            hostname: "manager".into(),
        }),
        server_files: Arc::default(),
        short_token: "tok123456".into(),
        concurrent_id: 4,
        project_concurrent_id: 2,
    }
}

pub(super) fn runner() -> Runner {
    Runner {
        index: 0,
        name: "lab".into(),
        url: "https://git.example.com".parse().unwrap(),
        server_tls: ServerTls::default(),
        id: Some(1),
        token: "glrt-tok123456789".to_owned().into(),
        limit: 0,
        request_concurrency: 1,
        output_limit: 4096 * 1024,
        unhealthy_requests_limit: 3,
        unhealthy_interval: Duration::from_secs(60),
        job_status_final_update_retry_limit: 10,
        builds_dir: "/builds".into(),
        cache_dir: "/cache".into(),
        clone_url: None,
        environment: vec![("OPERATOR".into(), "yes".into())],
        pre_get_sources_script: None,
        post_get_sources_script: None,
        pre_build_script: None,
        post_build_script: None,
        debug_trace_disabled: false,
        safe_directory_checkout: true,
        clean_git_config: None,
        proxy_exec: false,
        shell: Shell::Sh,
        feature_flags: BTreeMap::new(),
        prepare_timeout: None,
        get_sources_timeout: None,
        custom_build_dir_enabled: true,
        executor: Executor::DockerAutoscaler,
        docker: docker(),
        autoscaler: autoscaler(),
    }
}

fn docker() -> Docker {
    Docker {
        image: Some("busybox:latest".into()),
        pull_policies: vec![PullPolicy::Always],
        ..Docker::default()
    }
}

fn autoscaler() -> Autoscaler {
    let second = Duration::from_secs(1);
    Autoscaler {
        plugin: "aws".into(),
        plugin_config: Value::Null,
        capacity_per_instance: 1,
        max_use_count: 1,
        max_instances: Some(1),
        instance_ready_command: None,
        instance_acquire_timeout: second,
        update_interval: second,
        update_interval_when_expecting: second,
        deletion_retry_interval: second,
        shutdown_deletion_interval: second,
        shutdown_deletion_retries: 1,
        failure_threshold: 1,
        scale_throttle: Throttle {
            limit: None,
            burst: 1,
        },
        reservation_throttling: true,
        delete_instances_on_shutdown: false,
        log_internal_ip: false,
        log_external_ip: false,
        buckets: crate::config::usable::Buckets::default(),
        connector: Connector {
            os: None,
            arch: None,
            protocol: None,
            protocol_port: None,
            username: None,
            password: None,
            key_path: None,
            use_static_credentials: false,
            keepalive: None,
            timeout: second,
            use_external_addr: false,
        },
        policies: Vec::new(),
        state_storage: StateStorage::default(),
    }
}

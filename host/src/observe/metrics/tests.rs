//! The names are GitLab Runner's: dashboards and alerts hang on them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::observe::status::{StatusPage, serve};

fn labels() -> RunnerLabels {
    RunnerLabels {
        runner: "glrt-abc".to_owned(),
        runner_name: "x".to_owned(),
        system_id: "s_1".to_owned(),
    }
}

const PENDING: JobPlace<'static> = JobPlace {
    state: "pending",
    stage: "prepare_executor",
    executor_stage: "created",
};
const RUNNING: JobPlace<'static> = JobPlace {
    state: "running",
    stage: "step_script",
    executor_stage: "docker_run",
};

/// Everything that can be told, told once.
fn told() -> Metrics {
    let metrics = Metrics::new("1.2.3");
    let of = labels();
    metrics.set_concurrent(10);
    metrics.set_limit(&of, 3);
    metrics.requested(&RequestEnd {
        plugin: "aws",
        host: "other",
        method: "GET",
        status: "denied",
        sent: 0,
        received: 0,
        took: Duration::ZERO,
    });
    metrics.job_started(&of, RUNNING, Some(Duration::from_secs(2)));
    metrics.job_ended(
        &of,
        RUNNING,
        Duration::from_secs(90),
        Some("script_failure"),
    );
    metrics.job_started(&of, PENDING, None);
    metrics.logged("error");
    metrics.set_fleet(
        &of,
        &FleetCounts {
            max_instances: 10,
            instances: vec![("running", 4), ("deleting", 1)],
            tasks: vec![("idle", 3), ("acquired", 1)],
            desired_instances: 5,
            max_use_count: 1,
            capacity_per_instance: 1,
        },
    );
    metrics.declare_fleet(&of, &Buckets::default());
    metrics.missed(&of);
    metrics.group_called(&of, "update");
    metrics.decided(&of, "increase", "jobs_waiting");
    metrics.instances_operated(&of, "create", 3);
    metrics.slot_operated(&of, "reserve");
    metrics.scaled(&of, "up");
    for what in [
        InstanceTime::Creation,
        InstanceTime::IsRunning,
        InstanceTime::Readiness,
        InstanceTime::Deletion,
        InstanceTime::Life,
    ] {
        metrics.instance_took(&of, what, Duration::from_secs(7));
    }
    metrics
}

/// `GET /metrics` from the real server, over a real socket.
async fn scrape(metrics: Metrics) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_publish, page) = watch::channel(StatusPage::default());
    let stop = std::future::pending();
    tokio::spawn(serve(listener, Arc::new(metrics), page, stop));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && head.contains("text/plain; version=0.0.4"),
        "{head}"
    );
    body.to_owned()
}

/// The bounds of a histogram of the runner called `name`, as they were scraped.
fn bounds(text: &str, metric: &str, name: &str) -> Vec<f64> {
    let start = format!("{metric}_bucket{{");
    let of = format!("runner_name=\"{name}\"");
    let lines = text
        .lines()
        .filter(|line| line.starts_with(&start) && line.contains(&of));
    let bound = |line: &str| {
        let (_, rest) = line.split_once("le=\"").unwrap();
        let bound = rest.split_once('"').unwrap().0;
        assert!(
            line.contains("runner=\"") && line.contains("system_id=\""),
            "{line}"
        );
        match bound {
            "+Inf" => f64::INFINITY,
            number => number.parse().unwrap(),
        }
    };
    lines.map(bound).collect()
}

#[tokio::test]
async fn a_scrape_has_every_fleet_metric_before_anything_happened_with_each_runners_buckets() {
    let metrics = Metrics::new("1.2.3");
    let other = RunnerLabels {
        runner_name: "y".to_owned(),
        ..labels()
    };
    let chosen = Buckets {
        creation: Some(vec![1.0, 2.5]),
        is_running: Some(vec![3.0]),
        deletion: Some(vec![4.0]),
        readiness: Some(vec![5.0]),
        life: Some(vec![6.0]),
    };
    metrics.declare_fleet(&labels(), &chosen);
    metrics.declare_fleet(&other, &Buckets::default());
    metrics.set_fleet(&labels(), &FleetCounts::default());
    let of_fleet = FleetCounts {
        instances: vec![("requested", 1)],
        tasks: vec![("idle", 1)],
        ..FleetCounts::default()
    };
    metrics.set_fleet(&other, &of_fleet);
    metrics.instance_took(&labels(), InstanceTime::Creation, Duration::from_secs(2));
    let text = scrape(metrics).await;

    let histograms = [
        (
            "fleeting_provisioner_instance_creation_time_seconds",
            vec![1.0, 2.5],
        ),
        (
            "fleeting_provisioner_instance_is_running_time_seconds",
            vec![3.0],
        ),
        (
            "fleeting_provisioner_instance_deletion_time_seconds",
            vec![4.0],
        ),
        (
            "fleeting_taskscaler_task_instance_readiness_time_seconds",
            vec![5.0],
        ),
        (
            "fleeting_provisioner_instance_life_duration_seconds",
            vec![6.0],
        ),
    ];
    for (metric, mut own) in histograms {
        own.push(f64::INFINITY);
        assert_eq!(bounds(&text, metric, "x"), own, "{metric}");
        let usual: &[f64] = if metric.contains("life") {
            &INSTANCE_LIVES
        } else {
            &INSTANCE_TIMES
        };
        let mut usual = usual.to_vec();
        usual.push(f64::INFINITY);
        assert_eq!(bounds(&text, metric, "y"), usual, "{metric}");
        let kinds = text.matches(&format!("# TYPE {metric} histogram")).count();
        assert_eq!(kinds, 1, "{metric} is told of once, whatever the buckets");
    }
    let of = r#"runner="glrt-abc",runner_name="x",system_id="s_1""#;
    let counted =
        format!("fleeting_provisioner_instance_creation_time_seconds_bucket{{le=\"2.5\",{of}}} 1");
    assert!(text.contains(&counted), "{text}");
    for (metric, kind, label) in [
        (
            "fleeting_provisioner_instances",
            "gauge",
            r#",state="requested""#,
        ),
        ("fleeting_provisioner_max_instances", "gauge", ""),
        ("fleeting_provisioner_missed_updates_total", "counter", ""),
        (
            "fleeting_provisioner_instance_operations_total",
            "counter",
            r#",operation="create""#,
        ),
        (
            "fleeting_provisioner_instance_operations_total",
            "counter",
            r#",operation="delete""#,
        ),
        (
            "fleeting_provisioner_internal_operations_total",
            "counter",
            r#",operation="update""#,
        ),
        ("fleeting_taskscaler_tasks", "gauge", r#",state="idle""#),
        ("fleeting_taskscaler_desired_instances", "gauge", ""),
        (
            "fleeting_taskscaler_max_use_count_per_instance",
            "gauge",
            "",
        ),
        ("fleeting_taskscaler_max_tasks_per_instance", "gauge", ""),
        (
            "fleeting_taskscaler_task_operations_total",
            "counter",
            r#",operation="reserve_available_capacity_failure""#,
        ),
        (
            "fleeting_taskscaler_task_operations_total",
            "counter",
            r#",operation="reserve_iop_capacity_failure""#,
        ),
        (
            "fleeting_taskscaler_scale_operations_total",
            "counter",
            r#",operation="up""#,
        ),
        (
            "fleeting_taskscaler_scale_operations_total",
            "counter",
            r#",operation="down""#,
        ),
    ] {
        let of = of.replace("\"x\"", "\"y\"");
        let sample = format!("{metric}{{{of}{label}}} ");
        assert!(text.contains(&sample), "{sample} is not in\n{text}");
        let kinds = text.matches(&format!("# TYPE {metric} {kind}\n")).count();
        assert_eq!(kinds, 1, "{metric} is one {kind}");
    }
}

#[test]
fn names_and_kinds_are_those_of_gitlab_runner() {
    let text = told().render();
    let mut kinds: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    kinds.sort_unstable();
    insta::assert_snapshot!(kinds.join("\n"), @"
    fleeting_provisioner_instance_creation_time_seconds histogram
    fleeting_provisioner_instance_deletion_time_seconds histogram
    fleeting_provisioner_instance_is_running_time_seconds histogram
    fleeting_provisioner_instance_life_duration_seconds histogram
    fleeting_provisioner_instance_operations_total counter
    fleeting_provisioner_instances gauge
    fleeting_provisioner_internal_operations_total counter
    fleeting_provisioner_max_instances gauge
    fleeting_provisioner_missed_updates_total counter
    fleeting_taskscaler_desired_instances gauge
    fleeting_taskscaler_max_tasks_per_instance gauge
    fleeting_taskscaler_max_use_count_per_instance gauge
    fleeting_taskscaler_scale_operations_total counter
    fleeting_taskscaler_task_instance_readiness_time_seconds histogram
    fleeting_taskscaler_task_operations_total counter
    fleeting_taskscaler_tasks gauge
    fleetling_plugin_request_duration_seconds histogram
    fleetling_plugin_request_received_bytes_total counter
    fleetling_plugin_request_sent_bytes_total counter
    fleetling_plugin_requests_total counter
    fleetling_scaler_decisions_total counter
    gitlab_runner_concurrent gauge
    gitlab_runner_errors_total counter
    gitlab_runner_failed_jobs_total counter
    gitlab_runner_job_duration_seconds histogram
    gitlab_runner_job_queue_duration_seconds histogram
    gitlab_runner_jobs gauge
    gitlab_runner_jobs_total counter
    gitlab_runner_limit gauge
    gitlab_runner_version_info gauge
    ");
}

#[test]
fn values_carry_the_runners_labels() {
    let text = told().render();
    let of = r#"runner="glrt-abc",runner_name="x",system_id="s_1""#;
    for line in [
        "gitlab_runner_concurrent 10".to_owned(),
        format!("gitlab_runner_limit{{{of}}} 3"),
        format!("gitlab_runner_jobs_total{{{of}}} 2"),
        format!(r#"gitlab_runner_jobs{{{of},state="pending",stage="prepare_executor",executor_stage="created"}} 1"#),
        format!(r#"gitlab_runner_jobs{{{of},state="running",stage="step_script",executor_stage="docker_run"}} 0"#),
        format!(r#"gitlab_runner_job_duration_seconds_bucket{{le="300.0",{of},mode="traditional"}} 1"#),
        r#"gitlab_runner_failed_jobs_total{runner="glrt-abc",runner_name="x",failure_reason="script_failure",mode="traditional"} 1"#.to_owned(),
        format!(r#"fleeting_provisioner_instances{{{of},state="running"}} 4"#),
        format!(r#"fleeting_provisioner_instance_operations_total{{{of},operation="create"}} 3"#),
        format!(r#"fleeting_taskscaler_tasks{{{of},state="idle"}} 3"#),
        format!(r#"fleeting_taskscaler_scale_operations_total{{{of},operation="up"}} 1"#),
        format!("fleeting_taskscaler_desired_instances{{{of}}} 5"),
        format!("fleeting_provisioner_missed_updates_total{{{of}}} 1"),
        format!(r#"fleeting_provisioner_internal_operations_total{{{of},operation="update"}} 1"#),
        format!(r#"fleetling_scaler_decisions_total{{{of},decision="increase",reason="jobs_waiting"}} 1"#),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(
        text.contains(r#"gitlab_runner_version_info{name="fleetling",version="1.2.3""#),
        "{text}"
    );
    assert!(
        !text.contains("# EOF") && text.contains("# HELP gitlab_runner_jobs_total Jobs taken"),
        "{text}"
    );
}

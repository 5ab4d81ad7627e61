//! The names are GitLab Runner's: dashboards and alerts hang on them.

use super::*;

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
    fleeting_provisioner_max_instances gauge
    fleeting_taskscaler_desired_instances gauge
    fleeting_taskscaler_max_tasks_per_instance gauge
    fleeting_taskscaler_max_use_count_per_instance gauge
    fleeting_taskscaler_scale_operations_total counter
    fleeting_taskscaler_task_instance_readiness_time_seconds histogram
    fleeting_taskscaler_task_operations_total counter
    fleeting_taskscaler_tasks gauge
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

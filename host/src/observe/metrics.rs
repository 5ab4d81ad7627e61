//! Numbers for Prometheus, under the names that GitLab Runner, fleeting and taskscaler give them.
//!
//! Counters and histograms are told as things happen; gauges are set from what the owner of a state publishes. Nothing
//! here decides anything.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::usable::Buckets;

mod requests;
mod times;

pub use requests::RequestEnd;

use requests::Requests;
use times::Times;

/// What [`Metrics::render`] answers.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const JOB_DURATIONS: [f64; 10] = [
    30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10800.0, 18000.0, 36000.0,
];
const QUEUE_DURATIONS: [f64; 10] = [
    1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0,
];
const INSTANCE_TIMES: [f64; 9] = [1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const INSTANCE_LIVES: [f64; 9] = [
    60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0,
];
/// Jobs as GitLab Runner ran them before steps.
const MODE: (&str, &str) = ("mode", "traditional");

type Labels = Vec<(&'static str, String)>;

/// The labels of one `[[runners]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerLabels {
    /// The token's first characters, as GitLab shows them.
    pub runner: String,
    pub runner_name: String,
    pub system_id: String,
}

impl RunnerLabels {
    fn set(&self) -> Labels {
        vec![
            ("runner", self.runner.clone()),
            ("runner_name", self.runner_name.clone()),
            ("system_id", self.system_id.clone()),
        ]
    }

    fn with(&self, more: &[(&'static str, &str)]) -> Labels {
        let mut labels = self.set();
        labels.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        labels
    }
}

/// Where a job stands: GitLab Runner's words for the labels of `gitlab_runner_jobs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobPlace<'a> {
    pub state: &'a str,
    pub stage: &'a str,
    pub executor_stage: &'a str,
}

impl<'a> JobPlace<'a> {
    fn labels(&self) -> [(&'static str, &'a str); 3] {
        [
            ("state", self.state),
            ("stage", self.stage),
            ("executor_stage", self.executor_stage),
        ]
    }
}

/// How an instance group stands; all of it replaces what was told before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// 0 is unlimited.
    pub max_instances: u32,
    /// requested: asked for, not listed; creating: listed, not running; pending: running, not ready; running; deleting.
    pub instances: Vec<(&'static str, u32)>,
    /// idle, pending, acquired, reserved, unavailable, unhealthy.
    pub tasks: Vec<(&'static str, u32)>,
    /// Instances that ought to be there.
    pub desired_instances: u32,
    pub max_use_count: u32,
    pub capacity_per_instance: u32,
}

/// Moments of an instance's life that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceTime {
    /// From the request until it is first listed.
    Creation,
    /// From the request until it is listed as running.
    IsRunning,
    /// From running until its slots are open.
    Readiness,
    /// From the call to delete until it is gone.
    Deletion,
    /// From first listed until gone.
    Life,
}

/// Every metric, and the registry that knows them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    concurrent: Gauge,
    limit: Family<Labels, Gauge>,
    jobs: Family<Labels, Gauge>,
    jobs_total: Family<Labels, Counter>,
    job_duration: Times,
    job_queue_duration: Times,
    failed_jobs: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    max_instances: Family<Labels, Gauge>,
    instances: Family<Labels, Gauge>,
    missed_updates: Family<Labels, Counter>,
    instance_operations: Family<Labels, Counter>,
    internal_operations: Family<Labels, Counter>,
    creation_time: Times,
    is_running_time: Times,
    deletion_time: Times,
    life_duration: Times,
    tasks: Family<Labels, Gauge>,
    desired_instances: Family<Labels, Gauge>,
    max_use_count: Family<Labels, Gauge>,
    max_tasks: Family<Labels, Gauge>,
    task_operations: Family<Labels, Counter>,
    scale_operations: Family<Labels, Counter>,
    readiness_time: Times,
    decisions: Family<Labels, Counter>,
    requests: Requests,
}

impl Metrics {
    /// `version` is the manager's own.
    pub fn new(version: &str) -> Self {
        let instance_times = || Times::new(&INSTANCE_TIMES);
        let mut metrics = Self {
            registry: Registry::default(),
            concurrent: Gauge::default(),
            limit: Family::default(),
            jobs: Family::default(),
            jobs_total: Family::default(),
            job_duration: Times::new(&JOB_DURATIONS),
            job_queue_duration: Times::new(&QUEUE_DURATIONS),
            failed_jobs: Family::default(),
            errors: Family::default(),
            max_instances: Family::default(),
            instances: Family::default(),
            missed_updates: Family::default(),
            instance_operations: Family::default(),
            internal_operations: Family::default(),
            creation_time: instance_times(),
            is_running_time: instance_times(),
            deletion_time: instance_times(),
            life_duration: Times::new(&INSTANCE_LIVES),
            tasks: Family::default(),
            desired_instances: Family::default(),
            max_use_count: Family::default(),
            max_tasks: Family::default(),
            task_operations: Family::default(),
            scale_operations: Family::default(),
            readiness_time: instance_times(),
            decisions: Family::default(),
            requests: Requests::default(),
        };
        metrics.register(version);
        metrics
    }

    /// Counters get `_total` from the encoding.
    fn register(&mut self, version: &str) {
        let about: Family<Labels, Gauge> = Family::default();
        about
            .get_or_create(&vec![
                ("name", "fleetling".to_owned()),
                ("version", version.to_owned()),
                ("os", std::env::consts::OS.to_owned()),
                ("architecture", std::env::consts::ARCH.to_owned()),
            ])
            .set(1);

        let to = self.registry.sub_registry_with_prefix("gitlab_runner");
        to.register("version_info", "The manager's version", about);
        to.register(
            "concurrent",
            "Jobs at once, all runners",
            self.concurrent.clone(),
        );
        to.register(
            "limit",
            "Jobs at once of a runner, 0 for no limit",
            self.limit.clone(),
        );
        to.register("jobs", "Jobs now", self.jobs.clone());
        to.register("jobs", "Jobs taken", self.jobs_total.clone());
        to.register(
            "job_duration_seconds",
            "How long jobs ran",
            self.job_duration.clone(),
        );
        to.register(
            "job_queue_duration_seconds",
            "How long jobs waited",
            self.job_queue_duration.clone(),
        );
        to.register(
            "failed_jobs",
            "Jobs that failed, and why",
            self.failed_jobs.clone(),
        );
        to.register("errors", "Warnings and errors logged", self.errors.clone());

        let to = self
            .registry
            .sub_registry_with_prefix("fleeting_provisioner");
        to.register(
            "max_instances",
            "Most instances, 0 for no limit",
            self.max_instances.clone(),
        );
        to.register("instances", "Instances by state", self.instances.clone());
        to.register(
            "missed_updates",
            "Times that a reading of the group missed an instance",
            self.missed_updates.clone(),
        );
        to.register(
            "instance_operations",
            "Instances asked for and deleted",
            self.instance_operations.clone(),
        );
        to.register(
            "internal_operations",
            "Calls of the group: update, increase, decrease",
            self.internal_operations.clone(),
        );
        to.register(
            "instance_creation_time_seconds",
            "Requested until listed",
            self.creation_time.clone(),
        );
        to.register(
            "instance_is_running_time_seconds",
            "Requested until running",
            self.is_running_time.clone(),
        );
        to.register(
            "instance_deletion_time_seconds",
            "Deleted until gone",
            self.deletion_time.clone(),
        );
        to.register(
            "instance_life_duration_seconds",
            "Listed until gone",
            self.life_duration.clone(),
        );

        let to = self
            .registry
            .sub_registry_with_prefix("fleeting_taskscaler");
        to.register("tasks", "Slots by state", self.tasks.clone());
        to.register(
            "desired_instances",
            "Instances that ought to be there",
            self.desired_instances.clone(),
        );
        to.register(
            "max_use_count_per_instance",
            "Jobs an instance may run, 0 for no limit",
            self.max_use_count.clone(),
        );
        to.register(
            "max_tasks_per_instance",
            "Jobs at once on an instance",
            self.max_tasks.clone(),
        );
        to.register(
            "task_operations",
            "Slots reserved, acquired, released",
            self.task_operations.clone(),
        );
        to.register(
            "scale_operations",
            "Decisions to scale",
            self.scale_operations.clone(),
        );
        to.register(
            "task_instance_readiness_time_seconds",
            "Running until ready",
            self.readiness_time.clone(),
        );

        let to = self.registry.sub_registry_with_prefix("fleetling_scaler");
        to.register(
            "decisions",
            "Effective decisions by reason; one that only goes on counts once",
            self.decisions.clone(),
        );
        let to = self.registry.sub_registry_with_prefix("fleetling_plugin");
        self.requests.register(to);
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        classic(&text)
    }

    pub fn set_concurrent(&self, jobs: u32) {
        self.concurrent.set(jobs.into());
    }

    pub fn set_limit(&self, of: &RunnerLabels, jobs: u32) {
        self.limit.get_or_create(&of.set()).set(jobs.into());
    }

    /// A job was taken after it had `waited` in GitLab's queue.
    pub fn job_started(&self, of: &RunnerLabels, at: JobPlace<'_>, waited: Option<Duration>) {
        self.jobs_total.get_or_create(&of.set()).inc();
        self.jobs.get_or_create(&of.with(&at.labels())).inc();
        if let Some(waited) = waited {
            self.job_queue_duration.observe(of.set(), waited);
        }
    }

    /// A job ended where it stood last; `failure` is GitLab's word for the reason.
    pub fn job_ended(
        &self,
        of: &RunnerLabels,
        at: JobPlace<'_>,
        ran: Duration,
        failure: Option<&str>,
    ) {
        self.jobs.get_or_create(&of.with(&at.labels())).dec();
        self.job_duration.observe(of.with(&[MODE]), ran);
        if let Some(reason) = failure {
            let mut labels = of.with(&[("failure_reason", reason), MODE]);
            labels.retain(|(key, _)| *key != "system_id");
            self.failed_jobs.get_or_create(&labels).inc();
        }
    }

    /// Something was logged at `level`: warning, error, fatal.
    pub fn logged(&self, level: &'static str) {
        self.errors
            .get_or_create(&vec![("level", level.to_owned())])
            .inc();
    }

    pub fn set_fleet(&self, of: &RunnerLabels, counts: &FleetCounts) {
        let set = of.set();
        self.max_instances
            .get_or_create(&set)
            .set(counts.max_instances.into());
        self.desired_instances
            .get_or_create(&set)
            .set(counts.desired_instances.into());
        self.max_use_count
            .get_or_create(&set)
            .set(counts.max_use_count.into());
        self.max_tasks
            .get_or_create(&set)
            .set(counts.capacity_per_instance.into());
        for (state, count) in &counts.instances {
            let labels = of.with(&[("state", state)]);
            self.instances.get_or_create(&labels).set((*count).into());
        }
        for (state, count) in &counts.tasks {
            let labels = of.with(&[("state", state)]);
            self.tasks.get_or_create(&labels).set((*count).into());
        }
    }

    /// `operation`: create, delete.
    pub fn instances_operated(&self, of: &RunnerLabels, operation: &str, instances: u32) {
        let labels = of.with(&[("operation", operation)]);
        self.instance_operations
            .get_or_create(&labels)
            .inc_by(instances.into());
    }

    /// `operation`: reserve, unreserve, acquire, release, reserve_available_capacity_failure, ….
    pub fn slot_operated(&self, of: &RunnerLabels, operation: &str) {
        let labels = of.with(&[("operation", operation)]);
        self.task_operations.get_or_create(&labels).inc();
    }

    /// `direction`: up, down.
    pub fn scaled(&self, of: &RunnerLabels, direction: &str) {
        let labels = of.with(&[("operation", direction)]);
        self.scale_operations.get_or_create(&labels).inc();
    }

    pub fn instance_took(&self, of: &RunnerLabels, what: InstanceTime, time: Duration) {
        let family = match what {
            InstanceTime::Creation => &self.creation_time,
            InstanceTime::IsRunning => &self.is_running_time,
            InstanceTime::Readiness => &self.readiness_time,
            InstanceTime::Deletion => &self.deletion_time,
            InstanceTime::Life => &self.life_duration,
        };
        family.observe(of.set(), time);
    }

    /// Every series of a runner's fleet shows from now on, with the buckets that its operator chose.
    pub fn declare_fleet(&self, of: &RunnerLabels, buckets: &Buckets) {
        for (times, bounds) in [
            (&self.creation_time, &buckets.creation),
            (&self.is_running_time, &buckets.is_running),
            (&self.deletion_time, &buckets.deletion),
            (&self.readiness_time, &buckets.readiness),
            (&self.life_duration, &buckets.life),
        ] {
            times.choose(of.set(), bounds.as_deref());
        }
        self.missed_updates.get_or_create(&of.set()).inc_by(0);
        for (family, operations) in [
            (&self.instance_operations, &["create", "delete"][..]),
            (
                &self.internal_operations,
                &["update", "increase", "decrease"],
            ),
            (&self.scale_operations, &["up", "down"]),
            (
                &self.task_operations,
                &[
                    "reserve",
                    "unreserve",
                    "acquire",
                    "release",
                    "reserve_available_capacity_failure",
                    "reserve_iop_capacity_failure",
                ],
            ),
        ] {
            for operation in operations {
                let labels = of.with(&[("operation", operation)]);
                family.get_or_create(&labels).inc_by(0);
            }
        }
    }

    /// A reading of the group did not list an instance.
    pub fn missed(&self, of: &RunnerLabels) {
        self.missed_updates.get_or_create(&of.set()).inc();
    }

    /// `operation`: update, increase, decrease.
    pub fn group_called(&self, of: &RunnerLabels, operation: &str) {
        let labels = of.with(&[("operation", operation)]);
        self.internal_operations.get_or_create(&labels).inc();
    }

    /// A plugin's request is over.
    pub fn requested(&self, end: &RequestEnd<'_>) {
        self.requests.ended(end);
    }

    /// `decision`: increase, remove, refuse, hold.
    pub fn decided(&self, of: &RunnerLabels, decision: &str, reason: &str) {
        let labels = of.with(&[("decision", decision), ("reason", reason)]);
        self.decisions.get_or_create(&labels).inc();
    }
}

/// From OpenMetrics to the older text format, which GitLab Runner serves. There a counter's family is called as its
/// samples are, with `_total`; without that, `gitlab_runner_jobs` would be two families.
fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            out.push_str(&format!(
                "# HELP {name}{total} {help}\n# TYPE {name}{total} {kind}\n"
            ));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests;

//! From what happens to what operators see: fleet events and job ends become metrics and rows of the status page.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracing::{error, info};

use super::runner::Serving;
use super::shutdown::Shutdown;
use crate::config::usable::{Config, Runner};
use crate::coordinator::outcome::Outcome;
use crate::fleet::group::InstanceId;
use crate::observe::metrics::{FleetCounts, InstanceTime, JobPlace, Metrics, RunnerLabels};
use crate::observe::status::{
    self, GroupStatus, JobStatus, ProcessState, RunnerStatus, StatusPage,
};
use crate::scaler::{FleetEvent, Status};

/// GitLab Runner's words; the stages within a job are told by its log.
const RUNNING: JobPlace<'static> = JobPlace {
    state: "running",
    stage: "",
    executor_stage: "",
};

/// What is published of this process; written by every runner's task, read by the status server.
#[derive(Clone)]
pub(super) struct Monitor {
    metrics: Arc<Metrics>,
    page: watch::Sender<StatusPage>,
}

/// The moments of one instance's life that are timed.
struct Life {
    requested: Option<Instant>,
    listed: Instant,
    running: Option<Instant>,
    removing: Option<Instant>,
}

impl Monitor {
    pub(super) fn new(metrics: Arc<Metrics>, config: &Config) -> Self {
        metrics.set_concurrent(config.concurrent);
        let page = StatusPage {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: ProcessState::Starting,
            runners: config.runners.iter().map(row).collect(),
            groups: Vec::new(),
            jobs: Vec::new(),
        };
        Self {
            metrics,
            page: watch::Sender::new(page),
        }
    }

    /// Serves metrics and status at `address` until the process stops.
    ///
    /// # Errors
    /// If the address is none, or cannot be listened at.
    pub(super) async fn serve(&self, address: &str, shutdown: &Shutdown) -> anyhow::Result<()> {
        let at = status::listen_at(address)?;
        let listener = tokio::net::TcpListener::bind(&at).await.with_context(|| {
            format!("listen_address {address} cannot be listened at; next: choose a free one")
        })?;
        info!(address = %listener.local_addr()?, "metrics and status are served");
        let stop = shutdown.abandoning().clone().cancelled_owned();
        let serving = status::serve(listener, self.metrics.clone(), self.page.subscribe(), stop);
        tokio::spawn(async move {
            if let Err(problem) = serving.await {
                error!(%problem, "metrics and status are not served any more");
            }
        });
        let (page, shutdown) = (self.page.clone(), shutdown.clone());
        tokio::spawn(async move {
            shutdown.draining().cancelled().await;
            page.send_modify(|page| page.state = ProcessState::GracefulShutdown);
            shutdown.stopping().cancelled().await;
            page.send_modify(|page| page.state = ProcessState::ForcefulShutdown);
        });
        Ok(())
    }

    pub(super) fn job_started(&self, serving: &Serving, job: u64, waited: Option<f64>) {
        let waited = waited.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.metrics.job_started(&labels(serving), RUNNING, waited);
        let row = JobStatus {
            id: job,
            runner: serving.runner.name.clone(),
        };
        self.page.send_modify(|page| page.jobs.push(row));
    }

    pub(super) fn job_ended(&self, serving: &Serving, job: u64, ran: Duration, outcome: &Outcome) {
        let failure = match outcome {
            Outcome::Failed { reason, .. } => Some(reason.to_string()),
            Outcome::Success | Outcome::Abandoned => None,
        };
        let of = labels(serving);
        self.metrics
            .job_ended(&of, RUNNING, ran, failure.as_deref());
        self.page
            .send_modify(|page| page.jobs.retain(|row| row.id != job));
    }

    /// A runner takes jobs.
    pub(super) fn runner_started(&self) {
        self.page.send_if_modified(|page| {
            let first = page.state == ProcessState::Starting;
            if first {
                page.state = ProcessState::Running;
            }
            first
        });
    }

    /// Shows what was changed for the whole process.
    pub(super) fn configured(&self, config: &Config) {
        self.metrics.set_concurrent(config.concurrent);
        let runners = config.runners.iter().map(row).collect();
        self.page.send_modify(|page| page.runners = runners);
    }

    /// Follows one runner's fleet until its scaler ends.
    pub(super) async fn follow(self, now: watch::Receiver<Arc<Serving>>) {
        let (mut status, mut events) = {
            let serving = now.borrow();
            (serving.scaler.status(), serving.scaler.events())
        };
        let mut lives = Lives::default();
        loop {
            let serving = now.borrow().clone();
            let of = labels(&serving);
            self.metrics.set_limit(&of, serving.runner.limit);
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = status.borrow_and_update().clone();
                    self.show(&serving, &of, &now);
                }
                event = events.recv() => match event {
                    Ok(event) => {
                        if let FleetEvent::Gone { instance } = &event {
                            serving.connector.forget(instance);
                        }
                        lives.tell(&self.metrics, &of, event);
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn show(&self, serving: &Serving, of: &RunnerLabels, now: &Status) {
        let autoscaler = &serving.runner.autoscaler;
        let instances = &now.instances;
        let booting = instances.listed + instances.inspecting + instances.preparing;
        self.metrics.set_fleet(
            of,
            &FleetCounts {
                max_instances: now.max.unwrap_or(0),
                instances: vec![
                    ("requested", instances.coming),
                    ("creating", booting),
                    (
                        "running",
                        instances.ready + instances.in_use + instances.draining,
                    ),
                    ("deleting", instances.removing),
                ],
                tasks: vec![
                    ("idle", now.available),
                    ("pending", now.waiting),
                    ("acquired", now.in_use),
                    ("reserved", now.reserved),
                ],
                desired_instances: now.requested,
                max_use_count: autoscaler.max_use_count,
                capacity_per_instance: autoscaler.capacity_per_instance,
            },
        );
        let row = GroupStatus {
            id: now.group_id().unwrap_or_default().to_owned(),
            runner: serving.runner.name.clone(),
            plugin: autoscaler.plugin.clone(),
            wanted: now.wanted,
            max_instances: now.max,
            last_decision: now.last_decision.clone(),
            last_error: now.problem.clone(),
        };
        self.page.send_modify(|page| {
            page.groups.retain(|group| group.runner != row.runner);
            page.groups.push(row);
        });
    }
}

/// Instances that live, and requests that were not seen as instances yet.
#[derive(Default)]
struct Lives {
    requested: VecDeque<Instant>,
    instances: HashMap<InstanceId, Life>,
}

impl Lives {
    fn tell(&mut self, metrics: &Metrics, of: &RunnerLabels, event: FleetEvent) {
        let now = Instant::now();
        let took = |what, since: Option<Instant>| {
            if let Some(since) = since {
                metrics.instance_took(of, what, now - since);
            }
        };
        match event {
            FleetEvent::Requested { count } => {
                metrics.instances_operated(of, "create", count);
                metrics.scaled(of, "up");
                self.requested.extend((0..count).map(|_| now));
            }
            FleetEvent::Listed { instance } => {
                let requested = self.requested.pop_front();
                took(InstanceTime::Creation, requested);
                let life = Life {
                    requested,
                    listed: now,
                    running: None,
                    removing: None,
                };
                self.instances.insert(instance, life);
            }
            FleetEvent::Running { instance } => {
                if let Some(life) = self.instances.get_mut(&instance) {
                    life.running = Some(now);
                    took(InstanceTime::IsRunning, life.requested);
                }
            }
            FleetEvent::Ready { instance, .. } => {
                let running = self.instances.get(&instance).and_then(|life| life.running);
                took(InstanceTime::Readiness, running);
            }
            FleetEvent::Acquired { .. } => metrics.slot_operated(of, "acquire"),
            FleetEvent::Released { .. } => metrics.slot_operated(of, "release"),
            FleetEvent::Removing { instance, .. } => {
                metrics.instances_operated(of, "delete", 1);
                metrics.scaled(of, "down");
                if let Some(life) = self.instances.get_mut(&instance) {
                    life.removing = Some(now);
                }
            }
            FleetEvent::Gone { instance } => {
                if let Some(life) = self.instances.remove(&instance) {
                    took(InstanceTime::Deletion, life.removing);
                    took(InstanceTime::Life, Some(life.listed));
                }
            }
        }
    }
}

fn row(runner: &Runner) -> RunnerStatus {
    RunnerStatus {
        name: runner.name.clone(),
        url: runner.url.to_string(),
    }
}

fn labels(serving: &Serving) -> RunnerLabels {
    RunnerLabels {
        runner: serving.short_token.clone(),
        runner_name: serving.runner.name.clone(),
        system_id: serving.process.system_id.to_string(),
    }
}

//! From what happens to what operators see: fleet events and job ends become metrics, entries of the journal and rows
//! of the status page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::lives::Lives;
use super::plugin_row::PluginRow;
use super::run::Process;
use super::runner::Serving;
use super::shutdown::Shutdown;
use super::teller::Teller;
use crate::config::usable::{Config, Runner};
use crate::coordinator::outcome::Outcome;
use crate::docker::readiness::Readiness;
use crate::fleet::group::InstanceId;
use crate::observe::journal::{Entry, Event, Recorder};
use crate::observe::metrics::{JobPlace, Metrics, RunnerLabels};
use crate::observe::status::{self, JobStatus, ProcessState, RunnerStatus, StatusPage};
use crate::plugin::platform::PluginEntry;
use crate::scaler::{Acquisition, FleetEvent};
use crate::store::audit::Audit;

/// GitLab Runner's words; the stages within a job are told by its log.
const RUNNING: JobPlace<'static> = JobPlace {
    state: "running",
    stage: "",
    executor_stage: "",
};

/// How long a stop waits for the journal.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// What is published of this process; written by every runner's task, read by the status server.
#[derive(Clone)]
pub(super) struct Monitor {
    pub(super) metrics: Arc<Metrics>,
    pub(super) page: watch::Sender<StatusPage>,
    pub(super) recorder: Recorder,
    pub(super) audit: Audit,
    pub(super) plugin_rows: Arc<AtomicU64>,
}

impl Monitor {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        config: &Config,
        recorder: Recorder,
        audit: Audit,
    ) -> Self {
        metrics.set_concurrent(config.concurrent);
        let page = StatusPage {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Timestamp::now(),
            runners: config.runners.iter().map(row).collect(),
            ..StatusPage::default()
        };
        let version = page.version.clone();
        recorder.record(Entry::new(
            page.started_at,
            "",
            None,
            Event::ManagerStarted { version },
        ));
        Self {
            metrics,
            page: watch::Sender::new(page),
            recorder,
            audit,
            plugin_rows: Arc::default(),
        }
    }

    /// For one runner's task.
    pub(super) fn plugin_row(&self) -> PluginRow {
        let number = self.plugin_rows.fetch_add(1, Ordering::Relaxed);
        PluginRow::new(self.page.clone(), number)
    }

    /// The journal's last entry, and everything before it written.
    pub(super) async fn close(&self) {
        let stopped = Entry::new(Timestamp::now(), "", None, Event::ManagerStopped);
        self.recorder.record(stopped);
        if tokio::time::timeout(FLUSH_PATIENCE, self.recorder.flush())
            .await
            .is_err()
        {
            warn!("journal was not written to its end: the disk is too slow");
        }
        let audit = self.audit.clone();
        let flushed = tokio::task::spawn_blocking(move || audit.flush());
        if tokio::time::timeout(FLUSH_PATIENCE, flushed).await.is_err() {
            warn!("audit log was not written to its end: the disk is too slow");
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

    /// GitLab gave it, after it had been in the queue for so many seconds.
    pub(super) fn job_received(&self, serving: &Serving, job: u64, queued: Option<f64>) {
        let queued_ms = seconds(queued).map(millis);
        self.of(serving)
            .record(Timestamp::now(), Event::JobReceived { job, queued_ms });
    }

    pub(super) fn job_not_taken(&self, serving: &Serving, job: u64, why: &str) {
        let why = why.to_owned();
        self.of(serving)
            .record(Timestamp::now(), Event::JobNotTaken { job, why });
    }

    pub(super) fn job_started(&self, serving: &Serving, job: u64, queued: Option<f64>) {
        self.metrics
            .job_started(&labels(serving), RUNNING, seconds(queued));
        let row = JobStatus {
            id: job,
            runner: title(&serving.process, &serving.runner),
            since: Timestamp::now(),
            instance: None,
        };
        self.page.send_modify(|page| page.jobs.push(row));
    }

    pub(super) fn job_acquired(
        &self,
        serving: &Serving,
        job: u64,
        place: &Acquisition<Readiness>,
        waited: Duration,
    ) {
        let to = self.of(serving);
        let instance = place.instance().to_string();
        self.page.send_modify(|page| {
            let of = |row: &&mut JobStatus| row.id == job && row.runner == to.runner;
            if let Some(row) = page.jobs.iter_mut().find(of) {
                row.instance = Some(instance.clone());
            }
        });
        to.show(place.instance(), |row| row.jobs.push(job));
        let event = Event::JobAcquired {
            job,
            instance,
            slot: place.slot(),
            waited_ms: millis(waited),
        };
        to.record(Timestamp::now(), event);
    }

    pub(super) fn job_not_served(&self, serving: &Serving, job: u64, why: &str, waited: Duration) {
        let event = Event::JobNotServed {
            job,
            why: why.to_owned(),
            waited_ms: millis(waited),
        };
        self.of(serving).record(Timestamp::now(), event);
    }

    /// What it said of its end may quote its variables, and stays out of the journal.
    pub(super) fn job_ended(&self, serving: &Serving, job: u64, ran: Duration, outcome: &Outcome) {
        let (word, reason, exit_code) = match outcome {
            Outcome::Success => ("success", None, None),
            Outcome::Failed {
                reason, exit_code, ..
            } => ("failed", Some(reason.to_string()), *exit_code),
            Outcome::Abandoned => ("abandoned", None, None),
        };
        let to = self.of(serving);
        self.metrics
            .job_ended(&to.labels, RUNNING, ran, reason.as_deref());
        self.page.send_modify(|page| {
            page.jobs
                .retain(|row| row.id != job || row.runner != to.runner);
        });
        let event = Event::JobEnded {
            job,
            outcome: word.to_owned(),
            reason,
            exit_code,
            ran_ms: millis(ran),
        };
        to.record(Timestamp::now(), event);
    }

    /// It gave its slot back; `retired` says why its instance is not used again, if so.
    pub(super) fn job_released(
        &self,
        serving: &Serving,
        job: u64,
        instance: &InstanceId,
        retired: Option<&str>,
    ) {
        let to = self.of(serving);
        to.show(instance, |row| row.jobs.retain(|held| *held != job));
        let event = Event::JobReleased {
            job,
            instance: instance.to_string(),
            retired: retired.map(str::to_owned),
        };
        to.record(Timestamp::now(), event);
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

    fn of(&self, serving: &Serving) -> Teller {
        let group = serving
            .scaler
            .status()
            .borrow()
            .group_id()
            .map(str::to_owned);
        Teller {
            provider: serving.plugin.as_ref().map(|p| p.provider.clone()),
            monitor: self.clone(),
            labels: labels(serving),
            runner: title(&serving.process, &serving.runner),
            group,
        }
    }

    /// Follows one runner's fleet until its scaler ends.
    pub(super) async fn follow(self, now: watch::Receiver<Arc<Serving>>) {
        let mut serving = now.borrow().clone();
        let (mut status, mut events) = (serving.scaler.status(), serving.scaler.events());
        let mut lives = Lives::default();
        let mut to = self.of(&serving);
        let mut entry = serving.plugin.as_ref().map(|p| p.provider.entry());
        entry.iter_mut().for_each(watch::Receiver::mark_changed);
        to.declare(&serving);
        loop {
            let current = now.borrow().clone();
            if !Arc::ptr_eq(&current, &serving) {
                serving = current;
                to = self.of(&serving);
                to.declare(&serving);
                entry.iter_mut().for_each(watch::Receiver::mark_changed);
            }
            tokio::select! {
                Some(shown) = changed(&mut entry) => {
                    if let Some(plugin) = &serving.plugin {
                        plugin.row.runs(&to.runner, &shown);
                    }
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = status.borrow_and_update().clone();
                    to.group = now.group_id().map(str::to_owned);
                    to.publish(&serving, &now);
                }
                event = events.recv() => match event {
                    Ok(event) => {
                        if let FleetEvent::Gone { instance } = &event {
                            serving.way.forget(instance);
                        }
                        lives.tell(&to, event);
                    }
                    Err(RecvError::Lagged(entries)) => {
                        warn!(runner = to.runner, entries, "events of the fleet were missed; metrics and journal lack them");
                        to.record(Timestamp::now(), Event::Lost { entries });
                    }
                    Err(RecvError::Closed) => break,
                },
            }
        }
        to.ended();
    }
}

/// What is said of the plugin next; never, where there is none.
async fn changed(entry: &mut Option<watch::Receiver<PluginEntry>>) -> Option<PluginEntry> {
    let Some(entry) = entry else {
        return std::future::pending().await;
    };
    entry.changed().await.ok()?;
    Some(entry.borrow_and_update().clone())
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// GitLab's number; a negative one is none.
fn seconds(number: Option<f64>) -> Option<Duration> {
    number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// A runner's name, and its place in the file where another has the same.
pub(super) fn title(process: &Process, runner: &Runner) -> String {
    let name = &runner.name;
    let config = process.config.borrow();
    let all = &config.runners;
    if all.iter().filter(|other| other.name == *name).count() > 1 {
        return format!("{name}#{}", runner.index + 1);
    }
    name.clone()
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

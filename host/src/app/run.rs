//! `fleetling run`: one process from its configuration to its last job's end.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::allowance::Allowance;
use super::claims::Claims;
use super::entries::Entries;
use super::monitor::Monitor;
use super::places;
use super::shutdown::Shutdown;
use crate::config::server_url::ServerUrl;
use crate::config::usable::Executor;
use crate::config::{self, Problem, Severity, usable};
use crate::coordinator::api::JobApi;
use crate::coordinator::client::{Client, Settings};
use crate::coordinator::identity::SystemId;
use crate::coordinator::pending::{self, JobRecord};
use crate::coordinator::trace;
use crate::job::ManagerIdentity;
use crate::observe::journal::Recorder;
use crate::observe::metrics::{Metrics, RequestEnd};
use crate::plugin::egress::Observer;
use crate::plugin::platform::{Platform, PlatformOptions};
use crate::store::Store;

/// What the command line decided.
pub struct RunOptions {
    /// Before every other place plugins are looked for in.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where metrics are served; nowhere without it.
    pub listen_address: Option<String>,
    pub metrics: Arc<Metrics>,
}

/// What all runners of this process share.
pub(super) struct Process {
    /// As it holds now; the entries' own words reach each runner by itself.
    pub(super) config: watch::Sender<usable::Config>,
    pub(super) store: Store,
    pub(super) platform: Arc<Platform>,
    pub(super) system_id: SystemId,
    pub(super) identity: Arc<ManagerIdentity>,
    /// Helper binaries and images by architecture, and what was shipped with this binary.
    pub(super) data_dir: PathBuf,
    pub(super) spool_dir: PathBuf,
    pub(super) claims: Claims,
    /// `concurrent`.
    pub(super) concurrent: Allowance,
    pub(super) shutdown: Shutdown,
    pub(super) monitor: Monitor,
}

/// Runs until it is told to stop. An error is a reason not to start.
pub async fn run(options: RunOptions, loaded: config::Loaded) -> anyhow::Result<()> {
    let shutdown = Shutdown::default();
    shutdown.listen()?;
    let files = loaded.files.clone();
    let process = Arc::new(Process::compose(&options, loaded, shutdown)?);
    report_left_jobs(&process);
    if let Some(address) = &options.listen_address {
        process.monitor.serve(address, &process.shutdown).await?;
    }
    let entries = Entries::start(process.clone(), files);
    let ended = end(&process, entries).await;
    process.monitor.close().await;
    ended
}

/// Waits for the last runner to stop; once jobs are to end now, for `shutdown_timeout` only.
async fn end(process: &Process, entries: Entries) -> anyhow::Result<()> {
    let shutdown = &process.shutdown;
    let forced = async {
        shutdown.stopping().cancelled().await;
        let patience = process.config.borrow().shutdown_timeout;
        tokio::time::sleep(patience).await;
        patience
    };
    tokio::select! {
        () = entries.work() => {
            if !shutdown.draining().is_cancelled() {
                anyhow::bail!("no runner can work; next: mend what was logged above and start again");
            }
            info!("manager stopped");
            Ok(())
        }
        patience = forced => {
            leave(&process.store);
            anyhow::bail!("shutdown_timeout of {patience:?} passed before everything had ended")
        }
        () = shutdown.abandoning().cancelled() => {
            leave(&process.store);
            anyhow::bail!("stopped at once")
        }
    }
}

/// Says what becomes of the jobs that did not end in time.
fn leave(store: &Store) {
    for job in pending::untold(store) {
        warn!(
            job,
            "GitLab was not told of this job's end; the next start tells it"
        );
    }
}

impl Process {
    fn compose(
        options: &RunOptions,
        loaded: config::Loaded,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        tell(&loaded.problems);
        let config = loaded.config;
        if config.runners.is_empty() {
            anyhow::bail!(
                "{} has no [[runners]] entry that can work; next: mend what was logged above, \
                 or add an entry with executor = \"docker-autoscaler\"",
                config.path.display()
            );
        }
        let store = places::open_store(&config)?;
        let identified = SystemId::of_machine(&config.path);
        if let Some(warning) = identified.warning {
            warn!("{warning}");
        }
        let recorder = store.dir().map(Recorder::start).unwrap_or_default();
        let spool_dir = places::spool_dir(&store);
        // What an earlier process left is of no use: GitLab has it, or the record says from where to go on.
        if let Err(problem) = trace::clear(&spool_dir) {
            warn!(dir = %spool_dir.display(), %problem, "old job logs were not removed");
        }
        let plugins = places::platform_options(&options.plugin_dirs, &config.path, store.clone())?;
        let platform = Platform::start(PlatformOptions {
            observer: counted_by(options.metrics.clone()),
            ..plugins
        })?;
        Ok(Self {
            identity: Arc::new(ManagerIdentity {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision: option_env!("FLEETLING_REVISION")
                    .unwrap_or("development")
                    .to_owned(),
                system_id: identified.id.to_string(),
                hostname: hostname(),
            }),
            system_id: identified.id,
            data_dir: places::data_dir()?,
            spool_dir,
            claims: Claims::default(),
            monitor: Monitor::new(
                options.metrics.clone(),
                &config,
                recorder,
                platform.audit().clone(),
            ),
            concurrent: Allowance::new(config.concurrent),
            store,
            platform,
            config: watch::Sender::new(config),
            shutdown,
        })
    }
}

fn counted_by(metrics: Arc<Metrics>) -> Observer {
    Arc::new(move |exchange| {
        metrics.requested(&RequestEnd {
            plugin: &exchange.plugin,
            host: &exchange.host,
            method: exchange.method_label(),
            status: exchange.outcome.class(),
            sent: exchange.sent,
            received: exchange.received,
            took: exchange.took,
        });
    })
}

/// Each problem of a configuration is one line.
pub(super) fn tell(problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Warning => warn!("{problem}"),
            Severity::Entry | Severity::File => error!("{problem}"),
        }
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Tells GitLab of jobs that ran when the last process ended without its farewell.
fn report_left_jobs(process: &Process) {
    let api = |record: &JobRecord| -> Result<Arc<dyn JobApi>, String> {
        // A job's calls carry its own token; the runner's is not needed.
        let url: ServerUrl = record
            .url
            .parse()
            .map_err(|e| format!("its address is none: {e}"))?;
        let config = process.config.borrow();
        let entry = config.runners.iter().find(|runner| runner.url == url);
        let client = Client::new(Settings {
            url,
            server_tls: entry
                .map(|runner| runner.server_tls.clone())
                .unwrap_or_default(),
            token: String::new().into(),
            system_id: process.system_id.clone(),
            executor: Executor::DockerAutoscaler.name(),
            shell: "sh".to_owned(),
            gpus: String::new(),
        });
        client
            .map(|client| Arc::new(client) as _)
            .map_err(|e| e.to_string())
    };
    // Each is told in a task of its own, which logs what GitLab said.
    let (_, problems) = pending::recover(&process.store, api);
    for problem in problems {
        error!(%problem, "job of the last process is not reported");
    }
}

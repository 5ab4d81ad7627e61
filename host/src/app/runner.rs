//! One `[[runners]]` entry at work: its group is opened, then reservations become jobs until the manager drains.
//!
//! ```text
//! learn the ID ─► load the plugin ─► start the scaler ─► asking × request_concurrency ─► jobs end ─► drain
//!                                                           │ permits, reservation, request
//!                                                           └─► job (its own task)
//! ```
//!
//! Invariant: GitLab is asked only with a reservation in hand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use super::job;
use super::numbers::Numbers;
use super::run::Process;
use crate::config::usable;
use crate::coordinator::api::{JobApi, Update};
use crate::coordinator::client::{Asked, Client, Settings, Verified};
use crate::coordinator::health::{Change, Health, Verdict};
use crate::coordinator::identity::short_token;
use crate::docker::readiness::Readiness;
use crate::fleet::connector::{Connector, Identity, Target};
use crate::fleet::group::ProviderSettings;
use crate::plugin::platform::LoadRequest;
use crate::scaler::{Scaler, ScalerOptions};

/// Between two tries to learn a runner's ID.
const VERIFY_PAUSE: Duration = Duration::from_secs(5);
/// Off in GitLab Runner unless written; on here, because a ping over a warm connection is cheap.
const HEARTBEATS: &str = "FF_USE_FLEETING_ACQUIRE_HEARTBEATS";
const RUNNER_IDS: &str = "runner-id";

/// A runner that takes jobs; shared by its asking tasks and its jobs.
pub(super) struct Serving {
    pub(super) process: Arc<Process>,
    pub(super) runner: Arc<usable::Runner>,
    pub(super) short_token: String,
    pub(super) client: Client,
    pub(super) connector: Arc<Connector>,
    pub(super) scaler: Scaler<Readiness>,
    /// `CI_CONCURRENT_ID`.
    pub(super) numbers: Numbers<()>,
    /// `CI_CONCURRENT_PROJECT_ID`.
    pub(super) project_numbers: Numbers<u64>,
    pub(super) jobs: TaskTracker,
    limit: Option<Arc<Semaphore>>,
    health: Mutex<Health>,
}

/// What a job counts against until its instance is released.
pub(super) struct Permits {
    _concurrent: OwnedSemaphorePermit,
    _limit: Option<OwnedSemaphorePermit>,
}

/// Serves one runner until the process drains and its last job has ended. An entry that cannot work ends here, with
/// its reason in the log; the others go on.
pub(super) async fn serve(process: Arc<Process>, runner: usable::Runner) {
    let name = runner.name.clone();
    let draining = process.shutdown.draining().clone();
    let serving = tokio::select! {
        () = draining.cancelled() => return,
        serving = start(process, runner) => serving,
    };
    match serving {
        Ok(serving) => work(Arc::new(serving)).await,
        Err(problem) => error!(runner = name, "runner disabled: {problem:#}"),
    }
}

async fn start(process: Arc<Process>, runner: usable::Runner) -> anyhow::Result<Serving> {
    let token = runner.token.expose_secret();
    let short_token = short_token(token);
    let client = Client::new(Settings {
        url: runner.url.clone(),
        token: runner.token.clone(),
        system_id: process.system_id.clone(),
        shell: runner.shell.name().to_owned(),
    })?;
    let id = learn_id(&process, &runner, &client).await;
    let key = format!("{}|{id}", runner.url.as_str().trim_end_matches('/'));
    let key = own_key(key, &process.config.runners, &runner);

    let autoscaler = &runner.autoscaler;
    let connector = &autoscaler.connector;
    let identity = Identity::chosen(connector, &process.store, &key)?;
    let settings = ProviderSettings {
        os: connector.os.clone(),
        arch: connector.arch.clone(),
        protocol: connector.protocol,
        port: connector.protocol_port,
        username: connector.username.clone(),
        static_credentials: connector.use_static_credentials,
        ssh_public_key: identity
            .as_ref()
            .map(Identity::public_openssh)
            .transpose()?,
        owner: format!("{}/{key}", process.system_id),
        max_instances: autoscaler.max_instances,
        capacity_per_instance: autoscaler.capacity_per_instance,
    };
    let provider = process
        .platform
        .load(LoadRequest {
            reference: &autoscaler.plugin,
            config: &autoscaler.plugin_config,
            settings,
            group_key: &key,
        })
        .await
        .map_err(|report| anyhow::anyhow!(report.in_one_line()))?;
    let connector = Connector::new(connector.clone(), identity, process.store.clone());
    let readiness = Readiness {
        connector: connector.clone(),
        target: Target::from_docker_host(runner.docker.host.as_deref())
            .map_err(anyhow::Error::msg)?,
        ready_command: autoscaler.instance_ready_command.clone(),
        data: process.data_dir.clone(),
        system_id: process.system_id.to_string(),
    };
    // The task ends with `drain`, which waits for it.
    let (scaler, _task) = Scaler::start(ScalerOptions {
        group: process.claims.guard(provider, runner.index, &runner.name),
        preparation: Arc::new(readiness),
        autoscaler: autoscaler.clone(),
        store: process.store.clone(),
        key,
        adopt: autoscaler.state_storage.enabled != Some(false),
        heartbeats: runner.feature_flags.get(HEARTBEATS) != Some(&false),
    })?;
    info!(runner = runner.name, id, "runner started");
    Ok(Serving {
        limit: (runner.limit > 0).then(|| Arc::new(Semaphore::new(runner.limit as usize))),
        health: Mutex::new(Health::new(
            runner.unhealthy_requests_limit,
            runner.unhealthy_interval,
            Instant::now(),
        )),
        process,
        runner: Arc::new(runner),
        short_token,
        client,
        connector,
        scaler,
        numbers: Numbers::default(),
        project_numbers: Numbers::default(),
        jobs: TaskTracker::new(),
    })
}

/// The runner's ID as configured, as learnt before, or as GitLab tells it now; waits until it can be had, because
/// what is stored about instances is found by it. A rotated token changes nothing.
async fn learn_id(process: &Process, runner: &usable::Runner, client: &Client) -> u64 {
    if let Some(id) = runner.id {
        return id;
    }
    let name = identity_digest(runner);
    match process.store.read_plain(RUNNER_IDS, &name) {
        Ok(Some(bytes)) => {
            if let Some(id) = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse().ok())
            {
                return id;
            }
            warn!(
                runner = runner.name,
                "stored runner ID is unreadable and is learnt anew"
            );
        }
        Ok(None) => {}
        Err(problem) => warn!(runner = runner.name, %problem, "stored runner ID was not read"),
    }
    let mut said = None;
    loop {
        let problem = match client.verify().await {
            Verified::Valid { id: Some(id) } => {
                let written =
                    process
                        .store
                        .write_plain(RUNNER_IDS, &name, id.to_string().as_bytes());
                if let Err(problem) = written {
                    warn!(runner = runner.name, %problem, "runner ID was not stored");
                }
                return id;
            }
            Verified::Valid { id: None } => {
                "GitLab knows the token but told no runner ID; next: write `id` into the \
                 [[runners]] entry, from the runner's page in GitLab"
                    .to_owned()
            }
            Verified::Refused(text) | Verified::Unknown(text) => text,
        };
        if said.as_ref() != Some(&problem) {
            error!(
                runner = runner.name,
                "runner is not verified and takes no jobs yet: {problem}"
            );
            said = Some(problem);
        }
        tokio::time::sleep(VERIFY_PAUSE).await;
    }
}

/// What is stored of a runner goes by its identity; further entries of the same GitLab runner keep their own state,
/// under their place in the file.
fn own_key(key: String, all: &[usable::Runner], runner: &usable::Runner) -> String {
    let is_same = |other: &usable::Runner| {
        other.url == runner.url
            && (other.id.is_some() && other.id == runner.id
                || other.token.expose_secret() == runner.token.expose_secret())
    };
    let mut before = all.iter().filter(|other| other.index < runner.index);
    if before.any(is_same) {
        return format!("{key}#{}", runner.index);
    }
    key
}

/// Names a runner whose ID is unknown, without telling its token.
fn identity_digest(runner: &usable::Runner) -> String {
    let digest = Sha256::new()
        .chain_update(runner.url.as_str())
        .chain_update([0])
        .chain_update(runner.token.expose_secret())
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes jobs until draining, waits for them to end, closes the group.
async fn work(serving: Arc<Serving>) {
    serving.process.monitor.runner_started();
    // It ends when the scaler does.
    tokio::spawn(serving.process.monitor.clone().follow(serving.clone()));
    let asking = TaskTracker::new();
    for _ in 0..serving.runner.request_concurrency.max(1) {
        asking.spawn(ask(serving.clone()));
    }
    asking.close();
    asking.wait().await;
    serving.scaler.close().await;
    serving.jobs.close();
    serving.jobs.wait().await;
    serving
        .scaler
        .drain(serving.runner.autoscaler.delete_instances_on_shutdown)
        .await;
    info!(runner = serving.runner.name, "runner stopped");
}

/// One request for a job at a time, until draining.
async fn ask(serving: Arc<Serving>) {
    let draining = serving.process.shutdown.draining();
    while !draining.is_cancelled() {
        tokio::select! {
            () = draining.cancelled() => return,
            () = ask_once(&serving) => {}
        }
    }
}

/// From permit to job, or to the pause that is due. Dropping it gives everything back.
async fn ask_once(serving: &Arc<Serving>) {
    let pause = serving.process.config.check_interval;
    if !serving.may_ask() {
        return tokio::time::sleep(pause).await;
    }
    let Some(permits) = serving.permits().await else {
        return;
    };
    // Seen before reserving, so that a slot that opens meanwhile wakes this task.
    let mut status = serving.scaler.status();
    status.mark_unchanged();
    let reservation = match serving.scaler.reserve().await {
        Ok(reservation) => reservation,
        Err(refusal) => {
            debug!(runner = serving.runner.name, %refusal, "no job asked for");
            drop(permits);
            let _ = tokio::time::timeout(pause, status.changed()).await;
            return;
        }
    };
    match serving.request().await {
        Some(payload) => {
            let job = job::run(serving.clone(), payload, reservation, permits);
            serving.jobs.spawn(job);
        }
        None => {
            drop((reservation, permits));
            tokio::time::sleep(pause).await;
        }
    }
}

impl Serving {
    async fn permits(&self) -> Option<Permits> {
        let limit = match &self.limit {
            Some(limit) => Some(limit.clone().acquire_owned().await.ok()?),
            None => None,
        };
        let concurrent = self.process.concurrent.clone().acquire_owned().await.ok()?;
        Some(Permits {
            _concurrent: concurrent,
            _limit: limit,
        })
    }

    fn may_ask(&self) -> bool {
        match self.health().check(Instant::now()) {
            Verdict::Healthy => true,
            Verdict::Forced => {
                warn!(
                    runner = self.runner.name,
                    "runner rested long enough; one request is tried"
                );
                true
            }
            Verdict::Unhealthy => false,
        }
    }

    async fn request(&self) -> Option<crate::coordinator::payload::Job> {
        let asked = self.client.request_job().await.asked;
        if !matches!(asked, Asked::Refused(_)) {
            self.health().healthy(Instant::now());
        }
        match asked {
            Asked::Job(payload) => return Some(*payload),
            Asked::Nothing => debug!(runner = self.runner.name, "no job waits"),
            Asked::Refused(text) => {
                error!(runner = self.runner.name, "job request was refused: {text}");
                if self.health().unhealthy() == Change::Disabled {
                    error!(
                        runner = self.runner.name,
                        rest = ?self.runner.unhealthy_interval,
                        "runner rests after repeated refusals"
                    );
                }
            }
            Asked::Unreadable { key, problem } => {
                error!(
                    runner = self.runner.name,
                    job = key.id,
                    problem,
                    "job could not be read"
                );
                let failed = Update::system_failure();
                self.client.update(&key, &failed).await;
            }
            Asked::Failed(text) => {
                warn!(runner = self.runner.name, "job request failed: {text}");
            }
        }
        None
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

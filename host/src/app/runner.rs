//! One `[[runners]]` entry at work: its group is opened, then reservations become jobs until the manager drains.
//!
//! ```text
//! learn the ID ─► load the plugin ─► start the scaler ─► asking × request_concurrency ─► jobs end ─► drain
//!                                                           │ permits, reservation, request
//!                                                           └─► job (its own task)
//! ```
//!
//! New words of the operator make a new [`Serving`] of the same fleet: running jobs keep the old one to their end.
//!
//! Invariant: GitLab is asked only with a reservation in hand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, debug_span, error, info, info_span, warn};

use super::allowance::{Allowance, Permit};
use super::job;
use super::monitor::title;
use super::numbers::Numbers;
use super::plugin_row::PluginRow;
use super::run::Process;
use crate::config::flags::FLEETING_HEARTBEATS;
use crate::config::usable::{self, Executor};
use crate::coordinator::api::{JobApi, Update};
use crate::coordinator::client::{Asked, Client, Settings, Verified};
use crate::coordinator::health::{Change, Health, Verdict};
use crate::coordinator::identity::short_token;
use crate::docker::daemon::Daemon;
use crate::docker::readiness::Readiness;
use crate::docker::way::Way;
use crate::fleet::connector::{Connector, Identity, Target};
use crate::fleet::group::{InstanceGroup, ProviderSettings};
use crate::fleet::own::OwnDaemon;
use crate::plugin::platform::LoadRequest;
use crate::plugin::provider::Provider;
use crate::scaler::{Scaler, ScalerOptions};

/// Between two tries to learn a runner's ID.
const VERIFY_PAUSE: Duration = Duration::from_secs(5);
const RUNNER_IDS: &str = "runner-id";

/// A runner that takes jobs; shared by its asking tasks and its jobs.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) process: Arc<Process>,
    pub(super) runner: Arc<usable::Runner>,
    pub(super) short_token: String,
    pub(super) client: Client,
    pub(super) way: Way,
    pub(super) scaler: Scaler<Readiness>,
    /// Absent for the manager's own daemon.
    pub(super) plugin: Option<Plugin>,
    /// `CI_CONCURRENT_ID`.
    pub(super) numbers: Numbers<()>,
    /// `CI_CONCURRENT_PROJECT_ID`.
    pub(super) project_numbers: Numbers<u64>,
    pub(super) jobs: TaskTracker,
    limit: Allowance,
    health: Arc<Mutex<Health>>,
}

/// What a runner at work is told.
pub(super) struct Orders {
    /// Its entry, as the file has it now.
    pub(super) entry: watch::Receiver<Arc<usable::Runner>>,
    /// Its jobs end, then its instances go: the file does not have it any more, or has it with other instances.
    pub(super) retire: CancellationToken,
}

/// What a job counts against until its instance is released.
pub(super) struct Permits {
    _concurrent: Permit,
    _limit: Permit,
}

/// Serves one runner until it is retired or the process drains, and its last job has ended. An entry that cannot work
/// ends here, with its reason in the log; the others go on.
pub(super) async fn serve(process: Arc<Process>, mut orders: Orders) {
    let draining = process.shutdown.draining().clone();
    let (serving, name) = loop {
        let runner = orders.entry.borrow_and_update().clone();
        let name = runner.name.clone();
        tokio::select! {
            () = draining.cancelled() => return,
            () = orders.retire.cancelled() => return,
            serving = start(process.clone(), runner) => break (serving, name),
            // What it waits for may never come under the old words.
            changed = orders.entry.changed() => if changed.is_err() {
                return;
            }
        }
    };
    match serving {
        Ok(serving) => work(serving, orders).await,
        Err(problem) => error!(runner = name, "runner disabled: {problem:#}"),
    }
}

async fn start(process: Arc<Process>, runner: Arc<usable::Runner>) -> anyhow::Result<Serving> {
    let client = Client::new(settings(&process, &runner))?;
    let id = learn_id(&process, &runner, &client).await;
    let key = format!("{}|{id}", runner.url.to_string().trim_end_matches('/'));
    let of_runner = key.clone();
    let key = own_key(key, &process.config.borrow().runners, &runner);

    let mark = format!("{}/{key}", process.system_id);
    let autoscaler = &runner.autoscaler;
    let Fleet { group, way, plugin } = match runner.executor {
        Executor::DockerAutoscaler => cloud(&process, &runner, &key, &mark).await?,
        // Its jobs are known there by the runner: a second entry of the same one would end them.
        Executor::Docker => own_daemon(&runner, &of_runner)?,
    };
    let readiness = Readiness {
        way: way.clone(),
        ready_command: autoscaler.instance_ready_command.clone(),
        data: process.data_dir.clone(),
        system_id: process.system_id.to_string(),
        shared_as: (runner.executor == Executor::Docker)
            .then(|| short_token(runner.token.expose_secret())),
    };
    // What the scaler says of a group, it says of this runner's.
    let span = info_span!("runner", runner = runner.name);
    let options = ScalerOptions {
        group: process.claims.guard(group, &runner.name, mark),
        preparation: Arc::new(readiness),
        autoscaler: autoscaler.clone(),
        store: process.store.clone(),
        adopt: autoscaler.state_storage.enabled != Some(false),
        // Off in GitLab Runner unless written; on here, because a ping over a warm connection is cheap.
        heartbeats: runner.feature_flags.get(FLEETING_HEARTBEATS) != Some(&false),
    };
    // The task ends with `drain`, which waits for it.
    let (scaler, _task) = span.in_scope(|| Scaler::start(options))?;
    info!(runner = runner.name, id, "runner started");
    Ok(Serving {
        limit: Allowance::new(runner.limit),
        health: Arc::new(Mutex::new(health(&runner))),
        process,
        short_token: short_token(runner.token.expose_secret()),
        runner,
        client,
        way,
        scaler,
        plugin,
        numbers: Numbers::default(),
        project_numbers: Numbers::default(),
        jobs: TaskTracker::new(),
    })
}

/// Where a runner's instances come from, and how they are reached.
struct Fleet {
    group: Arc<dyn InstanceGroup>,
    way: Way,
    plugin: Option<Plugin>,
}

/// What makes the instances, and its row of the status page.
#[derive(Clone)]
pub(super) struct Plugin {
    pub(super) provider: Arc<Provider>,
    pub(super) row: Arc<PluginRow>,
}

/// Instances that a plugin makes. `mark` is what its provider knows us by.
async fn cloud(
    process: &Process,
    runner: &usable::Runner,
    key: &str,
    mark: &str,
) -> anyhow::Result<Fleet> {
    let autoscaler = &runner.autoscaler;
    let connector = &autoscaler.connector;
    let identity = Identity::chosen(connector, &process.store, key)?;
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
        owner: mark.to_owned(),
        max_instances: autoscaler.max_instances,
        capacity_per_instance: autoscaler.capacity_per_instance,
    };
    let row = process.monitor.plugin_row();
    let provider = load(process, runner, settings, key, &row).await;
    let connector = Connector::new(connector.clone(), identity, process.store.clone());
    let target = Target::from_docker_host(runner.docker.host.as_deref());
    Ok(Fleet {
        group: provider.clone(),
        way: Way::Ssh {
            connector,
            target: target.map_err(anyhow::Error::msg)?,
        },
        plugin: Some(Plugin {
            provider,
            row: Arc::new(row),
        }),
    })
}

fn own_daemon(runner: &usable::Runner, key: &str) -> anyhow::Result<Fleet> {
    let daemon = Daemon::of(&runner.docker, &|name| std::env::var(name).ok())?;
    Ok(Fleet {
        group: Arc::new(OwnDaemon::of(key)),
        way: Way::Own(Arc::new(daemon)),
        plugin: None,
    })
}

/// The group's provider; waits for as long as its plugin is missing or cannot be loaded.
async fn load(
    process: &Process,
    runner: &usable::Runner,
    settings: ProviderSettings,
    key: &str,
    row: &PluginRow,
) -> Arc<Provider> {
    let autoscaler = &runner.autoscaler;
    let mut said = None;
    loop {
        let request = LoadRequest {
            reference: &autoscaler.plugin,
            config: &autoscaler.plugin_config,
            settings: settings.clone(),
            group_key: key,
        };
        let report = match process.platform.load(request).await {
            Ok(provider) => return provider,
            Err(report) => report,
        };
        row.waits(&title(process, runner), &report);
        let text = report.in_one_line();
        if said.as_ref() != Some(&text) {
            error!(
                runner = runner.name,
                "runner takes no jobs until its plugin can be loaded: {text}"
            );
            said = Some(text);
        }
        let changed = process.platform.changed_since(&report, &autoscaler.plugin);
        changed.await;
    }
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
        .chain_update(runner.url.with_login().as_str())
        .chain_update([0])
        .chain_update(runner.token.expose_secret())
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn settings(process: &Process, runner: &usable::Runner) -> Settings {
    Settings {
        url: runner.url.clone(),
        server_tls: runner.server_tls.clone(),
        token: runner.token.clone(),
        system_id: process.system_id.clone(),
        executor: runner.executor.name(),
        shell: runner.shell.name().to_owned(),
        gpus: runner.docker.gpus().to_owned(),
    }
}

fn health(runner: &usable::Runner) -> Health {
    let (limit, interval) = (runner.unhealthy_requests_limit, runner.unhealthy_interval);
    Health::new(limit, interval, Instant::now())
}

/// Takes jobs until it is to stop, waits for them to end, closes the group.
async fn work(serving: Serving, mut orders: Orders) {
    let draining = serving.process.shutdown.draining().clone();
    serving.process.monitor.runner_started();
    let (current, now) = watch::channel(Arc::new(serving));
    // It ends when the scaler does.
    let monitor = now.borrow().process.monitor.clone();
    tokio::spawn(monitor.follow(now.clone()));
    let mut asking: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let wanted = now.borrow().runner.request_concurrency.max(1) as usize;
        for n in 0..wanted {
            let ask = || tokio::spawn(ask(n, now.clone(), orders.retire.clone()));
            match asking.get_mut(n) {
                Some(ended) if ended.is_finished() => *ended = ask(),
                Some(_) => {}
                None => asking.push(ask()),
            }
        }
        tokio::select! {
            () = draining.cancelled() => break,
            () = orders.retire.cancelled() => break,
            changed = orders.entry.changed() => {
                if changed.is_err() {
                    break;
                }
                let entry = orders.entry.borrow_and_update().clone();
                let before = now.borrow().clone();
                match before.under(entry).await {
                    Ok(serving) => drop(current.send_replace(Arc::new(serving))),
                    Err(problem) => error!(
                        runner = before.runner.name,
                        "changed entry is not applied, the runner goes on as it was: {problem:#}"
                    ),
                }
            }
        }
    }
    for asked in asking {
        // It ends by itself; a panic in it was logged.
        let _ = asked.await;
    }
    let serving = now.borrow().clone();
    serving.scaler.close().await;
    serving.jobs.close();
    serving.jobs.wait().await;
    // Nobody adopts what a retired entry leaves.
    let for_good =
        orders.retire.is_cancelled() || serving.runner.autoscaler.delete_instances_on_shutdown;
    serving.scaler.drain(for_good).await;
    info!(runner = serving.runner.name, "runner stopped");
}

/// One request for a job at a time, until the runner stops or wants fewer than `n` + 1 side by side.
async fn ask(n: usize, now: watch::Receiver<Arc<Serving>>, retire: CancellationToken) {
    loop {
        let serving = now.borrow().clone();
        let draining = serving.process.shutdown.draining();
        if n >= serving.runner.request_concurrency.max(1) as usize {
            return;
        }
        tokio::select! {
            biased;
            () = draining.cancelled() => return,
            () = retire.cancelled() => return,
            () = ask_once(&serving) => {}
        }
    }
}

/// From permit to job, or to the pause that is due. Dropping it gives everything back.
async fn ask_once(serving: &Arc<Serving>) {
    let pause = serving.process.config.borrow().check_interval;
    if !serving.may_ask() {
        return tokio::time::sleep(pause).await;
    }
    let permits = Permits {
        _limit: serving.limit.take().await,
        _concurrent: serving.process.concurrent.take().await,
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
            let span = debug_span!("job", job = payload.id);
            let job = job::run(serving.clone(), payload, reservation, permits);
            serving.jobs.spawn(job.instrument(span));
        }
        None => {
            drop((reservation, permits));
            tokio::time::sleep(pause).await;
        }
    }
}

impl Serving {
    /// The same fleet under another entry.
    async fn under(&self, runner: Arc<usable::Runner>) -> anyhow::Result<Self> {
        self.scaler.reconfigure(runner.autoscaler.clone()).await?;
        let client = self.client.under(settings(&self.process, &runner))?;
        self.limit.resize(runner.limit);
        Ok(Self {
            short_token: short_token(runner.token.expose_secret()),
            client,
            health: Arc::new(Mutex::new(health(&runner))),
            runner,
            ..self.clone()
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

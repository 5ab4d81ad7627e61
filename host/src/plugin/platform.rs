//! The process's plugin host: loads plugins in order, keeps what became of each, and applies grants as they change.
//!
//! ```text
//! load: find ─ read ─ digest ─ pin ─ validate ─ compile ─ link ─ instantiate ─ describe ─ check config ─ init ─► Provider
//! list: every file ─────────────────── the same ──────────────────────────────────┘            ▲
//!         any failure ─► LoadReport, for status and `plugin list`; nothing else stops     Keeper: the same again
//! ```
//! Invariant: a digest that nobody named is pinned before anything that it asks for leaves the machine.

mod examine;
mod load;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tracing::warn;

use self::load::{Candidate, describe};
use super::actor::{Clocks, Recipe};
use super::bindings::Description;
use super::compile::Compiler;
use super::directory::{Directory, Reference};
use super::egress::tap::Tap;
use super::egress::{Observer, Policy, REQUESTS_IN_ALL, Resolver, system_resolver};
use super::engine::{Engine, Program};
use super::grants::{Grants, GrantsFile};
use super::keeper::{Edition, Errand, Keeper};
use super::kv::Kv;
use super::log::GuestLog;
use super::pin::Pins;
use super::provider::Provider;
use super::report::{Cause, Digest, LoadReport};
use super::runtime::GuestRuntime;
use super::shipped::Shipped;
use super::sighting::{Settling, Sighting};
use super::watch::{Standing, read_grants, watch_grants};
use crate::fleet::group::ProviderSettings;
use crate::store::Store;
use crate::store::audit::Audit;

/// Between two loads of a plugin whose failure may pass by itself.
const RETRY: Duration = Duration::from_secs(60);

pub use examine::{Examined, Rehearsal, RehearsalRequest};

pub struct PlatformOptions {
    /// In order; see [`Directory`].
    pub plugin_dirs: Vec<PathBuf>,
    /// The value of `PATH`.
    pub search_path: Option<OsString>,
    /// `plugins.toml`; it need not exist.
    pub grants_file: PathBuf,
    /// Where `shipped.toml` lies.
    pub data_dir: Option<PathBuf>,
    /// Compiled plugins; `None` compiles at every start.
    pub cache_dir: Option<PathBuf>,
    /// Compiles large components into that cache; without it, this process does.
    pub compiler: Option<Compiler>,
    pub store: Store,
    pub audit: Audit,
    pub clocks: Clocks,
    /// How names become addresses.
    pub resolver: Resolver,
    /// Told of every request that a plugin made.
    pub observer: Observer,
    /// How often `plugins.toml` and granted files are looked at.
    pub watch_interval: Duration,
    /// Between admitted requests and the network: for commands that look, never for a manager.
    pub tap: Option<Arc<dyn Tap>>,
}

impl PlatformOptions {
    /// Everything by default but the places.
    pub fn new(grants_file: PathBuf, store: Store) -> Self {
        Self {
            plugin_dirs: Vec::new(),
            search_path: None,
            grants_file,
            data_dir: None,
            cache_dir: None,
            compiler: None,
            store,
            audit: Audit::default(),
            clocks: Clocks::default(),
            resolver: system_resolver(),
            observer: Arc::new(|_| {}),
            watch_interval: Duration::from_secs(1),
            tap: None,
        }
    }
}

/// Why there is no plugin host.
#[derive(Debug, thiserror::Error)]
pub enum StartProblem {
    #[error("{file} is not usable: {problems}", file = file.display())]
    Grants {
        file: PathBuf,
        problems: super::grants::GrantsProblems,
    },
    #[error("{file} could not be read: {problem}", file = file.display())]
    Unreadable {
        file: PathBuf,
        problem: std::io::Error,
    },
    #[error("the plugin engine did not start: {0}")]
    Engine(String),
}

/// One load of one plugin for one group.
pub struct LoadRequest<'a> {
    /// `plugin = "…"` as written.
    pub reference: &'a str,
    /// `plugin_config`.
    pub config: &'a serde_json::Value,
    pub settings: ProviderSettings,
    /// The group's identity as far as it is known before `open`: the key of its kv record and its log lines.
    pub group_key: &'a str,
}

/// One plugin as operators see it: one that was found, or one at work for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginEntry {
    pub name: String,
    pub path: PathBuf,
    pub digest: Option<Digest>,
    /// What the plugin says of itself.
    pub description: Option<Description>,
    pub state: PluginState,
    /// A report of several lines: of one that runs, what keeps another file, or its grants, from it.
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// Found and sound.
    Present,
    /// At work for a group.
    Loaded,
    /// No group could have it.
    Failed,
}

/// One per process. Dropping it ends the watch over grants and files and, with the last provider, the guests' runtime.
pub struct Platform {
    options: PlatformOptions,
    engine: Arc<Engine>,
    directory: Directory,
    shipped: Shipped,
    pins: Pins,
    grants: watch::Receiver<Arc<GrantsFile>>,
    /// Counts the operator's requests to look at all files now.
    asked: watch::Sender<u64>,
    requests: Arc<Semaphore>,
    /// What groups run now: one program for all of a digest.
    programs: Programs,
    runtime: Arc<GuestRuntime>,
}

impl Platform {
    /// Reads `plugins.toml`, starts the engine and the guests' runtime. Blocks for some milliseconds.
    pub fn start(options: PlatformOptions) -> Result<Arc<Self>, StartProblem> {
        let file = options.grants_file.clone();
        let text = read_grants(&file).map_err(|problem| StartProblem::Unreadable {
            file: file.clone(),
            problem,
        })?;
        let grants =
            GrantsFile::parse(&text).map_err(|problems| StartProblem::Grants { file, problems })?;
        let engine = Engine::new(options.cache_dir.as_deref())
            .map_err(|problem| StartProblem::Engine(format!("{problem:#}")))?;
        let runtime = GuestRuntime::start().map_err(|p| StartProblem::Engine(p.to_string()))?;
        let shipped = Shipped::read(options.data_dir.as_deref());
        if let (Some(why), Some(_)) = (shipped.absent(), &options.data_dir) {
            warn!(%why, "no plugin has built-in grants");
        }
        let (publish, grants) = watch::channel(Arc::new(grants));
        let watched = options.grants_file.clone();
        runtime
            .handle()
            .spawn(watch_grants(watched, text, options.watch_interval, publish));
        Ok(Arc::new(Self {
            directory: Directory::new(options.plugin_dirs.clone(), options.search_path.as_deref()),
            engine: Arc::new(engine),
            shipped,
            pins: Pins::new(options.store.clone(), options.audit.clone()),
            grants,
            requests: Arc::new(Semaphore::new(REQUESTS_IN_ALL)),
            programs: Programs::default(),
            runtime: Arc::new(runtime),
            asked: watch::Sender::new(0),
            options,
        }))
    }

    /// The group's provider, initialised and pinned; `open` is the caller's, and so is telling a failure, which knows the
    /// runner.
    pub async fn load(
        self: &Arc<Self>,
        request: LoadRequest<'_>,
    ) -> Result<Arc<Provider>, LoadReport> {
        let errand = self.errand(&request);
        let mut report = LoadReport::begun(errand.reference.name.clone());
        let before = self.look(errand.reference.clone(), Sighting::Absent).await;
        let loading = async {
            let edition = self.edition(&errand, &self.written(), &mut report).await?;
            // Not before `init` has ended well, and before the first call that may use the network.
            self.pin(&edition.standing, &edition.grants).await?;
            Ok(edition)
        };
        match loading.await {
            Ok(edition) => {
                edition.tell_loaded(None);
                Ok(Arc::new(self.provide(errand, edition, before)))
            }
            Err(cause) => Err(LoadReport { cause, ..report }),
        }
    }

    /// `plugins.toml` as it holds now.
    fn written(&self) -> Arc<GrantsFile> {
        self.grants.borrow().clone()
    }

    fn errand(&self, request: &LoadRequest<'_>) -> Errand {
        let reference = Reference::parse(request.reference);
        let group = request.group_key.to_owned();
        Errand {
            log: Arc::new(GuestLog::new(reference.name.clone(), group.clone())),
            kv: Arc::new(Kv::new(self.options.store.clone(), group.clone())),
            turn: Arc::default(),
            config: request.config.clone(),
            settings: request.settings.clone(),
            reference,
            group,
        }
    }

    /// `before`: the file as it was seen before it was read.
    fn provide(self: &Arc<Self>, errand: Errand, edition: Edition, before: Sighting) -> Provider {
        let (entry, shown) = watch::channel(edition.entry(None));
        let (current, now) = watch::channel(edition.current());
        let (granted, on_change) = watch::channel(0);
        let (opened, on_open) = watch::channel(None);
        let keeper = Keeper {
            platform: Arc::downgrade(self),
            settling: Settling::from(before),
            errand: Arc::new(errand),
            edition,
            refused: None,
            trouble: None,
            entry,
            grants: self.grants.clone(),
            asked: self.asked.subscribe(),
            current,
            granted,
            opened: on_open,
            interval: self.options.watch_interval,
        };
        self.runtime.handle().spawn(keeper.run());
        Provider::new(shown, now, on_change, opened)
    }

    /// The digest is trusted with these grants from now on, unless it may not have them.
    pub(super) async fn pin(&self, standing: &Standing, grants: &Grants) -> Result<(), Cause> {
        let (pins, standing, grants) = (self.pins.clone(), standing.clone(), grants.clone());
        let pin = move || {
            let Standing {
                plugin,
                digest,
                is_shipped,
                ..
            } = &standing;
            pins.check(plugin, *digest, &grants, *is_shipped)?;
            pins.trust(plugin, *digest, &grants)
        };
        let pinned = tokio::task::spawn_blocking(pin).await;
        pinned.unwrap_or_else(|problem| Err(Cause::Store(problem.to_string())))
    }

    /// Where it is told what plugins are given, for whoever tells what they make.
    pub fn audit(&self) -> &Audit {
        &self.options.audit
    }

    /// Looks at all files at once instead of at the next interval, and tries again what failed.
    pub fn look_now(&self) {
        self.asked.send_modify(|count| *count += 1);
    }

    /// The file that `reference` names now.
    pub(super) async fn look(self: &Arc<Self>, reference: Reference, before: Sighting) -> Sighting {
        let platform = self.clone();
        let look = move || Sighting::take(platform.directory.find(&reference).ok(), &before);
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or(Sighting::Absent)
    }

    /// Waits until a load that ended with `report` may end otherwise: the plugin's file or `plugins.toml` changed, the
    /// operator asked for it, or a minute passed over what may pass by itself.
    pub async fn changed_since(self: &Arc<Self>, report: &LoadReport, reference: &str) {
        let reference = Reference::parse(reference);
        let (mut grants, mut asked) = (self.grants.clone(), self.asked.subscribe());
        grants.mark_unchanged();
        let again_at = report
            .cause
            .may_pass()
            .then(|| tokio::time::Instant::now() + RETRY);
        let mut seen = Sighting::Absent;
        loop {
            let now = self.look(reference.clone(), seen.clone()).await;
            let is_settled = now == seen;
            seen = now;
            let is_there = matches!(seen, Sighting::Present { .. });
            let is_as_told = seen.digest() == report.digest && is_there == report.file.is_some();
            if is_settled && !is_as_told
                || again_at.is_some_and(|at| at <= tokio::time::Instant::now())
            {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(self.options.watch_interval) => {}
                _ = grants.changed() => return,
                _ = asked.changed() => return,
            }
        }
    }

    /// To be asked what it is, which needs no configuration and no grant.
    async fn ungranted(&self, standing: &Standing, program: Arc<Program>) -> Recipe {
        let nothing = Grants::default();
        let errand = self.errand(&LoadRequest {
            reference: &standing.plugin,
            config: &serde_json::Value::Null,
            settings: ProviderSettings::default(),
            group_key: &standing.plugin,
        });
        let policy = Policy::read(&nothing, &errand.config).await;
        self.recipe(standing, &nothing, policy, program, &errand)
    }

    /// Every plugin found, with what loading it would find, by their references.
    pub async fn list(&self) -> Vec<PluginEntry> {
        let mut found = self.directory.list();
        found.sort_by(|one, other| one.reference.cmp(&other.reference));
        found.dedup_by(|later, first| later.reference == first.reference);
        let mut entries = Vec::with_capacity(found.len());
        for found in found {
            let mut report = LoadReport::begun(found.name.clone());
            let surveyed = self.survey(found.file.clone(), &mut report).await;
            let is_sound = surveyed.is_ok();
            let last_error = match &surveyed {
                Ok(_) => found.twin.map(|twin| {
                    let twin = twin.display();
                    format!("its name differs from {twin} in case only; next: keep one")
                }),
                Err(cause) => {
                    report.cause = cause.clone();
                    Some(report.to_string())
                }
            };
            entries.push(PluginEntry {
                name: found.name,
                path: found.file,
                digest: report.digest,
                description: surveyed.ok(),
                state: if is_sound {
                    PluginState::Present
                } else {
                    PluginState::Failed
                },
                last_error,
            });
        }
        entries
    }

    /// What the plugin that a configuration names says of itself. Nothing is loaded and nothing kept.
    pub async fn description(&self, reference: &str) -> Result<Description, LoadReport> {
        let reference = Reference::parse(reference);
        let mut report = LoadReport::begun(reference.name.clone());
        let surveyed = match self.found(&reference) {
            Ok(file) => self.survey(file, &mut report).await,
            Err(cause) => Err(cause),
        };
        surveyed.map_err(|cause| LoadReport { cause, ..report })
    }

    fn found(&self, reference: &Reference) -> Result<PathBuf, Cause> {
        let found = self.directory.find(reference);
        found.map_err(|missing| Cause::Missing(Box::new(missing)))
    }

    /// Up to `describe`, which needs no configuration and is given no grant.
    async fn survey(&self, file: PathBuf, report: &mut LoadReport) -> Result<Description, Cause> {
        let Candidate {
            standing, program, ..
        } = self.candidate(file, &self.written(), report).await?;
        let recipe = self.ungranted(&standing, program).await;
        self.guarded("describe", async move { describe(&recipe).await })
            .await
    }
}

/// By digest; whoever compiles holds the lock of that one.
type Programs = Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<Weak<Program>>>>>;

#[cfg(test)]
mod tests;

//! The process's plugin host: loads plugins in order, keeps what became of each, and applies grants as they change.
//!
//! ```text
//! load: find ─ read ─ digest ─ pin ─ validate ─ compile ─ link ─ instantiate ─ describe ─ check config ─ init ─► Actor
//! list: every file ─────────────────── the same ──────────────────────────────────┘
//!         any failure ─► LoadReport, kept for `list`; nothing else stops
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use super::actor::{Actor, Clocks, Instance, NotBuilt, Recipe};
use super::bindings::Description;
use super::directory::{Directory, Reference};
use super::egress::{
    Egress, EgressOptions, Observer, Policy, REQUESTS_IN_ALL, Resolver, system_resolver,
};
use super::engine::{Engine, ProcessorTimeSpent, Program, Tenant};
use super::grants::{Grants, GrantsFile, Limits, built_in};
use super::kv::Kv;
use super::log::GuestLog;
use super::pin::Pins;
use super::report::{Cause, Digest, LoadReport};
use super::runtime::GuestRuntime;
use super::schema;
use super::shipped::Shipped;
use super::watch::{Standing, Watcher, read_grants, secrets_of, watch_grants};
use crate::fleet::group::ProviderSettings;
use crate::store::Store;

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
    pub store: Store,
    pub clocks: Clocks,
    /// How names become addresses.
    pub resolver: Resolver,
    /// Told of every request that a plugin made.
    pub observer: Observer,
    /// How often `plugins.toml` and granted files are looked at.
    pub watch_interval: Duration,
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
            store,
            clocks: Clocks::default(),
            resolver: system_resolver(),
            observer: Arc::new(|_| {}),
            watch_interval: Duration::from_secs(1),
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

/// One line of `fleetling plugin list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginEntry {
    pub name: String,
    pub path: PathBuf,
    pub digest: Option<Digest>,
    /// What the plugin says of itself.
    pub description: Option<Description>,
    pub state: PluginState,
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// Found and sound, and no group asked for it.
    Present,
    Loaded,
    /// It was not loaded for a group, or would not be for any.
    Failed,
}

/// One per process. Dropping it ends the watch over grants and, with the last actor, the guests' runtime.
pub struct Platform {
    options: PlatformOptions,
    engine: Arc<Engine>,
    directory: Directory,
    shipped: Shipped,
    pins: Pins,
    grants: watch::Receiver<Arc<GrantsFile>>,
    requests: Arc<Semaphore>,
    loads: Mutex<BTreeMap<String, PluginEntry>>,
    runtime: Arc<GuestRuntime>,
}

impl Platform {
    /// Reads `plugins.toml`, starts the engine and the guests' runtime. Blocks for some milliseconds.
    pub fn start(options: PlatformOptions) -> Result<Self, StartProblem> {
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
        Ok(Self {
            directory: Directory::new(options.plugin_dirs.clone(), options.search_path.as_deref()),
            engine: Arc::new(engine),
            shipped,
            pins: Pins::new(options.store.clone()),
            grants,
            requests: Arc::new(Semaphore::new(REQUESTS_IN_ALL)),
            loads: Mutex::default(),
            runtime: Arc::new(runtime),
            options,
        })
    }

    /// The group's provider, initialised; `open` is the caller's, and so is telling a failure, which knows the runner.
    /// It is kept for [`Platform::list`].
    pub async fn load(&self, request: LoadRequest<'_>) -> Result<Arc<Actor>, LoadReport> {
        let reference = Reference::parse(request.reference);
        let mut report = unwritten(reference.name.clone());
        let loaded = self.try_load(&reference, &request, &mut report).await;
        let (loaded, description, cause) = match loaded {
            Ok((actor, description)) => (Some(Arc::new(actor)), Some(description), None),
            Err(cause) => (None, None, Some(cause)),
        };
        let (entry, report) = entry(PluginState::Loaded, description, report, cause);
        self.loads().insert(reference.name, entry);
        loaded.ok_or(report)
    }

    async fn try_load(
        &self,
        reference: &Reference,
        request: &LoadRequest<'_>,
        report: &mut LoadReport,
    ) -> Result<(Actor, Description), Cause> {
        let file = self
            .directory
            .find(reference)
            .map_err(|missing| Cause::Missing {
                looked_in: missing.looked_in,
                native: missing.native,
            })?;
        let candidate = self.candidate(file, report).await?;
        let Candidate {
            standing,
            grants,
            program,
        } = candidate;
        let (plugin, digest) = (standing.plugin.clone(), standing.digest);
        let policy = Policy::read(&grants, request.config).await;
        let recipe = Arc::new(self.recipe(&standing, &grants, policy, program, request));
        let building = recipe.clone();
        let config = request.config.clone();
        let (first, description) = self
            .guarded("init", async move { build_first(&building, &config).await })
            .await?;
        self.pins.trust(&plugin, digest, &grants)?;
        for hazard in grants.hazards() {
            warn!(%plugin, hazard, "plugin granted more than named hosts");
        }
        let version = &description.version;
        info!(%plugin, %version, file = %standing.file.display(), %digest, "plugin loaded");
        let (granted, on_change) = watch::channel(0);
        let watcher = Watcher {
            standing,
            pins: self.pins.clone(),
            current: grants,
            grants: self.grants.clone(),
            recipe: recipe.clone(),
            config: request.config.clone(),
            granted,
            interval: self.options.watch_interval,
        };
        self.runtime.handle().spawn(watcher.run());
        let actor = Actor::start(recipe, first, on_change, self.runtime.clone());
        Ok((actor, description))
    }

    /// Read, judged and compiled: what loading begins with, whoever asks.
    async fn candidate(&self, file: PathBuf, report: &mut LoadReport) -> Result<Candidate, Cause> {
        let plugin = report.plugin.clone();
        report.file = Some(file.clone());
        let bytes = tokio::fs::read(&file).await;
        let bytes = bytes.map_err(|problem| Cause::Unreadable(problem.to_string()))?;
        let digest = Digest::of(&bytes);
        report.digest = Some(digest);
        let is_shipped = self.shipped.lists(&plugin, digest);
        let standing = Standing {
            plugin,
            file,
            digest,
            is_shipped,
        };
        let grants = standing.grants(&self.grants.borrow());
        self.pins
            .check(&standing.plugin, digest, &grants, is_shipped)?;
        Ok(Candidate {
            program: self.compile(bytes).await?,
            standing,
            grants,
        })
    }

    /// On the guests' threads: a plugin that spins at its start must not take one that carries jobs.
    async fn guarded<T: Send + 'static>(
        &self,
        call: &'static str,
        starting: impl Future<Output = Result<T, Cause>> + Send + 'static,
    ) -> Result<T, Cause> {
        let started = self.runtime.handle().spawn(starting).await;
        started.map_err(|problem| call_failed(call, &problem))?
    }

    async fn compile(&self, bytes: Vec<u8>) -> Result<Program, Cause> {
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || engine.compile(&bytes)).await;
        compiled.map_err(|problem| Cause::Invalid {
            detail: problem.to_string(),
        })?
    }

    fn recipe(
        &self,
        standing: &Standing,
        grants: &Grants,
        policy: Policy,
        program: Program,
        request: &LoadRequest<'_>,
    ) -> Recipe {
        let plugin = standing.plugin.clone();
        let group = request.group_key.to_owned();
        let lacks_built_in = !standing.is_shipped && built_in(&plugin).is_some();
        let egress = Egress::new(
            EgressOptions {
                plugin: plugin.clone(),
                group: group.clone(),
                grants_file: self.options.grants_file.clone(),
                no_built_in: lacks_built_in.then(|| self.shipped.why_not(&plugin, standing.digest)),
                resolver: self.options.resolver.clone(),
                observer: self.options.observer.clone(),
                all: self.requests.clone(),
            },
            policy,
        );
        let limits = grants.limits.over(Limits {
            cpu: self.options.clocks.processor,
            ..Limits::default()
        });
        let env = grants.env.iter();
        let env = env.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
        let tenant = Tenant {
            log: Arc::new(GuestLog::new(
                plugin.clone(),
                group.clone(),
                limits.log_lines_per_second,
            )),
            kv: Arc::new(Kv::new(self.options.store.clone(), group)),
            egress: Arc::new(egress),
            env: env.collect(),
            limits: limits.clone(),
            secrets: RwLock::new(Arc::new(secrets_of(grants, request.config))),
        };
        Recipe {
            plugin,
            engine: self.engine.clone(),
            program,
            tenant: Arc::new(tenant),
            config: request.config.to_string(),
            settings: request.settings.clone(),
            clocks: Clocks {
                processor: limits.cpu,
                ..self.options.clocks.clone()
            },
        }
    }

    /// Every plugin found, with what loading it would find, and every one that a group asked for.
    pub async fn list(&self) -> Vec<PluginEntry> {
        let mut entries = self.loads().clone();
        for found in self.directory.list() {
            if entries.contains_key(&found.name) {
                continue;
            }
            let mut report = unwritten(found.name.clone());
            let (description, cause) = match self.survey(found.file, &mut report).await {
                Ok(description) => (Some(description), None),
                Err(cause) => (None, Some(cause)),
            };
            let (entry, _) = entry(PluginState::Present, description, report, cause);
            entries.insert(found.name, entry);
        }
        entries.into_values().collect()
    }

    /// Up to `describe`, which needs no configuration and is given no grant.
    async fn survey(&self, file: PathBuf, report: &mut LoadReport) -> Result<Description, Cause> {
        let Candidate {
            standing, program, ..
        } = self.candidate(file, report).await?;
        let request = LoadRequest {
            reference: &standing.plugin,
            config: &serde_json::Value::Null,
            settings: ProviderSettings::default(),
            group_key: &standing.plugin,
        };
        let nothing = Grants::default();
        let policy = Policy::read(&nothing, request.config).await;
        let recipe = self.recipe(&standing, &nothing, policy, program, &request);
        self.guarded("describe", async move { describe(&recipe).await })
            .await
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PluginEntry>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One file on its way to be a plugin.
struct Candidate {
    standing: Standing,
    grants: Grants,
    program: Program,
}

fn unwritten(plugin: String) -> LoadReport {
    LoadReport {
        plugin,
        file: None,
        digest: None,
        // Replaced before anybody reads it: what fails, fails with a cause.
        cause: Cause::NotWasm,
    }
}

/// What is listed of one plugin, and its report with the cause written into it.
fn entry(
    state: PluginState,
    description: Option<Description>,
    mut report: LoadReport,
    cause: Option<Cause>,
) -> (PluginEntry, LoadReport) {
    let mut entry = PluginEntry {
        name: report.plugin.clone(),
        path: report.file.clone().unwrap_or_default(),
        digest: report.digest,
        description,
        state,
        last_error: None,
    };
    if let Some(cause) = cause {
        report.cause = cause;
        entry.state = PluginState::Failed;
        entry.last_error = Some(report.to_string());
    }
    (entry, report)
}

/// Instantiate, and ask what it is.
async fn describe(recipe: &Recipe) -> Result<Description, Cause> {
    let mut instance = recipe.instantiate().await.map_err(|problem| {
        let is_its_own = problem.downcast_ref::<wasmtime::Trap>().is_some()
            || problem.downcast_ref::<ProcessorTimeSpent>().is_some();
        if is_its_own {
            return call_failed("instantiation", &recipe.lost("instantiation", &problem));
        }
        // Exports are typed only now: a function of another shape is found here.
        Cause::NoProvider {
            detail: format!("{problem:#}"),
        }
    })?;
    let meter = instance.meter.clone();
    let describe = instance.guest.describe();
    recipe
        .clocked("describe", meter, describe)
        .await
        .map_err(|lost| call_failed("describe", &lost))
}

/// `describe`, hold the configuration against the schema, `init`.
async fn build_first(
    recipe: &Recipe,
    config: &serde_json::Value,
) -> Result<(Instance, Description), Cause> {
    let description = describe(recipe).await?;
    let plugin = &recipe.plugin;
    for warning in schema::warnings(&description.config_schema, config) {
        warn!(%plugin, "{warning}");
    }
    // A fresh instance: what `describe` left behind must not matter to `init`, as after a rebuild.
    let first = recipe.build().await.map_err(|why| match why {
        NotBuilt::Refused(problem) => call_failed("init", &problem),
        NotBuilt::Lost(lost) => call_failed("init", &lost),
    })?;
    Ok((first, description))
}

fn call_failed(call: &'static str, problem: &dyn std::fmt::Display) -> Cause {
    Cause::Call {
        call,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests;

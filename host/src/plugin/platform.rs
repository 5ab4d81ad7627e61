//! The process's plugin host: loads plugins in order, keeps what became of each, and applies grants as they change.
//!
//! ```text
//! load: find ─ read ─ digest ─ pin ─ validate ─ compile ─ link ─ instantiate ─ describe ─ check config ─ init ─► Actor
//!         any failure ─► LoadReport, kept for `list`; nothing else stops
//! watch: plugins.toml ─ parse ─► published (a broken edit is told and the old grants stay)
//!        per group: grants or a granted file changed ─► new reach and secrets, `granted` counts one up
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tracing::{error, info, warn};

use super::actor::{Actor, Clocks, Instance, NotBuilt, Recipe};
use super::directory::{Directory, Reference};
use super::egress::{Egress, EgressOptions, REQUESTS_IN_ALL, Resolver, system_resolver};
use super::engine::{Engine, ProcessorTimeSpent, Program, Tenant};
use super::grants::{Grants, GrantsFile, built_in};
use super::kv::Kv;
use super::log::GuestLog;
use super::pin::Pins;
use super::report::{Cause, Digest, LoadReport};
use super::runtime::GuestRuntime;
use super::schema;
use super::secrets::{Fingerprint, Secrets};
use super::shipped::Shipped;
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
    /// What the plugin says of itself, once loaded.
    pub version: Option<String>,
    pub state: PluginState,
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// Found, and no group asked for it.
    Present,
    Loaded,
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
        let mut report = LoadReport {
            plugin: reference.name.clone(),
            file: None,
            digest: None,
            // Replaced before anybody reads it: `try_load` fails with a cause.
            cause: Cause::NotWasm,
        };
        let loaded = self.try_load(&reference, &request, &mut report).await;
        let mut entry = PluginEntry {
            name: reference.name.clone(),
            path: report.file.clone().unwrap_or_default(),
            digest: report.digest,
            version: None,
            state: PluginState::Failed,
            last_error: None,
        };
        let outcome = match loaded {
            Ok((actor, version)) => {
                entry.state = PluginState::Loaded;
                entry.version = Some(version);
                Ok(Arc::new(actor))
            }
            Err(cause) => {
                report.cause = cause;
                entry.last_error = Some(report.to_string());
                Err(report)
            }
        };
        self.loads().insert(reference.name, entry);
        outcome
    }

    async fn try_load(
        &self,
        reference: &Reference,
        request: &LoadRequest<'_>,
        report: &mut LoadReport,
    ) -> Result<(Actor, String), Cause> {
        let plugin = reference.name.clone();
        let file = self
            .directory
            .find(reference)
            .map_err(|missing| Cause::Missing {
                looked_in: missing.looked_in,
                native: missing.native,
            })?;
        report.file = Some(file.clone());
        let bytes = tokio::fs::read(&file).await;
        let bytes = bytes.map_err(|problem| Cause::Unreadable(problem.to_string()))?;
        let digest = Digest::of(&bytes);
        report.digest = Some(digest);
        let is_shipped = self.shipped.lists(&plugin, digest);
        let standing = Standing {
            plugin: plugin.clone(),
            file: file.clone(),
            digest,
            is_shipped,
        };
        let grants = standing.grants(&self.grants.borrow());
        self.pins.check(&plugin, digest, &grants, is_shipped)?;
        let program = self.compile(bytes).await?;
        let recipe = Arc::new(self.recipe(&standing, &grants, program, request));
        let building = recipe.clone();
        let config = request.config.clone();
        // On the guests' threads: a plugin that spins in `init` must not take one that carries jobs.
        let built = self
            .runtime
            .handle()
            .spawn(async move { build_first(&building, &config).await });
        let (first, version) = built
            .await
            .map_err(|problem| call_failed("init", &problem))??;
        self.pins.trust(&plugin, digest, &grants)?;
        for hazard in grants.hazards() {
            warn!(%plugin, hazard, "plugin granted more than named hosts");
        }
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
        info!(%plugin, %version, file = %file.display(), %digest, "plugin loaded");
        let actor = Actor::start(recipe, first, on_change, self.runtime.clone());
        Ok((actor, version))
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
                all: self.requests.clone(),
            },
            grants.reach(request.config),
        );
        let env = grants.env.iter();
        let env = env.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
        let tenant = Tenant {
            log: Arc::new(GuestLog::new(plugin.clone(), group.clone())),
            kv: Arc::new(Kv::new(self.options.store.clone(), group)),
            egress: Arc::new(egress),
            env: env.collect(),
            memory: grants.memory,
            secrets: RwLock::new(Arc::new(secrets_of(grants, request.config))),
        };
        Recipe {
            plugin,
            engine: self.engine.clone(),
            program,
            tenant: Arc::new(tenant),
            config: request.config.to_string(),
            settings: request.settings.clone(),
            clocks: self.options.clocks.clone(),
        }
    }

    /// Every plugin found, and every one that a group asked for.
    pub fn list(&self) -> Vec<PluginEntry> {
        let mut entries = self.loads().clone();
        for found in self.directory.list() {
            entries.entry(found.name.clone()).or_insert_with(|| {
                let bytes = std::fs::read(&found.file);
                PluginEntry {
                    name: found.name,
                    path: found.file,
                    digest: bytes.as_ref().ok().map(|bytes| Digest::of(bytes)),
                    version: None,
                    state: PluginState::Present,
                    last_error: bytes.err().map(|problem| problem.to_string()),
                }
            });
        }
        entries.into_values().collect()
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PluginEntry>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Instantiate, `describe`, hold the configuration against the schema, `init`.
async fn build_first(
    recipe: &Recipe,
    config: &serde_json::Value,
) -> Result<(Instance, String), Cause> {
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
    let description = recipe
        .clocked("describe", meter, describe)
        .await
        .map_err(|lost| call_failed("describe", &lost))?;
    let plugin = &recipe.plugin;
    for warning in schema::warnings(&description.config_schema, config) {
        warn!(%plugin, "{warning}");
    }
    // A fresh instance: what `describe` left behind must not matter to `init`, as after a rebuild.
    let first = recipe.build().await.map_err(|why| match why {
        NotBuilt::Refused(problem) => call_failed("init", &problem),
        NotBuilt::Lost(lost) => call_failed("init", &lost),
    })?;
    Ok((first, description.version))
}

fn call_failed(call: &'static str, problem: &dyn std::fmt::Display) -> Cause {
    Cause::Call {
        call,
        problem: problem.to_string(),
    }
}

fn secrets_of(grants: &Grants, config: &serde_json::Value) -> Secrets {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Secrets::new(grants, config, home.as_deref())
}

/// What a plugin is before the operator's table: its name, its file, and whether the installation vouches for it.
struct Standing {
    plugin: String,
    file: PathBuf,
    digest: Digest,
    is_shipped: bool,
}

impl Standing {
    fn grants(&self, file: &GrantsFile) -> Grants {
        let ours = built_in(&self.plugin).filter(|_| self.is_shipped);
        let written = file.plugins.get(&self.plugin);
        let ours = ours.unwrap_or_default();
        match written {
            Some(written) => ours.extended_by(written),
            None => ours,
        }
    }
}

/// Applies changed grants to one group and counts changes; ends when nobody watches any more.
struct Watcher {
    standing: Standing,
    pins: Pins,
    /// What the table said when it was last looked at.
    current: Grants,
    grants: watch::Receiver<Arc<GrantsFile>>,
    recipe: Arc<Recipe>,
    config: serde_json::Value,
    granted: watch::Sender<u64>,
    interval: Duration,
}

impl Watcher {
    async fn run(mut self) {
        let tenant = self.recipe.tenant.clone();
        let look = |before: Fingerprint| {
            let secrets = tenant.secrets();
            tokio::task::spawn_blocking(move || secrets.fingerprint(&before))
        };
        let mut files = look(Fingerprint::default()).await.unwrap_or_default();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = self.granted.closed() => return,
            }
            let mut is_changed = false;
            let now = self.standing.grants(&self.grants.borrow_and_update());
            if now != self.current {
                self.current = now.clone();
                self.apply(now).await;
                is_changed = true;
            }
            let Ok(seen) = look(files.clone()).await else {
                return;
            };
            if seen != files {
                info!(plugin = %self.standing.plugin, "granted file changed");
                is_changed = true;
            }
            files = seen;
            if is_changed {
                self.granted.send_modify(|count| *count += 1);
            }
        }
    }

    /// The digest that runs is pinned before it is given anything; one that may not have it is given nothing.
    async fn apply(&self, grants: Grants) {
        let Standing {
            plugin,
            file,
            digest,
            is_shipped,
        } = &self.standing;
        let (pins, name, wanted) = (self.pins.clone(), plugin.clone(), grants.clone());
        let (digest, is_shipped) = (*digest, *is_shipped);
        let pin = move || {
            pins.check(&name, digest, &wanted, is_shipped)?;
            pins.trust(&name, digest, &wanted)
        };
        let pinned = tokio::task::spawn_blocking(pin).await;
        let pinned = pinned.unwrap_or_else(|problem| Err(Cause::Store(problem.to_string())));
        let grants = match pinned {
            Ok(()) => {
                info!(%plugin, "plugin grants changed");
                grants
            }
            Err(cause) => {
                let (cause, next) = (&cause, cause.next(plugin, Some(digest)));
                error!(
                    %plugin, file = %file.display(), %digest,
                    "plugin is granted nothing while it runs: {cause}; next: {next}"
                );
                Grants::default()
            }
        };
        let tenant = &self.recipe.tenant;
        tenant.egress.regrant(grants.reach(&self.config));
        let secrets = Arc::new(secrets_of(&grants, &self.config));
        *tenant
            .secrets
            .write()
            .unwrap_or_else(PoisonError::into_inner) = secrets;
    }
}

/// Publishes `plugins.toml` as it changes; a broken edit keeps what was, and is told once.
async fn watch_grants(
    file: PathBuf,
    mut last: String,
    interval: Duration,
    publish: watch::Sender<Arc<GrantsFile>>,
) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = publish.closed() => return,
        }
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || read_grants(&path)).await;
        let Ok(Ok(text)) = read else {
            continue;
        };
        if text == last {
            continue;
        }
        match GrantsFile::parse(&text) {
            Ok(grants) => {
                info!(file = %file.display(), "plugin grants read anew");
                publish.send_replace(Arc::new(grants));
            }
            Err(problems) => error!(
                file = %file.display(), %problems,
                "plugin grants not changed: correct these lines; until then the old ones hold"
            ),
        }
        last = text;
    }
}

/// No file grants nothing.
fn read_grants(file: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(file) {
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

#[cfg(test)]
mod tests;

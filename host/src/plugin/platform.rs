//! The process's plugin host: loads plugins in order, keeps what became of each, and applies grants as they change.
//!
//! ```text
//! load: find ─ read ─ digest ─ pin ─ validate ─ compile ─ link ─ instantiate ─ describe ─ check config ─ init ─► Provider
//! list: every file ─────────────────── the same ──────────────────────────────────┘            ▲
//!         any failure ─► LoadReport, kept for `list`; nothing else stops              Keeper: the same again
//! ```

mod examine;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::actor::{Actor, Clocks, Instance, NotBuilt, Recipe};
use super::bindings::Description;
use super::compile::Compiler;
use super::directory::{Directory, Reference};
use super::egress::tap::Tap;
use super::egress::{
    Egress, EgressOptions, Observer, Policy, REQUESTS_IN_ALL, Resolver, system_resolver,
};
use super::engine::{self, Engine, ProcessorTimeSpent, Program, Tenant};
use super::grants::{Grants, GrantsFile, built_in};
use super::keeper::{Edition, Errand, Keeper, allotment};
use super::kv::Kv;
use super::log::GuestLog;
use super::pin::Pins;
use super::provider::Provider;
use super::report::{Cause, Digest, LoadReport};
use super::runtime::GuestRuntime;
use super::schema;
use super::shipped::Shipped;
use super::sighting::{self, Settling, Sighting, Unreadable};
use super::trail::Trail;
use super::watch::{Standing, read_grants, secrets_of, watch_grants};
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
    loads: Mutex<BTreeMap<String, PluginEntry>>,
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
            loads: Mutex::default(),
            runtime: Arc::new(runtime),
            asked: watch::Sender::new(0),
            options,
        }))
    }

    /// The group's provider, initialised; `open` is the caller's, and so is telling a failure, which knows the runner.
    /// It is kept for [`Platform::list`].
    pub async fn load(
        self: &Arc<Self>,
        request: LoadRequest<'_>,
    ) -> Result<Arc<Provider>, LoadReport> {
        let errand = self.errand(&request);
        let mut report = LoadReport::begun(errand.reference.name.clone());
        let before = self.look(errand.reference.clone(), Sighting::Absent).await;
        let edition = match self.edition(&errand, &mut report).await {
            Ok(edition) => {
                let pinned = self.pin(&edition.standing, &edition.grants).await;
                pinned.map(|()| edition)
            }
            Err(cause) => Err(cause),
        };
        match edition {
            Ok(edition) => {
                let (entry, _) = entry(
                    PluginState::Loaded,
                    Some(edition.description.clone()),
                    report,
                    None,
                );
                self.loads().insert(errand.reference.name.clone(), entry);
                edition.tell_loaded(None);
                Ok(Arc::new(self.provide(errand, edition, before)))
            }
            Err(cause) => {
                let (entry, report) = entry(PluginState::Failed, None, report, Some(cause));
                self.loads().insert(errand.reference.name, entry);
                Err(report)
            }
        }
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
        let plugin = errand.reference.name.clone();
        let (current, now) = watch::channel(edition.current());
        let (granted, on_change) = watch::channel(0);
        let (opened, on_open) = watch::channel(None);
        let keeper = Keeper {
            platform: Arc::downgrade(self),
            settling: Settling::from(before),
            errand: Arc::new(errand),
            edition,
            grants: self.grants.clone(),
            asked: self.asked.subscribe(),
            current,
            granted,
            opened: on_open,
            interval: self.options.watch_interval,
        };
        self.runtime.handle().spawn(keeper.run());
        Provider::new(plugin, now, on_change, opened)
    }

    /// Loads the file that the errand's reference names now, up to `init`. It is not pinned yet.
    pub(super) async fn edition(
        &self,
        errand: &Errand,
        report: &mut LoadReport,
    ) -> Result<Edition, Cause> {
        let Candidate {
            standing,
            grants,
            program,
        } = self
            .candidate(self.found(&errand.reference)?, report)
            .await?;
        let policy = Policy::read(&grants, &errand.config).await;
        let recipe = Arc::new(self.recipe(&standing, &grants, policy, program, errand));
        let (building, config) = (recipe.clone(), errand.config.clone());
        let (first, description) = self
            .guarded("init", async move { build_first(&building, &config).await })
            .await?;
        let plugin = &standing.plugin;
        // What ships with the plugin nobody has to be reminded of.
        let ours = built_in(plugin).filter(|_| standing.is_shipped);
        let ours = ours.map_or_else(Vec::new, |ours| ours.hazards());
        let hazards = grants.hazards().into_iter();
        for hazard in hazards.filter(|hazard| !ours.contains(hazard)) {
            warn!(%plugin, hazard, "plugin granted more than named hosts");
        }
        let (version, digest) = (&description.version, standing.digest);
        info!(%plugin, %version, file = %standing.file.display(), %digest, "plugin loaded");
        let actor = Actor::start(recipe.clone(), first, self.runtime.clone());
        Ok(Edition {
            actor: Arc::new(actor),
            standing,
            grants,
            recipe,
            description,
        })
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

    /// What [`Platform::list`] says of it from now on.
    pub(super) fn note(&self, edition: &Edition, last_error: Option<String>) {
        let Standing {
            plugin,
            file,
            digest,
            ..
        } = &edition.standing;
        let entry = PluginEntry {
            name: plugin.clone(),
            path: file.clone(),
            digest: Some(*digest),
            description: Some(edition.description.clone()),
            state: PluginState::Loaded,
            last_error,
        };
        self.loads().insert(plugin.clone(), entry);
    }

    /// Read, judged and compiled: what loading begins with, whoever asks.
    async fn candidate(&self, file: PathBuf, report: &mut LoadReport) -> Result<Candidate, Cause> {
        let plugin = report.plugin.clone();
        report.file = Some(file.clone());
        let (standing, bytes) = self.standing(plugin, file).await?;
        let Standing {
            digest, is_shipped, ..
        } = standing;
        report.digest = Some(digest);
        let grants = standing.grants(&self.grants.borrow());
        self.pins
            .check(&standing.plugin, digest, &grants, is_shipped)?;
        Ok(Candidate {
            program: self.compile(bytes).await?,
            standing,
            grants,
        })
    }

    /// What the file is, and what is in it.
    async fn standing(&self, plugin: String, file: PathBuf) -> Result<(Standing, Vec<u8>), Cause> {
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || sighting::read(&path)).await;
        let read = read.unwrap_or_else(|problem| Err(Unreadable::Io(problem.to_string())));
        let bytes = read.map_err(|unreadable| match unreadable {
            Unreadable::Io(problem) => Cause::Unreadable(problem),
            Unreadable::NotAFile => Cause::Unreadable("it is not a regular file".to_owned()),
            Unreadable::TooLarge => Cause::TooLarge {
                most: sighting::MOST_BYTES,
            },
        })?;
        let digest = Digest::of(&bytes);
        let standing = Standing {
            is_shipped: self.shipped.lists(&plugin, digest),
            plugin,
            file,
            digest,
        };
        Ok((standing, bytes))
    }

    /// On the guests' threads: a plugin that spins at its start must not take one that carries jobs.
    async fn guarded<T: Send + 'static>(
        &self,
        call: &'static str,
        starting: impl Future<Output = Result<T, Cause>> + Send + 'static,
    ) -> Result<T, Cause> {
        let started = AbortOnDropHandle::new(self.runtime.handle().spawn(starting)).await;
        started.map_err(|problem| Cause::lost(call, &problem))?
    }

    async fn compile(&self, bytes: Vec<u8>) -> Result<Program, Cause> {
        engine::recognise(&bytes)?;
        if let Some(compiler) = self.options.compiler.as_ref().filter(|c| c.is_for(&bytes)) {
            compiler.fill(&bytes).await?;
        }
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
        errand: &Errand,
    ) -> Recipe {
        let plugin = standing.plugin.clone();
        let lacks_built_in = !standing.is_shipped && built_in(&plugin).is_some();
        let egress = Egress::new(
            EgressOptions {
                plugin: plugin.clone(),
                group: errand.group.clone(),
                grants_file: self.options.grants_file.clone(),
                no_built_in: lacks_built_in.then(|| self.shipped.why_not(&plugin, standing.digest)),
                resolver: self.options.resolver.clone(),
                observer: self.options.observer.clone(),
                all: self.requests.clone(),
                tap: self.options.tap.clone(),
            },
            policy,
        );
        let allotment = allotment(grants, &self.options.clocks);
        errand.log.limit(allotment.limits.log_lines_per_second);
        let tenant = Tenant::new(
            errand.log.clone(),
            errand.kv.clone(),
            Arc::new(egress),
            Trail::new(
                self.options.audit.clone(),
                plugin.clone(),
                errand.group.clone(),
                standing.digest,
            ),
            allotment,
            secrets_of(grants, &errand.config),
        );
        Recipe {
            plugin,
            engine: self.engine.clone(),
            program,
            tenant: Arc::new(tenant),
            config: errand.config.to_string(),
            settings: errand.settings.clone(),
            clocks: self.options.clocks.clone(),
            turn: errand.turn.clone(),
        }
    }

    /// To be asked what it is, which needs no configuration and no grant.
    async fn ungranted(&self, standing: &Standing, program: Program) -> Recipe {
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

    /// Every plugin found, with what loading it would find, and every one that a group asked for.
    pub async fn list(&self) -> Vec<PluginEntry> {
        let mut entries = self.loads().clone();
        for found in self.directory.list() {
            let is_known = entries.values().any(|entry| entry.path == found.file);
            if is_known || entries.contains_key(&found.reference) {
                continue;
            }
            let mut report = LoadReport::begun(found.name.clone());
            let (description, cause) = match self.survey(found.file, &mut report).await {
                Ok(description) => (Some(description), None),
                Err(cause) => (None, Some(cause)),
            };
            let (mut entry, _) = entry(PluginState::Present, description, report, cause);
            if let Some(twin) = found.twin {
                let twin = twin.display();
                let told = format!("its name differs from {twin} in case only; next: keep one");
                entry.last_error.get_or_insert(told);
            }
            entries.insert(found.reference, entry);
        }
        entries.into_values().collect()
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
        } = self.candidate(file, report).await?;
        let recipe = self.ungranted(&standing, program).await;
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
            return Cause::lost("instantiation", &recipe.lost("instantiation", &problem));
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
        .map_err(|lost| Cause::lost("describe", &lost))
}

/// `describe`, hold the configuration against the schema, `init`.
async fn build_first(
    recipe: &Recipe,
    config: &serde_json::Value,
) -> Result<(Instance, Description), Cause> {
    let description = describe(recipe).await?;
    let plugin = &recipe.plugin;
    for mismatch in schema::mismatches(&description.config_schema, config) {
        warn!(%plugin, "{mismatch}");
    }
    // A fresh instance: what `describe` left behind must not matter to `init`, as after a rebuild.
    let first = recipe.build().await.map_err(|why| match why {
        NotBuilt::Refused(problem) => Cause::call("init", &problem),
        NotBuilt::Lost(lost) => Cause::lost("init", &lost),
    })?;
    Ok((first, description))
}

#[cfg(test)]
mod tests;

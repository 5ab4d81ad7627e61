//! From a file to a plugin at work: each step may refuse it, with the cause that the report tells.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};

use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Platform;
use crate::plugin::actor::{Actor, Instance, NotBuilt, Recipe};
use crate::plugin::bindings::Description;
use crate::plugin::egress::{Egress, EgressOptions, Policy};
use crate::plugin::engine::{self, ProcessorTimeSpent, Program, Tenant};
use crate::plugin::grants::{Grants, GrantsFile, built_in};
use crate::plugin::keeper::{Edition, Errand, allotment};
use crate::plugin::report::{Cause, Digest, LoadReport};
use crate::plugin::schema;
use crate::plugin::sighting::{self, Unreadable};
use crate::plugin::trail::Trail;
use crate::plugin::watch::{Standing, secrets_of};

impl Platform {
    /// Loads the file that the errand's reference names now, up to `init`, with what `written` grants. It is not pinned
    /// yet: of a build that fails its `init` nobody was asked to trust anything, and the next one must not be refused for
    /// it. No request leaves until then; see [`Egress`].
    pub(in crate::plugin) async fn edition(
        &self,
        errand: &Errand,
        written: &GrantsFile,
        report: &mut LoadReport,
    ) -> Result<Edition, Cause> {
        let file = self.found(&errand.reference)?;
        let Candidate {
            standing,
            grants,
            program,
        } = self.candidate(file, written, report).await?;
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

    /// Read, judged and compiled: what loading begins with, whoever asks.
    pub(super) async fn candidate(
        &self,
        file: PathBuf,
        written: &GrantsFile,
        report: &mut LoadReport,
    ) -> Result<Candidate, Cause> {
        let plugin = report.plugin.clone();
        report.file = Some(file.clone());
        let (standing, bytes) = self.standing(plugin, file).await?;
        let Standing {
            digest, is_shipped, ..
        } = standing;
        report.digest = Some(digest);
        let grants = standing.grants(written);
        self.pins
            .check(&standing.plugin, digest, &grants, is_shipped)?;
        Ok(Candidate {
            program: self.program(bytes, digest).await?,
            standing,
            grants,
        })
    }

    /// What the file is, and what is in it.
    pub(super) async fn standing(
        &self,
        plugin: String,
        file: PathBuf,
    ) -> Result<(Standing, Vec<u8>), Cause> {
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
    pub(super) async fn guarded<T: Send + 'static>(
        &self,
        call: &'static str,
        starting: impl Future<Output = Result<T, Cause>> + Send + 'static,
    ) -> Result<T, Cause> {
        let started = AbortOnDropHandle::new(self.runtime.handle().spawn(starting)).await;
        started.map_err(|problem| Cause::lost(call, &problem))?
    }

    /// Compiled once for all groups of a digest, for as long as one of them runs it.
    pub(super) async fn program(
        &self,
        bytes: Vec<u8>,
        digest: Digest,
    ) -> Result<Arc<Program>, Cause> {
        let known = {
            let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
            programs.retain(|_, known| {
                let unused = |known: &Weak<Program>| known.strong_count() == 0;
                Arc::strong_count(known) > 1 || !known.try_lock().is_ok_and(|known| unused(&known))
            });
            programs.entry(digest).or_default().clone()
        };
        let mut known = known.lock().await;
        if let Some(program) = known.upgrade() {
            return Ok(program);
        }
        let program = Arc::new(self.compile(bytes).await?);
        *known = Arc::downgrade(&program);
        Ok(program)
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

    /// Why it has no built-in grants, where a shipped plugin of its name would have some.
    pub(super) fn no_built_in(&self, standing: &Standing) -> Option<String> {
        let Standing {
            plugin,
            digest,
            is_shipped,
            ..
        } = standing;
        let lacks = !is_shipped && built_in(plugin).is_some();
        lacks.then(|| self.shipped.why_not(plugin, *digest))
    }

    pub(super) fn recipe(
        &self,
        standing: &Standing,
        grants: &Grants,
        policy: Policy,
        program: Arc<Program>,
        errand: &Errand,
    ) -> Recipe {
        let plugin = standing.plugin.clone();
        let egress = Egress::new(
            EgressOptions {
                plugin: plugin.clone(),
                group: errand.group.clone(),
                grants_file: self.options.grants_file.clone(),
                no_built_in: self.no_built_in(standing),
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
}

/// One file on its way to be a plugin.
pub(super) struct Candidate {
    pub(super) standing: Standing,
    pub(super) grants: Grants,
    pub(super) program: Arc<Program>,
}

/// Instantiate, and ask what it is.
pub(super) async fn describe(recipe: &Recipe) -> Result<Description, Cause> {
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

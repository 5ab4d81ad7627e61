//! A plugin looked at or rehearsed by a command: the steps of loading, one by one, and nothing kept of it.
//!
//! ```text
//! examine: read ─ digest ─ compile ─ link ─ describe                       ─► Examined   nothing is granted
//! rehearse: ────────────────────────────── describe ─ (pin, grants) ─► Rehearsal: instances on demand, or an Actor
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::load::{Candidate, describe};
use super::{Grants, LoadRequest, Platform, PluginEntry, PluginState};
use crate::fleet::group::ProviderSettings;
use crate::plugin::actor::{Actor, NotBuilt, Recipe};
use crate::plugin::bindings::Description;
use crate::plugin::egress::Policy;
use crate::plugin::outline::Outline;
use crate::plugin::provider::{Current, Provider};
use crate::plugin::report::{Cause, Digest, LoadReport};
use crate::plugin::runtime::GuestRuntime;

/// What can be known of a file without a configuration.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The operator's name of it, which grants and pins go by.
    pub plugin: String,
    pub file: PathBuf,
    pub digest: Digest,
    /// Bytes of the file.
    pub size: usize,
    /// Validating, compiling and linking together.
    pub compile: Duration,
    pub outline: Outline,
    pub description: Description,
    /// The installation vouches for this very digest.
    pub is_shipped: bool,
    /// Built-in ones, if it is shipped, extended by `plugins.toml`.
    pub grants: Grants,
    /// Why it has no built-in grants, where a shipped plugin of its name would have some.
    pub no_built_in: Option<String>,
    /// Why a manager would not load it with these grants, and what next.
    pub refusal: Option<LoadReport>,
}

/// One rehearsal of one plugin for one group.
pub struct RehearsalRequest<'a> {
    /// The operator's name of the plugin.
    pub plugin: &'a str,
    pub file: PathBuf,
    /// `plugin_config`.
    pub config: &'a serde_json::Value,
    pub settings: ProviderSettings,
    pub group_key: &'a str,
    /// `None`: what `plugins.toml` and the installation grant, to the digest that they trust.
    pub grants: Option<Grants>,
}

/// A plugin that is compiled and granted, and runs when asked to.
pub struct Rehearsal {
    pub recipe: Arc<Recipe>,
    pub description: Description,
    pub file: PathBuf,
    pub digest: Digest,
    pub grants: Grants,
    runtime: Arc<GuestRuntime>,
}

impl Platform {
    /// Whether the installation vouches for this very digest under this name.
    pub fn is_shipped(&self, plugin: &str, digest: Digest) -> bool {
        self.shipped.lists(plugin, digest)
    }

    /// Everything up to `describe`, whether or not a manager would trust it.
    pub async fn examine(&self, plugin: &str, file: PathBuf) -> Result<Examined, LoadReport> {
        let mut report = LoadReport::begun(plugin.to_owned());
        report.file = Some(file.clone());
        let examined = self.try_examine(plugin, file, &mut report).await;
        examined.map_err(|cause| LoadReport { cause, ..report })
    }

    async fn try_examine(
        &self,
        plugin: &str,
        file: PathBuf,
        report: &mut LoadReport,
    ) -> Result<Examined, Cause> {
        let (standing, bytes) = self.standing(plugin.to_owned(), file).await?;
        report.digest = Some(standing.digest);
        let (size, began) = (bytes.len(), Instant::now());
        let program = self.program(bytes, standing.digest).await?;
        let compile = began.elapsed();
        let outline = self.engine.outline(&program);
        let grants = standing.grants(&self.written());
        let recipe = self.ungranted(&standing, program).await;
        let description = self
            .guarded("describe", async move { describe(&recipe).await })
            .await?;
        let pinned = self
            .pins
            .check(plugin, standing.digest, &grants, standing.is_shipped);
        let refusal = pinned.err().map(|cause| LoadReport {
            plugin: plugin.to_owned(),
            file: Some(standing.file.clone()),
            digest: Some(standing.digest),
            cause,
        });
        Ok(Examined {
            no_built_in: self.no_built_in(&standing),
            plugin: standing.plugin,
            file: standing.file,
            digest: standing.digest,
            size,
            compile,
            outline,
            description,
            is_shipped: standing.is_shipped,
            grants,
            refusal,
        })
    }

    /// Compiled and described; initialised only by what is done with it.
    pub async fn rehearse(&self, request: RehearsalRequest<'_>) -> Result<Rehearsal, LoadReport> {
        let mut report = LoadReport::begun(request.plugin.to_owned());
        report.file = Some(request.file.clone());
        let rehearsal = self.try_rehearse(request, &mut report).await;
        rehearsal.map_err(|cause| LoadReport { cause, ..report })
    }

    async fn try_rehearse(
        &self,
        request: RehearsalRequest<'_>,
        report: &mut LoadReport,
    ) -> Result<Rehearsal, Cause> {
        let Candidate {
            standing,
            grants,
            program,
        } = match &request.grants {
            None => {
                let written = self.written();
                self.candidate(request.file.clone(), &written, report)
                    .await?
            }
            Some(grants) => {
                let (standing, bytes) = self
                    .standing(request.plugin.to_owned(), request.file.clone())
                    .await?;
                report.digest = Some(standing.digest);
                Candidate {
                    program: self.program(bytes, standing.digest).await?,
                    standing,
                    grants: grants.clone(),
                }
            }
        };
        let errand = self.errand(&LoadRequest {
            reference: request.plugin,
            config: request.config,
            settings: request.settings,
            group_key: request.group_key,
        });
        let policy = Policy::read(&grants, request.config).await;
        let recipe = Arc::new(self.recipe(&standing, &grants, policy, program, &errand));
        let describing = recipe.clone();
        let description = self
            .guarded("describe", async move { describe(&describing).await })
            .await?;
        Ok(Rehearsal {
            recipe,
            description,
            file: standing.file,
            digest: standing.digest,
            grants,
            runtime: self.runtime.clone(),
        })
    }
}

impl Rehearsal {
    /// The plugin at work as in a manager, but one file for good, under grants that do not change.
    pub async fn provider(&self) -> Result<Provider, NotBuilt> {
        let recipe = self.recipe.clone();
        let building = async move { recipe.build().await };
        let built = self.runtime.handle().spawn(building).await;
        let first = built.map_err(|problem| {
            NotBuilt::Lost(crate::plugin::actor::Lost(format!("`init`: {problem}")))
        })??;
        let actor = Actor::start(self.recipe.clone(), first, self.runtime.clone());
        let (_, current) = watch::channel(Current {
            actor: Arc::new(actor),
            digest: self.digest,
        });
        let (_, granted) = watch::channel(0);
        let (opened, _) = watch::channel(None);
        let (_, entry) = watch::channel(PluginEntry {
            name: self.recipe.plugin.clone(),
            path: self.file.clone(),
            digest: Some(self.digest),
            description: Some(self.description.clone()),
            state: PluginState::Loaded,
            last_error: None,
        });
        Ok(Provider::new(entry, current, granted, opened))
    }
}

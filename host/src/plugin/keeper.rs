//! Keeps one group's plugin as its operator wants it: grants, granted files and the plugin's own file, as they change.
//!
//! ```text
//! plugins.toml ────► pinned ─► reach, secrets, environment, memory ┐
//! granted file ────────────────────────────────────────────────────┴► `granted` counts one up
//! plugin's file ─ settled ─► trial: compile, init, open ─┬ passed ─► runs; the one before ends after its calls
//!                                                        └ failed ─► told; the one before goes on
//! ```
//! Invariants: a digest is pinned before it is given anything, and one that may not have the grants has none (where only
//! the store failed, the next look tries again); a trial has the grants that what runs is pinned under, never newer ones;
//! one trial at a time, ended when the grants change; what runs is replaced only by what was initialised and opened the
//! same group.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::actor::{Actor, Clocks, Recipe};
use super::bindings::Description;
use super::directory::Reference;
use super::engine::Allotment;
use super::grants::{Grants, GrantsFile, Limits};
use super::kv::Kv;
use super::log::GuestLog;
use super::platform::{Platform, PluginEntry, PluginState};
use super::provider::Current;
use super::report::{Cause, Digest, LoadReport};
use super::secrets::Fingerprint;
use super::sighting::{Settling, Sighting};
use super::watch::{Standing, secrets_of};
use crate::fleet::group::{CallFailure, ProviderSettings};

/// Between two trials of a file whose failure may have been the cloud's.
const RETRY: Duration = Duration::from_secs(60);

/// One group's wish for a plugin, and what all files that serve it share.
pub struct Errand {
    pub reference: Reference,
    pub config: serde_json::Value,
    pub settings: ProviderSettings,
    /// The group's identity as far as it is known before `open`.
    pub group: String,
    pub log: Arc<GuestLog>,
    pub kv: Arc<Kv>,
    /// Held by the call that changes the group, whichever file makes it.
    pub turn: Arc<Mutex<()>>,
}

/// One file at work for one group.
pub struct Edition {
    pub standing: Standing,
    /// What it was given.
    pub grants: Grants,
    pub recipe: Arc<Recipe>,
    pub actor: Arc<Actor>,
    pub description: Description,
}

impl Edition {
    /// For the audit log; `instead_of`: the digest that it takes over from.
    pub fn tell_loaded(&self, instead_of: Option<Digest>) {
        let (file, version) = (&self.standing.file, &self.description.version);
        let trail = &self.recipe.tenant.trail;
        trail.loaded(file, version, &self.grants, instead_of);
    }

    pub fn current(&self) -> Current {
        Current {
            actor: self.actor.clone(),
            digest: self.standing.digest,
        }
    }

    /// As operators see it.
    pub fn entry(&self, last_error: Option<String>) -> PluginEntry {
        PluginEntry {
            name: self.standing.plugin.clone(),
            path: self.standing.file.clone(),
            digest: Some(self.standing.digest),
            description: Some(self.description.clone()),
            state: PluginState::Loaded,
            last_error,
        }
    }
}

type Trial = AbortOnDropHandle<Result<Box<Edition>, LoadReport>>;

/// The task of one group; ends when nobody uses its provider any more.
pub struct Keeper {
    pub platform: Weak<Platform>,
    pub errand: Arc<Errand>,
    pub edition: Edition,
    /// Why it is given nothing of its grants.
    pub refused: Option<Cause>,
    /// What keeps its file, or another in its place, from it.
    pub trouble: Option<String>,
    pub entry: watch::Sender<PluginEntry>,
    pub settling: Settling,
    pub grants: watch::Receiver<Arc<GrantsFile>>,
    /// Counts the operator's requests to look now.
    pub asked: watch::Receiver<u64>,
    pub current: watch::Sender<Current>,
    pub granted: watch::Sender<u64>,
    /// The group's ID, once it was told.
    pub opened: watch::Receiver<Option<String>>,
    pub interval: Duration,
}

/// The file that is to take over.
#[derive(Default)]
struct Candidate {
    trial: Option<Trial>,
    failure: Option<Failure>,
    /// So that a failure that repeats itself is told once.
    told: Option<LoadReport>,
}

/// A trial that ended, or was ended, without success.
struct Failure {
    /// When it is tried again by itself; otherwise when something changed.
    again_at: Option<Instant>,
}

impl Keeper {
    pub async fn run(mut self) {
        let mut candidate = Candidate::default();
        let mut wanted = self.edition.grants.clone();
        let mut files = self.fingerprint(Fingerprint::default()).await;
        // What changed since the plugin was loaded is in this look, and no later one will tell of it.
        self.edition.recipe.tenant.egress.reread().await;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut insists = false;
            tokio::select! {
                _ = ticks.tick() => {}
                changed = self.asked.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    insists = true;
                }
                tried = ended(&mut candidate.trial) => {
                    candidate.trial = None;
                    self.settle(tried, &mut candidate);
                }
                () = self.current.closed() => return,
            }
            let Some(platform) = self.platform.upgrade() else {
                return;
            };
            let written = self.grants.borrow_and_update().clone();
            let now = self.edition.standing.grants(&written);
            if now != wanted {
                wanted = now;
                insists = true;
                // It was given what holds no more.
                if candidate.trial.take().is_some() {
                    candidate.failure = Some(Failure { again_at: None });
                }
            }
            let seen = self.fingerprint(files.clone()).await;
            let is_rewritten = seen != files;
            files = seen;
            // What names another file may be meant for that one, and waits until it was tried.
            let names_it = wanted.sha256.as_deref() == Some(&*self.edition.standing.digest.hex());
            let waits = wanted.sha256.is_some() && !names_it;
            // Else the digest that runs is pinned before another is given anything.
            let mut is_regranted = !waits && self.regrant(&platform, &wanted).await;
            self.follow_file(&platform, written, &mut candidate, insists || is_rewritten)
                .await;
            let is_for_another = candidate.trial.is_some()
                && wanted.sha256.is_some()
                && wanted.sha256 == self.settling.last().digest().map(|digest| digest.hex());
            if waits && !is_for_another {
                is_regranted = self.regrant(&platform, &wanted).await;
            }
            if is_regranted {
                // Other files are looked at now, and none of them changed.
                files = self.fingerprint(files).await;
            }
            if is_rewritten {
                info!(plugin = %self.edition.standing.plugin, "granted file changed");
                self.edition.recipe.tenant.egress.reread().await;
            }
            if is_regranted || is_rewritten {
                self.granted.send_modify(|count| *count += 1);
            }
            self.show();
        }
    }

    /// What operators see of it, as it is now.
    fn show(&self) {
        let Standing {
            plugin,
            file,
            digest,
            ..
        } = &self.edition.standing;
        let refused = self.refused.as_ref().map(|cause| {
            format!(
                "plugin `{plugin}` ({}, {digest}) is granted nothing while it runs\n  {cause}\n  next: {}",
                file.display(),
                cause.next(plugin, Some(*digest))
            )
        });
        let told: Vec<_> = refused.into_iter().chain(self.trouble.clone()).collect();
        let now = self
            .edition
            .entry((!told.is_empty()).then(|| told.join("\n")));
        self.entry.send_if_modified(|shown| {
            let is_another = *shown != now;
            *shown = now;
            is_another
        });
    }

    async fn fingerprint(&self, before: Fingerprint) -> Fingerprint {
        let secrets = self.edition.recipe.tenant.secrets();
        let look = tokio::task::spawn_blocking(move || secrets.fingerprint(&before));
        look.await.unwrap_or_default()
    }

    /// Begins a trial when the file became another, or when one that failed may pass now.
    async fn follow_file(
        &mut self,
        platform: &Arc<Platform>,
        written: Arc<GrantsFile>,
        candidate: &mut Candidate,
        insists: bool,
    ) {
        let before = self.settling.last().clone();
        let look = platform.look(self.errand.reference.clone(), before).await;
        let is_another = self.settling.see(look);
        let is_due = candidate.failure.as_ref().is_some_and(|failure| {
            insists || failure.again_at.is_some_and(|at| at <= Instant::now())
        });
        let is_again = is_due && self.settling.is_settled();
        if !is_another && !is_again {
            return;
        }
        candidate.trial = None;
        candidate.failure = None;
        let (plugin, digest) = (&self.edition.standing.plugin, self.edition.standing.digest);
        match self.settling.last() {
            Sighting::Absent => {
                let file = self.edition.standing.file.display();
                warn!(
                    %plugin, group = %self.errand.group, %file, %digest,
                    "plugin file is gone and the plugin goes on; next: put it back before the manager is started again"
                );
                candidate.told = None;
                self.trouble = Some(format!(
                    "plugin `{plugin}` ({file}, {digest}) goes on\n  its file is gone\n  next: put it back before the \
                     manager is started again"
                ));
            }
            Sighting::Present { file, digest, .. }
                if *digest == Some(self.edition.standing.digest) =>
            {
                self.edition.standing.file.clone_from(file);
                candidate.told = None;
                self.trouble = None;
            }
            Sighting::Present { .. } => {
                let opened = self.opened.clone();
                let trial = try_file(platform.clone(), self.errand.clone(), written, opened);
                candidate.trial = Some(AbortOnDropHandle::new(tokio::spawn(trial)));
            }
        }
    }

    /// What became of a trial.
    fn settle(
        &mut self,
        tried: Result<Result<Box<Edition>, LoadReport>, tokio::task::JoinError>,
        candidate: &mut Candidate,
    ) {
        let plugin = self.edition.standing.plugin.clone();
        let group = &self.errand.group;
        match tried {
            Ok(Ok(edition)) => {
                let before = std::mem::replace(&mut self.edition, *edition);
                (self.refused, self.trouble) = (None, None);
                self.show();
                self.current.send_replace(self.edition.current());
                self.granted.send_modify(|count| *count += 1);
                candidate.told = None;
                let (digest, instead_of) = (self.edition.standing.digest, before.standing.digest);
                let version = &self.edition.description.version;
                self.edition.tell_loaded(Some(instead_of));
                info!(%plugin, %group, %version, %digest, %instead_of, "plugin file was replaced, and the new one runs");
                tokio::spawn(async move {
                    // Its calls end first. What it could not tidy up, its successor's snapshots show.
                    drop(before.actor.shutdown(false).await);
                });
            }
            Ok(Err(report)) => {
                candidate.failure = Some(Failure {
                    again_at: report.cause.may_pass().then(|| Instant::now() + RETRY),
                });
                if candidate.told.as_ref() != Some(&report) {
                    error!(
                        %group, goes_on = %self.edition.standing.digest,
                        "plugin file was replaced, and the one before goes on: {}", report.in_one_line()
                    );
                    candidate.told = Some(report.clone());
                }
                self.trouble = Some(report.to_string());
            }
            Err(problem) => {
                error!(%plugin, %group, %problem, "plugin file was not tried");
                let again_at = Some(Instant::now() + RETRY);
                candidate.failure = Some(Failure { again_at });
            }
        }
    }

    /// Whether it was given something else than what it had. The digest that runs is pinned before it is given anything;
    /// one that may not have it is given nothing, and so is one whose pin the store could not keep, until it can.
    async fn regrant(&mut self, platform: &Platform, wanted: &Grants) -> bool {
        let is_another = self.edition.grants != *wanted;
        let may_pass = self.refused.as_ref().is_some_and(Cause::may_pass);
        if !is_another && !may_pass {
            return false;
        }
        self.edition.grants = wanted.clone();
        let refused = platform.pin(&self.edition.standing, wanted).await.err();
        if !is_another && refused == self.refused {
            return false;
        }
        let Standing {
            plugin,
            file,
            digest,
            ..
        } = &self.edition.standing;
        let given = match &refused {
            None => {
                info!(%plugin, group = %self.errand.group, "plugin grants changed");
                wanted.clone()
            }
            Some(cause) => {
                let next = cause.next(plugin, Some(*digest));
                error!(
                    %plugin, file = %file.display(), %digest,
                    "plugin is granted nothing while it runs: {cause}; next: {next}"
                );
                Grants::default()
            }
        };
        self.refused = refused;
        self.give(&given).await;
        true
    }

    async fn give(&self, grants: &Grants) {
        let recipe = &self.edition.recipe;
        let tenant = &recipe.tenant;
        tenant.change_secrets(secrets_of(grants, &self.errand.config));
        let allotment = allotment(grants, &recipe.clocks);
        self.errand.log.limit(allotment.limits.log_lines_per_second);
        tenant.change_allotment(allotment);
        tenant.trail.granted(grants);
        tenant.egress.regrant(grants, &self.errand.config).await;
    }
}

/// What instances are made with under `grants`: the environment is the manager's own.
pub fn allotment(grants: &Grants, clocks: &Clocks) -> Allotment {
    let names = grants.env.iter();
    let env = names.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
    Allotment {
        env: env.collect(),
        limits: grants.limits.over(Limits {
            cpu: clocks.processor,
            ..Limits::default()
        }),
    }
}

/// Up to `open`, where the one before was opened: only what serves the same group may take over.
async fn try_file(
    platform: Arc<Platform>,
    errand: Arc<Errand>,
    written: Arc<GrantsFile>,
    opened: watch::Receiver<Option<String>>,
) -> Result<Box<Edition>, LoadReport> {
    let mut report = LoadReport::begun(errand.reference.name.clone());
    let trial = async {
        let edition = platform.edition(&errand, &written, &mut report).await?;
        // Only now: the one before may have been opened meanwhile.
        let served = opened.borrow().clone();
        if let Some(served) = served {
            let opened = edition.actor.open().await;
            let opened = opened.map_err(|failure| match failure {
                CallFailure::Refused(problem) => Cause::call("open", &problem),
                lost => Cause::lost("open", &lost),
            });
            let opened = opened?.id;
            if opened != served {
                return Err(Cause::AnotherGroup { served, opened });
            }
        }
        platform.pin(&edition.standing, &edition.grants).await?;
        Ok(Box::new(edition))
    };
    let tried = trial.await;
    tried.map_err(|cause| LoadReport { cause, ..report })
}

/// Pends for ever while there is no trial.
async fn ended(
    trial: &mut Option<Trial>,
) -> Result<Result<Box<Edition>, LoadReport>, tokio::task::JoinError> {
    match trial {
        Some(trial) => trial.await,
        None => std::future::pending().await,
    }
}

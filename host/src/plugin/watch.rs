//! Grants as they change while plugins run: `plugins.toml` is read anew, and each group's tenant follows.
//!
//! ```text
//! plugins.toml ─ parse ─► published (a broken edit is told and the old grants stay)
//! per group: grants changed ─► pinned ─► new reach and secrets ┐
//!            granted file changed ─────────────────────────────┴► `granted` counts one up
//! ```
//! Invariant: a digest is pinned before it is given anything, and one that may not have the grants has none.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info};

use super::actor::Recipe;
use super::grants::{Grants, GrantsFile, built_in};
use super::pin::Pins;
use super::report::{Cause, Digest};
use super::secrets::{Fingerprint, Secrets};

/// What a plugin is before the operator's table: its name, its file, and whether the installation vouches for it.
pub struct Standing {
    pub plugin: String,
    pub file: PathBuf,
    pub digest: Digest,
    pub is_shipped: bool,
}

impl Standing {
    pub fn grants(&self, file: &GrantsFile) -> Grants {
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
pub struct Watcher {
    pub standing: Standing,
    pub pins: Pins,
    /// What the table said when it was last looked at.
    pub current: Grants,
    pub grants: watch::Receiver<Arc<GrantsFile>>,
    pub recipe: Arc<Recipe>,
    pub config: serde_json::Value,
    pub granted: watch::Sender<u64>,
    pub interval: Duration,
}

impl Watcher {
    pub async fn run(mut self) {
        let tenant = self.recipe.tenant.clone();
        let look = |before: Fingerprint| {
            let secrets = tenant.secrets();
            tokio::task::spawn_blocking(move || secrets.fingerprint(&before))
        };
        let mut files = look(Fingerprint::default()).await.unwrap_or_default();
        // What changed since the plugin was loaded is in this look, and no later one will tell of it.
        tenant.egress.reread().await;
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
                tenant.egress.reread().await;
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
        let secrets = Arc::new(secrets_of(&grants, &self.config));
        tenant.egress.regrant(&grants, &self.config).await;
        *tenant
            .secrets
            .write()
            .unwrap_or_else(PoisonError::into_inner) = secrets;
    }
}

/// Publishes `plugins.toml` as it changes, once two looks found the same: an editor's half-written file, or the empty one
/// before it, must not take grants away. A broken edit keeps what was, and is told once.
pub async fn watch_grants(
    file: PathBuf,
    mut last: String,
    interval: Duration,
    publish: watch::Sender<Arc<GrantsFile>>,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = last.clone();
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
        let is_settled = text == seen;
        seen = text;
        if !is_settled || seen == last {
            continue;
        }
        match GrantsFile::parse(&seen) {
            Ok(grants) => {
                info!(file = %file.display(), "plugin grants read anew");
                publish.send_replace(Arc::new(grants));
            }
            Err(problems) => error!(
                file = %file.display(), %problems,
                "plugin grants not changed: correct these lines; until then the old ones hold"
            ),
        }
        last.clone_from(&seen);
    }
}

/// No file grants nothing.
pub fn read_grants(file: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(file) {
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

pub fn secrets_of(grants: &Grants, config: &serde_json::Value) -> Secrets {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Secrets::new(grants, config, home.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_takes_no_grants_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("plugins.toml");
        let write = |text: &str| std::fs::write(&file, text).expect("it is writable");
        let second = Duration::from_secs(1);
        let (publish, mut grants) = watch::channel(Arc::new(GrantsFile::default()));
        let old = "[p]\nenv = [\"OLD\"]\n";
        write(old);
        tokio::spawn(watch_grants(file.clone(), old.to_owned(), second, publish));
        // Between two looks, as the next ones are at whole seconds.
        tokio::time::sleep(second / 2).await;
        write("");
        tokio::time::sleep(second).await;
        write("[p]\nenv = [\"NEW\"]\n");
        tokio::time::sleep(second).await;
        assert!(!grants.has_changed().expect("it is watched"));
        tokio::time::sleep(second).await;
        assert!(grants.has_changed().expect("it is watched"));
        assert_eq!(grants.borrow_and_update().plugins["p"].env, ["NEW"]);
        write("");
        tokio::time::sleep(second * 2).await;
        assert!(grants.borrow_and_update().plugins.is_empty());
    }
}

//! Grants as they are written: `plugins.toml` is read anew while plugins run, and each group's keeper follows.
//!
//! ```text
//! plugins.toml ─ parse ─► published (a broken edit is told and the old grants stay) ─► every `Keeper`
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info};

use super::grants::{Grants, GrantsFile, built_in};
use super::report::Digest;
use super::secrets::Secrets;

/// What a plugin is before the operator's table: its name, its file, and whether the installation vouches for it.
#[derive(Clone, Debug)]
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
        let mut grants = match written {
            Some(written) => ours.extended_by(written),
            None => ours,
        };
        grants.require_pins = grants.require_pins.or(file.require_pins);
        grants
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
    let mut is_unreadable = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = publish.closed() => return,
        }
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || read_grants(&path)).await;
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(problem)) => {
                if !is_unreadable {
                    error!(file = %file.display(), %problem, "plugin grants cannot be read: let the manager's user read them; until then the old ones hold");
                }
                is_unreadable = true;
                continue;
            }
            Err(_) => continue,
        };
        is_unreadable = false;
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

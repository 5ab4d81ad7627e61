//! When the configuration is read again: its file or one that it names changed and then stood still, or SIGHUP asked
//! for it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::config::{self, Fatal, Loaded};

/// GitLab Runner's own interval.
const LOOK_EVERY: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// The configuration's file and those that it names, as last read and as last looked at.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    named: Vec<PathBuf>,
    read: Vec<Stamp>,
    looked: Vec<Stamp>,
}

impl ConfigFile {
    /// One that was read a moment ago.
    pub(super) fn new(path: PathBuf, named: Vec<PathBuf>) -> Self {
        let mut file = Self {
            path,
            named,
            read: Vec::new(),
            looked: Vec::new(),
        };
        file.read = file.look();
        file.looked.clone_from(&file.read);
        file
    }

    /// Waits until there is reason to read it. Cancel-safe. A file that is being written is left to settle: two looks
    /// must see the same.
    pub(super) async fn changed(&mut self, asked: &Notify) {
        loop {
            tokio::select! {
                () = asked.notified() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.look();
            let settled = now == self.looked;
            let is_new = now != self.read;
            self.looked = now;
            if settled && is_new {
                return;
            }
        }
    }

    pub(super) fn load(&mut self) -> Result<Loaded, Fatal> {
        loop {
            self.read = self.look();
            let loaded = config::load(&self.path, |name| std::env::var(name).ok());
            match &loaded {
                // Looked at before they are read, or a change between the two would be taken for read.
                Ok(loaded) if loaded.files != self.named => self.named.clone_from(&loaded.files),
                _ => return loaded,
            }
        }
    }

    fn look(&self) -> Vec<Stamp> {
        let files = std::iter::once(&self.path).chain(&self.named);
        files.map(|file| Stamp::of(file)).collect()
    }
}

impl Stamp {
    /// Of nothing where there is nothing.
    fn of(file: &Path) -> Self {
        let found = std::fs::metadata(file);
        found.map_or_else(
            |_| Self::default(),
            |found| Self {
                modified: found.modified().ok(),
                bytes: found.len(),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_the_configuration_names_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (config, named) = (dir.path().join("config.toml"), dir.path().join("ca.pem"));
        std::fs::write(&config, "concurrent = 1\n").unwrap();
        let mut file = ConfigFile::new(config, vec![named.clone()]);
        let asked = Notify::new();
        let quiet = tokio::time::timeout(10 * LOOK_EVERY, file.changed(&asked));
        assert!(quiet.await.is_err());
        std::fs::write(&named, "what was not there before").unwrap();
        tokio::time::timeout(10 * LOOK_EVERY, file.changed(&asked))
            .await
            .unwrap();
    }
}

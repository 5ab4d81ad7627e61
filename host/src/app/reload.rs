//! When the configuration is read again: its file changed and then stood still, or SIGHUP asked for it.

use std::path::PathBuf;
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

/// The configuration's file, as last read and as last looked at.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    read: Stamp,
    looked: Stamp,
}

impl ConfigFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let mut file = Self {
            path,
            read: Stamp::default(),
            looked: Stamp::default(),
        };
        file.read = file.look();
        file.looked = file.read;
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
            self.looked = now;
            if settled && now != self.read {
                return;
            }
        }
    }

    pub(super) fn load(&mut self) -> Result<Loaded, Fatal> {
        self.read = self.look();
        config::load(&self.path, |name| std::env::var(name).ok())
    }

    fn look(&self) -> Stamp {
        let found = std::fs::metadata(&self.path);
        found.map_or_else(
            |_| Stamp::default(),
            |found| Stamp {
                modified: found.modified().ok(),
                bytes: found.len(),
            },
        )
    }
}

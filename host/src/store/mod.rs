//! What survives a restart: small named records, plain (never a secret) and sealed.
//!
//! ```text
//! <state directory>/            0700; what others can write is refused
//!   lock                        held while a manager runs: two never share a directory
//!   key                         0600, unless systemd hands the key over
//!   audit.log                   what plugins were given, and made: see [`audit`]
//!   journal/                    what happened, in order: a form of its own, see [`journal`]
//!   <kind>/                     0700
//!     <name>                    plain: the bytes; sealed: "FLS1", nonce, ciphertext and tag
//!     .tmp-…                    a write that never ended; removed at the next start
//! ```
//!
//! A record is replaced by rename, after its new bytes are on disk: whenever the machine stops, a reader finds the old
//! record or the new one, whole. A record that cannot be read is an error that names its file; it is left where it is.

pub mod audit;
mod directory;
pub mod journal;
pub mod owner;
pub mod place;
mod seal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use directory::Directory;

/// A record's kind is a folder, its name a file in it: `[A-Za-z0-9._-]{1,128}`, hashed when it is anything else.
#[derive(Clone)]
pub struct Store {
    records: Records,
}

/// By kind and name.
type InMemory = BTreeMap<(String, String), Vec<u8>>;

#[derive(Clone)]
enum Records {
    Memory(Arc<Mutex<InMemory>>),
    Directory(Arc<Directory>),
    /// Another process's directory, and what this one wrote instead of writing there.
    Beside(Arc<Beside>),
}

struct Beside {
    dir: PathBuf,
    own: Mutex<InMemory>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreProblem(pub String);

type Result<T> = std::result::Result<T, StoreProblem>;

impl Default for Store {
    fn default() -> Self {
        Self::in_memory()
    }
}

impl Store {
    /// Keeps nothing beyond this process: what happens when no state directory can be written.
    pub fn in_memory() -> Self {
        Self {
            records: Records::Memory(Arc::default()),
        }
    }

    /// Takes `dir` for this process alone, making it and its key where they are missing. The key is the systemd
    /// credential `fleetling-key` where there is one.
    pub fn open(dir: &Path) -> Result<Self> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(std::path::PathBuf::from);
        Self::open_with(dir, credentials.as_deref())
    }

    /// Reads the plain records that a manager keeps in `dir`, without its lock and its key. What is written stays in this
    /// process, and so do sealed records: for commands that look.
    pub fn beside(dir: &Path) -> Self {
        Self {
            records: Records::Beside(Arc::new(Beside {
                dir: dir.to_owned(),
                own: Mutex::default(),
            })),
        }
    }

    fn open_with(dir: &Path, credentials: Option<&Path>) -> Result<Self> {
        Ok(Self {
            records: Records::Directory(Arc::new(Directory::open(dir, credentials)?)),
        })
    }

    pub fn read_plain(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        match &self.records {
            Records::Memory(map) => Ok(lock(map).get(&(kind.into(), name.into())).cloned()),
            Records::Directory(dir) => dir.read_plain(kind, name),
            Records::Beside(beside) => {
                let own = lock(&beside.own).get(&(kind.into(), name.into())).cloned();
                match own {
                    Some(record) => Ok(Some(record)),
                    None => directory::read_plain(&beside.dir, kind, name),
                }
            }
        }
    }

    /// Durable when it returns.
    pub fn write_plain(&self, kind: &str, name: &str, record: &[u8]) -> Result<()> {
        match &self.records {
            Records::Memory(map) => {
                lock(map).insert((kind.into(), name.into()), record.into());
                Ok(())
            }
            Records::Directory(dir) => dir.write_plain(kind, name, record),
            Records::Beside(beside) => {
                lock(&beside.own).insert((kind.into(), name.into()), record.into());
                Ok(())
            }
        }
    }

    pub fn read_sealed(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        match &self.records {
            Records::Memory(_) => self.read_plain(kind, name),
            Records::Directory(dir) => dir.read_sealed(kind, name),
            Records::Beside(beside) => {
                Ok(lock(&beside.own).get(&(kind.into(), name.into())).cloned())
            }
        }
    }

    pub fn write_sealed(&self, kind: &str, name: &str, record: &[u8]) -> Result<()> {
        match &self.records {
            Records::Memory(_) | Records::Beside(_) => self.write_plain(kind, name, record),
            Records::Directory(dir) => dir.write_sealed(kind, name, record),
        }
    }

    /// Removing what is not there is no problem.
    pub fn remove(&self, kind: &str, name: &str) -> Result<()> {
        match &self.records {
            Records::Memory(map) => {
                lock(map).remove(&(kind.into(), name.into()));
                Ok(())
            }
            Records::Directory(dir) => dir.remove(kind, name),
            Records::Beside(beside) => {
                lock(&beside.own).remove(&(kind.into(), name.into()));
                Ok(())
            }
        }
    }

    /// Names of all records of a kind, sorted. A hashed name is listed, and can be read, as its hash.
    pub fn list(&self, kind: &str) -> Result<Vec<String>> {
        match &self.records {
            Records::Memory(map) => Ok(named(&lock(map), kind)),
            Records::Directory(dir) => dir.list(kind),
            Records::Beside(beside) => Ok(named(&lock(&beside.own), kind)),
        }
    }

    /// Where records lie; `None` when they live in memory only.
    pub fn dir(&self) -> Option<&Path> {
        match &self.records {
            Records::Memory(_) | Records::Beside(_) => None,
            Records::Directory(dir) => Some(dir.path()),
        }
    }
}

fn named(records: &InMemory, kind: &str) -> Vec<String> {
    let of_kind = records.keys().filter(|(k, _)| k == kind);
    of_kind.map(|(_, name)| name.clone()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

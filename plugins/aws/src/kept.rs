//! Short lists in the group's own store: what AWS cannot be asked again.

use fleetling_plugin_sdk::{Host, Level};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is kept under a key; empty where nothing is, or where it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(host: &dyn Host, key: &str) -> Vec<T> {
    stored(host, key).1
}

/// Changes what is kept, and answers whether it was: work goes on without, at the price of doing a thing twice.
pub(crate) fn change<T: DeserializeOwned + Serialize>(
    host: &dyn Host,
    key: &str,
    change: impl Fn(&mut Vec<T>),
) -> bool {
    // Only one instance of a plugin mutates, so losing this race twice is out of the question.
    for _ in 0..3 {
        let (stored, mut kept) = stored(host, key);
        change(&mut kept);
        let Ok(new) = serde_json::to_vec(&kept) else {
            return false;
        };
        match host.swap(key, stored.as_deref(), Some(&new)) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(problem) => {
                complain(host, key, &format!("{problem:?}"));
                return false;
            }
        }
    }
    complain(host, key, "somebody else keeps changing it");
    false
}

fn stored<T: DeserializeOwned>(host: &dyn Host, key: &str) -> (Option<Vec<u8>>, Vec<T>) {
    let stored = host.stored(key).unwrap_or_else(|problem| {
        complain(host, key, &format!("{problem:?}"));
        None
    });
    let kept = stored.as_deref().map_or_else(Vec::new, |json| {
        serde_json::from_slice(json).unwrap_or_default()
    });
    (stored, kept)
}

fn complain(host: &dyn Host, key: &str, problem: &str) {
    host.log(
        Level::Warn,
        "the group's store could not be used",
        &[("key", key.to_owned()), ("problem", problem.to_owned())],
    );
}

//! The last wishes for more, kept by their tokens, so that one which is told twice adds instances once.
//!
//! ```text
//!            ┌─ recorded before AWS is asked ─┐          AWS agreed
//!  (absent) ─┴──────────▶ open ───────────────┴─────────────────────▶ served
//!                          │  AWS refused: nothing was added
//!                          └───────────────────────────▶ (absent)
//! ```
//!
//! An *open* wish may have been granted or not: the call was cut off. Its `target` settles it, because setting the same
//! size twice is setting it once. Each removal in between lowers the group's size, and so lowers that target.

use fleetling_plugin_sdk::{Host, Level};
use serde::{Deserialize, Serialize};

const KEY: &str = "wishes";
/// The host repeats a token only right after it; more are kept than it can have under way.
const KEPT: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) token: String,
    /// How many instances it adds.
    pub(crate) added: u32,
    /// The group's size with them.
    pub(crate) target: u32,
    pub(crate) served: bool,
}

pub(crate) fn find(host: &dyn Host, token: &str) -> Option<Wish> {
    read(host).1.into_iter().find(|wish| wish.token == token)
}

/// Adds a wish, or replaces the one with its token.
pub(crate) fn record(host: &dyn Host, wish: &Wish) {
    change(host, |wishes| {
        wishes.retain(|kept| kept.token != wish.token);
        wishes.push(wish.clone());
        let surplus = wishes.len().saturating_sub(KEPT);
        wishes.drain(..surplus);
    });
}

pub(crate) fn forget(host: &dyn Host, token: &str) {
    change(host, |wishes| wishes.retain(|wish| wish.token != token));
}

/// So many instances were removed: what is open would reach a lower size.
pub(crate) fn lower(host: &dyn Host, removed: u32) {
    if removed > 0 && read(host).1.iter().any(|wish| !wish.served) {
        change(host, |wishes| {
            for wish in wishes.iter_mut().filter(|wish| !wish.served) {
                wish.target = wish.target.saturating_sub(removed);
            }
        });
    }
}

fn read(host: &dyn Host) -> (Option<Vec<u8>>, Vec<Wish>) {
    let stored = host.stored(KEY).unwrap_or_else(|problem| {
        complain(host, &format!("{problem:?}"));
        None
    });
    let wishes = stored.as_deref().map_or_else(Vec::new, |json| {
        serde_json::from_slice(json).unwrap_or_default()
    });
    (stored, wishes)
}

/// Without a store a token may be served twice, which costs an instance for a while; refusing to grow would cost jobs.
fn change(host: &dyn Host, change: impl Fn(&mut Vec<Wish>)) {
    // Only one instance of a plugin mutates, so losing this race twice is out of the question.
    for _ in 0..3 {
        let (stored, mut wishes) = read(host);
        change(&mut wishes);
        let Ok(new) = serde_json::to_vec(&wishes) else {
            return;
        };
        match host.swap(KEY, stored.as_deref(), Some(&new)) {
            Ok(true) => return,
            Ok(false) => {}
            Err(problem) => return complain(host, &format!("{problem:?}")),
        }
    }
    complain(host, "somebody else keeps changing it");
}

fn complain(host: &dyn Host, problem: &str) {
    host.log(
        Level::Warn,
        "the tokens of recent increases could not be kept",
        &[("problem", problem.to_owned())],
    );
}

#[cfg(test)]
mod tests {
    use fleetling_plugin_sdk::script::Script;

    use super::*;

    fn wish(token: &str, target: u32, served: bool) -> Wish {
        Wish {
            token: token.into(),
            added: 1,
            target,
            served,
        }
    }

    #[test]
    fn only_the_latest_are_kept_and_only_open_ones_are_lowered() {
        let host = Script::default();
        for n in 0..20 {
            record(&host, &wish(&n.to_string(), n, n % 2 == 0));
        }
        assert_eq!(find(&host, "3"), None);
        lower(&host, 2);
        assert_eq!(find(&host, "18").map(|wish| wish.target), Some(18));
        assert_eq!(find(&host, "19").map(|wish| wish.target), Some(17));
        record(&host, &wish("19", 30, true));
        assert_eq!(find(&host, "19"), Some(wish("19", 30, true)));
        forget(&host, "19");
        assert_eq!(find(&host, "19"), None);
    }
}

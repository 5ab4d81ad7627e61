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

use fleetling_plugin_sdk::Host;
use serde::{Deserialize, Serialize};

use crate::kept;

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
    /// When AWS was asked, in Unix milliseconds by AWS's clock.
    #[serde(default)]
    pub(crate) at: u64,
}

pub(crate) fn find(host: &dyn Host, token: &str) -> Option<Wish> {
    let mut wishes = kept::read(host, KEY).into_iter();
    wishes.find(|wish: &Wish| wish.token == token)
}

/// When the group was last asked for more.
pub(crate) fn newest(host: &dyn Host) -> Option<u64> {
    let wishes = kept::read(host, KEY).into_iter();
    wishes.map(|wish: Wish| wish.at).max()
}

/// Adds a wish, or replaces the one with its token. Where it cannot be kept, a token may be served twice, which costs an
/// instance for a while; refusing to grow would cost jobs.
pub(crate) fn record(host: &dyn Host, wish: &Wish) {
    kept::change(host, KEY, |wishes: &mut Vec<Wish>| {
        wishes.retain(|kept| kept.token != wish.token);
        wishes.push(wish.clone());
        let surplus = wishes.len().saturating_sub(KEPT);
        wishes.drain(..surplus);
    });
}

pub(crate) fn forget(host: &dyn Host, token: &str) {
    kept::change(host, KEY, |wishes: &mut Vec<Wish>| {
        wishes.retain(|wish| wish.token != token)
    });
}

/// So many instances were removed: what is open would reach a lower size.
pub(crate) fn lower(host: &dyn Host, removed: u32) {
    let is_open = |wish: &Wish| !wish.served;
    if removed > 0 && kept::read(host, KEY).iter().any(is_open) {
        kept::change(host, KEY, |wishes: &mut Vec<Wish>| {
            for wish in wishes.iter_mut().filter(|wish| !wish.served) {
                wish.target = wish.target.saturating_sub(removed);
            }
        });
    }
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
            at: u64::from(target),
        }
    }

    #[test]
    fn only_the_latest_are_kept_and_only_open_ones_are_lowered() {
        let host = Script::default();
        for n in 0..20 {
            record(&host, &wish(&n.to_string(), n, n % 2 == 0));
        }
        assert_eq!(find(&host, "3"), None);
        assert_eq!(newest(&host), Some(19));
        lower(&host, 2);
        assert_eq!(find(&host, "18").map(|wish| wish.target), Some(18));
        assert_eq!(find(&host, "19").map(|wish| wish.target), Some(17));
        record(&host, &wish("19", 30, true));
        assert_eq!(find(&host, "19"), Some(wish("19", 30, true)));
        forget(&host, "19");
        assert_eq!(find(&host, "19"), None);
    }
}

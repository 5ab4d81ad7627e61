//! Pools that lately had nothing to give: the next request avoids them until they have cooled off; pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::fleet::backoff::Backoff;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// Names come from the provider, and one that makes them up is not kept for ever.
const MOST: usize = 64;

#[derive(Clone, Debug)]
struct Cooling {
    since: Instant,
    until: Instant,
    backoff: Backoff,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    cooling: HashMap<String, Cooling>,
}

impl Pools {
    /// A pool has nothing to give, and cools off for longer each time. True: the last request did not avoid it yet, so
    /// that one which does may find another.
    pub(super) fn exhausted(&mut self, pool: &str, now: Instant) -> bool {
        // A pool that was left in peace for long starts over.
        self.cooling
            .retain(|_, cooling| now < cooling.until + LONGEST);
        if self.cooling.len() >= MOST && !self.cooling.contains_key(pool) {
            return false;
        }
        let cooling = self.cooling.entry(pool.to_owned()).or_insert(Cooling {
            since: now,
            until: now,
            backoff: Backoff::new(FIRST, LONGEST),
        });
        let avoided = now < cooling.until;
        cooling.since = now;
        cooling.until = now + cooling.backoff.failed();
        !avoided
    }

    /// What the next request avoids, the most recently exhausted first.
    pub(super) fn avoided(&self, now: Instant) -> Vec<String> {
        let mut avoided: Vec<(&Instant, &String)> = self
            .cooling
            .iter()
            .filter(|(_, cooling)| now < cooling.until)
            .map(|(pool, cooling)| (&cooling.since, pool))
            .collect();
        avoided.sort_by(|one, other| other.cmp(one));
        avoided.into_iter().map(|(_, pool)| pool.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn complaint_25_each_pool_cools_off_by_itself_and_for_longer_each_time() {
        let (mut pools, now) = (Pools::default(), Instant::now());
        assert!(pools.exhausted("a", now));
        assert!(pools.exhausted("b", now + SECOND));
        assert_eq!(pools.avoided(now + 2 * SECOND), ["b", "a"]);
        assert!(
            !pools.exhausted("b", now + 2 * SECOND),
            "it had been avoided"
        );
        assert_eq!(pools.avoided(now + 11 * SECOND), ["b"]);
        assert_eq!(pools.avoided(now + 22 * SECOND), Vec::<String>::new());
        assert!(pools.exhausted("b", now + 30 * SECOND));
        assert_eq!(pools.avoided(now + 69 * SECOND), ["b"]);
        let later = now + 70 * SECOND + LONGEST;
        assert!(pools.exhausted("b", later));
        assert_eq!(pools.avoided(later + FIRST), Vec::<String>::new());
    }

    #[test]
    fn a_provider_that_makes_up_pools_is_not_followed_for_ever() {
        let (mut pools, now) = (Pools::default(), Instant::now());
        let news = (0..1_000).filter(|n| pools.exhausted(&format!("pool {n}"), now));
        assert_eq!(news.count(), MOST);
    }
}

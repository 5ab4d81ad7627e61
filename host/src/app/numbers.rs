//! Small numbers for what runs side by side: each job gets the lowest that is free, as `CI_CONCURRENT_ID` wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Gives out the lowest free number of a scope, such as a runner or a runner's project.
#[derive(Clone, Debug)]
pub(crate) struct Numbers<S: Ord> {
    taken: Arc<Mutex<BTreeMap<S, BTreeSet<u32>>>>,
}

impl<S: Ord> Default for Numbers<S> {
    fn default() -> Self {
        Self {
            taken: Arc::default(),
        }
    }
}

/// A number until dropped.
#[derive(Debug)]
pub(crate) struct Number<S: Ord> {
    value: u32,
    scope: S,
    of: Arc<Mutex<BTreeMap<S, BTreeSet<u32>>>>,
}

impl<S: Ord + Clone> Numbers<S> {
    pub(crate) fn take(&self, scope: S) -> Number<S> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = taken.entry(scope.clone()).or_default();
        let value = (0..)
            .find(|n| !numbers.contains(n))
            .expect("because u32 outnumbers all jobs");
        numbers.insert(value);
        Number {
            value,
            scope,
            of: Arc::clone(&self.taken),
        }
    }
}

impl<S: Ord> Number<S> {
    pub(crate) fn value(&self) -> u32 {
        self.value
    }
}

impl<S: Ord> Drop for Number<S> {
    fn drop(&mut self) {
        let mut taken = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(numbers) = taken.get_mut(&self.scope) {
            numbers.remove(&self.value);
            if numbers.is_empty() {
                taken.remove(&self.scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn the_lowest_free_number_is_given_per_scope() {
        let numbers = Numbers::default();
        let first = numbers.take("a");
        let second = numbers.take("a");
        let other = numbers.take("b");
        assert_eq!((first.value(), second.value(), other.value()), (0, 1, 0));
        drop(first);
        assert_eq!(numbers.take("a").value(), 0);
    }
}

//! What one instance of a plugin may hold in all: a total over its memories and one over its tables.
//!
//! A component may have many of either, so a limit for each would be no limit. Nothing is given back before the store
//! ends, and neither is what was granted and then failed: wasmtime tells of failures that it never asked about, so a
//! guest could have one counted against what it keeps.

use wasmtime::{Error, ResourceLimiter};

pub const MEMORY_BYTES: usize = 128 << 20;
const TABLE_ELEMENTS: usize = 65_536;
/// Core instances, tables and memories, each.
const PIECES: usize = 64;

/// Bytes or elements: granted so far, and at most.
#[derive(Debug)]
struct Total {
    granted: usize,
    limit: usize,
}

impl Total {
    fn new(limit: usize) -> Self {
        Self { granted: 0, limit }
    }

    /// What exceeds the piece's own maximum fails anyway, and is not counted.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let grown = self.granted.saturating_add(desired.saturating_sub(current));
        let is_granted = grown <= self.limit && maximum.is_none_or(|most| desired <= most);
        if is_granted {
            self.granted = grown;
        }
        is_granted
    }
}

/// One store's.
#[derive(Debug)]
pub struct Quota {
    memory: Total,
    elements: Total,
}

impl Quota {
    /// `memory`: bytes of all linear memories together; `None` is the default.
    pub fn new(memory: Option<usize>) -> Self {
        Self {
            memory: Total::new(memory.unwrap_or(MEMORY_BYTES)),
            elements: Total::new(TABLE_ELEMENTS),
        }
    }
}

impl ResourceLimiter for Quota {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, Error> {
        Ok(self.memory.grow(current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, Error> {
        Ok(self.elements.grow(current, desired, maximum))
    }

    fn instances(&self) -> usize {
        PIECES
    }

    fn tables(&self) -> usize {
        PIECES
    }

    fn memories(&self) -> usize {
        PIECES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_over_all_pieces_and_a_refusal_counts_nothing() {
        let mut total = Total::new(100);
        assert!(total.grow(0, 60, None));
        assert!(!total.grow(0, 41, None));
        assert!(total.grow(0, 30, Some(30)));
        assert!(!total.grow(30, 40, Some(30)));
        assert!(total.grow(60, 70, None));
        assert!(!total.grow(70, 71, None));
        assert!(!total.grow(30, usize::MAX, None));
        assert_eq!(total.granted, 100);
    }
}

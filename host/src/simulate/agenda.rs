//! What happens when in virtual time; pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::fleet::group::InstanceId;
use crate::scaler::ledger::{AcquisitionId, ReservationId};

#[derive(Debug)]
pub(super) enum Event {
    /// A job waited for a slot as long as it may.
    GivenUp {
        manager: usize,
        reservation: ReservationId,
    },
    Ended {
        manager: usize,
        acquisition: AcquisitionId,
    },
    Read {
        manager: usize,
    },
    Ready {
        manager: usize,
        id: InstanceId,
    },
    /// A decision may come out differently.
    Wake {
        manager: usize,
    },
    /// A pause between two requests for jobs is over.
    Pause,
}

/// Ordered by time, then in the order of adding, so that every run is the same.
struct Due {
    at: Instant,
    number: u64,
    event: Event,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[derive(Default)]
pub(super) struct Agenda {
    due: BinaryHeap<Reverse<Due>>,
    number: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Instant, event: Event) {
        self.number += 1;
        let number = self.number;
        self.due.push(Reverse(Due { at, number, event }));
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse(due)| due.at)
    }

    /// The next event that is due by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Event> {
        self.next_at().filter(|at| *at <= now)?;
        self.due.pop().map(|Reverse(due)| due.event)
    }
}

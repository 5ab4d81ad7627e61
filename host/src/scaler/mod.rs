//! Deciding how many instances there should be, and which job gets which slot.

mod balance;
pub mod brake;
pub mod capacity;
pub mod driver;
pub mod handle;
pub mod ledger;
mod pools;
pub mod record;
pub mod schedule;
pub mod status;
pub mod throttle;
pub mod verdict;

pub use driver::ScalerOptions;
pub use handle::{Acquisition, Reservation, Scaler};
pub use status::{AcquireFailure, FleetEvent, Health, NoCapacity, Status};
pub use verdict::{Decided, Verdict};

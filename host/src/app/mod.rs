//! Composition: builds every part from a checked configuration, wires them, and takes them down again.
//!
//! ```text
//! run ──► entries ──► runner (one per [[runners]] entry) ──► job (one per job)
//!  │         │ reload     │ plugin::Platform::load → scaler::Scaler        │ trace, job::run, release, final update
//!  └─ shutdown: draining → stopping → abandoning, seen by all three
//! ```
//!
//! The only module that knows everyone; it holds no rule of its own that another module could hold.

mod allowance;
mod claims;
mod entries;
mod explain;
mod job;
mod lint;
mod lives;
mod look;
mod monitor;
mod numbers;
mod places;
mod plugin;
mod plugin_row;
mod reload;
mod run;
mod runner;
mod shutdown;
mod simulate;
mod teller;

pub use explain::{Look, status, why};
pub use lint::lint;
pub use look::{list, verify};
pub use places::compile_plugin;
pub use plugin::{Answer, Places, plugin};
pub use run::{RunOptions, run};
pub use simulate::simulate;

//! `fleetling simulate`: a trace of jobs replayed against the configured policies with the production core.
//!
//! ```text
//! trace ──┐                       ┌─ manager ─ ledger, capacity, schedule, throttle (production's own)
//!         ├─► replay (agenda) ──► │     └─ cloud ─ boot                              ──► history, fates
//! config ─┘                       └─ … one a runner                                         │
//!         recommend: many replays                         figures ──► report, chart ◄───────┘
//! ```
//!
//! Invariant: all of it is pure; files are `app`'s. Virtual time is an `Instant` counted from one that comes in, and all
//! that is drawn comes from a seed, so that the same input gives the same answer everywhere.

mod agenda;
pub mod boot;
pub mod chart;
mod cloud;
pub mod figures;
pub mod history;
mod manager;
pub mod proof;
pub mod recommend;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod trace;

#[cfg(test)]
mod tests;

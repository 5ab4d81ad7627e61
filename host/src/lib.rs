//! Fleetling: a GitLab runner manager whose cloud providers are sandboxed components.
//!
//! ```text
//! main → app → { job, scaler, plugin, coordinator, docker, fleet, observe, config, store, simulate }
//! job → docker, coordinator::trace     scaler → fleet            plugin → fleet (implements its trait)
//! docker → fleet::connector            observe reads channels    config, store, fleet know nobody above them
//! simulate → scaler, in virtual time                              proxies, tls: what the HTTP clients share
//! ```
//!
//! One job through the house: [`scaler`] grants a reservation, [`coordinator`] asks GitLab for a job, the reservation
//! becomes an acquisition of a slot on a ready instance, [`job`] walks GitLab's stages through [`docker`], and the
//! trace drains on its own until GitLab has accepted the final update.

pub mod app;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod docker;
pub mod fleet;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod job;
pub mod observe;
pub mod plugin;
pub mod proxies;
pub mod scaler;
pub mod simulate;
pub mod store;
pub mod tls;

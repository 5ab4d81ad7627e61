//! Docker on an instance: what is prepared there once, and one job's containers, networks and volumes.

mod cgroup;
pub mod client;
mod container;
pub mod credentials;
pub mod daemon;
pub mod executor;
#[cfg(test)]
mod fake;
mod feed;
mod glob;
mod helper_image;
mod image;
mod label;
mod leftovers;
mod line;
pub mod machine;
mod network;
pub mod platform;
mod probe;
pub mod readiness;
mod reference;
mod service;
mod shell;
mod site;
pub mod stage;
mod stream;
mod turns;
mod user;
mod volume;
pub mod way;

//! Docker on an instance: what is prepared there once, and one job's containers, networks and volumes.

mod cgroup;
pub mod client;
mod container;
pub mod daemon;
pub mod executor;
mod feed;
mod glob;
mod helper_image;
mod image;
mod label;
mod leftovers;
mod line;
pub mod machine;
mod network;
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

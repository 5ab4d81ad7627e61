//! Docker on an instance: what is prepared there once, and one job's containers, networks and volumes.

mod cgroup;
pub mod client;
mod container;
pub mod executor;
mod feed;
mod glob;
mod helper_image;
mod image;
mod label;
mod leftovers;
mod line;
pub mod machine;
mod probe;
pub mod readiness;
mod reference;
mod shell;
mod site;
pub mod stage;
mod stream;
mod user;
mod volume;

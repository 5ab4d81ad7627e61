//! Docker on an instance: what is prepared there once, and one job's containers, networks and volumes.

pub mod client;
mod container;
pub mod credentials;
pub mod executor;
mod feed;
mod glob;
mod helper_image;
mod image;
mod label;
mod leftovers;
mod line;
pub mod machine;
pub mod platform;
mod probe;
pub mod readiness;
mod reference;
mod shell;
mod site;
pub mod stage;
mod stream;
mod volume;

//! Docker on an instance: what is prepared there once, and one job's containers, networks and volumes.

pub mod stage;

//! Instances: what a provider tells of them, the life of each, the task that keeps a group true, and how one is dialled.

pub mod backoff;
pub mod connector;
pub mod group;
pub mod instance;
pub mod own;
pub mod provisioner;
pub mod ready;

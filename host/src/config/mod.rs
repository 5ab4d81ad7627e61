//! The configuration: as the operator wrote it, and as the manager uses it.

pub mod usable;

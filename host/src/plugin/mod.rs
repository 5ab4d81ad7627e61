//! Providers as WebAssembly components: found, pinned, granted, run in a sandbox.
//!
//! ```text
//! Platform ─ directory ─ pin ─ engine::compile ─► Actor (one a group): mutating, reading and lookup instances
//!    ├ grants (plugins.toml, watched; built-in by shipped.toml)       └─ each: a Store with log, kv, secrets, egress
//!    └ any failure: a LoadReport, kept for `plugin list`
//! ```
//! Guests run on a small runtime of their own, never on the threads that carry jobs.

pub mod actor;
pub mod address;
pub mod bindings;
pub mod conformance;
pub mod directory;
pub mod egress;
pub mod engine;
pub mod grants;
mod handler;
pub mod kv;
pub mod log;
pub mod outline;
pub mod pin;
pub mod platform;
pub mod quota;
pub mod redact;
pub mod report;
pub mod runtime;
pub mod schema;
pub mod secrets;
pub mod shipped;
pub mod trace;
pub mod watch;

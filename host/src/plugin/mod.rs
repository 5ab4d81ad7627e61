//! Providers as WebAssembly components: found, pinned, granted, run in a sandbox.
//!
//! ```text
//! Platform ─ directory ─ pin ─ engine::compile ─► Provider (one a group) ─► Actor (one a file): its instances
//!    ├ grants (plugins.toml, watched;              ▲ replaces               └─ each: a Store with log, kv, secrets, egress
//!    │         built-in by shipped.toml) ───────► Keeper (one a group): grants and the file, as they change
//!    └ any failure: a LoadReport, kept for `plugin list`
//! ```
//! Guests run on a small runtime of their own, never on the threads that carry jobs.

#[cfg(any(test, feature = "fuzzing"))]
pub use bindings::hostile::answer as hostile_answer;

pub mod actor;
pub mod address;
pub mod bindings;
pub mod compile;
pub mod conformance;
pub mod directory;
pub mod egress;
pub mod engine;
pub mod grants;
mod handler;
#[cfg(test)]
mod house;
pub mod keeper;
pub mod kv;
pub mod log;
pub mod outline;
pub mod pin;
pub mod platform;
pub mod provider;
pub mod quota;
pub mod redact;
pub mod reference;
pub mod registry;
pub mod report;
#[cfg(test)]
mod rogues;
pub mod runtime;
pub mod schema;
pub mod secrets;
pub mod shipped;
pub mod sighting;
pub mod trace;
pub mod trail;
pub mod watch;

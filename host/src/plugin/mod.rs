//! Providers as WebAssembly components: found, pinned, granted, run in a sandbox.
pub mod address;
pub mod directory;
pub mod grants;
pub mod kv;
pub mod log;
pub mod pin;
pub mod report;
pub mod secrets;
pub mod shipped;

//! The test harness: a plugin runs natively, and what answers it is a program of the test's own.
//!
//! ```text
//! Provider ─ dyn Host ─▶ Native ── real HTTP ──▶ Server (scripted, or a function)   faults on the wire
//!                    │                      └──▶ Cloud  (a small cloud in memory)    whole stories
//!                    ├─▶ Recorder ─▶ Native ─▶ a real cloud;  save() writes a file without secrets
//!                    └─▶ Replay  ◀─ that file                                       real answers, no network
//! ```
//!
//! For a list of answers without a socket there is [`crate::script::Script`]. What the sandbox itself does to a plugin
//! (grants, clocks, memory), `fleetling plugin check` tries.

mod cloud;
mod native;
mod record;
mod redact;
mod replay;
mod server;
mod surroundings;

pub use cloud::Cloud;
pub use native::Native;
pub use record::Recorder;
pub use replay::Replay;
pub use server::{Reply, Server};
pub use surroundings::Surroundings;

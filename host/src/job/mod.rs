//! One job from payload to final state: GitLab's stages, their scripts and variables.
//!
//! ```text
//!   Work ─▶ refuse ─▶ flags ─▶ variables ─▶ settings ─▶ plan ─▶ docker::Plan
//!                                              │
//!   run ── stage ── script ────────────────────┘      lines, log: what the user reads
//! ```
//! All but `run` and `log` are pure. `run` is the only one that waits.

pub mod flags;
mod image;
pub mod lines;
pub mod log;
pub mod plan;
pub mod refuse;
pub mod run;
pub mod script;
mod services;
pub mod settings;
pub mod stage;
pub mod variables;

pub use log::JobLog;
pub use run::{AcquireProblem, Ended, run};

use std::sync::Arc;

use crate::config::usable::Runner;
use crate::coordinator::payload::Job;
use crate::coordinator::server_files::ServerFiles;

/// What makes this manager known in job logs and variables.
#[derive(Clone, Debug)]
pub struct ManagerIdentity {
    pub version: String,
    pub revision: String,
    /// `s_…` or `r_…`.
    pub system_id: String,
    /// This machine's name, for `Running on … via …`.
    pub hostname: String,
}

/// One job to run: what GitLab sent and who runs it.
#[derive(Clone, Debug)]
pub struct Work {
    pub payload: Arc<Job>,
    pub runner: Arc<Runner>,
    pub manager: Arc<ManagerIdentity>,
    pub server_files: Arc<ServerFiles>,
    /// The runner token's first characters, as GitLab shows them.
    pub short_token: String,
    /// Lowest number that no other job of this runner has; `CI_CONCURRENT_ID`.
    pub concurrent_id: u32,
    /// The same among this runner's jobs of one project; part of container and volume names.
    pub project_concurrent_id: u32,
}

#[cfg(test)]
mod tests;

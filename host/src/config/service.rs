//! Services as `config.toml` asks for them: `[[runners.docker.services]]`, and what holds for the services of all jobs.

use std::time::Duration;

/// A service that every job of the entry gets, before the job's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The image; job variables in it are expanded.
    pub name: String,
    /// Names beside the derived ones, separated by spaces or commas; job variables in it are expanded.
    pub alias: String,
    /// `None`: the image's own.
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=VALUE`, split; values are expanded with the job's variables.
    pub environment: Vec<(String, String)>,
}

/// GitLab Runner's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    pub definitions: Vec<Definition>,
    /// `services_limit`: how many a job may have, the configuration's counted; `None` is no limit.
    pub limit: Option<u32>,
    /// `wait_for_services_timeout`; `None` means that nobody waits.
    pub wait: Option<Duration>,
    /// `allowed_services`; empty is all. Those of the configuration are allowed whatever it says.
    pub allowed: Vec<String>,
    /// `services_privileged`; `None` is as `privileged` says.
    pub privileged: Option<bool>,
    /// `allowed_privileged_services`; empty is all.
    pub allowed_privileged: Vec<String>,
}

pub const WAIT: Duration = Duration::from_secs(30);

impl Default for Services {
    fn default() -> Self {
        Self {
            definitions: Vec::new(),
            limit: None,
            wait: Some(WAIT),
            allowed: Vec::new(),
            privileged: None,
            allowed_privileged: Vec::new(),
        }
    }
}

//! Where state lies: the operator's word, then systemd's, then the system's folder, then beside `config.toml`.

use std::path::{Path, PathBuf};

use super::{Store, StoreProblem};

/// What decides the state directory.
#[derive(Clone, Debug)]
pub struct Places {
    /// `state_storage.dir`; nothing else is tried when it is given.
    pub configured: Option<PathBuf>,
    /// `state_storage.enabled` as written: only an explicit `true` makes an unwritable directory fatal.
    pub enabled: Option<bool>,
    /// `$STATE_DIRECTORY`; systemd separates several by colons, and the first is ours.
    pub state_directory: Option<String>,
    /// `/var/lib/fleetling`.
    pub system: PathBuf,
    /// `config.toml`.
    pub config: PathBuf,
}

impl Places {
    pub fn of_process(configured: Option<PathBuf>, enabled: Option<bool>, config: &Path) -> Self {
        Self {
            configured,
            enabled,
            state_directory: std::env::var("STATE_DIRECTORY").ok(),
            system: PathBuf::from("/var/lib/fleetling"),
            config: config.to_path_buf(),
        }
    }

    /// In the order in which they are tried.
    pub fn candidates(&self) -> Vec<PathBuf> {
        if let Some(dir) = &self.configured {
            return vec![dir.clone()];
        }
        let given = self
            .state_directory
            .as_deref()
            .and_then(|dirs| dirs.split(':').next())
            .filter(|dir| !dir.is_empty());
        if let Some(dir) = given {
            return vec![PathBuf::from(dir)];
        }
        let beside = self
            .config
            .parent()
            .unwrap_or(Path::new("."))
            .join(".fleetling");
        vec![self.system.clone(), beside]
    }
}

/// The store to use, and a warning for the operator where it will not survive this process.
///
/// A directory that another manager holds, or whose key is exposed or broken, is an error whatever `enabled` says:
/// going on without it would run jobs twice or lose them.
pub fn open(places: &Places) -> Result<(Store, Option<String>), StoreProblem> {
    let mut refusals = Vec::new();
    for dir in places.candidates() {
        match writable(&dir) {
            Ok(()) => return Store::open(&dir).map(|store| (store, None)),
            Err(e) => refusals.push(format!("{}: {e}", dir.display())),
        }
    }
    let refusals = refusals.join("; ");
    if places.enabled == Some(true) {
        return Err(StoreProblem(format!(
            "state directory cannot be written ({refusals}); next: let the manager's user write there, name another \
             with [runners.autoscaler.state_storage] dir, or drop enabled = true"
        )));
    }
    Ok((
        Store::in_memory(),
        Some(format!(
            "state directory cannot be written ({refusals}): nothing survives a restart, and jobs running then are not \
             reported to GitLab; next: let the manager's user write there, or name another with \
             [runners.autoscaler.state_storage] dir"
        )),
    ))
}

fn writable(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    tempfile::Builder::new()
        .prefix(super::directory::TEMPORARY)
        .tempfile_in(dir)
        .map(drop)
}

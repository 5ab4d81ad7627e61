//! Where the process keeps and finds things: state, cache, job logs, plugins, and what was shipped with the binary.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tracing::warn;

use crate::config::usable;
use crate::plugin::platform::{Platform, PlatformOptions};
use crate::store::{Store, place};

/// The store of all runners: the first `state_storage.dir` written, else the usual places (design §6).
pub(super) fn open_store(config: &usable::Config) -> anyhow::Result<Store> {
    let places = state_places(config);
    let mut dirs = storages(config).filter_map(|storage| storage.dir.as_ref());
    if let Some(other) = dirs.find(|other| Some(*other) != places.configured.as_ref()) {
        warn!(dir = %other.display(), "one state directory serves all runners; this one is not used");
    }
    let (store, warning) = place::open(&places)?;
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    Ok(store)
}

/// Where a manager of this configuration may keep its state, the likeliest first; nothing is made or locked.
pub(super) fn state_dirs(config: &usable::Config) -> Vec<PathBuf> {
    state_places(config).candidates()
}

fn state_places(config: &usable::Config) -> place::Places {
    let dir = storages(config).find_map(|storage| storage.dir.clone());
    let enabled = storages(config)
        .any(|storage| storage.enabled == Some(true))
        .then_some(true);
    place::Places::of_process(dir, enabled, &config.path)
}

fn storages(config: &usable::Config) -> impl Iterator<Item = &usable::StateStorage> {
    let runners = config.runners.iter();
    runners.map(|runner| &runner.autoscaler.state_storage)
}

/// Masked job logs on their way to GitLab.
pub(super) fn spool_dir(store: &Store) -> PathBuf {
    match store.dir() {
        Some(dir) => dir.join("trace"),
        None => std::env::temp_dir().join(format!("fleetling-trace-{}", std::process::id())),
    }
}

/// `share/fleetling` beside the folder of the binary.
pub(super) fn data_dir() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe().context("this binary's own place cannot be told")?;
    let prefix = binary
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    Ok(prefix.join("share/fleetling"))
}

/// The plugin host, looking in: the folders given, `FLEETING_PLUGIN_PATH`, `plugins/` beside `config.toml`, the data
/// directory's, then `PATH`.
pub(crate) fn platform(given: &[PathBuf], config: &Path, store: Store) -> anyhow::Result<Platform> {
    Ok(Platform::start(platform_options(given, config, store)?)?)
}

/// The same, for a command that changes something of it first.
pub(super) fn platform_options(
    given: &[PathBuf],
    config: &Path,
    store: Store,
) -> anyhow::Result<PlatformOptions> {
    let beside = config.parent().unwrap_or(Path::new("."));
    let data = data_dir()?;
    let mut plugin_dirs = given.to_vec();
    if let Some(path) = std::env::var_os("FLEETING_PLUGIN_PATH") {
        plugin_dirs.extend(std::env::split_paths(&path));
    }
    plugin_dirs.extend([beside.join("plugins"), data.join("plugins")]);
    // systemd's word first; else beside the state, which the manager's user can write. A command that only looks has no
    // state, and what it wrote as another user would stand in the manager's way.
    let cache_dir = std::env::var_os("CACHE_DIRECTORY")
        .map(PathBuf::from)
        .or_else(|| store.dir().map(|dir| dir.join("cache")))
        .or_else(own_cache);
    Ok(PlatformOptions {
        plugin_dirs,
        search_path: std::env::var_os("PATH"),
        data_dir: Some(data),
        cache_dir,
        ..PlatformOptions::new(beside.join("plugins.toml"), store)
    })
}

/// What a manager of this configuration keeps, to be looked at: its directory is neither made nor locked.
pub(super) fn beside_manager(config: &Path, usable: Option<&usable::Config>) -> Store {
    let candidates = match usable {
        Some(usable) => state_dirs(usable),
        None => place::Places::of_process(None, None, config).candidates(),
    };
    let kept = candidates.iter().find(|dir| dir.is_dir());
    kept.map_or_else(Store::in_memory, |dir| Store::beside(dir))
}

fn own_cache() -> Option<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.filter(|dir| dir.is_absolute()).or_else(home)?;
    Some(caches.join("fleetling"))
}

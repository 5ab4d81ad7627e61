//! Where the process keeps and finds things: state, cache, job logs, plugins, and what was shipped with the binary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tracing::warn;

use crate::config::usable;
use crate::plugin::compile::{self, Compiler, LARGE};
use crate::plugin::platform::{Platform, PlatformOptions};
use crate::store::audit::Audit;
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

/// Where plugins are looked for before `PATH`, in order: the folders given, `FLEETING_PLUGIN_PATH`, `plugins/` beside
/// `config.toml`, the data directory's.
pub(super) fn plugin_dirs(given: &[PathBuf], config: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut dirs = given.to_vec();
    if let Some(path) = std::env::var_os("FLEETING_PLUGIN_PATH") {
        dirs.extend(std::env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty()));
    }
    let beside = config.parent().unwrap_or(Path::new("."));
    dirs.extend([beside.join("plugins"), data_dir()?.join("plugins")]);
    // One place has one name, wherever a command is typed.
    dirs.into_iter()
        .map(|dir| {
            std::path::absolute(&dir).with_context(|| format!("{} is no place", dir.display()))
        })
        .collect()
}

/// The plugin host, looking in [`plugin_dirs`], then `PATH`.
pub(crate) fn platform(
    given: &[PathBuf],
    config: &Path,
    store: Store,
) -> anyhow::Result<Arc<Platform>> {
    Ok(Platform::start(platform_options(given, config, store)?)?)
}

/// The same, for whoever changes something of it first.
pub(super) fn platform_options(
    given: &[PathBuf],
    config: &Path,
    store: Store,
) -> anyhow::Result<PlatformOptions> {
    let beside = config.parent().unwrap_or(Path::new("."));
    let (data, plugin_dirs) = (data_dir()?, plugin_dirs(given, config)?);
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
        compiler: cache_dir.clone().and_then(compiler),
        cache_dir,
        audit: store.dir().map(audit).unwrap_or_default(),
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

/// This binary, under its other name.
fn compiler(cache: PathBuf) -> Option<Compiler> {
    let binary = std::env::current_exe().ok()?;
    let command = vec![binary.into_os_string(), "compile-plugin".into()];
    Some(Compiler::new(command, cache, LARGE))
}

/// Where there is a state directory, there is an audit log.
fn audit(state: &Path) -> Audit {
    Audit::start(state).unwrap_or_else(|problem| {
        let dir = state.display();
        warn!(%dir, %problem, "no audit log is kept; next: see that the manager's user owns what lies there");
        Audit::default()
    })
}

/// What `compiler`'s process does.
///
/// # Errors
/// If what it is given is no component, or the cache cannot be written.
pub fn compile_plugin(cache: &Path) -> anyhow::Result<()> {
    compile::compile(cache, std::io::stdin().lock()).map_err(anyhow::Error::msg)
}

fn own_cache() -> Option<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.filter(|dir| dir.is_absolute()).or_else(home)?;
    Some(caches.join("fleetling"))
}

//! Commands that only look: which runners there are, whether GitLab knows them, which plugins are found.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tracing::{error, info};

use super::places;
use crate::config::usable::Config;
use crate::coordinator::client::{Client, Settings, Verified};
use crate::coordinator::identity::{SystemId, short_token};
use crate::plugin::platform::PluginState;
use crate::store::Store;
use secrecy::ExposeSecret as _;

/// One line a runner; of the token only what GitLab shows.
pub fn list(config: &Config) -> String {
    let mut out = String::new();
    for runner in &config.runners {
        let token = short_token(runner.token.expose_secret());
        let _ = writeln!(
            out,
            "{}\texecutor=docker-autoscaler\ttoken={token}\turl={}",
            runner.name, runner.url
        );
    }
    out
}

/// Asks GitLab about each runner, or the one called `name`. `false` if one is refused or could not be asked about.
///
/// # Errors
/// If no runner has that name, or one's address cannot be used.
pub async fn verify(config: &Config, name: Option<&str>) -> anyhow::Result<bool> {
    let wanted = |runner: &&crate::config::usable::Runner| name.is_none_or(|n| n == runner.name);
    let mut all_known = true;
    let mut asked = 0;
    for runner in config.runners.iter().filter(wanted) {
        asked += 1;
        let client = Client::new(Settings {
            url: runner.url.clone(),
            token: runner.token.clone(),
            system_id: SystemId::of_machine(&config.path).id,
            shell: runner.shell.name().to_owned(),
        })?;
        match client.verify().await {
            Verified::Valid { id } => info!(runner = runner.name, id, "runner is known to GitLab"),
            Verified::Refused(why) | Verified::Unknown(why) => {
                error!(runner = runner.name, "runner is not verified: {why}");
                all_known = false;
            }
        }
    }
    match (asked, name) {
        (0, Some(name)) => anyhow::bail!(
            "no runner is called \"{name}\" in {}; next: `fleetling list` shows the names",
            config.path.display()
        ),
        _ => Ok(all_known),
    }
}

/// One line a plugin that is found, with what it says of itself; below it, why it would not be loaded.
///
/// # Errors
/// If `plugins.toml` cannot be used.
pub async fn plugins(given: &[PathBuf], config: &Path) -> anyhow::Result<String> {
    let platform = places::platform(given, config, Store::in_memory())?;
    let mut out = String::new();
    for entry in platform.list().await {
        let state = match entry.state {
            PluginState::Present => "present",
            PluginState::Loaded => "loaded",
            PluginState::Failed => "failed",
        };
        let digest = entry
            .digest
            .map_or_else(|| "-".to_owned(), |digest| digest.to_string());
        let says = entry.description.map_or_else(
            || "-".to_owned(),
            |description| format!("{} {}", description.name, description.version),
        );
        // A plugin's own words: it must not write a line or a column of its making.
        let says: String = says.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(
            out,
            "{}\t{state}\t{}\t{digest}\t{says}",
            entry.name,
            entry.path.display()
        );
        if let Some(problem) = entry.last_error {
            let _ = writeln!(out, "  {}", problem.replace('\n', "\n  "));
        }
    }
    if out.is_empty() {
        out.push_str(
            "no plugin was found; next: put a .wasm into a folder named with --plugin-dir\n",
        );
    }
    Ok(out)
}

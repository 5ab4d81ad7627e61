//! `fleetling plugin list`.

use std::fmt::Write as _;

use super::Places;
use crate::app::places;
use crate::plugin::platform::PluginState;
use crate::store::Store;

/// One line a plugin that is found, with what it says of itself; below it, why it would not be loaded.
///
/// # Errors
/// If `plugins.toml` cannot be used.
pub(super) async fn list(places: &Places<'_>) -> anyhow::Result<String> {
    let store = Store::in_memory();
    let platform = places::platform(places.plugin_dirs, places.config, store)?;
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

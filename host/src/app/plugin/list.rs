//! `fleetling plugin list`.

use std::fmt::Write as _;

use serde_json::json;

use super::{Places, chosen, clean};
use crate::cli::AnswerFormat;
use crate::plugin::platform::{Platform, PluginEntry, PluginState};

/// One line a plugin that is found, with what it says of itself; below it, why it would not be loaded.
///
/// # Errors
/// If `plugins.toml` cannot be used.
pub(super) async fn list(places: &Places<'_>, format: AnswerFormat) -> anyhow::Result<String> {
    let options = chosen::options(places)?;
    for given in places.plugin_dirs.iter().filter(|dir| !dir.is_dir()) {
        eprintln!(
            "fleetling: --plugin-dir {} is no folder here",
            given.display()
        );
    }
    let folders = options
        .plugin_dirs
        .iter()
        .map(|dir| dir.display().to_string());
    let folders = folders.collect::<Vec<_>>().join(", ");
    let platform = Platform::start(options)?;
    let listed = platform.list().await.into_iter().map(|entry| {
        let shipped = |digest| platform.is_shipped(&entry.name, digest);
        let is_shipped = entry.digest.is_some_and(shipped);
        Listed { entry, is_shipped }
    });
    let entries: Vec<Listed> = listed.collect();
    if format == AnswerFormat::Json {
        let plugins: Vec<_> = entries.iter().map(as_json).collect();
        let list = json!({ "plugins": plugins });
        return Ok(format!("{list:#}\n"));
    }
    if entries.is_empty() {
        return Ok(format!(
            "no plugin was found in {folders} and PATH; next: put a .wasm into one of these folders, or name its own \
             with --plugin-dir\n"
        ));
    }
    let mut rows = vec![["NAME", "VERSION", "STATE", "DIGEST", "FROM"].map(str::to_owned)];
    rows.extend(entries.iter().map(row));
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(out, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", row[4]);
        let problem = number
            .checked_sub(1)
            .map(|at| &entries[at].entry.last_error);
        if let Some(Some(problem)) = problem {
            let _ = writeln!(out, "  {}", lines(problem).replace('\n', "\n  "));
        }
    }
    Ok(out)
}

struct Listed {
    entry: PluginEntry,
    is_shipped: bool,
}

fn row(listed: &Listed) -> [String; 5] {
    let entry = &listed.entry;
    let version = entry.description.as_ref();
    let from = entry.path.display().to_string();
    [
        clean(&entry.name),
        version.map_or_else(|| "-".to_owned(), |says| clean(&says.version)),
        state(entry.state).to_owned(),
        entry
            .digest
            .map_or_else(|| "-".to_owned(), |digest| digest.hex()[..12].to_owned()),
        if listed.is_shipped {
            format!("{} (shipped)", clean(&from))
        } else {
            clean(&from)
        },
    ]
}

fn as_json(listed: &Listed) -> serde_json::Value {
    let entry = &listed.entry;
    let says = entry.description.as_ref();
    json!({
        "name": entry.name,
        "version": says.map(|says| clean(&says.version)),
        "digest": entry.digest.map(|digest| digest.hex()),
        "file": entry.path,
        "shipped": listed.is_shipped,
        "state": state(entry.state),
        "last_error": entry.last_error.as_deref().map(lines),
    })
}

fn state(state: PluginState) -> &'static str {
    match state {
        PluginState::Present => "present",
        PluginState::Loaded => "loaded",
        PluginState::Failed => "failed",
    }
}

/// A report keeps its lines; what else controls a terminal goes.
fn lines(report: &str) -> String {
    let lines = report.lines().map(clean);
    lines.collect::<Vec<_>>().join("\n")
}

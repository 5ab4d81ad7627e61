//! `fleetling plugin list`: the files that are found, and what a running manager says of those that it uses.
//!
//! ```text
//! folders ─► Platform::list: what loading each file would find ─┐
//! manager's status page, where it has a listen_address ─────────┴► one row a file, reports below it
//! ```

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Places, chosen, clean};
use crate::cli::AnswerFormat;
use crate::observe::ask::ask;
use crate::plugin::platform::{Platform, PluginEntry, PluginState};
use crate::plugin::redact::clean_lines;

/// One line a plugin that is found or used, with what it says of itself; below it, why it would not be, or was not, loaded.
///
/// # Errors
/// If `plugins.toml` cannot be used.
pub(super) async fn list(
    places: &Places<'_>,
    address: Option<String>,
    format: AnswerFormat,
) -> anyhow::Result<String> {
    let options = chosen::options(places)?;
    for given in places.plugin_dirs.iter().filter(|dir| !dir.is_dir()) {
        eprintln!(
            "fleetling: --plugin-dir {} is no folder here",
            given.display()
        );
    }
    let folders = options.plugin_dirs.iter();
    let folders: Vec<_> = folders.map(|dir| dir.display().to_string()).collect();
    let platform = Platform::start(options)?;
    let manager = Manager::asked(address.or_else(|| chosen::listen_address(places))).await;
    let found = platform.list().await.into_iter().map(|entry| {
        let shipped = |digest| platform.is_shipped(&entry.name, digest);
        let is_shipped = entry.digest.is_some_and(shipped);
        Row::of_file(entry, is_shipped)
    });
    let rows = with_those_at_work(found.collect(), manager.at_work());
    Ok(match format {
        AnswerFormat::Json => {
            let plugins: Vec<_> = rows.iter().map(Row::as_json).collect();
            let list = json!({ "manager": manager.address(), "plugins": plugins });
            format!("{list:#}\n")
        }
        AnswerFormat::Text => text(&rows, &folders, &manager),
    })
}

/// What is known of the manager whose configuration this is.
enum Manager {
    /// It has no `listen_address`, and cannot be asked.
    Mute,
    Silent {
        problem: String,
    },
    Answers {
        address: String,
        at_work: Vec<AtWork>,
    },
}

/// One runner's plugin, as the status page has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AtWork {
    runner: String,
    name: String,
    state: String,
    version: Option<String>,
    digest: Option<String>,
    file: Option<String>,
    last_error: Option<String>,
}

impl Manager {
    async fn asked(address: Option<String>) -> Self {
        let Some(address) = address else {
            return Self::Mute;
        };
        match ask(&address).await {
            Err(problem) => Self::Silent {
                problem: problem.to_string(),
            },
            Ok(mut page) => {
                // An older manager tells of none.
                let at_work = page["plugins"].take();
                let at_work = serde_json::from_value(at_work).unwrap_or_default();
                Self::Answers { address, at_work }
            }
        }
    }

    fn at_work(&self) -> &[AtWork] {
        match self {
            Self::Answers { at_work, .. } => at_work,
            Self::Mute | Self::Silent { .. } => &[],
        }
    }

    fn address(&self) -> Option<&str> {
        match self {
            Self::Answers { address, .. } => Some(address),
            Self::Mute | Self::Silent { .. } => None,
        }
    }
}

/// One file, or a plugin that has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    name: String,
    version: Option<String>,
    state: String,
    digest: Option<String>,
    file: Option<String>,
    is_shipped: bool,
    /// Whose plugin it is in the manager.
    runners: Vec<String>,
    /// Each said once.
    errors: Vec<String>,
}

impl Row {
    fn of_file(entry: PluginEntry, is_shipped: bool) -> Self {
        let state = match entry.state {
            PluginState::Present => "present",
            PluginState::Loaded => "loaded",
            PluginState::Failed => "failed",
        };
        Self {
            name: clean(&entry.name),
            version: entry.description.map(|says| clean(&says.version)),
            state: state.to_owned(),
            digest: entry.digest.map(|digest| digest.hex()),
            file: Some(shown(&entry.path)),
            is_shipped,
            runners: Vec::new(),
            errors: entry
                .last_error
                .as_deref()
                .map(clean_lines)
                .into_iter()
                .collect(),
        }
    }

    /// What runs counts for more than what lies there; a runner that waits, for more than one that does not.
    fn take_up(&mut self, used: &AtWork) {
        let state = clean(&used.state);
        if self.runners.is_empty() || state == "waiting" {
            self.state = state;
        }
        if let Some(digest) = used.digest.as_deref().map(clean)
            && self.digest.as_ref() != Some(&digest)
        {
            // Another file lies there than the one that runs.
            self.digest = Some(digest);
            self.version = used.version.as_deref().map(clean);
            self.is_shipped = false;
        }
        self.runners.push(clean(&used.runner));
        let error = used.last_error.as_deref().map(clean_lines);
        self.errors
            .extend(error.filter(|error| !self.errors.contains(error)));
    }

    fn as_json(&self) -> serde_json::Value {
        let error = (!self.errors.is_empty()).then(|| self.errors.join("\n"));
        json!({
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "file": self.file,
            "shipped": self.is_shipped,
            "state": self.state,
            "runners": self.runners,
            "last_error": error,
        })
    }

    fn cells(&self) -> [String; 6] {
        let or_dash = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
        let file = or_dash(&self.file);
        [
            self.name.clone(),
            or_dash(&self.version),
            self.state.clone(),
            or_dash(&self.digest).chars().take(12).collect(),
            if self.runners.is_empty() {
                "-".to_owned()
            } else {
                self.runners.join(", ")
            },
            if self.is_shipped {
                format!("{file} (shipped)")
            } else {
                file
            },
        ]
    }
}

fn shown(file: &Path) -> String {
    clean(&file.to_string_lossy())
}

/// A runner's plugin goes with its file; one that was found nowhere has a row of its own.
fn with_those_at_work(mut rows: Vec<Row>, at_work: &[AtWork]) -> Vec<Row> {
    for used in at_work {
        let file = used.file.as_deref().map(clean);
        let place = rows.iter_mut().find(|row| match &file {
            Some(_) => row.file == file,
            None => row.name == clean(&used.name),
        });
        match place {
            Some(row) => row.take_up(used),
            None => {
                let mut row = Row {
                    name: clean(&used.name),
                    file,
                    version: used.version.as_deref().map(clean),
                    ..Row::default()
                };
                row.take_up(used);
                rows.push(row);
            }
        }
    }
    rows
}

fn text(rows: &[Row], folders: &[String], manager: &Manager) -> String {
    let mut out = String::new();
    if rows.is_empty() {
        let _ = writeln!(
            out,
            "no plugin was found in {} and PATH; next: put a .wasm into one of these folders, or name its own with \
             --plugin-dir",
            folders.join(", ")
        );
    } else {
        let heads = ["NAME", "VERSION", "STATE", "DIGEST", "RUNNERS", "FROM"].map(str::to_owned);
        let cells: Vec<_> = rows.iter().map(Row::cells).collect();
        let mut widths = [0; 5];
        for line in cells.iter().chain([&heads]) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String; 6]| {
            let padded = cells.iter().zip(widths);
            let padded = padded.map(|(cell, width)| format!("{cell:width$}  "));
            padded.collect::<String>() + &cells[5] + "\n"
        };
        out += &line(&heads);
        for (row, cells) in rows.iter().zip(&cells) {
            out += &line(cells);
            for line in row.errors.iter().flat_map(|error| error.lines()) {
                let _ = writeln!(out, "  {line}");
            }
        }
    }
    if let Manager::Silent { problem } = manager {
        let _ = writeln!(out, "\nonly what the files show: {problem}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "plugin `aws` (plugins/aws.wasm, sha256 aaaaaaaaaaaa…) was not loaded\n  its digest is not the \
                          one trusted before (bbbbbbbbbbbb)\n  next: review it";

    fn found(name: &str, error: Option<&str>) -> Row {
        Row {
            name: name.into(),
            version: Some("1.2.3".into()),
            state: if error.is_some() { "failed" } else { "present" }.into(),
            digest: Some("aaaaaaaaaaaaaaaa".into()),
            file: Some(format!("plugins/{name}.wasm")),
            errors: error.map(str::to_owned).into_iter().collect(),
            ..Row::default()
        }
    }

    fn used(runner: &str, name: &str, state: &str) -> AtWork {
        AtWork {
            runner: runner.into(),
            name: name.into(),
            state: state.into(),
            ..AtWork::default()
        }
    }

    #[test]
    fn what_the_manager_says_stands_with_the_file_that_it_is_about() {
        let rows = vec![
            found("aws", Some(REPORT)),
            found("static", None),
            found("unused", None),
        ];
        let aws = AtWork {
            version: Some("1.2.2".into()),
            digest: Some("bbbbbbbbbbbbbbbb".into()),
            file: Some("plugins/aws.wasm".into()),
            last_error: Some(REPORT.into()),
            ..used("one", "aws", "loaded")
        };
        let fixed = AtWork {
            digest: Some("aaaaaaaaaaaaaaaa".into()),
            file: Some("plugins/static.wasm".into()),
            ..used("two", "static", "loaded")
        };
        let refused = AtWork {
            last_error: Some("plugin `static` was not loaded\n  `init` failed: invalid-config: no\u{1b} instances".into()),
            ..AtWork { runner: "three".into(), state: "waiting".into(), ..fixed.clone() }
        };
        let missing = AtWork {
            last_error: Some(
                "plugin `none` was not loaded\n  it was found in none of: plugins".into(),
            ),
            ..used("four", "none", "waiting")
        };
        let manager = Manager::Answers {
            address: String::new(),
            at_work: vec![aws, fixed, refused, missing],
        };
        let rows = with_those_at_work(rows, manager.at_work());
        insta::assert_snapshot!(text(&rows, &[], &manager), @r"
        NAME    VERSION  STATE    DIGEST        RUNNERS     FROM
        aws     1.2.2    loaded   bbbbbbbbbbbb  one         plugins/aws.wasm
          plugin `aws` (plugins/aws.wasm, sha256 aaaaaaaaaaaa…) was not loaded
            its digest is not the one trusted before (bbbbbbbbbbbb)
            next: review it
        static  1.2.3    waiting  aaaaaaaaaaaa  two, three  plugins/static.wasm
          plugin `static` was not loaded
            `init` failed: invalid-config: no instances
        unused  1.2.3    present  aaaaaaaaaaaa  -           plugins/unused.wasm
        none    -        waiting  -             four        -
          plugin `none` was not loaded
            it was found in none of: plugins
        ");
        assert_eq!(rows[1].as_json()["runners"], json!(["two", "three"]));
    }

    #[test]
    fn a_manager_that_does_not_answer_is_said_below_what_the_files_show() {
        let silent = Manager::Silent {
            problem: "no manager answers at 127.0.0.1:9252".into(),
        };
        insta::assert_snapshot!(text(&[found("aws", None)], &[], &silent), @r"
        NAME  VERSION  STATE    DIGEST        RUNNERS  FROM
        aws   1.2.3    present  aaaaaaaaaaaa  -        plugins/aws.wasm

        only what the files show: no manager answers at 127.0.0.1:9252
        ");
        let folders = ["/a".to_owned(), "/b".to_owned()];
        let shown = text(&[], &folders, &Manager::Mute);
        let told =
            "no plugin was found in /a, /b and PATH; next: put a .wasm into one of these folders";
        assert!(shown.starts_with(told), "{shown}");
    }
}

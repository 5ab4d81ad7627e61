//! From the file as written to the configuration as used: every default applied, all problems found at once.
//!
//! What GitLab Runner starts with, this starts with: unknown keys are warnings, an entry that cannot work disables that
//! entry alone. What GitLab Runner itself refuses outside of every entry is refused here.

mod autoscaler;
mod coverage;
mod docker;
mod runner;
mod services;
mod tls;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::problem::{Fatal, Places, Problem, Severity};
use super::raw::{Sink, Table};
use super::usable::Config;

const CHECK_INTERVAL: Duration = Duration::from_secs(3);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_LEVELS: [&str; 8] = [
    "panic", "fatal", "error", "warning", "warn", "info", "debug", "trace",
];
const LOG_FORMATS: [&str; 3] = ["runner", "text", "json"];

/// A configuration and everything that was found wrong with it, in the file's order.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub problems: Vec<Problem>,
    /// What was looked for beside it, there or not: when one of these changes, so may the configuration.
    pub files: Vec<PathBuf>,
}

/// Answers the text of a file that the configuration names.
pub type Files<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Reads the text of a `config.toml`. `path` names it in problems; nothing is read from disk but what `files` reads.
///
/// # Errors
/// [`Fatal::Unusable`] if it is no TOML, or if something outside of every `[[runners]]` entry cannot be used.
pub fn check(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    files: Files<'_>,
) -> Result<Loaded, Fatal> {
    let sink = Sink::new(Places::new(path, text));
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The message alone: the parser's own rendering quotes the line, and a token may stand there.
        let text = format!(
            "no TOML: {}; mend this line",
            error.message().replace('\n', ", ")
        );
        let at = error.span().map_or(0, |span| span.start);
        sink.add(Severity::File, None, at, String::new(), text);
    }
    if !errors.is_empty() {
        return Err(Fatal::Unusable {
            problems: sink.into_problems(),
        });
    }

    let looked_for = RefCell::<Vec<PathBuf>>::default();
    let files = |file: &Path| {
        looked_for.borrow_mut().push(file.to_owned());
        files(file)
    };
    let config = whole_file(
        path,
        Table::new(root.get_ref(), root.span(), &sink),
        &sink,
        env,
        &files,
    );
    let problems = sink.into_problems();
    if problems.iter().any(|p| p.severity == Severity::File) {
        return Err(Fatal::Unusable { problems });
    }
    Ok(Loaded {
        config,
        problems,
        files: looked_for.into_inner(),
    })
}

fn whole_file(
    path: &Path,
    mut file: Table<'_>,
    sink: &Sink<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    files: Files<'_>,
) -> Config {
    let concurrent = file.integer("concurrent").unwrap_or(1);
    if concurrent < 1 {
        file.refuse(
            "concurrent",
            format!("{concurrent} jobs at once are none; write at least 1"),
        );
    }
    let log_level = known_word(&mut file, "log_level", &LOG_LEVELS);
    let log_format = known_word(&mut file, "log_format", &LOG_FORMATS);
    let certs = path.parent().unwrap_or(Path::new("")).join("certs");
    let config = Config {
        path: path.to_owned(),
        concurrent: u32::try_from(concurrent.max(1)).unwrap_or(u32::MAX),
        check_interval: seconds(file.integer("check_interval"), CHECK_INTERVAL),
        shutdown_timeout: seconds(file.integer("shutdown_timeout"), SHUTDOWN_TIMEOUT),
        log_level,
        log_format,
        listen_address: file.text("listen_address"),
        runners: file
            .tables("runners")
            .into_iter()
            .enumerate()
            .filter_map(|(index, entry)| {
                runner::runner(entry.into_entry(index), index, env, &certs, files)
                    .filter(|_| !sink.disables(index))
            })
            .collect(),
    };
    session_server(&mut file);
    file.accept(&["connection_max_age"]);
    file.without_effect(&["user", "sentry_dsn", "labels", "machine", "experimental"]);
    file.finish();
    config
}

/// One of `words`; anything else is told and left out.
fn known_word(file: &mut Table<'_>, key: &'static str, words: &[&str]) -> Option<String> {
    let word = file.text(key)?;
    if words.contains(&word.as_str()) {
        return Some(word);
    }
    let known = words.join(", ");
    file.warn(
        key,
        format!("{word:?} is none of {known}; the default is used"),
    );
    None
}

/// Without a `listen_address` GitLab Runner has no session server either.
fn session_server(file: &mut Table<'_>) {
    let Some(mut server) = file.table("session_server") else {
        return;
    };
    if server.text("listen_address").is_some() {
        server.warn(
            "listen_address",
            "there is no session server yet; jobs run without a web terminal",
        );
    }
    server.accept(&["advertise_address", "session_timeout"]);
    server.finish();
}

/// Whole seconds; zero or less is the default.
fn seconds(given: Option<i64>, default: Duration) -> Duration {
    match given.map(u64::try_from) {
        Some(Ok(seconds)) if seconds > 0 => Duration::from_secs(seconds),
        _ => default,
    }
}

#[cfg(test)]
mod tests;

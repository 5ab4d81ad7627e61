//! What `fleetling config lint` prints.

use std::fmt::Write as _;
use std::path::Path;

use super::Loaded;
use super::problem::{Fatal, Problem, Severity};

/// What only the plugins and their grants can tell of a configuration.
#[derive(Default)]
pub struct FromPlugins {
    pub problems: Vec<Problem>,
    /// What could not be looked at, and why: no fault of the file.
    pub unchecked: Vec<String>,
}

/// All problems, one a line, and a verdict; `true` if there are none, which is exit status 0.
pub fn lint(
    path: &Path,
    loaded: &Result<Loaded, Fatal>,
    from_plugins: FromPlugins,
) -> (String, bool) {
    let mut problems = match loaded {
        Ok(loaded) => loaded.problems.clone(),
        Err(Fatal::Unusable { problems }) => problems.clone(),
        Err(fatal) => return (format!("error: {fatal}\n"), false),
    };
    problems.extend(from_plugins.problems);
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    let mut out = String::new();
    for problem in &problems {
        let _ = writeln!(out, "{}: {problem}", word(problem));
    }
    for why in from_plugins.unchecked {
        let _ = writeln!(out, "note: {why}");
    }
    let path = path.display();
    let _ = match (problems.len(), loaded) {
        (0, _) => writeln!(out, "{path}: no problems"),
        (n, Err(_)) => writeln!(out, "{path}: {}, the file cannot be used", counted(n)),
        (n, Ok(loaded)) => writeln!(
            out,
            "{path}: {}, {} of [[runners]] can be used",
            counted(n),
            loaded.config.runners.len()
        ),
    };
    (out, problems.is_empty())
}

fn word(problem: &Problem) -> &'static str {
    match problem.severity {
        Severity::Warning => "warning",
        Severity::Entry => "error, entry disabled",
        Severity::File => "error",
    }
}

fn counted(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    }
}

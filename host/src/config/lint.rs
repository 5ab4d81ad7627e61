//! What `fleetling config lint` prints.

use std::fmt::Write as _;
use std::path::Path;

use super::Loaded;
use super::problem::{Fatal, Problem, Severity};

/// All problems, one a line, and a verdict; `true` if there are none, which is exit status 0.
pub fn lint(path: &Path, loaded: &Result<Loaded, Fatal>) -> (String, bool) {
    let problems = match loaded {
        Ok(loaded) => &loaded.problems,
        Err(Fatal::Unusable { problems }) => problems,
        Err(fatal) => return (format!("error: {fatal}\n"), false),
    };
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "{}: {problem}", word(problem));
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

//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// What a problem costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing: the key is ignored or its default is taken.
    Warning,
    /// The `[[runners]]` entry it stands in; the others work.
    Entry,
    /// The whole file: what stands outside of every entry cannot be guessed.
    File,
}

/// The `[[runners]]` entry that a problem belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position among `[[runners]]`, from 0.
    pub index: usize,
    /// Empty where the operator gave none.
    pub name: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "[[runners]] number {}", self.index + 1)
        } else {
            write!(f, "[[runners]] {:?}", self.name)
        }
    }
}

/// One problem. Its text never holds the value of a secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub entry: Option<Entry>,
    /// Below the entry, or below the file where there is none: `autoscaler.policy[0].idle_time`. May be empty.
    pub key: String,
    /// What is wrong and what next.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if let Some(entry) = &self.entry {
            write!(f, "{entry}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why there is no configuration at all.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error("no configuration file; looked for {}; write one there, or name another with --config or CONFIG_FILE", listed(.looked_for))]
    NotFound { looked_for: Vec<PathBuf> },
    #[error("{}: cannot be read: {reason}; {}", path.display(), reading_advice(.reason))]
    Unreadable {
        path: PathBuf,
        reason: std::io::Error,
    },
    /// No TOML, or something outside of every `[[runners]]` entry cannot be used; each problem says where.
    #[error("{}", lines(.problems))]
    Unusable { problems: Vec<Problem> },
}

fn listed(paths: &[PathBuf]) -> String {
    let quoted: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    quoted.join(", then ")
}

fn reading_advice(reason: &std::io::Error) -> &'static str {
    match reason.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "let the manager's user read it, or run the manager as the file's owner"
        }
        std::io::ErrorKind::InvalidData => "save it as UTF-8",
        std::io::ErrorKind::IsADirectory => "name the file, not its folder",
        _ => "check the path and its disk",
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Turns byte offsets of a file's text into lines and columns.
pub(super) struct Places<'a> {
    pub(super) file: &'a Path,
    text: &'a str,
    /// Offset of each line's first byte.
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { file, text, starts }
    }

    /// Line and column, both from 1.
    pub(super) fn at(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

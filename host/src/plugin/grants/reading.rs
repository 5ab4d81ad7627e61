//! Values of a TOML document with their places: a wrong one costs one problem and reads as absent.

use std::fmt;

use toml::Spanned;
use toml::de::DeValue;

/// One thing wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantsProblem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong and what next.
    pub message: String,
}

impl fmt::Display for GrantsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
        } = self;
        write!(f, "line {line}, column {column}: {message}")
    }
}

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

pub(super) struct Reading<'a> {
    text: &'a str,
    pub(super) problems: Vec<GrantsProblem>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    /// `at` is an offset in bytes.
    pub(super) fn problem(&mut self, at: usize, message: impl Into<String>) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line_begins = before.rfind('\n').map_or(0, |end| end + 1);
        self.problems.push(GrantsProblem {
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_begins..].chars().count(),
            message: message.into(),
        });
    }

    pub(super) fn wrong(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.problem(
            value.span().start,
            format!("`{key}` is {wanted}, and this is of type {found}"),
        );
    }

    /// A key that is none of `known`.
    pub(super) fn unknown(&mut self, at: usize, key: &str, known: &[&str]) {
        let hint = nearest(key, known).map_or(String::new(), |near| format!("; is it `{near}`?"));
        self.problem(at, format!("`{key}` is not known here{hint}"));
    }

    /// Each with its offset.
    pub(super) fn strings(&mut self, key: &str, value: &Value<'_>) -> Vec<(usize, String)> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of strings");
            return Vec::new();
        };
        let mut strings = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => strings.push((item.span().start, text.to_owned())),
                None => self.wrong(key, item, "a list of strings"),
            }
        }
        strings
    }

    pub(super) fn flag(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, value, "true or false");
        }
        flag
    }

    pub(super) fn string(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a string");
        }
        text
    }

    /// The path of a file; the empty string is none.
    pub(super) fn file(&mut self, key: &str, value: &Value<'_>) -> Option<std::path::PathBuf> {
        let text = self.string(key, value)?;
        if text.is_empty() {
            self.problem(value.span().start, format!("`{key}` names no file"));
            return None;
        }
        Some(text.into())
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(key, value)?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(n, _)| format!("\"{n}\"")).collect();
            let message = format!("`{key}` is one of {}", names.join(", "));
            self.problem(value.span().start, message);
        }
        found.map(|(_, choice)| *choice)
    }
}

/// Names in a table, for hints.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(written, known), *known))
        // A name of four letters is not the misspelling of every other one.
        .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, known)| known)
}

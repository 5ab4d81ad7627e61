//! `plugins.toml` as the operator wrote it: every problem at once, each with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Grants, PrivateAddresses, Reload, SecretSource, Template, nearest};

/// All tables of `plugins.toml`, keyed by the operator's plugin name without `fleeting-plugin-` and a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantsFile {
    pub plugins: BTreeMap<String, Grants>,
}

/// One thing wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantsProblem {
    pub line: usize,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct GrantsProblems(pub Vec<GrantsProblem>);

impl fmt::Display for GrantsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}line {}: {}", problem.line, problem.message)?;
        }
        Ok(())
    }
}

const KEYS: [&str; 13] = [
    "http",
    "env",
    "secret",
    "plaintext",
    "loopback",
    "metadata",
    "allow_any_host",
    "private_addresses",
    "reload",
    "memory",
    "sha256",
    "builtin",
    "secrets",
];

impl GrantsFile {
    pub fn parse(text: &str) -> Result<Self, GrantsProblems> {
        let mut reading = Reading {
            text,
            problems: Vec::new(),
        };
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(problem) => {
                let at = problem.span().map_or(0, |span| span.start);
                reading.problem(at, problem.message().to_owned());
                return Err(GrantsProblems(reading.problems));
            }
        };
        let mut plugins = BTreeMap::new();
        for (key, value) in document.get_ref() {
            let name = super::super::directory::Reference::parse(key.get_ref()).name;
            let Some(table) = value.get_ref().as_table() else {
                let message = format!("`{0}` is no table: write `[{0}]`", key.get_ref());
                reading.problem(key.span().start, message);
                continue;
            };
            let grants = reading.table(table);
            if plugins.insert(name.clone(), grants).is_some() {
                let message = format!("a second table for the plugin `{name}`: join the two");
                reading.problem(key.span().start, message);
            }
        }
        if reading.problems.is_empty() {
            return Ok(Self { plugins });
        }
        reading.problems.sort_by_key(|problem| problem.line);
        Err(GrantsProblems(reading.problems))
    }
}

struct Reading<'a> {
    text: &'a str,
    problems: Vec<GrantsProblem>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Reading<'_> {
    fn problem(&mut self, at: usize, message: String) {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        self.problems.push(GrantsProblem { line, message });
    }

    fn wrong(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.problem(
            value.span().start,
            format!("`{key}` is {wanted}, and this is of type {found}"),
        );
    }

    fn table(&mut self, table: &DeTable<'_>) -> Grants {
        let mut grants = Grants::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "http" => {
                    for (at, entry) in self.strings(name, value) {
                        match Template::parse(&entry) {
                            Ok(template) => grants.http.push(template),
                            Err(problem) => self.problem(at, problem.to_string()),
                        }
                    }
                }
                "env" => {
                    let names = self.strings(name, value);
                    grants.env.extend(names.into_iter().map(|(_, name)| name));
                }
                "secret" | "secrets" => self.secrets(name, value, &mut grants.secrets),
                "plaintext" => grants.plaintext = self.flag(name, value),
                "loopback" => grants.loopback = self.flag(name, value),
                "metadata" => grants.metadata = self.flag(name, value),
                "allow_any_host" => grants.allow_any_host = self.flag(name, value),
                "builtin" => grants.builtin = self.flag(name, value),
                "private_addresses" => {
                    let choices = [
                        ("never", PrivateAddresses::Never),
                        ("listed-names", PrivateAddresses::ListedNames),
                        ("any", PrivateAddresses::Any),
                    ];
                    grants.private_addresses = self.choice(name, value, &choices);
                }
                "reload" => {
                    let choices = [("pinned", Reload::Pinned), ("any", Reload::Any)];
                    grants.reload = self.choice(name, value, &choices);
                }
                "memory" => grants.memory = self.bytes(name, value),
                "sha256" => grants.sha256 = self.digest(name, value),
                unknown => {
                    let hint = nearest(unknown, &BTreeSet::from(KEYS));
                    let hint = hint.map_or(String::new(), |known| format!("; is it `{known}`?"));
                    let message = format!("`{unknown}` is not known here{hint}");
                    self.problem(key.span().start, message);
                }
            }
        }
        grants
    }

    fn strings(&mut self, key: &str, value: &Value<'_>) -> Vec<(usize, String)> {
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

    fn flag(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, value, "true or false");
        }
        flag
    }

    fn string(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a string");
        }
        text
    }

    fn choice<T: Copy>(
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

    fn digest(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        let text = self.string(key, value)?.to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some(text);
        }
        let message = format!("`{key}` is 64 hexadecimal digits, as `sha256sum` prints them");
        self.problem(value.span().start, message);
        None
    }

    fn bytes(&mut self, key: &str, value: &Value<'_>) -> Option<usize> {
        let text = self.string(key, value)?;
        let size = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
            .into_iter()
            .find_map(|(unit, shift)| {
                let number: usize = text.strip_suffix(unit)?.trim().parse().ok()?;
                // One linear memory of a 32-bit guest ends at 4 GiB.
                number
                    .checked_mul(1 << shift)
                    .filter(|size| (1..=4usize << 30).contains(size))
            });
        if size.is_none() {
            let message = format!("`{key}` is a size up to 4GiB such as \"128MiB\"");
            self.problem(value.span().start, message);
        }
        size
    }

    fn secrets(
        &mut self,
        key: &str,
        value: &Value<'_>,
        secrets: &mut BTreeMap<String, SecretSource>,
    ) {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table of secrets");
            return;
        };
        for (name, value) in table {
            if let Some(source) = self.source(name.get_ref(), value) {
                secrets.insert(name.get_ref().to_string(), source);
            }
        }
    }

    fn source(&mut self, name: &str, value: &Value<'_>) -> Option<SecretSource> {
        let mut fields = BTreeMap::new();
        let table = value.get_ref().as_table();
        for (key, value) in table.into_iter().flatten() {
            let text = self.string(key.get_ref(), value)?;
            fields.insert(key.get_ref().to_string(), text);
        }
        let (file, key) = (fields.remove("file"), fields.remove("config_key"));
        let variable = fields.remove("variable");
        let default = fields.remove("default").map(PathBuf::from);
        match (file, key, variable, default) {
            (Some(file), None, None, None) if fields.is_empty() => {
                Some(SecretSource::File(file.into()))
            }
            (None, Some(key), None, default) if fields.is_empty() => {
                Some(SecretSource::ConfigKey { key, default })
            }
            (None, key, Some(variable), default) if fields.is_empty() => {
                Some(SecretSource::Variable {
                    key,
                    variable,
                    default,
                })
            }
            _ => {
                let message = format!(
                    "secret `{name}` is {{ file = \"…\" }} or {{ config_key = \"…\", variable = \"…\", default = \"…\" }} \
                     with at least one of the first two"
                );
                self.problem(value.span().start, message);
                None
            }
        }
    }
}

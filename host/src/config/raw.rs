//! `config.toml` as written: tables that know where they stand and which of their keys were asked for.
//!
//! ```text
//! text ─ DeTable::parse ─▶ Table ─ integer("limit"), duration("idle_time"), table("docker") … ─▶ values
//!                            │ every wrong type, at once, with line and key
//!                            └ finish(): what nobody asked for is an unknown key
//! ```
//!
//! Invariants: a wrong value costs one problem and reads as absent, so that reading goes on; a value is never put into
//! a problem's text unless the caller does so, because it may be a secret. Keys match as in GitLab Runner's decoder:
//! exactly, else without regard to case.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Entry, Places, Problem, Severity};
use super::scalars::GoDuration;

/// Where problems gather while a file is read.
pub(super) struct Sink<'a> {
    pub(super) places: Places<'a>,
    found: RefCell<Vec<Problem>>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(places: Places<'a>) -> Self {
        Self {
            places,
            found: RefCell::default(),
        }
    }

    pub(super) fn add(
        &self,
        severity: Severity,
        entry: Option<Entry>,
        at: usize,
        key: String,
        text: String,
    ) {
        let (line, column) = self.places.at(at);
        self.found.borrow_mut().push(Problem {
            severity,
            file: self.places.file.to_owned(),
            line,
            column,
            entry,
            key,
            text,
        });
    }

    /// True if something in the entry makes it unusable.
    pub(super) fn disables(&self, index: usize) -> bool {
        self.found.borrow().iter().any(|p| {
            p.severity == Severity::Entry && p.entry.as_ref().is_some_and(|e| e.index == index)
        })
    }

    /// In the file's order.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|p| (p.line, p.column));
        found
    }
}

/// One table of the file.
pub(super) struct Table<'a> {
    values: &'a DeTable<'a>,
    span: Range<usize>,
    sink: &'a Sink<'a>,
    entry: Option<Entry>,
    /// Below the entry; empty at the top.
    path: String,
    known: Vec<&'static str>,
}

type Value<'a> = &'a Spanned<DeValue<'a>>;

impl<'a> Table<'a> {
    pub(super) fn new(values: &'a DeTable<'a>, span: Range<usize>, sink: &'a Sink<'a>) -> Self {
        Self {
            values,
            span,
            sink,
            entry: None,
            path: String::new(),
            known: Vec::new(),
        }
    }

    /// The same table as one `[[runners]]` entry: its problems name it, and disable it alone.
    pub(super) fn into_entry(mut self, index: usize) -> Self {
        let name = self
            .find("name")
            .and_then(|(_, value)| value.get_ref().as_str())
            .unwrap_or_default()
            .to_owned();
        self.entry = Some(Entry { index, name });
        self.path = String::new();
        self
    }

    /// Severity of what cannot be used at this place.
    fn broken(&self) -> Severity {
        match self.entry {
            Some(_) => Severity::Entry,
            None => Severity::File,
        }
    }

    fn find(&self, key: &str) -> Option<(usize, Value<'a>)> {
        let mut same_but_case = None;
        for (name, value) in self.values {
            if name.get_ref() == key {
                return Some((name.span().start, value));
            }
            if name.get_ref().eq_ignore_ascii_case(key) {
                same_but_case = same_but_case.or(Some((name.span().start, value)));
            }
        }
        same_but_case
    }

    fn get(&mut self, key: &'static str) -> Option<(usize, Value<'a>)> {
        self.known.push(key);
        self.find(key)
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{key}", self.path),
        }
    }

    fn report(&self, severity: Severity, key: &str, text: String) {
        let at = self.find(key).map_or(self.span.start, |(at, _)| at);
        self.sink
            .add(severity, self.entry.clone(), at, self.path_of(key), text);
    }

    /// Something about `key` costs this entry, or the file where the table stands in none. An empty key means the
    /// table itself.
    pub(super) fn refuse(&self, key: &str, text: impl Into<String>) {
        self.report(self.broken(), key, text.into());
    }

    pub(super) fn warn(&self, key: &str, text: impl Into<String>) {
        self.report(Severity::Warning, key, text.into());
    }

    fn wrong_type(&self, key: &str, value: Value<'_>, expected: &str) {
        self.refuse(key, wrong_type(value.get_ref(), expected));
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        let (_, value) = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string");
        }
        text.map(str::to_owned)
    }

    /// A string that is not empty; GitLab Runner takes the empty one as absent.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.string(key).filter(|text| !text.is_empty())
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<i64> {
        let (_, value) = self.get(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if number.is_none() {
            self.refuse(
                key,
                "the number is too large; write one below 9223372036854775808",
            );
        }
        number
    }

    /// As a count: below zero reads as zero, which is what GitLab Runner makes of it.
    pub(super) fn count(&mut self, key: &'static str) -> u32 {
        let number = self.integer(key).unwrap_or(0).max(0);
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    pub(super) fn float(&mut self, key: &'static str) -> Option<f64> {
        let (_, value) = self.get(key)?;
        let number = number(value.get_ref());
        if number.is_none() {
            self.wrong_type(key, value, "a number");
        }
        number
    }

    pub(super) fn floats(&mut self, key: &'static str) -> Vec<f64> {
        let Some((_, value)) = self.get(key) else {
            return Vec::new();
        };
        let items = value.get_ref().as_array();
        let numbers = items.and_then(|items| items.iter().map(|i| number(i.get_ref())).collect());
        numbers.unwrap_or_else(|| {
            self.wrong_type(key, value, "a list of numbers");
            Vec::new()
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let (_, value) = self.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        truth
    }

    pub(super) fn is_true(&mut self, key: &'static str) -> bool {
        self.boolean(key).unwrap_or(false)
    }

    /// A Go duration; a bare whole number counts nanoseconds.
    pub(super) fn duration(&mut self, key: &'static str) -> Option<GoDuration> {
        let (_, value) = self.get(key)?;
        match value.get_ref() {
            DeValue::Integer(_) => self.integer(key).map(GoDuration),
            DeValue::String(text) => {
                let parsed = text.parse().ok();
                if parsed.is_none() {
                    self.refuse(
                        key,
                        format!(r#"{text:?} is no duration; write it like "20m0s""#),
                    );
                }
                parsed
            }
            _ => {
                self.wrong_type(key, value, r#"a duration such as "20m0s""#);
                None
            }
        }
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Vec<String> {
        let Some((_, value)) = self.get(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return Vec::new();
        };
        let mut all = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => all.push(text.to_owned()),
                None => self.wrong_type(key, item, "a list of strings"),
            }
        }
        all
    }

    /// One string, or a list of them.
    pub(super) fn one_or_more(&mut self, key: &'static str) -> Vec<String> {
        match self.find(key) {
            Some((_, value)) if value.get_ref().is_str() => self.text(key).into_iter().collect(),
            _ => self.strings(key),
        }
    }

    pub(super) fn string_map(&mut self, key: &'static str) -> BTreeMap<String, String> {
        self.map(key, "a table of strings", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    pub(super) fn truth_map(&mut self, key: &'static str) -> BTreeMap<String, bool> {
        self.map(key, "a table of true and false", |value| value.as_bool())
    }

    pub(super) fn list_map(&mut self, key: &'static str) -> BTreeMap<String, Vec<String>> {
        self.map(key, "a table of lists of strings", |value| {
            let items = value.as_array()?.iter();
            items
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect()
        })
    }

    fn map<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let Some((_, value)) = self.get(key) else {
            return BTreeMap::new();
        };
        let Some(values) = value.get_ref().as_table() else {
            self.wrong_type(key, value, expected);
            return BTreeMap::new();
        };
        let mut all = BTreeMap::new();
        for (name, value) in values {
            match read(value.get_ref()) {
                Some(read) => {
                    all.insert(name.get_ref().to_string(), read);
                }
                None => self.sink.add(
                    self.broken(),
                    self.entry.clone(),
                    name.span().start,
                    self.path_of(&format!("{key}.{}", name.get_ref())),
                    wrong_type(value.get_ref(), expected),
                ),
            }
        }
        all
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let (_, value) = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(values) => {
                Some(self.below(self.path_of(key), values, value.span().start))
            }
            _ => {
                self.wrong_type(key, value, &format!("a table, [{key}]"));
                None
            }
        }
    }

    /// An array of tables, `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some((_, value)) = self.get(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("tables, each under [[{key}]]"));
            return Vec::new();
        };
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = self.path_of(&format!("{key}[{index}]"));
            match item.get_ref() {
                DeValue::Table(values) => {
                    all.push(self.below(path, values, item.span().start));
                }
                _ => self.wrong_type(key, item, &format!("tables, each under [[{key}]]")),
            }
        }
        all
    }

    fn below(&self, path: String, values: &'a DeTable<'a>, start: usize) -> Table<'a> {
        Table {
            values,
            span: start..start,
            sink: self.sink,
            entry: self.entry.clone(),
            path,
            known: Vec::new(),
        }
    }

    /// A table that the manager hands on unread.
    pub(super) fn json(&mut self, key: &'static str) -> serde_json::Value {
        let Some((_, value)) = self.get(key) else {
            return serde_json::json!({});
        };
        if !value.get_ref().is_table() {
            self.wrong_type(key, value, &format!("a table, [{key}]"));
            return serde_json::json!({});
        }
        as_json(value.get_ref()).unwrap_or_else(|| {
            self.refuse(key, "a number in it is not finite; JSON has no inf or nan");
            serde_json::json!({})
        })
    }

    /// Keys of GitLab Runner that need nothing from us.
    pub(super) fn accept(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Keys of GitLab Runner that do nothing here yet. Silent while they hold what GitLab Runner itself writes for
    /// "unset": an empty text, 0, false, an empty list.
    pub(super) fn without_effect(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.known.push(key);
            if self
                .find(key)
                .is_some_and(|(_, value)| says_something(value.get_ref()))
            {
                let who = if self.entry.is_some() {
                    "entry"
                } else {
                    "manager"
                };
                self.warn(key, format!("has no effect yet; the {who} runs without it"));
            }
        }
    }

    /// Ends the reading: every key that nobody asked for is unknown.
    pub(super) fn finish(self) {
        for name in self.values.keys() {
            let name = name.get_ref();
            if self
                .known
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
            {
                continue;
            }
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(name, known), known))
                .filter(|(likeness, _)| *likeness > 0.82)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let text = match nearest {
                Some((_, known)) => format!("unknown key, ignored; did you mean {known:?}?"),
                None => "unknown key, ignored; remove it".to_owned(),
            };
            self.warn(name, text);
        }
    }
}

/// A whole number is as good.
fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number as f64),
        _ => None,
    }
}

fn wrong_type(value: &DeValue<'_>, expected: &str) -> String {
    let (found, advice) = match value {
        DeValue::String(_) => ("a string", "; remove the quotes"),
        DeValue::Integer(_) => ("a whole number", ""),
        DeValue::Float(_) => ("a number", ""),
        DeValue::Boolean(_) => ("true or false", ""),
        DeValue::Datetime(_) => ("a date", ""),
        DeValue::Array(_) => ("a list", ""),
        DeValue::Table(_) => ("a table", ""),
    };
    let advice = match expected {
        "a string" if !matches!(value, DeValue::Array(_) | DeValue::Table(_)) => {
            "; put it in quotes"
        }
        "a list of strings" if value.is_str() => "; put it in brackets",
        "a whole number" | "a number" | "true or false" => advice,
        _ => "",
    };
    format!("expected {expected}, found {found}{advice}")
}

/// False for what GitLab Runner writes where nothing was set.
fn says_something(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => !text.is_empty(),
        DeValue::Integer(number) => number.as_str() != "0",
        DeValue::Float(number) => number.as_str().parse() != Ok(0.0),
        DeValue::Boolean(truth) => *truth,
        DeValue::Datetime(date) => !date.to_string().starts_with("0001-01-01"),
        DeValue::Array(items) => items.iter().any(|item| says_something(item.get_ref())),
        DeValue::Table(values) => values.values().any(|value| says_something(value.get_ref())),
    }
}

/// As GitLab Runner re-encodes it; `None` for a float that JSON cannot carry.
fn as_json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            Value::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => {
            Value::Number(serde_json::Number::from_f64(number.as_str().parse().ok()?)?)
        }
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| as_json(item.get_ref()))
                .collect::<Option<_>>()?,
        ),
        DeValue::Table(values) => Value::Object(
            values
                .iter()
                .map(|(name, value)| Some((name.get_ref().to_string(), as_json(value.get_ref())?)))
                .collect::<Option<_>>()?,
        ),
    })
}

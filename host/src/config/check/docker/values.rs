//! Values that are parsed one by one: what cannot be understood is refused where it stands.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::config::device::{self, Device};
use crate::config::raw::Table;
use crate::config::ulimit::{self, Ulimit};

/// Every text of a list, parsed.
pub(super) fn each<T>(table: &mut Table<'_>, key: &'static str) -> Vec<T>
where
    T: FromStr<Err: Display>,
{
    let texts = table.strings(key);
    parsed(table, key, &texts)
}

fn parsed<T>(table: &Table<'_>, key: &str, texts: &[String]) -> Vec<T>
where
    T: FromStr<Err: Display>,
{
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        match text.parse() {
            Ok(value) => all.push(value),
            Err(why) => table.refuse(key, format!("{text:?} {why}")),
        }
    }
    all
}

/// A list whose entries stay as they are; `expected` ends the sentence about one that is none of them.
pub(super) fn each_checked(
    table: &mut Table<'_>,
    key: &'static str,
    is_one: impl Fn(&str) -> bool,
    expected: &str,
) -> Vec<String> {
    let all = table.strings(key);
    for text in all.iter().filter(|text| !is_one(text)) {
        table.refuse(key, format!("{text:?} {expected}"));
    }
    all
}

pub(super) fn ulimits(table: &mut Table<'_>, key: &'static str) -> BTreeMap<String, Ulimit> {
    let mut all = BTreeMap::new();
    for (name, text) in table.string_map(key) {
        if !ulimit::NAMES.contains(&name.as_str()) {
            let known = ulimit::NAMES.join(", ");
            table.refuse(key, format!("{name:?} is none of Linux's limits: {known}"));
        }
        match text.parse() {
            Ok(limit) => {
                all.insert(name, limit);
            }
            Err(why) => table.refuse(key, format!("{name}: {text:?} {why}")),
        }
    }
    all
}

/// Globs of images, each with its devices.
pub(super) fn devices_of_services(table: &mut Table<'_>) -> BTreeMap<String, Vec<Device>> {
    const KEY: &str = "services_devices";
    let lists = table.list_map(KEY);
    lists
        .into_iter()
        .map(|(glob, texts)| (glob, parsed(table, KEY, &texts)))
        .collect()
}

pub(super) fn cgroup_rules(table: &mut Table<'_>) -> Vec<String> {
    each_checked(
        table,
        "device_cgroup_rules",
        device::is_cgroup_rule,
        r#"is no rule for devices; write it like "c 189:* rwm""#,
    )
}

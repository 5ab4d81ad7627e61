//! What anyone may write, fed to what reads it: each target takes any bytes and panics when a promise is broken.
//!
//! `tests/fuzz` calls these under cargo-fuzz; the tests below replay its corpus and mutate it, on any toolchain.

use std::path::Path;

use serde_json::json;

use crate::config::{self, Fatal};
use crate::plugin::grants::{self, Entry, GrantsFile, Limits, ProxyUrl, Reach, TlsHost};

/// Panics when what it reads breaks a promise.
pub type Target = fn(&[u8]);

/// By the name of its folder in `tests/fuzz/corpus`.
pub const TARGETS: [(&str, Target); 4] = [
    ("grant_entry", grant_entry),
    ("plugins_toml", plugins_toml),
    ("config_toml", config_toml),
    ("provider_answer", provider_answer),
];

/// A line as an operator writes it, and as a guest asks for it.
pub fn grant_entry(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(entry) = Entry::parse(text) {
        assert_eq!(Entry::parse(&entry.to_string()).as_ref(), Ok(&entry));
    }
    if let Some(host) = TlsHost::parse(text) {
        assert_eq!(TlsHost::parse(&host.to_string()), Some(host));
    }
    if let Ok(proxy) = ProxyUrl::parse(text) {
        // What is shown is the same whatever the password is; a host may well contain one.
        let shown = |proxy: &ProxyUrl| format!("{proxy} {proxy:?}");
        let mut other = proxy.exposed().clone();
        if other.password().is_some() && other.set_password(Some("another")).is_ok() {
            let other = ProxyUrl::parse(other.as_str()).expect("it differs in its password alone");
            assert_eq!(shown(&proxy), shown(&other));
        }
    }
    if let Some(target) = grants::Target::parse(text) {
        let entry = target.entry();
        assert!(entry.admits(&target) && entry.is_literal());
        assert_eq!(Entry::parse(&entry.to_string()), Ok(entry));
        if let Err(denial) = Reach::default().admits(&target) {
            let suggested = denial.grant().map(|lines| format!("[p]\n{lines}\n"));
            if let Some(suggested) = suggested {
                let file = GrantsFile::parse(&suggested).expect("what is suggested parses");
                let after = file.plugins["p"].reach(&json!({})).admits(&target);
                assert!(after.is_ok(), "{suggested} does not admit {target}");
            }
        }
    }
}

/// Reached by no grants whatsoever.
const NEVER: [&str; 6] = [
    "https://224.0.0.1",
    "https://0.0.0.0",
    "https://255.255.255.255",
    "http://169.254.1.1",
    "https://[ff02::1]",
    "https://[::ffff:224.0.0.1]",
];

pub fn plugins_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = match GrantsFile::parse(text) {
        Ok(file) => file,
        Err(problems) => {
            assert!(!problems.0.is_empty());
            for problem in &problems.0 {
                is_within(text, problem.line, problem.column);
            }
            return;
        }
    };
    for grants in file.plugins.values() {
        let config = json!({ "region": "eu-west-1", "evil": "x.evil.example/" });
        let reach = grants.reach(&config);
        for never in NEVER {
            let target = grants::Target::parse(never).expect("it is a URL");
            assert!(reach.admits(&target).is_err(), "{never} is granted");
        }
        let limits = grants.limits.over(Limits::default());
        assert!(limits.memory <= 4 << 30 && limits.concurrent_requests <= 64);
        assert!(!limits.cpu.is_zero() && limits.requests_per_second > 0);
        assert_eq!(&grants.clone().extended_by(grants).proxy, &grants.proxy);
    }
}

pub fn config_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new("config.toml");
    let loaded = config::check::check(path, text, &|_| None, &|_| {
        Err(std::io::ErrorKind::NotFound.into())
    });
    let problems = match &loaded {
        Ok(loaded) => &loaded.problems,
        Err(Fatal::Unusable { problems }) => {
            assert!(!problems.is_empty());
            problems
        }
        Err(other) => panic!("nothing is read from disk: {other}"),
    };
    for problem in problems {
        is_within(text, problem.line, problem.column);
    }
    let (said, is_clean) = config::lint::lint(path, &loaded, config::lint::FromPlugins::default());
    assert_eq!(is_clean, problems.is_empty(), "{said}");
}

pub fn provider_answer(bytes: &[u8]) {
    crate::plugin::hostile_answer(bytes);
}

/// An operator can go there: the end of a line is a place, and so is the line after the last.
fn is_within(text: &str, line: usize, column: usize) {
    let written = text.split('\n').nth(line.wrapping_sub(1));
    let written = written.unwrap_or_else(|| panic!("line {line} is none of {text:?}"));
    let columns = written.chars().count() + 1;
    assert!(
        (1..=columns).contains(&column),
        "{line}:{column} in {text:?}"
    );
}

#[cfg(test)]
mod tests;

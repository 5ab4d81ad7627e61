//! The checklist: what GitLab Runner's own integration tests show, and which test shows it here, or why none does.
//!
//! A row of the checklist names one or more tests of GitLab Runner. Where their cases end differently here, it is several
//! rows of the table, and a case stands behind a slash.

#[path = "checklist/beyond.rs"]
mod beyond;
#[path = "checklist/containers.rs"]
mod containers;
#[path = "checklist/jobs.rs"]
mod jobs;

use std::collections::BTreeSet;
use std::path::Path;

use Verdict::{Covered, Elsewhere};

/// How many rows each section of the checklist has: jobs in Docker, and everything around them.
const SECTIONS: [usize; 2] = [57, 13];

struct Row {
    /// The section of the checklist, and the row in it; both begin with 1.
    number: (usize, usize),
    /// GitLab Runner's names of its tests.
    keys: &'static [&'static str],
    /// What is to be seen.
    subject: &'static str,
    verdict: Verdict,
}

enum Verdict {
    /// By these tests, each as `path/of/file.rs::name`, the path from the top of the tree.
    Covered(&'static [&'static str]),
    /// Does not apply, or not yet: why.
    Elsewhere(&'static str),
}

fn rows() -> impl Iterator<Item = &'static Row> {
    let all = [jobs::ROWS, containers::ROWS, beyond::ROWS];
    all.into_iter().flatten()
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Whether there is a test of this name that runs by itself: its attributes stand right above it.
fn has_test(text: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let is_attribute = line.starts_with("#[") && !line.starts_with("#[ignore");
        let function = line.strip_prefix("async ").unwrap_or(line);
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && function.starts_with(&head) {
            return true;
        } else if !is_attribute && !line.starts_with("//") {
            is_test = false;
        }
    }
    false
}

/// What is wrong with a test that a row names.
fn problem(named: &str) -> Option<String> {
    let Some((path, name)) = named.split_once("::") else {
        return Some(format!("{named} is not path/of/file.rs::name"));
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    match std::fs::read_to_string(file) {
        Ok(text) if has_test(&text, name) => None,
        Ok(_) => Some(format!("{path} has no test {name}")),
        Err(error) => Some(format!("{path} cannot be read: {error}")),
    }
}

#[test]
fn every_test_that_a_row_names_is_there() {
    let mut found = Vec::new();
    for row in rows() {
        if let Covered(tests) = row.verdict {
            if tests.is_empty() {
                found.push(format!("{} is covered by nothing", row.subject));
            }
            found.extend(tests.iter().filter_map(|named| problem(named)));
        }
    }
    none("the checklist names tests that are not there", &found);
}

#[test]
fn no_key_stands_twice() {
    let mut seen = BTreeSet::new();
    let keys = rows().flat_map(|row| row.keys);
    let twice: Vec<String> = keys
        .filter(|key| !seen.insert(**key))
        .map(|key| (*key).to_owned())
        .collect();
    none("these stand twice", &twice);
}

#[test]
fn every_row_of_the_checklist_is_here() {
    let here: BTreeSet<_> = rows().map(|row| row.number).collect();
    let mut all = BTreeSet::new();
    for (section, count) in (1_usize..).zip(SECTIONS) {
        all.extend((1..=count).map(|row| (section, row)));
    }
    let missing: Vec<_> = all.difference(&here).collect();
    let unknown: Vec<_> = here.difference(&all).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:?}; not in the checklist: {unknown:?}"
    );
}

#[test]
fn every_row_says_what_it_is_about_and_why_no_test_shows_it() {
    let mut found = Vec::new();
    for row in rows() {
        let reason = match row.verdict {
            Covered(_) => "by tests",
            Elsewhere(why) => why,
        };
        if row.keys.is_empty() || row.subject.is_empty() || reason.is_empty() {
            found.push(format!("{:?} {:?}", row.number, row.keys));
        }
    }
    none("rows that do not say enough", &found);
}

#[test]
fn a_test_is_told_from_what_only_looks_like_one() {
    for (text, expected) in [
        ("#[test]\nfn it() {}", true),
        ("#[tokio::test(x)]\n// Why.\nasync fn it()\n", true),
        ("proptest! {\n  #[test]\n  fn it(a in b()) {}\n}", true),
        ("fn it() {}", false),
        ("#[test]\nfn item() {}", false),
        ("#[test]\nfn other() {}\nfn it() {}", false),
        ("#[test]\n#[ignore = \"why\"]\nfn it() {}", false),
    ] {
        assert_eq!(has_test(text, "it"), expected, "{text}");
    }
}

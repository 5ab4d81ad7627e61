//! The house rules, kept by reading the sources: who may know whom, what is pure, how long a file may be.

use std::path::{Path, PathBuf};

const LONGEST: usize = 600;

/// A crate that only some modules may name.
const VENDORS: &[(&str, &[&str])] = &[
    ("wasmtime", &["host/src/plugin"]),
    ("wasmtime_wasi", &["host/src/plugin"]),
    ("wasmtime_wasi_http", &["host/src/plugin"]),
    ("bollard", &["host/src/docker"]),
    ("russh", &["host/src/fleet/connector"]),
    (
        "rustls",
        &[
            "host/src/config/server_tls",
            "host/src/coordinator/client",
            "host/src/docker/daemon",
            "host/src/plugin/egress",
            "host/src/plugin/registry/client",
            "host/src/tls",
            "tests/src/coordinator/front",
        ],
    ),
    ("rustls_native_certs", &["host/src/coordinator/client"]),
    ("webpki", &["host/src/coordinator/client"]),
    ("rustls_platform_verifier", &["host/src/plugin/egress"]),
    (
        "reqwest",
        &[
            "host/src/coordinator/client",
            "host/src/plugin/egress",
            "host/src/plugin/registry/client",
            "tests/",
        ],
    ),
];

/// Modules without a runtime, a clock or input and output: time comes in as an argument.
const PURE: &[&str] = &[
    "host/src/config/check",
    "host/src/config/device",
    "host/src/config/gpus",
    "host/src/config/scalars",
    "host/src/config/raw",
    "host/src/config/server_tls",
    "host/src/config/ulimit",
    "host/src/config/usable",
    "host/src/config/service",
    "host/src/config/volume",
    "host/src/coordinator/payload",
    "host/src/coordinator/mask",
    "host/src/docker/cgroup",
    "host/src/docker/container",
    "host/src/docker/stage",
    "host/src/docker/service/address",
    "host/src/docker/service/spec",
    "host/src/job/services",
    "host/src/docker/user",
    "host/src/docker/volume",
    "host/src/docker/glob",
    "host/src/docker/platform",
    "host/src/docker/reference",
    "host/src/docker/stage",
    "host/src/job/image",
    "host/src/job/stage",
    "host/src/job/script",
    "host/src/fleet/instance",
    "host/src/scaler/capacity",
    "host/src/scaler/ledger",
    "host/src/scaler/pools",
    "host/src/scaler/schedule",
    "host/src/simulate",
    "host/src/plugin/grants",
];

const IMPURE: &[&str] = &[
    "tokio::",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "std::thread",
];

struct Source {
    /// From the top of the tree, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// Without its test modules at the end and without comments: what runs in the product.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("#[cfg(test)]").unwrap_or(self.text.len());
        let code = &self.text[..tests];
        code.lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or(line)))
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("tests.rs")
    }

    /// Whether it is `module`, or a file below it.
    fn belongs_to(&self, module: &str) -> bool {
        let rest = self.path.strip_prefix(module);
        rest.is_some_and(|rest| module.ends_with('/') || rest.starts_with(['/', '.']))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = ["host", "plugins", "tests"]
        .map(|top| root.join(top))
        .to_vec();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the source tree can be read") {
            let path = entry.expect("the source tree can be read").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let from_top = path.strip_prefix(&root).expect("it is below the top");
                sources.push(Source {
                    path: from_top.to_string_lossy().into_owned(),
                    text: std::fs::read_to_string(&path).expect("sources are UTF-8"),
                });
            }
        }
    }
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// `word` as a path's first part or an import, not as a piece of another name.
fn names(line: &str, word: &str) -> bool {
    let bare = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + word.len()..];
        !before.is_some_and(|c| bare(c) || c == ':')
            && (after.starts_with("::")
                || line.trim_start().starts_with("use ") && after.starts_with([';', ' ']))
    })
}

#[test]
fn each_vendor_stays_behind_its_door() {
    let mut found = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !source.path.starts_with("plugins/"))
    {
        for (vendor, doors) in VENDORS {
            if doors.iter().any(|door| source.belongs_to(door)) {
                continue;
            }
            for (number, line) in source.code().filter(|(_, line)| names(line, vendor)) {
                found.push(format!(
                    "{}:{number} names {vendor}: {}",
                    source.path,
                    line.trim()
                ));
            }
        }
    }
    none("a crate is used outside of its module", found);
}

#[test]
fn generated_contract_types_stay_in_bindings() {
    let all = sources();
    let mut found = Vec::new();
    for source in all.iter().filter(|source| source.path.starts_with("host/")) {
        for (number, line) in source.code() {
            if line.contains("bindgen!") && !source.belongs_to("host/src/plugin/bindings") {
                found.push(format!("{}:{number}", source.path));
            }
            if names(line, "bindings") && !source.belongs_to("host/src/plugin") {
                found.push(format!("{}:{number}", source.path));
            }
        }
    }
    none("generated WIT types are named outside of plugin", found);
}

#[test]
fn pure_modules_are_pure() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if !PURE.iter().any(|module| source.belongs_to(module)) {
            continue;
        }
        for (number, line) in source.code() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{number} has {word}", source.path));
            }
        }
    }
    none("a pure module does input, output or asks the time", found);
}

#[test]
fn no_file_is_too_long_and_each_says_what_it_is_for() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LONGEST {
            found.push(format!(
                "{} has {lines} lines; {LONGEST} are the most",
                source.path
            ));
        }
        if !source.text.starts_with("//! ") {
            found.push(format!(
                "{} does not begin with `//! ` and its purpose",
                source.path
            ));
        }
    }
    none("files that a newcomer could not read", found);
}

#[test]
fn nothing_is_allowed_without_a_reason_and_nothing_is_unsafe() {
    // Put together, so that this file does not find itself.
    let (allow, unsafe_block, unwrap) = (
        ["#[al", "low("].concat(),
        ["unsa", "fe {"].concat(),
        [".unw", "rap()"].concat(),
    );
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.code() {
            let place = format!("{}:{number}", source.path);
            if line.contains(&allow) && !line.contains("reason") {
                found.push(format!(
                    "{place} allows something without a reason; use #[expect(…, reason = …)]"
                ));
            }
            if line.contains(&unsafe_block) || line.contains("unsafe fn") && !line.contains('"') {
                found.push(format!("{place} is unsafe"));
            }
            if line.contains(&unwrap) && !source.is_test() {
                found.push(format!(
                    "{place} unwraps; say why it cannot fail with expect, or return an error"
                ));
            }
        }
    }
    none("against the house rules", found);
}

#[test]
fn modules_know_only_those_below_them() {
    // Who may not name whom, from the table of modules in the design.
    let forbidden: &[(&str, &[&str])] = &[
        (
            "host/src/config",
            &[
                "coordinator",
                "job",
                "docker",
                "scaler",
                "plugin",
                "store",
                "observe",
                "app",
            ],
        ),
        (
            "host/src/fleet",
            &[
                "coordinator",
                "job",
                "docker",
                "scaler",
                "plugin",
                "observe",
                "app",
            ],
        ),
        (
            "host/src/store",
            &[
                "config",
                "coordinator",
                "job",
                "docker",
                "fleet",
                "scaler",
                "plugin",
                "observe",
                "app",
            ],
        ),
        (
            "host/src/coordinator",
            &["job", "docker", "scaler", "plugin", "observe", "app"],
        ),
        (
            "host/src/docker",
            &["coordinator", "job", "scaler", "plugin", "observe", "app"],
        ),
        (
            "host/src/scaler",
            &["coordinator", "job", "docker", "plugin", "observe", "app"],
        ),
        (
            "host/src/plugin",
            &["coordinator", "job", "docker", "scaler", "observe", "app"],
        ),
        ("host/src/job", &["scaler", "plugin", "observe", "app"]),
        (
            "host/src/simulate",
            &[
                "coordinator",
                "job",
                "docker",
                "plugin",
                "store",
                "observe",
                "app",
            ],
        ),
    ];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (module, others) in forbidden {
            if !source.belongs_to(module) {
                continue;
            }
            for (number, line) in source.code() {
                // The words in which a job's end is told are everybody's.
                let line = line
                    .replace("crate::coordinator::outcome", "outcome")
                    .replace("crate::coordinator::output", "output");
                for other in others
                    .iter()
                    .filter(|other| line.contains(&format!("crate::{other}::")))
                {
                    found.push(format!("{}:{number} names {other}", source.path));
                }
            }
        }
    }
    none("a module knows one that is not below it", found);
}

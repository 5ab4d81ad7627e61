//! The contract, kept: what a plugin was built against must not change beneath it.
//!
//! An interface, once released, never changes; what is new is a new interface. A world keeps every line it had. Only
//! words count: comments, and how they are laid out, may change at any time.

use std::collections::BTreeMap;
use std::path::Path;

/// Every interface of `fleetling:provider@0.1.0`, which is frozen, with the digest of its words. Lines are added, and none
/// is changed.
const INTERFACES: &[(&str, u64)] = &[
    ("kv", 0xece7_aedb_7974_f472),
    ("log", 0x5371_9cc1_da52_b168),
    ("provider", 0x59b9_d419_2fe0_b920),
    ("provider-types", 0x8abc_f9c4_cd49_1928),
    ("secrets", 0xb74a_370b_c1ae_2e3d),
];

/// What each world imports and exports at least.
const WORLDS: &[(&str, &[&str])] = &[
    (
        "contract",
        &[
            "import log",
            "import secrets",
            "import kv",
            "export provider",
        ],
    ),
    (
        "plugin",
        &[
            "include contract",
            "import wasi:io/error@0.2.12",
            "import wasi:io/poll@0.2.12",
            "import wasi:io/streams@0.2.12",
            "import wasi:clocks/monotonic-clock@0.2.12",
            "import wasi:clocks/wall-clock@0.2.12",
            "import wasi:random/random@0.2.12",
            "import wasi:cli/environment@0.2.12",
            "import wasi:http/types@0.2.12",
            "import wasi:http/outgoing-handler@0.2.12",
        ],
    ),
];

const WHAT_NEXT: &str = "
A plugin built against this version would meet another contract.
  next: put the old words back, and add what is new so that old plugins go on:
    - what the host offers: a new interface, imported by the worlds
    - what a plugin may offer: a new interface that it may export; the manager looks whether it does
    - anything else: another version of the package, with bindings of its own beside these
  A new interface is written into INTERFACES as it is found here, and what imports it into WORLDS.";

/// Without comments, and with one blank where there are some.
fn words(text: &str) -> String {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    let code: String = code.collect::<Vec<_>>().join("\n");
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The body of every `kind` in `words`, by its name.
fn bodies(words: &str, kind: &str) -> BTreeMap<String, String> {
    let mut bodies = BTreeMap::new();
    for (at, _) in words.match_indices(&format!("{kind} ")) {
        let rest = &words[at + kind.len() + 1..];
        let Some((name, body)) = rest.split_once(" {") else {
            continue;
        };
        if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            continue;
        }
        let mut depth = 1;
        let end = body.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        let end = end.expect("every brace is closed: the bindings were made of it");
        bodies.insert(name.to_owned(), body[..end].trim().to_owned());
    }
    bodies
}

/// FNV-1a: nobody forges a contract, and this much of a digest needs no crate.
fn digest(words: &str) -> u64 {
    words.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What of the contract is not as it was released.
fn changes(contract: &str) -> Vec<String> {
    let words = words(contract);
    let (interfaces, worlds) = (bodies(&words, "interface"), bodies(&words, "world"));
    let mut changes = Vec::new();
    for (name, released) in INTERFACES {
        match interfaces.get(*name).map(|body| digest(body)) {
            Some(found) if found == *released => {}
            Some(found) => changes.push(format!("interface {name} is {found:#018x}")),
            None => changes.push(format!("interface {name} is gone")),
        }
    }
    for name in interfaces.keys() {
        if !INTERFACES.iter().any(|(known, _)| known == name) {
            let found = digest(&interfaces[name]);
            changes.push(format!(
                "interface {name} is new and not kept yet: {found:#018x}"
            ));
        }
    }
    for (name, released) in WORLDS {
        let body = worlds.get(*name).map_or("", String::as_str);
        let lines: Vec<&str> = body.split(';').map(str::trim).collect();
        for line in released.iter().filter(|line| !lines.contains(line)) {
            changes.push(format!("world {name} has no `{line}`"));
        }
    }
    changes
}

fn contract() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let mut text = String::new();
    for entry in std::fs::read_dir(&folder).expect("the contract is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            text += &std::fs::read_to_string(&path).expect("it can be read");
        }
    }
    text
}

#[test]
fn the_contract_is_what_plugins_were_built_against() {
    let contract = contract();
    let package = "package fleetling:provider@0.1.0;";
    assert!(contract.contains(package), "the version itself is another");
    let changes = changes(&contract);
    assert!(changes.is_empty(), "{}{WHAT_NEXT}", changes.join("\n"));
}

#[test]
fn a_change_is_named_and_an_addition_to_a_world_is_none() {
    let contract = contract();
    assert!(contract.contains("  max-size: option<u32>,"));
    for (from, to, told) in [
        ("/// The words of the contract.", "/// Other words.", None),
        ("  import log;", "  import log;\n  import kv;", None),
        (
            "max-size: option<u32>",
            "max-size: u32",
            Some("interface provider-types is 0x"),
        ),
        ("swap: func(", "exchange: func(", Some("interface kv is 0x")),
        (
            "interface secrets {",
            "interface files {",
            Some("interface secrets is gone"),
        ),
        (
            "import secrets;",
            "",
            Some("world contract has no `import secrets`"),
        ),
    ] {
        assert!(contract.contains(from), "{from}");
        let found = changes(&contract.replace(from, to));
        match told {
            None => assert_eq!(found, Vec::<String>::new(), "{from}"),
            Some(told) => assert!(found[0].starts_with(told), "{from}: {found:?}"),
        }
    }
}

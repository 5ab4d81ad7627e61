//! What a new plugin's folder is made of, embedded in the binary: template, SDK and contract.
//!
//! The SDK is on no registry, so that a plugin and the manager it was made by fit together by construction; the folder
//! brings a copy along and builds wherever crates.io can be reached. A list and no folder: the compiler then knows what
//! this binary was made of. A test holds it against the tree.

/// A file of the new folder, and its text.
pub(super) struct File {
    /// From the folder's top.
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

macro_rules! files {
    ($($to:literal, $from:literal: [$($name:literal)*])*) => {
        &[$($(File {
            path: concat!($to, $name),
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $from, $name)),
        },)*)*]
    };
}

/// Written with the plugin's name in it.
pub(super) const TEMPLATE: &[File] = files! {
    "", "plugins/template/": [
        ".gitignore" "Cargo.toml" "Makefile" "README.md" "check/config.toml" "check/plugins.toml" "check/token"
        "examples/cloud.rs" "src/lib.rs" "tests/provider.rs"
    ]
};

/// Written as it is. The SDK stands as deep as in the tree, because it finds the contract from there.
pub(super) const COPIES: &[File] = files! {
    "fleetling/sdk/", "plugins/sdk/": [
        "Cargo.toml" "src/answer.rs" "src/api.rs" "src/config.rs" "src/export.rs" "src/host.rs" "src/http.rs" "src/json.rs"
        "src/lib.rs" "src/paging.rs" "src/problem.rs" "src/provider.rs" "src/retry.rs" "src/sandbox.rs"
        "src/sandbox/flight.rs" "src/script.rs" "src/testing/cloud.rs" "src/testing/mod.rs" "src/testing/native.rs"
        "src/testing/record.rs" "src/testing/redact.rs" "src/testing/replay.rs" "src/testing/server.rs"
        "src/testing/surroundings.rs" "src/xml.rs"
    ]
    "wit/", "wit/": [
        "deps/cli.wit" "deps/clocks.wit" "deps/filesystem.wit" "deps/http.wit" "deps/io.wit" "deps/random.wit"
        "deps/sockets.wit" "provider.wit" "types.wit" "world.wit"
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn files_below(top: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("the tree can be read") {
            let path = entry.expect("the tree can be read").path();
            if path.is_dir() {
                files_below(top, &path, found);
            } else {
                let path = path.strip_prefix(top).expect("it is below the top");
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }

    #[test]
    fn nothing_of_template_sdk_and_contract_is_left_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (files, to, from) in [
            (TEMPLATE, "", "plugins/template"),
            (COPIES, "fleetling/sdk/", "plugins/sdk"),
            (COPIES, "wit/", "wit"),
        ] {
            let top = root.join(from);
            let mut expected = BTreeSet::new();
            files_below(&top, &top, &mut expected);
            let listed = files.iter().filter_map(|file| file.path.strip_prefix(to));
            let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
            assert_eq!(listed, expected, "of {from}");
        }
    }
}

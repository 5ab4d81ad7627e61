//! `fleetling plugin new NAME`: a folder with a plugin that works, for its author to change.

mod kit;

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};

use self::kit::{COPIES, File, TEMPLATE};

const PREFIX: &str = "fleeting-plugin-";
const LONGEST: usize = 40;

/// What the template's manifest lacks inside of this project's own workspace.
const STANDALONE: &str = r#"
[workspace]

# Small before fast; an instance of a plugin is made in microseconds either way.
[profile.release]
opt-level = "s"
lto = true
codegen-units = 1
panic = "abort"
strip = true
"#;

/// Makes `folder/NAME`, and says what to do with it.
///
/// # Errors
/// If the name is none for a plugin, the folder exists, or something cannot be written.
pub(super) fn new(name: &str, folder: &Path) -> anyhow::Result<String> {
    let name = checked(name)?;
    let top = folder.join(name);
    match std::fs::create_dir(&top) {
        Err(problem) if problem.kind() == ErrorKind::AlreadyExists => bail!(
            "{} exists already, and nothing in it was touched; next: choose another name or another folder",
            top.display()
        ),
        made => made.map_err(|problem| {
            anyhow!(
                "{} could not be made: {problem}; next: run this in a folder of your own",
                top.display()
            )
        })?,
    }
    for file in TEMPLATE {
        write(&top, file, &named(file, name))?;
    }
    for file in COPIES {
        write(&top, file, file.text)?;
    }
    Ok(format!(
        "made {}: a provider plugin that works, for you to change
next:
  cd {}
  make test     # natively, against a small cloud in memory
  make          # {PREFIX}{name}.wasm; needs `rustup target add wasm32-wasip2` once
  make check    # the same in the sandbox, under the rules that every plugin is held to
then replace the calls in src/lib.rs by your cloud's; README.md says where everything is
",
        top.display(),
        top.display()
    ))
}

/// A part of file and crate names, without the prefix that every plugin has.
fn checked(name: &str) -> anyhow::Result<&str> {
    let bare = name.strip_prefix(PREFIX).unwrap_or(name);
    let is_good = bare.starts_with(|c: char| c.is_ascii_lowercase())
        && !bare.ends_with('-')
        && bare.len() <= LONGEST
        && bare
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !is_good {
        bail!(
            "`{}` is no name for a plugin; next: take small letters, digits and hyphens, a letter first, at most {LONGEST}",
            name.escape_debug()
        );
    }
    Ok(bare)
}

fn named(file: &File, name: &str) -> String {
    let text = file
        .text
        .replace("fleeting-plugin-template", &format!("{PREFIX}{name}"))
        .replace("\"template", &format!("\"{name}"))
        .replace("[template]", &format!("[{name}]"))
        .replace(
            "fleeting_plugin_template",
            &format!("fleeting_plugin_{}", name.replace('-', "_")),
        );
    if file.path == "Cargo.toml" {
        return text.replace("\"../sdk\"", "\"fleetling/sdk\"") + STANDALONE;
    }
    text
}

fn write(top: &Path, file: &File, text: &str) -> anyhow::Result<()> {
    let path = top.join(file.path);
    let folder = path.parent().unwrap_or(top);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("{} could not be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_file_or_crate_could_have_are_refused() {
        for name in [
            "",
            "-a",
            "a-",
            "A",
            "a b",
            "../a",
            "a/b",
            "1a",
            "a_b",
            "fleeting-plugin-",
            "ä",
        ] {
            let problem = checked(name).expect_err(name);
            assert!(
                problem
                    .to_string()
                    .contains("is no name for a plugin; next:"),
                "{problem}"
            );
        }
        assert!(checked(&"a".repeat(LONGEST + 1)).is_err());
        for name in ["my-cloud", "fleeting-plugin-my-cloud"] {
            assert_eq!(checked(name).expect("it is one"), "my-cloud");
        }
    }

    #[test]
    fn the_folder_is_a_workspace_of_its_own_and_carries_the_name_everywhere() {
        let home = tempfile::tempdir().expect("a directory");
        let said = new("my-cloud", home.path()).expect("it is made");
        assert!(said.contains("make check"), "{said}");
        let top = home.path().join("my-cloud");
        let read = |path: &str| std::fs::read_to_string(top.join(path)).expect(path);
        let manifest: toml::Table = read("Cargo.toml").parse().expect("it is TOML");
        assert_eq!(
            manifest["package"]["name"].as_str(),
            Some("fleeting-plugin-my-cloud")
        );
        assert_eq!(
            manifest["dependencies"]["fleetling-plugin-sdk"]["path"].as_str(),
            Some("fleetling/sdk")
        );
        assert!(manifest.contains_key("workspace"));
        assert!(!read("fleetling/sdk/Cargo.toml").contains("workspace = true"));
        assert!(read("check/plugins.toml").contains("[my-cloud]"));
        for file in TEMPLATE {
            let text = read(file.path);
            let left = text.contains("\"template")
                || text.contains("plugin-template")
                || text.contains("plugin_template");
            assert!(!left, "{} still says template", file.path);
        }
        assert!(top.join("wit/deps/http.wit").is_file());

        std::fs::write(top.join("README.md"), "mine").expect("it can be written");
        let problem = new("my-cloud", home.path()).expect_err("it exists");
        assert!(problem.to_string().contains("exists already"), "{problem}");
        assert_eq!(read("README.md"), "mine");
    }
}

//! What a container may do and whose namespaces it shares.

use std::path::Path;

use super::Files;
use crate::config::raw::Table;

/// `security_opt` as Docker's API takes it: it knows no files, so a seccomp profile is put in by its content.
pub(super) fn options(table: &mut Table<'_>, key: &'static str, files: Files<'_>) -> Vec<String> {
    let written = table.strings(key);
    let mut options = Vec::with_capacity(written.len());
    for option in written {
        match option.strip_prefix("seccomp=") {
            Some(profile) => match seccomp(profile, files) {
                Ok(content) => options.push(format!("seccomp={content}")),
                Err(why) => table.refuse(key, why),
            },
            None => options.push(option),
        }
    }
    options
}

fn seccomp(profile: &str, files: Files<'_>) -> Result<String, String> {
    if matches!(profile, "unconfined" | "builtin") {
        return Ok(profile.to_owned());
    }
    let (name, content) = if profile.starts_with('{') {
        ("the seccomp profile".to_owned(), profile.to_owned())
    } else {
        let content = files(Path::new(profile)).map_err(|why| {
            format!("the seccomp profile {profile:?} cannot be read on the manager: {why}; check the path and who may read it")
        })?;
        (format!("the seccomp profile {profile:?}"), content)
    };
    // As short as JSON can be: it travels with every container.
    serde_json::from_str::<serde_json::Value>(&content)
        .map(|profile| profile.to_string())
        .map_err(|why| format!("{name} is no JSON: {why}; mend it"))
}

/// A namespace's mode. One that Docker does not know is left to what else may answer at its address, such as Podman.
pub(super) fn mode(table: &mut Table<'_>, key: &'static str, known: &[&str]) -> Option<String> {
    let mode = table.text(key)?;
    let is_known = known.iter().any(|known| match known.strip_suffix(':') {
        Some(_) => mode.len() > known.len() && mode.starts_with(known),
        None => mode == *known,
    });
    if !is_known {
        let known: Vec<_> = known
            .iter()
            .map(|known| match known.strip_suffix(':') {
                Some(kind) => format!("\"{kind}:<name>\""),
                None => format!("{known:?}"),
            })
            .collect();
        let known = known.join(", ");
        table.warn(
            key,
            format!("Docker knows only {known}, and jobs fail where it refuses {mode:?}; check it"),
        );
    }
    Some(mode)
}

pub(super) fn isolation(table: &mut Table<'_>) -> Option<String> {
    const KEY: &str = "isolation";
    let isolation = table.text(KEY)?;
    match isolation.as_str() {
        "default" => {}
        "process" | "hyperv" => table.refuse(
            KEY,
            format!("{isolation:?} is for Windows containers, which are not run here; remove it"),
        ),
        other => table.refuse(
            KEY,
            format!(r#"{other:?} is no isolation; write "default", or remove it"#),
        ),
    }
    Some(isolation)
}

//! `[[runners.docker.services]]` and the keys of `[runners.docker]` that hold for all services.

use std::time::Duration;

use super::runner::environment;
use crate::config::raw::Table;
use crate::config::service::{Definition, Services, WAIT};

/// Reads them out of `[runners.docker]`.
pub(super) fn services(docker: &mut Table<'_>) -> Services {
    let tables = docker.tables("services");
    Services {
        definitions: tables.into_iter().filter_map(definition).collect(),
        limit: limit(docker),
        wait: wait(docker),
        allowed: docker.strings("allowed_services"),
        privileged: docker.boolean("services_privileged"),
        allowed_privileged: docker.strings("allowed_privileged_services"),
    }
}

fn definition(mut table: Table<'_>) -> Option<Definition> {
    let name = table.text("name");
    if name.is_none() {
        table.refuse(
            "name",
            r#"missing; name the service's image, such as name = "postgres:16""#,
        );
    }
    let list = |words: Vec<String>| (!words.is_empty()).then_some(words);
    let definition = Definition {
        name: name.clone().unwrap_or_default(),
        alias: table.text("alias").unwrap_or_default(),
        command: list(table.strings("command")),
        entrypoint: list(table.strings("entrypoint")),
        environment: environment(&mut table),
    };
    // Kubernetes alone has a use for it.
    table.accept(&["suspend_data_path"]);
    table.finish();
    name.map(|_| definition)
}

/// Below zero is no limit, and so is nothing; zero is none at all.
fn limit(docker: &mut Table<'_>) -> Option<u32> {
    let written = docker.integer("services_limit")?;
    (written >= 0).then(|| u32::try_from(written).unwrap_or(u32::MAX))
}

/// Longer than any job.
const YEAR: u64 = 365 * 24 * 3600;

/// Zero is the default; below zero nobody waits.
fn wait(docker: &mut Table<'_>) -> Option<Duration> {
    match docker.integer("wait_for_services_timeout").unwrap_or(0) {
        0 => Some(WAIT),
        seconds => u64::try_from(seconds)
            .ok()
            .map(|seconds| Duration::from_secs(seconds.min(YEAR))),
    }
}

#[cfg(test)]
mod tests;

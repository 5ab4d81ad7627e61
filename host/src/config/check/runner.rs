//! One `[[runners]]` entry.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::{Files, autoscaler, docker, tls};
use crate::config::flags;
use crate::config::raw::Table;
use crate::config::scalars::{self, GoDuration};
use crate::config::server_url::ServerUrl;
use crate::config::usable::{Docker, Executor, Runner, Shell};

const OUTPUT_LIMIT_KIB: usize = 4096;
const SLOT_CGROUP: &str = "gitlab-runner/slot-${slot}";
const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// `None` if the entry cannot be used at all; the sink may know further reasons why it must not be.
pub(super) fn runner(
    mut entry: Table<'_>,
    index: usize,
    env: &dyn Fn(&str) -> Option<String>,
    certs: &Path,
    files: Files<'_>,
) -> Option<Runner> {
    // What other executors need is none of our business: one problem, not one for each of their keys.
    let executor = executor(&mut entry)?;
    let runner = ours(&mut entry, index, executor, env, certs, files);
    not_yet(&mut entry);
    entry.finish();
    runner
}

/// Reads everything before it gives up, so that all problems are found.
fn ours(
    entry: &mut Table<'_>,
    index: usize,
    executor: Executor,
    env: &dyn Fn(&str) -> Option<String>,
    certs: &Path,
    files: Files<'_>,
) -> Option<Runner> {
    let name = entry.string("name").unwrap_or_default();
    let url = url(entry, env);
    let token = token(entry, env);
    let server_tls = tls::server_tls(entry, url.as_ref(), certs, files);
    let shell = shell(entry);
    let docker = match entry.table("docker") {
        Some(table) => Some(slot_cgroups(entry, docker::docker(table, executor, files))),
        None => missing_table(entry, "docker"),
    };
    let autoscaler = match (executor, entry.table("autoscaler")) {
        (Executor::DockerAutoscaler, Some(table)) => autoscaler::autoscaler(table),
        (Executor::DockerAutoscaler, None) => missing_table(entry, "autoscaler"),
        (Executor::Docker, _) => Some(autoscaler::of_own_daemon()),
    };
    let custom_build_dir_enabled = match entry.table("custom_build_dir") {
        Some(mut table) => {
            let enabled = table.boolean("enabled").unwrap_or(true);
            table.finish();
            enabled
        }
        None => true,
    };
    Some(Runner {
        index,
        name,
        id: entry
            .integer("id")
            .and_then(|id| u64::try_from(id).ok())
            .filter(|id| *id > 0),
        limit: entry.count("limit"),
        request_concurrency: entry.count("request_concurrency").max(1),
        output_limit: match entry.count("output_limit") as usize {
            0 => OUTPUT_LIMIT_KIB * 1024,
            kib => kib.saturating_mul(1024),
        },
        unhealthy_requests_limit: or_default(entry.count("unhealthy_requests_limit"), 3),
        unhealthy_interval: entry
            .duration("unhealthy_interval")
            .and_then(GoDuration::positive)
            .unwrap_or(UNHEALTHY_INTERVAL),
        job_status_final_update_retry_limit: or_default(
            entry.count("job_status_final_update_retry_limit"),
            10,
        ),
        builds_dir: entry
            .text("builds_dir")
            .unwrap_or_else(|| "/builds".to_owned()),
        cache_dir: entry
            .text("cache_dir")
            .unwrap_or_else(|| "/cache".to_owned()),
        clone_url: entry.text("clone_url"),
        environment: environment(entry),
        pre_get_sources_script: entry.text("pre_get_sources_script"),
        post_get_sources_script: entry.text("post_get_sources_script"),
        pre_build_script: entry.text("pre_build_script"),
        post_build_script: entry.text("post_build_script"),
        debug_trace_disabled: entry.is_true("debug_trace_disabled"),
        safe_directory_checkout: entry.boolean("safe_directory_checkout").unwrap_or(true),
        clean_git_config: entry.boolean("clean_git_config"),
        proxy_exec: entry.is_true("proxy_exec"),
        shell: shell.unwrap_or(Shell::Bash),
        feature_flags: feature_flags(entry),
        prepare_timeout: entry
            .duration("prepare_timeout")
            .and_then(GoDuration::positive),
        get_sources_timeout: entry
            .duration("get_sources_timeout")
            .and_then(GoDuration::positive),
        custom_build_dir_enabled,
        url: url?,
        server_tls,
        token: token?,
        executor,
        docker: docker?,
        autoscaler: autoscaler?,
    })
}

fn executor(entry: &mut Table<'_>) -> Option<Executor> {
    if !entry.has("executor") {
        entry.refuse(
            "executor",
            r#"missing; write executor = "docker-autoscaler""#,
        );
        return None;
    }
    let written = entry.string("executor")?;
    let known = [Executor::DockerAutoscaler, Executor::Docker];
    let executor = known.into_iter().find(|known| known.name() == written);
    if executor.is_none() {
        entry.refuse(
            "executor",
            format!(
                r#"{written:?} is not run here; write "docker-autoscaler" or "docker", or leave this entry to GitLab Runner"#
            ),
        );
    }
    executor
}

fn missing_table<T>(entry: &Table<'_>, key: &str) -> Option<T> {
    if !entry.has(key) {
        entry.refuse(key, format!("missing; write a table [runners.{key}]"));
    }
    None
}

/// Where `use_slot_cgroups` is on, each slot has a control group of its own, for jobs and for services.
fn slot_cgroups(entry: &mut Table<'_>, mut docker: Docker) -> Docker {
    let template = entry.text("slot_cgroup_template");
    let template = template.unwrap_or_else(|| SLOT_CGROUP.to_owned());
    if entry.is_true("use_slot_cgroups") {
        docker.service_slot_cgroup.get_or_insert(template.clone());
        docker.slot_cgroup = Some(template);
    } else {
        docker.service_slot_cgroup = None;
    }
    docker
}

fn or_default(given: u32, default: u32) -> u32 {
    if given == 0 { default } else { given }
}

/// A text with the environment's variables in place; those that are not set are told.
fn expanded(
    entry: &mut Table<'_>,
    key: &'static str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let written = entry.string(key)?;
    let mut unset = Vec::new();
    let text = scalars::expand(&written, env, |name| unset.push(name.to_owned()));
    let text = text.trim().to_owned();
    if text.is_empty() && !unset.is_empty() {
        let names = unset.join(", ");
        entry.refuse(
            key,
            format!("empty: the environment variable {names} is not set; set it for the manager"),
        );
        return None;
    }
    for name in unset {
        entry.warn(
            key,
            format!("the environment variable {name} is not set and reads as nothing; set it for the manager"),
        );
    }
    Some(text)
}

fn url(entry: &mut Table<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<ServerUrl> {
    if !entry.has("url") {
        entry.refuse(
            "url",
            r#"missing; write GitLab's address, such as url = "https://gitlab.com""#,
        );
        return None;
    }
    let written = expanded(entry, "url", env)?;
    let trimmed = written.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/ci").unwrap_or(trimmed);
    let parsed = url::Url::parse(trimmed)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if parsed.is_none() {
        // Never quoted: an address may carry a password.
        entry.refuse(
            "url",
            r#"no address of a GitLab; write it like "https://gitlab.com""#,
        );
    }
    parsed.map(ServerUrl::from)
}

fn token(entry: &mut Table<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<SecretString> {
    const NEXT: &str = "GitLab shows it once when a runner is created, and it begins with glrt-";
    if !entry.has("token") {
        entry.refuse(
            "token",
            format!("missing; write the runner's token: {NEXT}"),
        );
        return None;
    }
    let token = expanded(entry, "token", env)?;
    if token.is_empty() {
        entry.refuse("token", format!("empty; write the runner's token: {NEXT}"));
        return None;
    }
    Some(SecretString::from(token))
}

fn shell(entry: &mut Table<'_>) -> Option<Shell> {
    match entry.text("shell")?.as_str() {
        "sh" => Some(Shell::Sh),
        "bash" => Some(Shell::Bash),
        other @ ("pwsh" | "powershell" | "cmd") => {
            entry.refuse(
                "shell",
                format!(r#"{other:?} is not supported yet; write "sh" or "bash""#),
            );
            None
        }
        other => {
            entry.refuse(
                "shell",
                format!(r#"{other:?} is no shell; write "sh" or "bash""#),
            );
            None
        }
    }
}

/// Split at the first `=`. An entry without one is dropped, as GitLab Runner does, but not silently.
pub(super) fn environment(entry: &mut Table<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (index, variable) in entry.strings("environment").into_iter().enumerate() {
        match variable.split_once('=') {
            Some((key, value)) => all.push((key.to_owned(), value.to_owned())),
            // The text may be half of a secret: only its place is told.
            None => entry.warn(
                "environment",
                format!(
                    r#"entry {} has no "=" and is dropped; write "KEY=VALUE""#,
                    index + 1
                ),
            ),
        }
    }
    all
}

/// All are kept, so that a job sees them in its variables; those without effect are told.
fn feature_flags(entry: &mut Table<'_>) -> BTreeMap<String, bool> {
    let written = entry.truth_map("feature_flags");
    for name in written.keys() {
        if let Some(why) = flags::why_without_effect(name) {
            entry.warn("feature_flags", format!("{name} {why}"));
        }
    }
    written
}

/// Keys of GitLab Runner that are known and do nothing here yet, or need nothing.
fn not_yet(entry: &mut Table<'_>) {
    entry.without_effect(&[
        "labels",
        "strict_check_interval",
        "step_runner_image",
        "artifact",
        "referees",
        "monitoring",
        "experimental",
        "token_expires_at",
    ]);
    if let Some(mut cache) = entry.table("cache") {
        if cache.text("Type").is_some() {
            cache.warn(
                "Type",
                "there is no cache yet; jobs run without it and say so in their log",
            );
        }
        cache.accept(&[
            "Path",
            "Shared",
            "MaxUploadedArchiveSize",
            "s3",
            "gcs",
            "azure",
        ]);
        cache.finish();
    }
    // Tables of other executors, which GitLab Runner ignores here too.
    entry.accept(&[
        "token_obtained_at",
        "instance",
        "machine",
        "ssh",
        "parallels",
        "virtualbox",
        "kubernetes",
        "custom",
    ]);
}

//! `[runners.docker]`.

mod mounts;
mod network;
mod resources;
mod security;
mod values;

use super::Files;
use super::services::services;
use crate::config::pull_policy::NoPolicy;
use crate::config::raw::Table;
use crate::config::usable::{Docker, Executor, PullPolicy};
use values::{each, each_checked};

/// Of GitLab Runner's helper images the one without a flavour of its own.
const PLAIN_FLAVOUR: &str = "alpine";
const LOG_OPTIONS: [&str; 2] = ["env", "labels"];

pub(super) fn docker(mut table: Table<'_>, executor: Executor, files: Files<'_>) -> Docker {
    let pull_policies = match pull_policies(&mut table, "pull_policy") {
        none if none.is_empty() => vec![PullPolicy::Always],
        some => some,
    };
    let allowed_pull_policies = match pull_policies_of_list(&mut table, "allowed_pull_policies") {
        none if none.is_empty() => pull_policies.clone(),
        some => some,
    };
    let docker = Docker {
        host: table.text("host"),
        tls_verify: table.is_true("tls_verify"),
        tls_cert_path: table.text("tls_cert_path"),
        image: table.text("image"),
        helper_image: table.text("helper_image"),
        hostname: table.text("hostname"),
        user: table.text("user"),
        allowed_users: table.strings("allowed_users"),
        disable_entrypoint_overwrite: table.is_true("disable_entrypoint_overwrite"),
        runtime: table.text("runtime"),
        container_labels: table.string_map("container_labels"),
        log_options: log_options(&mut table),

        resources: resources::of_jobs(&mut table),
        service_resources: resources::of_services(&mut table),
        oom_kill_disable: table.is_true("oom_kill_disable"),
        oom_score_adjust: resources::oom_score(&mut table),
        ulimit: values::ulimits(&mut table, "ulimit"),
        shm_size: resources::not_below_zero(&mut table, "shm_size", "size in bytes"),
        devices: each(&mut table, "devices"),
        services_devices: values::devices_of_services(&mut table),
        device_cgroup_rules: values::cgroup_rules(&mut table),
        sysctls: table.string_map("sysctls"),

        privileged: table.is_true("privileged"),
        allowed_privileged_images: table.strings("allowed_privileged_images"),
        cap_add: table.strings("cap_add"),
        cap_drop: table.strings("cap_drop"),
        group_add: table.strings("group_add"),
        security_opt: security::options(&mut table, "security_opt", files),
        services_security_opt: security::options(&mut table, "services_security_opt", files),
        userns_mode: security::mode(&mut table, "userns_mode", &["host"]),
        pid_mode: security::mode(&mut table, "pid_mode", &["host", "container:"]),
        ipc_mode: security::mode(
            &mut table,
            "ipcmode",
            &["none", "private", "shareable", "host", "container:"],
        ),
        isolation: security::isolation(&mut table),

        network_mode: table.text("network_mode"),
        network_mtu: network::mtu(&mut table),
        enable_ipv6: table.is_true("enable_ipv6"),
        dns: network::name_servers(&mut table),
        dns_search: table.strings("dns_search"),
        extra_hosts: each_checked(&mut table, "extra_hosts", network::is_host, network::HOST),
        links: each_checked(&mut table, "links", network::is_link, network::LINK),
        mac_address: network::mac_address(&mut table),

        volumes: mounts::volumes(&mut table),
        volumes_from: each_checked(&mut table, "volumes_from", mounts::is_from, mounts::FROM),
        volume_driver: table.text("volume_driver"),
        volume_driver_ops: table.string_map("volume_driver_ops"),
        volume_keep: table.is_true("volume_keep"),
        cache_dir: mounts::cache_dir(&mut table),
        disable_cache: table.is_true("disable_cache"),
        tmpfs: mounts::tmpfs(&mut table, "tmpfs"),
        services_tmpfs: mounts::tmpfs(&mut table, "services_tmpfs"),

        // Filled from the entry, which knows whether slots have groups at all.
        slot_cgroup: None,
        service_slot_cgroup: table.text("service_slot_cgroup_template"),

        allowed_images: table.strings("allowed_images"),
        pull_policies,
        allowed_pull_policies,
        services: services(&mut table),
    };
    if docker.tls_verify && executor == Executor::DockerAutoscaler {
        table.warn(
            "tls_verify",
            "has no effect on instances, whose Docker is reached by SSH; the entry runs without it",
        );
    }
    flavour(&mut table);
    not_yet(&mut table);
    table.finish();
    docker
}

/// The log driver is always `json-file`: a lost stream is taken up again from it.
fn log_options(table: &mut Table<'_>) -> std::collections::BTreeMap<String, String> {
    let options = table.string_map("log_options");
    for key in options.keys() {
        if !LOG_OPTIONS.contains(&key.as_str()) {
            table.refuse(
                "log_options",
                format!(r#"{key:?} cannot be set for jobs; leave only "env" and "labels""#),
            );
        }
    }
    options
}

/// GitLab Runner chooses among its own helper images by it. Here there is one, or the operator's.
fn flavour(table: &mut Table<'_>) {
    let flavour = table.text("helper_image_flavor");
    let named = table.has("helper_image");
    if let Some(flavour) = flavour.filter(|flavour| flavour != PLAIN_FLAVOUR && !named) {
        table.warn(
            "helper_image_flavor",
            format!(
                "there is one helper image and it has no flavour {flavour:?}; if hooks need that one's tools, name an \
                 image that has them in helper_image"
            ),
        );
    }
}

fn pull_policies(table: &mut Table<'_>, key: &'static str) -> Vec<PullPolicy> {
    let words = table.one_or_more(key);
    named(table, key, words)
}

fn pull_policies_of_list(table: &mut Table<'_>, key: &'static str) -> Vec<PullPolicy> {
    let words = table.strings(key);
    named(table, key, words)
}

fn named(table: &Table<'_>, key: &str, words: Vec<String>) -> Vec<PullPolicy> {
    let mut all = Vec::with_capacity(words.len());
    for word in words {
        match word.parse() {
            Ok(policy) => all.push(policy),
            Err(NoPolicy) => table.refuse(
                key,
                format!(
                    r#"{word:?} is no pull policy; write "always", "if-not-present" or "never""#
                ),
            ),
        }
    }
    all
}

fn not_yet(table: &mut Table<'_>) {
    table.accept(&[
        // Of GitLab Runner's documentation; its Docker executor does not read it.
        "helper_image_autoset_arch_and_os",
    ]);
}

#[cfg(test)]
mod tests;

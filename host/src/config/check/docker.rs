//! `[runners.docker]`.

use super::services::services;
use crate::config::pull_policy::NoPolicy;
use crate::config::raw::Table;
use crate::config::scalars;
use crate::config::usable::{Docker, PullPolicy};

pub(super) fn docker(mut table: Table<'_>) -> Docker {
    let privileged = table.is_true("privileged");
    must_not_be_ignored(&mut table, privileged);
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
        privileged,
        user: table.text("user"),
        disable_entrypoint_overwrite: table.is_true("disable_entrypoint_overwrite"),
        disable_cache: table.is_true("disable_cache"),
        volumes: table.strings("volumes"),
        volume_keep: table.is_true("volume_keep"),
        network_mode: table.text("network_mode"),
        dns: table.strings("dns"),
        dns_search: table.strings("dns_search"),
        extra_hosts: table.strings("extra_hosts"),
        cap_add: table.strings("cap_add"),
        cap_drop: table.strings("cap_drop"),
        security_opt: table.strings("security_opt"),
        devices: table.strings("devices"),
        group_add: table.strings("group_add"),
        memory: size(&mut table, "memory"),
        memory_swap: size(&mut table, "memory_swap"),
        memory_reservation: size(&mut table, "memory_reservation"),
        nano_cpus: processors(&mut table, "cpus"),
        cpuset_cpus: table.text("cpuset_cpus"),
        cpu_shares: table.integer("cpu_shares").filter(|shares| *shares != 0),
        shm_size: table.integer("shm_size").filter(|bytes| *bytes != 0),
        runtime: table.text("runtime"),
        tmpfs: table.string_map("tmpfs"),
        sysctls: table.string_map("sysctls"),
        ulimit: table.string_map("ulimit"),
        container_labels: table.string_map("container_labels"),
        mac_address: table.text("mac_address"),
        allowed_images: table.strings("allowed_images"),
        pull_policies,
        allowed_pull_policies,
        services: services(&mut table),
        enable_ipv6: table.is_true("enable_ipv6"),
        network_mtu: mtu(&mut table),
    };
    for server in &docker.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            table.refuse(
                "dns",
                format!("{server:?} is no IP address; write it like \"1.1.1.1\""),
            );
        }
    }
    not_yet(&mut table);
    table.finish();
    docker
}

/// Limits on what a job may do: an entry that names one and would run without it is not started at all.
fn must_not_be_ignored(table: &mut Table<'_>, privileged: bool) {
    const NEXT: &str = "is not enforced yet, and jobs could do what it forbids; remove it, or leave this entry to GitLab Runner";
    if !table.strings("allowed_users").is_empty() {
        table.refuse("allowed_users", NEXT);
    }
    if !table.strings("allowed_privileged_images").is_empty() && privileged {
        table.refuse("allowed_privileged_images", NEXT);
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

fn size(table: &mut Table<'_>, key: &'static str) -> Option<i64> {
    let text = table.text(key)?;
    let size = scalars::bytes(&text);
    if size.is_none() {
        table.refuse(
            key,
            format!(r#"{text:?} is no size; write it like "512m" or "2g""#),
        );
    }
    size
}

fn processors(table: &mut Table<'_>, key: &'static str) -> Option<i64> {
    let text = table.text(key)?;
    let nanos = scalars::nano_cpus(&text);
    if nanos.is_none() {
        table.refuse(
            key,
            format!(r#"{text:?} is no number of processors; write it like "1.5""#),
        );
    }
    nanos
}

/// Of the network made for a job; 0 is the daemon's own.
fn mtu(table: &mut Table<'_>) -> Option<u32> {
    let bytes = table.integer("network_mtu").filter(|bytes| *bytes != 0)?;
    let mtu = u32::try_from(bytes).ok();
    if mtu.is_none() {
        table.refuse(
            "network_mtu",
            format!("{bytes} is no size of a packet; write it like 1450"),
        );
    }
    mtu
}

fn not_yet(table: &mut Table<'_>) {
    table.without_effect(&[
        "cgroup_parent",
        "cpuset_mems",
        "userns_mode",
        "oom_kill_disable",
        "oom_score_adjust",
        "device_cgroup_rules",
        "gpus",
        "cache_dir",
        "volumes_from",
        "volume_driver",
        "volume_driver_ops",
        "links",
        "pid_mode",
        "ipcmode",
        "isolation",
        "log_options",
        "helper_image_flavor",
        "services_security_opt",
        "services_devices",
        "services_tmpfs",
        "service_gpus",
        "service_memory",
        "service_memory_swap",
        "service_memory_reservation",
        "service_cgroup_parent",
        "service_cpuset_cpus",
        "service_cpus",
        "service_cpu_shares",
        "service_slot_cgroup_template",
    ]);
}

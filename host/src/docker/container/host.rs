//! What the instance's daemon is asked to give each container: resources, rights, networks, mounts.
//!
//! ```text
//! every container: resources, runtime, user namespace, network and names, mounts, log driver
//!   ├ build and helper: and devices, capabilities, limits, tmpfs …      ├ build: and pid namespace
//!   └ services: their own resources, rights and tmpfs instead           └ helper
//! ```

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    DeviceMapping, DeviceRequest, HostConfig, HostConfigIsolationEnum, HostConfigLogConfig,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::config::device::Device;
use crate::config::gpus::Gpus;
use crate::config::ulimit::Ulimit;
use crate::config::usable::{self, Resources};
use crate::docker::image;
use crate::docker::volume::Volumes;

/// More than any log has. A daemon whose own setting rotates logs earlier would take away where a lost stream was, and
/// with it what came meanwhile.
const NEVER_ROTATED: &str = "1000000t";

/// Of the build container; `image` is its name as it was asked for.
pub(super) fn of_build(config: &usable::Docker, volumes: &Volumes, image: &str) -> HostConfig {
    HostConfig {
        pid_mode: config.pid_mode.clone(),
        ..of_helper(config, volumes, image)
    }
}

/// Of the helper; `image` is its configured name or its ID.
pub(super) fn of_helper(config: &usable::Docker, volumes: &Volumes, image: &str) -> HostConfig {
    let ulimits = config.ulimit.iter().map(ulimit);
    let privileged = config.privileged && may(&config.allowed_privileged_images, image);
    HostConfig {
        privileged: Some(privileged),
        cap_add: list(&config.cap_add),
        cap_drop: list(&config.cap_drop),
        group_add: list(&config.group_add),
        security_opt: list(&config.security_opt),
        ipc_mode: config.ipc_mode.clone(),
        devices: Some(devices(&config.devices)),
        device_cgroup_rules: list(&config.device_cgroup_rules),
        // Said when it is false too, as GitLab Runner does.
        oom_kill_disable: Some(config.oom_kill_disable),
        oom_score_adj: config.oom_score_adjust,
        ulimits: Some(ulimits.collect()),
        sysctls: map(&config.sysctls),
        tmpfs: map(&config.tmpfs),
        links: list(&config.links),
        volumes_from: list(&config.volumes_from),
        volume_driver: config.volume_driver.clone(),
        log_config: Some(log(config, true)),
        ..shared(config, volumes, &config.resources)
    }
}

/// Of a service; `image` is its name as it was asked for.
pub(in crate::docker) fn of_service(
    config: &usable::Docker,
    volumes: &Volumes,
    image: &str,
    privileged: bool,
) -> HostConfig {
    let matching = config.services_devices.iter();
    let matching = matching.filter(|(glob, _)| crate::docker::glob::matches(glob, image));
    HostConfig {
        privileged: Some(privileged),
        security_opt: list(&config.services_security_opt),
        devices: Some(matching.flat_map(|(_, of_glob)| devices(of_glob)).collect()),
        tmpfs: map(&config.services_tmpfs),
        ..shared(config, volumes, &config.service_resources)
    }
}

/// Whether a list of images that may be privileged lets this one be; an empty list lets all.
pub(in crate::docker) fn may(allowed: &[String], image: &str) -> bool {
    image::is_allowed(image, allowed, None)
}

fn shared(config: &usable::Docker, volumes: &Volumes, resources: &Resources) -> HostConfig {
    HostConfig {
        memory: resources.memory,
        memory_swap: resources.memory_swap,
        memory_reservation: resources.memory_reservation,
        nano_cpus: resources.nano_cpus,
        cpu_shares: resources.cpu_shares,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        cgroup_parent: resources.cgroup_parent.clone(),
        device_requests: resources.gpus.as_ref().map(|gpus| vec![request(gpus)]),
        shm_size: config.shm_size,
        runtime: config.runtime.clone(),
        userns_mode: config.userns_mode.clone(),
        isolation: config
            .isolation
            .as_ref()
            .map(|_| HostConfigIsolationEnum::DEFAULT),
        network_mode: config.network_mode.clone(),
        dns: list(&config.dns),
        dns_search: list(&config.dns_search),
        extra_hosts: list(&config.extra_hosts),
        binds: list(&volumes.binds),
        mounts: Some(volumes.mounts.clone()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(log(config, false)),
        ..HostConfig::default()
    }
}

/// The one log driver whose splitting and replacing is known when a lost stream is taken up again.
fn log(config: &usable::Docker, is_taken_up: bool) -> HostConfigLogConfig {
    let mut options = config.log_options.clone();
    if is_taken_up {
        options.insert("max-size".into(), NEVER_ROTATED.into());
        // A daemon may be told to drop what it cannot write at once.
        options.insert("mode".into(), "blocking".into());
    }
    HostConfigLogConfig {
        typ: Some("json-file".into()),
        config: map(&options),
    }
}

fn list(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

fn map(items: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!items.is_empty()).then(|| items.clone().into_iter().collect())
}

fn devices(all: &[Device]) -> Vec<DeviceMapping> {
    let mapped = all.iter().map(|device| DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    });
    mapped.collect()
}

fn request(gpus: &Gpus) -> DeviceRequest {
    DeviceRequest {
        driver: Some(gpus.driver.clone()),
        count: Some(gpus.count),
        device_ids: list(&gpus.devices),
        capabilities: Some(vec![gpus.capabilities.clone()]),
        options: Some(gpus.options.clone().into_iter().collect()),
    }
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    }
}

#[cfg(test)]
mod tests;

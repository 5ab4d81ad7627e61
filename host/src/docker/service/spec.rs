//! What a service's container and its wait container are created with: pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};

use super::Up;
use crate::config::usable;
use crate::docker::container::HELPER;
use crate::docker::stage::{Plan, Service};
use crate::docker::volume::Volumes;
use crate::docker::{image, label};

pub(super) fn service(
    service: &Service,
    image: &str,
    plan: &Plan,
    config: &usable::Docker,
    volumes: &Volumes,
) -> ContainerCreateBody {
    let mut labels: HashMap<_, _> = plan.labels.iter().cloned().collect();
    // The operator's own stand there twice: scripts look for services by the prefix, too.
    for key in config.container_labels.keys() {
        if let Some(value) = labels.get(key).cloned() {
            labels.insert(format!("{}{key}", label::PREFIX), value);
        }
    }
    labels.insert(label::TYPE.into(), "service".into());
    labels.insert(label::SERVICE.into(), service.name.clone());
    labels.insert(label::SERVICE_VERSION.into(), service.version.clone());
    let environment = service.environment.iter();
    ContainerCreateBody {
        image: Some(image.into()),
        user: service.user.clone(),
        entrypoint: service.entrypoint.clone(),
        cmd: service.command.clone(),
        env: Some(
            environment
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        labels: Some(labels),
        host_config: Some(of_service(
            config,
            volumes,
            is_privileged(service, config),
            plan.init,
        )),
        ..ContainerCreateBody::default()
    }
}

fn is_privileged(service: &Service, config: &usable::Docker) -> bool {
    let services = &config.services;
    services.privileged.unwrap_or(config.privileged)
        && image::is_allowed(&service.image, &services.allowed_privileged, None)
}

/// It shares the job's volumes, so that a Docker of its own can mount the job's files.
fn of_service(
    config: &usable::Docker,
    volumes: &Volumes,
    privileged: bool,
    init: bool,
) -> HostConfig {
    let list = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
    HostConfig {
        binds: list(&volumes.binds),
        mounts: Some(volumes.mounts.clone()),
        privileged: Some(privileged),
        dns: list(&config.dns),
        dns_search: list(&config.dns_search),
        extra_hosts: list(&config.extra_hosts),
        shm_size: config.shm_size,
        runtime: config.runtime.clone(),
        init: init.then_some(true),
        ..never_restarted()
    }
}

/// A container of our own image that ends once the service takes a connection.
pub(super) fn wait(up: &Up, helper_image: &str, plan: &Plan) -> ContainerCreateBody {
    let mut labels: HashMap<_, _> = plan.labels.iter().cloned().collect();
    labels.insert(label::TYPE.into(), "wait".into());
    labels.insert(label::WAIT.into(), up.id.clone());
    let sockets = up.addresses.iter().flat_map(|ip| {
        let ports = up.ports.iter();
        ports.map(|port| std::net::SocketAddr::new(*ip, *port).to_string())
    });
    let command = [fleetling_helper::health::COMMAND.to_owned()];
    ContainerCreateBody {
        image: Some(helper_image.into()),
        entrypoint: Some(vec![format!("/{HELPER}")]),
        cmd: Some(command.into_iter().chain(sockets).collect()),
        labels: Some(labels),
        host_config: Some(never_restarted()),
        ..ContainerCreateBody::default()
    }
}

/// With the one log driver whose log can be read whatever the daemon's default is.
fn never_restarted() -> HostConfig {
    HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: None,
        }),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests;

//! What a service's container and its wait container are created with: pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};

use super::Up;
use crate::config::usable;
use crate::docker::container::{HELPER, host};
use crate::docker::label;
use crate::docker::stage::{Plan, Service};
use crate::docker::volume::Volumes;

/// Without `mac_address`, which is the job's: two of one address on one bridge never reach each other.
pub(super) fn service(
    service: &Service,
    image: &str,
    plan: &Plan,
    config: &usable::Docker,
    volumes: &Volumes,
) -> ContainerCreateBody {
    // The operator's own stand there twice: scripts look for services by the prefix, too.
    let prefixed = plan.container_labels.iter();
    let prefixed = prefixed.map(|(key, value)| (format!("{}{key}", label::PREFIX), value.clone()));
    let mut labels: HashMap<_, _> = plan.container_labels.iter().cloned().collect();
    labels.extend(prefixed.chain(plan.labels.iter().cloned()));
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
        // It shares the job's volumes, so that a Docker of its own can mount the job's files.
        host_config: Some(HostConfig {
            init: plan.init.then_some(true),
            ..host::of_service(
                config,
                volumes,
                &service.image,
                is_privileged(service, config),
            )
        }),
        ..ContainerCreateBody::default()
    }
}

fn is_privileged(service: &Service, config: &usable::Docker) -> bool {
    let services = &config.services;
    services.privileged.unwrap_or(config.privileged)
        && host::may(&services.allowed_privileged, &service.image)
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

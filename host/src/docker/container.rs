//! What the build and the helper container are created with: pure.

mod archive;
pub(super) mod host;

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, EndpointSettings, NetworkingConfig};

pub(super) use archive::archive;

use super::label;
use super::stage::Plan;
use super::volume::Volumes;
use crate::config::usable;

/// Where the helper binary is: in our own image from the start, in another once it was copied.
pub(super) const HELPER: &str = "fleetling-helper";

/// Finds a shell and becomes it: `bash` before `sh`, wherever images keep them.
const FIND_SHELL: &str = "for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh \
/bin/sh /busybox/sh; do if [ -x \"$shell\" ]; then exec \"$shell\"; fi; done; echo shell not found; exit 1";

/// Which container, and how its process is begun.
pub(super) enum Role {
    Build {
        entrypoint: Option<Vec<String>>,
        /// Where the job names one.
        platform: Option<String>,
    },
    /// Pid 1 is our helper, which opens the mount points.
    FedHelper,
    /// One start for each stage, for images that cannot run our helper.
    PlainHelper,
}

pub(super) fn spec(
    role: &Role,
    image: &str,
    plan: &Plan,
    config: &usable::Docker,
    volumes: &Volumes,
) -> ContainerCreateBody {
    let shell = || vec!["sh".to_owned(), "-c".to_owned(), FIND_SHELL.to_owned()];
    let (kind, entrypoint, cmd, user) = match role {
        Role::Build { entrypoint, .. } => {
            let user = plan.image.user.clone();
            ("build", entrypoint.clone(), shell(), user)
        }
        Role::FedHelper => (
            "predefined",
            Some(vec![format!("/{HELPER}")]),
            volumes.open.clone(),
            None,
        ),
        Role::PlainHelper => ("predefined", Some(vec![]), shell(), None),
    };
    let mut host_config = match role {
        Role::Build { .. } => host::of_build(config, volumes, &plan.image.name),
        Role::FedHelper | Role::PlainHelper => {
            let configured = plan.helper_image.as_ref();
            let name = configured.map_or(image, |helper| helper.name.as_str());
            host::of_helper(config, volumes, name)
        }
    };
    // The helper is an init itself.
    host_config.init = (plan.init && matches!(role, Role::Build { .. })).then_some(true);
    // Our own are the ones that containers are found by.
    let mut labels: HashMap<_, _> = plan.container_labels.iter().cloned().collect();
    labels.extend(plan.labels.iter().cloned());
    labels.insert(label::TYPE.into(), kind.into());
    ContainerCreateBody {
        image: Some(image.into()),
        hostname: hostname(plan, config),
        user,
        entrypoint,
        cmd: Some(cmd),
        env: Some(
            plan.environment
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        labels: Some(labels),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // A lost attach must not end the shell: with `StdinOnce` it would exit 0 without having run anything.
        stdin_once: Some(false),
        tty: Some(false),
        host_config: Some(host_config),
        networking_config: network(config),
        ..ContainerCreateBody::default()
    }
}

/// A container that shares another's network has that one's name, and Docker refuses it a second.
fn hostname(plan: &Plan, config: &usable::Docker) -> Option<String> {
    let mut mode = config.network_mode.iter();
    if mode.any(|mode| mode.starts_with("container:")) {
        return None;
    }
    let named = config.hostname.as_ref();
    Some(named.unwrap_or(&plan.container_base).clone())
}

fn network(config: &usable::Docker) -> Option<NetworkingConfig> {
    let mac_address = config.mac_address.clone()?;
    let name = config
        .network_mode
        .clone()
        .unwrap_or_else(|| "bridge".into());
    let endpoint = EndpointSettings {
        mac_address: Some(mac_address),
        ..EndpointSettings::default()
    };
    Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([(name, endpoint)])),
    })
}

#[cfg(test)]
pub(super) mod tests;

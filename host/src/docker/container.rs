//! What the build and the helper container are created with: pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointSettings, HostConfig, HostConfigLogConfig,
    NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

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
) -> Result<ContainerCreateBody, String> {
    let shell = || vec!["sh".to_owned(), "-c".to_owned(), FIND_SHELL.to_owned()];
    let (kind, entrypoint, cmd, user) = match role {
        Role::Build { entrypoint } => {
            let user = config.user.clone().or_else(|| plan.image.user.clone());
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
    let mut host_config = host(config, volumes)?;
    // The helper is an init itself.
    host_config.init = (plan.init && matches!(role, Role::Build { .. })).then_some(true);
    let mut labels: HashMap<_, _> = config.container_labels.clone().into_iter().collect();
    labels.extend(plan.labels.iter().cloned());
    labels.insert(label::TYPE.into(), kind.into());
    Ok(ContainerCreateBody {
        image: Some(image.into()),
        hostname: Some(
            config
                .hostname
                .clone()
                .unwrap_or_else(|| plan.container_base.clone()),
        ),
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
    })
}

fn host(config: &usable::Docker, volumes: &Volumes) -> Result<HostConfig, String> {
    let list = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
    let map = |items: &std::collections::BTreeMap<String, String>| {
        (!items.is_empty()).then(|| items.clone().into_iter().collect())
    };
    let devices: Result<Vec<_>, _> = config.devices.iter().map(|d| device(d)).collect();
    let ulimits: Result<Vec<_>, _> = config.ulimit.iter().map(|(k, v)| ulimit(k, v)).collect();
    Ok(HostConfig {
        binds: list(&volumes.binds),
        mounts: Some(volumes.mounts.clone()),
        network_mode: config.network_mode.clone(),
        privileged: Some(config.privileged),
        dns: list(&config.dns),
        dns_search: list(&config.dns_search),
        extra_hosts: list(&config.extra_hosts),
        cap_add: list(&config.cap_add),
        cap_drop: list(&config.cap_drop),
        security_opt: list(&config.security_opt),
        group_add: list(&config.group_add),
        devices: Some(devices?),
        ulimits: Some(ulimits?),
        memory: config.memory,
        memory_swap: config.memory_swap,
        memory_reservation: config.memory_reservation,
        nano_cpus: config.nano_cpus,
        cpuset_cpus: config.cpuset_cpus.clone(),
        cpu_shares: config.cpu_shares,
        shm_size: config.shm_size,
        runtime: config.runtime.clone(),
        tmpfs: map(&config.tmpfs),
        sysctls: map(&config.sysctls),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        // The one log driver whose splitting and replacing is known when a lost stream is taken up again.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: None,
        }),
        ..HostConfig::default()
    })
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

fn device(spec: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<_> = spec.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] => (host, container, permissions),
        _ => return Err(format!("too many colons in device {spec:?}")),
    };
    Ok(DeviceMapping {
        path_on_host: Some(host.into()),
        path_in_container: Some(container.into()),
        cgroup_permissions: Some(permissions.into()),
    })
}

fn ulimit(name: &str, value: &str) -> Result<ResourcesUlimits, String> {
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("ulimit {name}: {value:?} is not soft[:hard]"))
    };
    Ok(ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(number(soft)?),
        hard: Some(number(hard)?),
    })
}

/// A tar archive with the helper binary, and with mount points that any user may write to: in an image of somebody
/// else's the helper may not be allowed to open them.
pub(super) fn archive(binary: &[u8], open: &[String]) -> Vec<u8> {
    let mut tar = Vec::with_capacity(binary.len() + 4096);
    for path in open {
        entry(
            &mut tar,
            &format!("{}/", path.trim_start_matches('/')),
            0o777,
            b'5',
            &[],
        );
    }
    entry(&mut tar, HELPER, 0o755, b'0', binary);
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn entry(tar: &mut Vec<u8>, name: &str, mode: u32, kind: u8, content: &[u8]) {
    let mut head = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend_from_slice(&head);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

//! `[runners.autoscaler]` and the tables below it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use secrecy::SecretString;

use super::coverage;
use crate::config::period::Period;
use crate::config::raw::Table;
use crate::config::scalars::GoDuration;
use crate::config::usable::{Autoscaler, Buckets, Connector, Policy, StateStorage, Throttle};
use crate::fleet::group::Protocol;

const MINUTE: Duration = Duration::from_secs(60);
/// Instances a second where `scale_throttle.limit` is 0.
const THROTTLE_LIMIT: i64 = 100;

pub(super) fn autoscaler(mut table: Table<'_>) -> Option<Autoscaler> {
    let autoscaler = read(&mut table);
    table.finish();
    autoscaler
}

/// Reads everything before it gives up, so that all problems are found.
fn read(table: &mut Table<'_>) -> Option<Autoscaler> {
    let plugin = table.text("plugin");
    if plugin.is_none() {
        table.refuse(
            "plugin",
            r#"missing; name the cloud's plugin, such as plugin = "aws""#,
        );
    }
    refuse_isolation(table);
    let max_instances = Some(table.count("max_instances")).filter(|max| *max > 0);
    let connector = connector(table.table("connector_config"));
    Some(Autoscaler {
        plugin_config: table.json("plugin_config"),
        capacity_per_instance: table.count("capacity_per_instance").max(1),
        max_use_count: table.count("max_use_count"),
        max_instances,
        instance_ready_command: table.text("instance_ready_command"),
        instance_acquire_timeout: pause(table, "instance_acquire_timeout", 15 * MINUTE),
        update_interval: pause(table, "update_interval", MINUTE),
        update_interval_when_expecting: pause(
            table,
            "update_interval_when_expecting",
            Duration::from_secs(2),
        ),
        deletion_retry_interval: pause(table, "deletion_retry_interval", MINUTE),
        shutdown_deletion_interval: pause(
            table,
            "shutdown_deletion_interval",
            Duration::from_secs(10),
        ),
        shutdown_deletion_retries: positive_or(table.count("shutdown_deletion_retries"), 3),
        failure_threshold: positive_or(table.count("failure_threshold"), 3),
        scale_throttle: throttle(table.table("scale_throttle"), max_instances),
        reservation_throttling: table.boolean("reservation_throttling").unwrap_or(true),
        delete_instances_on_shutdown: table.is_true("delete_instances_on_shutdown"),
        log_internal_ip: table.is_true("log_internal_ip"),
        log_external_ip: table.is_true("log_external_ip"),
        buckets: buckets(table),
        connector,
        policies: policies(table),
        state_storage: state_storage(table.table("state_storage")),
        plugin: plugin?,
    })
}

/// Slots of the manager's own daemon, where one costs next to nothing: `limit` and `concurrent` bound its jobs, and may
/// change while jobs run.
const OWN_SLOTS: u32 = 1000;

/// How the manager's own daemon is kept: one that is always there. One that does not answer is given up and asked for
/// again, as an instance is.
pub(super) fn of_own_daemon() -> Autoscaler {
    Autoscaler {
        plugin: String::new(),
        plugin_config: serde_json::Value::Null,
        capacity_per_instance: OWN_SLOTS,
        max_use_count: 0,
        max_instances: Some(1),
        instance_ready_command: None,
        instance_acquire_timeout: 15 * MINUTE,
        update_interval: MINUTE,
        update_interval_when_expecting: Duration::from_secs(2),
        deletion_retry_interval: MINUTE,
        shutdown_deletion_interval: Duration::from_secs(10),
        shutdown_deletion_retries: 1,
        failure_threshold: 3,
        scale_throttle: Throttle {
            limit: None,
            burst: 1,
        },
        reservation_throttling: true,
        delete_instances_on_shutdown: false,
        log_internal_ip: false,
        log_external_ip: false,
        buckets: Buckets::default(),
        connector: connector(None),
        policies: vec![Policy {
            periods: vec!["* * * * *".to_owned()],
            timezone: None,
            idle_count: 1,
            idle_time: Duration::ZERO,
            scale_factor: 0.0,
            scale_factor_limit: 0,
            preemptive_mode: true,
        }],
        // There is nothing to adopt.
        state_storage: StateStorage {
            enabled: Some(false),
            ..StateStorage::default()
        },
    }
}

/// Each by its own key, else by `instance_operation_time_buckets`; a life is no operation and has no such fallback.
fn buckets(table: &mut Table<'_>) -> Buckets {
    let any = bounds(table, "instance_operation_time_buckets");
    let mut own = |key| bounds(table, key).or_else(|| any.clone());
    Buckets {
        creation: own("instance_creation_time_buckets"),
        is_running: own("instance_is_running_time_buckets"),
        deletion: own("instance_deletion_time_buckets"),
        readiness: own("instance_readiness_time_buckets"),
        life: bounds(table, "instance_life_duration_buckets"),
    }
}

/// An empty list is as good as none.
fn bounds(table: &mut Table<'_>, key: &'static str) -> Option<Vec<f64>> {
    let bounds = table.floats(key);
    let rises = bounds.is_sorted_by(|low, high| low < high);
    if !rises || bounds.iter().any(|bound| !bound.is_finite()) {
        table.warn(
            key,
            "no buckets: each number must be greater than the one before; the default is used",
        );
        return None;
    }
    Some(bounds).filter(|bounds| !bounds.is_empty())
}

/// A duration above zero, else the default.
fn pause(table: &mut Table<'_>, key: &'static str, default: Duration) -> Duration {
    table
        .duration(key)
        .and_then(GoDuration::positive)
        .unwrap_or(default)
}

fn positive_or(given: u32, default: u32) -> u32 {
    if given == 0 { default } else { given }
}

/// Jobs of an entry that wants a virtual machine of their own must not run without one.
fn refuse_isolation(table: &mut Table<'_>) {
    let Some(mut isolation) = table.table("vm_isolation") else {
        return;
    };
    if isolation.is_true("enabled") {
        isolation.refuse(
            "enabled",
            "virtual machines inside an instance are not supported yet; remove vm_isolation, or leave this entry to GitLab Runner",
        );
    }
    isolation.accept(&[
        "nesting_host",
        "nesting_config",
        "image",
        "connector_config",
    ]);
    isolation.finish();
}

fn throttle(table: Option<Table<'_>>, max_instances: Option<u32>) -> Throttle {
    let (mut limit, mut burst) = (0, 0);
    if let Some(mut table) = table {
        limit = table.integer("limit").unwrap_or(0);
        burst = table.count("burst");
        table.finish();
    }
    let limit = match limit {
        0 => Some(THROTTLE_LIMIT),
        below if below < 0 => None,
        some => Some(some),
    };
    let default_burst = max_instances
        .or(limit.and_then(|limit| u32::try_from(limit).ok()))
        .unwrap_or(u32::MAX);
    Throttle {
        limit: limit.map(|limit| limit as f64),
        burst: positive_or(burst, default_burst),
    }
}

fn connector(table: Option<Table<'_>>) -> Connector {
    let mut connector = Connector {
        os: None,
        arch: None,
        protocol: None,
        protocol_port: None,
        username: None,
        password: None,
        key_path: None,
        use_static_credentials: false,
        keepalive: None,
        timeout: 5 * MINUTE,
        use_external_addr: false,
    };
    let Some(mut table) = table else {
        return connector;
    };
    connector.os = table.text("os");
    connector.arch = table.text("arch");
    connector.protocol = protocol(&mut table);
    connector.protocol_port = port(&mut table);
    connector.username = table.text("username");
    connector.password = table.text("password").map(SecretString::from);
    connector.key_path = table.text("key_path").map(PathBuf::from);
    connector.use_static_credentials = table.is_true("use_static_credentials");
    connector.keepalive = table.duration("keepalive").and_then(GoDuration::positive);
    connector.timeout = pause(&mut table, "timeout", connector.timeout);
    connector.use_external_addr = table.is_true("use_external_addr");
    if connector.os.as_deref() == Some("windows") {
        table.refuse(
            "os",
            "Windows instances are not supported yet; use a Linux image, or leave this entry to GitLab Runner",
        );
    }
    table.finish();
    connector
}

fn protocol(table: &mut Table<'_>) -> Option<Protocol> {
    match table.text("protocol")?.as_str() {
        "ssh" => Some(Protocol::Ssh),
        other if other.starts_with("winrm") => {
            table.refuse(
                "protocol",
                format!(r#"{other:?} is not supported yet; write "ssh""#),
            );
            None
        }
        other => {
            table.refuse(
                "protocol",
                format!(r#"{other:?} is no protocol; write "ssh""#),
            );
            None
        }
    }
}

fn port(table: &mut Table<'_>) -> Option<u16> {
    let number = table.integer("protocol_port").filter(|port| *port != 0)?;
    let port = u16::try_from(number).ok();
    if port.is_none() {
        table.refuse(
            "protocol_port",
            format!("{number} is no port; write one from 1 to 65535"),
        );
    }
    port
}

fn policies(table: &mut Table<'_>) -> Vec<Policy> {
    let policies: Vec<Policy> = table.tables("policy").into_iter().map(policy).collect();
    if let Some(gap) = coverage::gap(&policies) {
        table.warn(
            "policy",
            format!(
                "no policy holds from {gap}; no instance stands idle then, and idle ones go after 5m; to be clear, \
                 begin with a policy without periods"
            ),
        );
    }
    policies
}

fn policy(mut table: Table<'_>) -> Policy {
    let idle_count = table.count("idle_count");
    let policy = Policy {
        periods: match table.strings("periods") {
            none if none.is_empty() => vec!["* * * * *".to_owned()],
            some => some,
        },
        timezone: table.text("timezone"),
        idle_count,
        idle_time: table
            .duration("idle_time")
            .and_then(GoDuration::positive)
            .unwrap_or_default(),
        scale_factor: table.float("scale_factor").unwrap_or(0.0).max(0.0),
        scale_factor_limit: table.count("scale_factor_limit"),
        preemptive_mode: table.boolean("preemptive_mode").unwrap_or(idle_count > 0),
    };
    for period in &policy.periods {
        if let Err(bad) = Period::parse(period) {
            table.refuse("periods", bad.to_string());
        }
    }
    let zone = policy.timezone.as_deref().filter(|name| !name.is_empty());
    if zone.is_some_and(|name| TimeZone::get(name).is_err()) {
        table.refuse(
            "timezone",
            "not known; write an IANA name, such as \"Europe/Berlin\"",
        );
    }
    table.finish();
    policy
}

fn state_storage(table: Option<Table<'_>>) -> StateStorage {
    let Some(mut table) = table else {
        return StateStorage::default();
    };
    let storage = StateStorage {
        enabled: table.boolean("enabled"),
        dir: table.text("dir").map(PathBuf::from),
        keep_instance_with_acquisitions: table.is_true("keep_instance_with_acquisitions"),
    };
    table.finish();
    storage
}

//! A provider's answers as JSON, in the words of the contract; what opens a door is left out.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::clean;
use crate::fleet::group::{
    Address, CallFailure, Connection, Group, IncreaseOutcome, InstanceState, InterruptionKind,
    Listed, Login, Notice, Problem, Protocol, Reach, Removal, Snapshot,
};
use crate::plugin::bindings::Description;
use crate::plugin::redact::REDACTED;

pub(super) fn description(said: &Description) -> Value {
    json!({
        "name": clean(&said.name),
        "version": clean(&said.version),
        "config-schema": serde_json::from_str::<Value>(&said.config_schema)
            .unwrap_or_else(|_| json!(said.config_schema)),
        "wants": said.wants,
    })
}

pub(super) fn group(group: &Group) -> Value {
    json!({
        "id": group.id,
        "max-size": group.max_size,
        "owner": group.owner,
        "notices": notices(&group.notices),
    })
}

pub(super) fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "instances": snapshot.instances.iter().map(listed).collect::<Vec<_>>(),
        "target": snapshot.target,
        "max-size": snapshot.max_size,
        "owner": snapshot.owner,
        "notices": notices(&snapshot.notices),
        "generation": snapshot.generation,
    })
}

fn listed(instance: &Listed) -> Value {
    let interruption = instance.interruption.as_ref();
    json!({
        "id": instance.id.0,
        "state": state(instance.state),
        "created-at": instance.created_at.map(unix_ms),
        "pool": instance.pool,
        "generation": instance.generation,
        "interruption": interruption.map(|interruption| json!({
            "kind": match interruption.kind {
                InterruptionKind::Reclaim => "reclaim",
                InterruptionKind::Rebalance => "rebalance",
                InterruptionKind::Maintenance => "maintenance",
                InterruptionKind::ScaleIn => "scale-in",
            },
            "at": interruption.at.map(unix_ms),
        })),
        "reason": instance.reason.as_ref().map(problem),
        "request": instance.request,
        "memo": instance.memo,
        "extras": instance.extras,
    })
}

fn state(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Creating => "creating",
        InstanceState::Running => "running",
        InstanceState::Suspending => "suspending",
        InstanceState::Suspended => "suspended",
        InstanceState::Resuming => "resuming",
        InstanceState::Stopped => "stopped",
        InstanceState::Deleting => "deleting",
        InstanceState::Deleted => "deleted",
        InstanceState::Failed => "failed",
        InstanceState::Unknown => "unknown",
    }
}

pub(super) fn increase(outcome: &IncreaseOutcome) -> Value {
    json!({
        "accepted": outcome.accepted,
        "ids": outcome.ids,
        "target": outcome.target,
        "problems": outcome.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

pub(super) fn removal(removal: &Removal) -> Value {
    match removal {
        Removal::Accepted => json!("accepted"),
        Removal::Gone => json!("gone"),
        Removal::Refused(why) => json!({ "refused": problem(why) }),
    }
}

pub(super) fn connection(connection: &Connection) -> Value {
    json!({
        "os": connection.os,
        "arch": connection.arch,
        "protocol": connection.protocol.map(|protocol| match protocol {
            Protocol::Ssh => "ssh",
            Protocol::Winrm => "winrm",
            Protocol::WinrmTls => "winrm-tls",
        }),
        "username": connection.username,
        "login": match connection.login {
            Login::PublicKey => json!("public-key"),
            Login::Password(_) => json!({ "password": REDACTED }),
            Login::Sealed(_) => json!({ "sealed": REDACTED }),
            Login::AsConfigured => json!("as-configured"),
        },
        "addresses": connection.addresses.iter().map(address).collect::<Vec<_>>(),
        "host-keys": connection.host_keys,
        "valid-until": connection.valid_until.map(unix_ms),
    })
}

fn address(address: &Address) -> Value {
    json!({
        "reach": match address.reach {
            Reach::Internal => "internal",
            Reach::External => "external",
        },
        "host": address.host,
        "port": address.port,
    })
}

fn notices(notices: &[Notice]) -> Vec<Value> {
    let notices = notices
        .iter()
        .map(|notice| json!({ "subject": notice.subject, "message": notice.message }));
    notices.collect()
}

pub(super) fn problem(problem: &Problem) -> Value {
    let retry_after = problem.retry_after.map(|after| after.as_millis());
    json!({
        "kind": problem.kind.to_string(),
        "message": problem.message,
        "subject": problem.subject,
        "code": problem.code,
        "retry-after-ms": retry_after.and_then(|ms| u64::try_from(ms).ok()),
    })
}

/// The answer there is none of.
pub(super) fn failure(failure: &CallFailure) -> Value {
    match failure {
        CallFailure::Refused(why) => json!({ "problem": problem(why) }),
        CallFailure::OutcomeUnknown(why) => json!({ "outcome-unknown": clean(why) }),
        CallFailure::NotCalled(why) => json!({ "not-called": clean(why) }),
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::group::Password;

    #[test]
    fn a_password_is_not_printed() {
        let it = Connection {
            os: None,
            arch: None,
            protocol: Some(Protocol::WinrmTls),
            username: Some("Administrator".to_owned()),
            login: Login::Password(Password("s3cr3t".to_owned())),
            addresses: vec![Address {
                reach: Reach::External,
                host: "192.0.2.1".to_owned(),
                port: Some(22),
            }],
            host_keys: Vec::new(),
            valid_until: Some(UNIX_EPOCH + std::time::Duration::from_millis(1_500)),
        };
        insta::assert_snapshot!(connection(&it), @r#"{"addresses":[{"host":"192.0.2.1","port":22,"reach":"external"}],"arch":null,"host-keys":[],"login":{"password":"(redacted)"},"os":null,"protocol":"winrm-tls","username":"Administrator","valid-until":1500}"#);
    }
}

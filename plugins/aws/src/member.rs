//! One instance, as its group and EC2 see it together.

use fleetling_plugin_sdk::{
    Instance, InstanceState, Interruption, InterruptionKind, Problem, ProblemKind,
};

use crate::generation;
use crate::xml::autoscaling::Member;
use crate::xml::{ec2, millis};

/// `reclaimed`: when EC2 takes it back, in Unix milliseconds, if it said so.
pub(crate) fn instance(
    member: &Member,
    seen: Option<&ec2::Instance>,
    reclaimed: Option<Option<u64>>,
) -> Instance {
    let state = state(
        &member.lifecycle_state,
        seen.map(|seen| &*seen.instance_state.name),
    );
    let ended = matches!(state, InstanceState::Deleted | InstanceState::Stopped);
    let mut extras = vec![("zone".to_owned(), member.availability_zone.clone())];
    let kind = seen.and_then(|seen| seen.instance_type.clone());
    let kind = kind.or_else(|| member.instance_type.clone());
    extras.extend(kind.clone().map(|kind| ("type".to_owned(), kind)));
    if let Some(seen) = seen {
        extras.extend(arch(&seen.architecture).map(|arch| ("arch".to_owned(), arch.to_owned())));
        let price = match seen.instance_lifecycle.as_str() {
            "spot" => "spot",
            _ => "on-demand",
        };
        extras.push(("price-class".into(), price.into()));
    }
    let zone = &member.availability_zone;
    Instance {
        id: member.instance_id.clone(),
        state,
        created_at: seen.and_then(|seen| millis(seen.launch_time.as_deref()?)),
        pool: (!zone.is_empty()).then(|| pool(zone, kind.as_deref())),
        generation: generation::of_member(member),
        interruption: (state == InstanceState::Running)
            .then(|| interruption(member, reclaimed))
            .flatten(),
        reason: seen.filter(|_| ended).and_then(reason),
        // A group launches its instances by itself: none carries the token of a wish.
        request: None,
        // The zone is all that authorising a key needs beside the ID.
        memo: zone.clone(),
        extras,
    }
}

/// The word that EC2 and the group have for where an instance comes from: its zone and, where known, its type.
pub(crate) fn pool(zone: &str, kind: Option<&str>) -> String {
    kind.map_or_else(|| zone.to_owned(), |kind| format!("{zone}/{kind}"))
}

/// An unhealthy member is still in service until the group ends and replaces it, which it will.
fn interruption(member: &Member, reclaimed: Option<Option<u64>>) -> Option<Interruption> {
    let unhealthy = member.health_status.eq_ignore_ascii_case("unhealthy");
    let (kind, at) = match reclaimed {
        Some(at) => (InterruptionKind::Reclaim, at),
        None if unhealthy => (InterruptionKind::Maintenance, None),
        None => return None,
    };
    Some(Interruption { kind, at })
}

/// EC2's word on why an instance is no more.
fn reason(seen: &ec2::Instance) -> Option<Problem> {
    let reason = &seen.state_reason;
    (!reason.message.is_empty()).then(|| {
        let kind = match reason.code.as_str() {
            code if code.contains("InsufficientInstanceCapacity") => ProblemKind::OutOfCapacity,
            code if code.ends_with("LimitExceeded") => ProblemKind::Quota,
            _ => ProblemKind::Other,
        };
        Problem::new(kind, reason.message.clone()).with_code(reason.code.clone())
    })
}

/// Both views of one instance: who says that it ends is believed.
pub(crate) fn state(lifecycle: &str, seen: Option<&str>) -> InstanceState {
    match seen {
        Some("terminated") => return InstanceState::Deleted,
        Some("shutting-down") => return InstanceState::Deleting,
        _ => {}
    }
    match (lifecycle, seen) {
        // `Pending:Wait`, `Terminating:Proceed`: a lifecycle hook holds the move up.
        (pending, _) if pending.starts_with("Pending") => InstanceState::Creating,
        (ending, _) if ending.starts_with("Terminat") => InstanceState::Deleting,
        // The group replaces a stopped member.
        ("InService", Some("stopping" | "stopped")) => InstanceState::Stopped,
        ("InService", Some("pending")) => InstanceState::Creating,
        ("InService", _) => InstanceState::Running,
        ("EnteringStandby", _) => InstanceState::Suspending,
        ("Standby", _) => InstanceState::Suspended,
        // Its disk is exchanged beneath it, and what ran is gone.
        (replacing, _) if replacing.starts_with("ReplacingRootVolume") => InstanceState::Deleting,
        ("RootVolumeReplaced", _) => InstanceState::Creating,
        // It lives on, but outside of the group: nobody here can end it any more.
        ("Detaching" | "Detached", _) => InstanceState::Deleting,
        ("Quarantined", _) => InstanceState::Failed,
        ("Warmed:Stopped" | "Warmed:Hibernated", _) => InstanceState::Suspended,
        (ending, _) if ending.starts_with("Warmed:Terminat") => InstanceState::Deleting,
        (warming, _) if warming.starts_with("Warmed:") => InstanceState::Creating,
        _ => InstanceState::Unknown,
    }
}

/// EC2's architectures in the words of images; macOS has its own.
pub(crate) fn arch(architecture: &str) -> Option<&'static str> {
    match architecture.strip_suffix("_mac").unwrap_or(architecture) {
        "x86_64" => Some("amd64"),
        "arm64" => Some("arm64"),
        "i386" => Some("386"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every lifecycle state of Auto Scaling's API while EC2 says that the instance runs, or says nothing of it.
    #[test]
    fn each_lifecycle_state_has_its_meaning() {
        use InstanceState::*;
        for (lifecycle, expected) in [
            ("Pending", Creating),
            ("Pending:Wait", Creating),
            ("Pending:Proceed", Creating),
            ("Quarantined", Failed),
            ("InService", Running),
            ("Terminating", Deleting),
            ("Terminating:Wait", Deleting),
            ("Terminating:Proceed", Deleting),
            ("Terminating:Retained", Deleting),
            ("Terminated", Deleting),
            ("Detaching", Deleting),
            ("Detached", Deleting),
            ("EnteringStandby", Suspending),
            ("Standby", Suspended),
            ("ReplacingRootVolume", Deleting),
            ("ReplacingRootVolume:Wait", Deleting),
            ("ReplacingRootVolume:Proceed", Deleting),
            ("RootVolumeReplaced", Creating),
            ("Warmed:Pending", Creating),
            ("Warmed:Pending:Wait", Creating),
            ("Warmed:Pending:Proceed", Creating),
            ("Warmed:Pending:Retained", Creating),
            ("Warmed:Running", Creating),
            ("Warmed:Stopped", Suspended),
            ("Warmed:Hibernated", Suspended),
            ("Warmed:Terminating", Deleting),
            ("Warmed:Terminating:Wait", Deleting),
            ("Warmed:Terminating:Proceed", Deleting),
            ("Warmed:Terminating:Retained", Deleting),
            ("Warmed:Terminated", Deleting),
            ("SomethingNew", Unknown),
        ] {
            for seen in [Some("running"), None] {
                assert_eq!(state(lifecycle, seen), expected, "{lifecycle} {seen:?}");
            }
        }
    }

    #[test]
    fn who_says_that_an_instance_ends_is_believed() {
        use InstanceState::*;
        for (lifecycle, seen, expected) in [
            ("InService", "pending", Creating),
            ("InService", "stopping", Stopped),
            ("InService", "stopped", Stopped),
            ("InService", "shutting-down", Deleting),
            ("InService", "terminated", Deleted),
            ("Pending:Wait", "terminated", Deleted),
            ("Pending:Proceed", "pending", Creating),
            ("Terminating:Wait", "stopped", Deleting),
            ("Terminating:Proceed", "terminated", Deleted),
            ("Standby", "stopped", Suspended),
            ("Standby", "terminated", Deleted),
            ("Warmed:Stopped", "stopped", Suspended),
        ] {
            assert_eq!(state(lifecycle, Some(seen)), expected, "{lifecycle} {seen}");
        }
    }

    #[test]
    fn architectures_have_the_names_of_images() {
        assert_eq!(arch("x86_64"), Some("amd64"));
        assert_eq!(arch("arm64_mac"), Some("arm64"));
        assert_eq!(arch("i386"), Some("386"));
        assert_eq!(arch(""), None);
    }
}

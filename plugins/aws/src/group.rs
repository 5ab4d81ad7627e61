//! The group as it is: what `open` and `update` answer.
//!
//! `update` asks twice: Auto Scaling for the members, EC2 for the same instances. Auto Scaling notices only after some
//! minutes that an instance was ended from outside, and never says when one was launched or whether it is a spot
//! instance; a job on an instance that is gone would hang until then. One more request per 200 instances, on a limit
//! that Auto Scaling calls do not share, is a small price. Where EC2 alone refuses, its half is missing and a notice
//! says so: the snapshot must not fail for it.

use std::collections::BTreeMap;

use fleetling_plugin_sdk::{
    Group, Instance, InstanceState, Interruption, InterruptionKind, Notice, Problem, ProblemKind,
    Snapshot,
};

use crate::client::Client;
use crate::xml::autoscaling::{AutoScalingGroup, LaunchTemplate, Member};
use crate::xml::{ec2, millis};

/// The one group of this name.
pub(crate) fn find(client: &Client<'_>, name: &str) -> Result<AutoScalingGroup, Problem> {
    let region = &client.account.region;
    let mut groups = client.groups(name)?;
    match (groups.pop(), groups.is_empty()) {
        (Some(group), true) => Ok(group),
        (None, _) => Err(Problem::new(
            ProblemKind::NotFound,
            format!(
                "there is no Auto Scaling group `{name}` in region {region}; next: correct plugin_config.name \
                 or the region, or create the group"
            ),
        )
        .about("plugin_config.name")),
        (Some(_), false) => Err(Problem::new(
            ProblemKind::Conflict,
            format!(
                "AWS listed more than one Auto Scaling group `{name}` in region {region}; next: check what \
                 answers at its endpoint"
            ),
        )
        .about("plugin_config.name")),
    }
}

pub(crate) fn open(group: &AutoScalingGroup, region: &str, max_instances: Option<u32>) -> Group {
    Group {
        id: format!("aws/{region}/{}", group.auto_scaling_group_name),
        max_size: Some(group.max_size),
        owner: None,
        notices: notices(group, max_instances),
        extras: Vec::new(),
    }
}

/// `seen`: EC2's view, or why there is none.
pub(crate) fn snapshot(
    group: &AutoScalingGroup,
    seen: Result<Vec<ec2::Instance>, Problem>,
    max_instances: Option<u32>,
) -> Snapshot {
    let mut notices = notices(group, max_instances);
    let seen: BTreeMap<String, ec2::Instance> = match seen {
        Ok(seen) => seen
            .into_iter()
            .map(|instance| (instance.instance_id.clone(), instance))
            .collect(),
        Err(problem) => {
            notices.push(Notice {
                subject: "ec2:DescribeInstances".into(),
                message: format!(
                    "instances ended from outside are noticed late: {}",
                    problem.message
                ),
            });
            BTreeMap::new()
        }
    };
    let members = &group.instances.member;
    Snapshot {
        instances: members
            .iter()
            .map(|member| instance(member, seen.get(&member.instance_id)))
            .collect(),
        target: Some(group.desired_capacity),
        max_size: Some(group.max_size),
        owner: None,
        notices,
        extras: current_generation(group)
            .map(|generation| ("generation".to_owned(), generation))
            .into_iter()
            .collect(),
    }
}

fn instance(member: &Member, seen: Option<&ec2::Instance>) -> Instance {
    let state = state(
        &member.lifecycle_state,
        seen.map(|seen| &*seen.instance_state.name),
    );
    let ended = matches!(state, InstanceState::Deleted | InstanceState::Stopped);
    let mut extras = vec![("zone".to_owned(), member.availability_zone.clone())];
    let kind = seen.and_then(|seen| seen.instance_type.clone());
    extras.extend(
        kind.or_else(|| member.instance_type.clone())
            .map(|kind| ("type".to_owned(), kind)),
    );
    if let Some(seen) = seen {
        extras.extend(arch(&seen.architecture).map(|arch| ("arch".to_owned(), arch.to_owned())));
        let price = match seen.instance_lifecycle.as_str() {
            "spot" => "spot",
            _ => "on-demand",
        };
        extras.push(("price-class".into(), price.into()));
    }
    // An unhealthy member is still in service until the group ends and replaces it, which it will.
    let unhealthy = member.health_status.eq_ignore_ascii_case("unhealthy");
    Instance {
        id: member.instance_id.clone(),
        state,
        created_at: seen.and_then(|seen| millis(seen.launch_time.as_deref()?)),
        pool: Some(member.availability_zone.clone()).filter(|zone| !zone.is_empty()),
        generation: generation(member),
        interruption: (unhealthy && state == InstanceState::Running).then_some(Interruption {
            kind: InterruptionKind::Maintenance,
            at: None,
        }),
        reason: seen.filter(|_| ended).and_then(reason),
        // A group launches its instances by itself: none carries the token of a wish.
        request: None,
        // The zone is all that authorising a key needs beside the ID.
        memo: member.availability_zone.clone(),
        extras,
    }
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
        // It lives on, but outside of the group: nobody here can end it any more.
        ("Detaching" | "Detached", _) => InstanceState::Deleting,
        ("Quarantined", _) => InstanceState::Failed,
        ("Warmed:Stopped" | "Warmed:Hibernated", _) => InstanceState::Suspended,
        (ending, _) if ending.starts_with("Warmed:Terminat") => InstanceState::Deleting,
        (warming, _) if warming.starts_with("Warmed:") => InstanceState::Creating,
        _ => InstanceState::Unknown,
    }
}

/// What a member was made of.
fn generation(member: &Member) -> Option<String> {
    match &member.launch_template {
        Some(template) => version(template),
        None => member.launch_configuration_name.clone(),
    }
}

/// What the group would make its next member of. Nothing is said where members could not be compared with it: where
/// instance types have templates of their own, there is more than one answer.
fn current_generation(group: &AutoScalingGroup) -> Option<String> {
    let mixed = group.mixed_instances_policy.as_ref();
    if let Some(template) = mixed.and_then(|policy| policy.launch_template.as_ref()) {
        let mut overrides = template.overrides.member.iter();
        if overrides.any(|one| one.launch_template_specification.is_some()) {
            return None;
        }
        return version(template.launch_template_specification.as_ref()?);
    }
    match &group.launch_template {
        Some(template) => version(template),
        None => group.launch_configuration_name.clone(),
    }
}

/// A template with the number of its version. A group that follows `$Latest` or `$Default` (also by naming none) is
/// listed with that word, and which number it stands for only `ec2:DescribeLaunchTemplates` tells, which this plugin
/// does not ask for: then the generation is not known.
fn version(template: &LaunchTemplate) -> Option<String> {
    let name = template.launch_template_id.as_ref();
    let name = name.or(template.launch_template_name.as_ref())?;
    let version = template.version.as_deref()?;
    let number: u64 = version.parse().ok()?;
    Some(format!("{name}:{number}"))
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

/// Settings of the group that will hurt, though all works at first.
fn notices(group: &AutoScalingGroup, max_instances: Option<u32>) -> Vec<Notice> {
    let name = &group.auto_scaling_group_name;
    let mut notices = Vec::new();
    let mut say = |subject: &str, message: String| {
        notices.push(Notice {
            subject: subject.into(),
            message,
        });
    };
    if !group.new_instances_protected_from_scale_in {
        say(
            "NewInstancesProtectedFromScaleIn",
            format!(
                "group `{name}` does not protect new instances from scale-in, so AWS may end one that runs a \
                 job; next: turn on instance scale-in protection"
            ),
        );
    }
    let suspended = &group.suspended_processes.member;
    if !suspended
        .iter()
        .any(|one| one.process_name == "AZRebalance")
    {
        say(
            "AZRebalance",
            format!(
                "group `{name}` moves instances between zones by itself and ends them in the old one; next: \
                 suspend the process AZRebalance"
            ),
        );
    }
    if group.capacity_rebalance {
        say(
            "CapacityRebalance",
            format!(
                "group `{name}` replaces spot instances before they are reclaimed, and with them their jobs; \
                 next: turn capacity rebalancing off"
            ),
        );
    }
    if group.min_size > 0 {
        say(
            "MinSize",
            format!(
                "group `{name}` keeps at least {} instances, so the last ones cannot be removed after use; \
                 next: set its minimum to 0",
                group.min_size
            ),
        );
    }
    if let Some(wanted) = max_instances.filter(|wanted| group.max_size < *wanted) {
        say(
            "MaxSize",
            format!(
                "group `{name}` allows {} instances, fewer than max_instances = {wanted}; next: raise its \
                 maximum or lower max_instances",
                group.max_size
            ),
        );
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_and_ec2_state_become_one() {
        use InstanceState::*;
        for (lifecycle, seen, expected) in [
            ("Pending", None, Creating),
            ("Pending:Wait", Some("running"), Creating),
            ("Pending:Proceed", Some("pending"), Creating),
            ("InService", Some("running"), Running),
            ("InService", None, Running),
            ("InService", Some("pending"), Creating),
            ("InService", Some("stopped"), Stopped),
            ("InService", Some("shutting-down"), Deleting),
            ("InService", Some("terminated"), Deleted),
            ("Terminating", Some("running"), Deleting),
            ("Terminating:Wait", None, Deleting),
            ("Terminated", None, Deleting),
            ("EnteringStandby", None, Suspending),
            ("Standby", Some("stopped"), Suspended),
            ("Detaching", Some("running"), Deleting),
            ("Warmed:Running", Some("running"), Creating),
            ("Warmed:Terminating:Wait", None, Deleting),
            ("Quarantined", None, Failed),
            ("SomethingNew", Some("running"), Unknown),
        ] {
            assert_eq!(state(lifecycle, seen), expected, "{lifecycle} {seen:?}");
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

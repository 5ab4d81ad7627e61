//! Settings that will hurt, though all works at first.

use fleetling_plugin_sdk::Notice;

use crate::xml::autoscaling::{AutoScalingGroup, Member};
use crate::xml::ec2::Instance;

/// Those of the group.
pub(crate) fn of_group(group: &AutoScalingGroup, max_instances: Option<u32>) -> Vec<Notice> {
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
    if group.warm_pool_configuration.is_some() {
        say(
            "WarmPool",
            format!(
                "group `{name}` has a warm pool, whose instances are started before they are asked for and are \
                 listed neither as idle nor as used; next: remove it, and set idle_count instead"
            ),
        );
    }
    if group.is_weighted() {
        say(
            "WeightedCapacity",
            format!(
                "group `{name}` counts its size in weights, vCPUs or memory, while the manager asks for instances: it \
                 may get fewer than it asks for, and is not told of launches that fail, even while the group is \
                 empty; next: take the weights out of its mixed instances policy, and let it count units"
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

/// Those that a lifecycle hook failed for, and that AWS leaves standing for somebody to look at.
pub(crate) fn of_members(members: &[Member]) -> Option<Notice> {
    let mut retained = members
        .iter()
        .filter(|one| one.lifecycle_state.ends_with(":Retained"));
    let one = &retained.next()?.instance_id;
    Some(Notice {
        subject: "LifecycleState".into(),
        message: format!(
            "AWS keeps {one}, whose lifecycle hook was abandoned, and it costs as before; next: look at it, and end it in \
             EC2"
        ),
    })
}

/// What instances let jobs do that they should not: `seen` is EC2's view of them.
pub(crate) fn of_instances<'a>(seen: impl Iterator<Item = &'a Instance>) -> Option<Notice> {
    let mut reachable = seen.filter(|one| {
        let options = one.metadata_options.as_ref();
        options.is_some_and(|options| {
            options.http_endpoint != "disabled"
                && (options.http_tokens != "required" || options.http_put_response_hop_limit > 1)
        })
    });
    let one = &reachable.next()?.instance_id;
    Some(Notice {
        subject: "MetadataOptions".into(),
        message: format!(
            "jobs on {one} reach its instance metadata from their containers, and with it the credentials of the \
             instance's role; next: set HttpTokens to required and HttpPutResponseHopLimit to 1 in the launch template"
        ),
    })
}

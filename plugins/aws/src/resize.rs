//! More and fewer: the two calls that change the group.

use fleetling_plugin_sdk::{
    Host, IncreaseOutcome, IncreaseRequest, InstanceRef, InstanceState, Problem, ProblemKind,
    Removal,
};

use crate::client::Client;
use crate::problem::Failure;
use crate::wishes::{self, Wish};
use crate::xml::autoscaling::AutoScalingGroup;
use crate::{group, launches, member, unix_millis};

/// Raises the desired capacity from what it is now, up to the group's maximum.
///
/// The group chooses zones by itself, so pools to avoid are ignored.
pub(crate) fn increase(
    host: &dyn Host,
    client: &Client<'_>,
    name: &str,
    request: &IncreaseRequest,
) -> IncreaseOutcome {
    match try_increase(host, client, name, request) {
        Ok(outcome) => outcome,
        Err(problem) => IncreaseOutcome::refused(problem),
    }
}

fn try_increase(
    host: &dyn Host,
    client: &Client<'_>,
    name: &str,
    request: &IncreaseRequest,
) -> Result<IncreaseOutcome, Problem> {
    let known = wishes::find(host, &request.token);
    let group = group::find(client, name)?;
    let current = group.desired_capacity;
    let mut wish = match known {
        Some(wish) if wish.served || current >= wish.target => {
            return Ok(granted(&group, request, &wish, current));
        }
        Some(open) => open,
        None => {
            let room = group.max_size.saturating_sub(current);
            let added = request.count.min(room);
            Wish {
                token: request.token.clone(),
                added,
                target: current + added,
                served: false,
                at: 0,
            }
        }
    };
    if wish.added > 0 {
        // AWS counts activities in whole seconds at times.
        wish.at = unix_millis(client.now()).map_or(0, |now| now / 1000 * 1000);
        wishes::record(host, &wish);
        if let Err(failure) = set_size(client, name, wish.target) {
            if !failure.outcome_unknown {
                wishes::forget(host, &wish.token);
            }
            return Err(failure.into());
        }
        wish.served = true;
        wishes::record(host, &wish);
    }
    Ok(granted(&group, request, &wish, wish.target))
}

/// Says it once more where the first answer was lost: the same size twice is the same size.
fn set_size(client: &Client<'_>, name: &str, size: u32) -> Result<(), Failure> {
    match client.set_desired_capacity(name, size) {
        Err(failure) if failure.outcome_unknown => client.set_desired_capacity(name, size),
        outcome => outcome,
    }
}

fn granted(
    group: &AutoScalingGroup,
    request: &IncreaseRequest,
    wish: &Wish,
    target: u32,
) -> IncreaseOutcome {
    let mut problems = Vec::new();
    if wish.added < request.count {
        problems.push(
            Problem::new(
                ProblemKind::Quota,
                format!(
                    "group `{}` allows {} instances: {} of {} more were accepted; next: raise its maximum or \
                     lower max_instances",
                    group.auto_scaling_group_name, group.max_size, wish.added, request.count
                ),
            )
            .about("MaxSize"),
        );
    }
    IncreaseOutcome {
        accepted: wish.added,
        target: Some(target),
        problems,
        ..IncreaseOutcome::default()
    }
}

/// Ends these instances and lowers the desired capacity with each.
///
/// The members are read first: AWS would end an instance of any group, would lower the capacity a second time for one
/// that is ending already, and answers for an unknown one in words rather than by a code.
pub(crate) fn decrease(
    host: &dyn Host,
    client: &Client<'_>,
    name: &str,
    instances: &[InstanceRef],
) -> Vec<Removal> {
    if instances.is_empty() {
        return Vec::new();
    }
    let group = match group::find(client, name) {
        Ok(group) => group,
        Err(problem) => return vec![Removal::Refused(problem); instances.len()],
    };
    let mut removals: Vec<Removal> = Vec::new();
    let mut last: Option<Problem> = None;
    let mut given_up = give_up_launches(host, client, &group, instances);
    for instance in instances {
        let removal = match (membership(&group, &instance.id), &last) {
            _ if launches::activity(&instance.id).is_some() => {
                given_up.next().unwrap_or(Removal::Gone)
            }
            (Membership::Gone, _) => Removal::Gone,
            (Membership::Ending, _) => Removal::Accepted,
            // What refused all of them would refuse this one, and cost another request.
            (Membership::Member, Some(problem)) => Removal::Refused(problem.clone()),
            (Membership::Member, None) => {
                let removal = terminate(client, &group, &instance.id);
                match &removal {
                    // At once: a wish that is open must not reach a size from before, whatever ends this call.
                    Removal::Accepted => wishes::lower(host, 1),
                    Removal::Refused(problem) if concerns_all(problem.kind) => {
                        last = Some(problem.clone());
                    }
                    _ => {}
                }
                removal
            }
        };
        removals.push(removal);
    }
    removals
}

/// Makes the group smaller by the places whose launches failed, and never smaller than what exists or is on its way. An
/// answer for each failed launch among `instances`.
///
/// Its size is read in the same call and set as a number: what somebody else adds between the two is lost, as with every
/// change of an Auto Scaling group's size.
fn give_up_launches(
    host: &dyn Host,
    client: &Client<'_>,
    group: &AutoScalingGroup,
    instances: &[InstanceRef],
) -> std::vec::IntoIter<Removal> {
    let launches = instances.iter();
    let launches: Vec<&str> = launches
        .filter_map(|one| launches::activity(&one.id))
        .collect();
    let known = launches::given_up(host);
    let is_new = |launch: &str| !known.iter().any(|known| known == launch);
    let new = launches.iter().filter(|launch| is_new(launch)).count();
    if new == 0 {
        return vec![Removal::Gone; launches.len()].into_iter();
    }
    match lower_places(host, client, group, new) {
        Ok(lowered) => {
            // Kept only now: one that is given up twice lowers nothing that exists, one that never is comes late.
            let new: Vec<String> = launches.iter().map(|launch| (*launch).to_owned()).collect();
            launches::give_up(host, &new);
            let mut left = lowered;
            let removals = launches.iter().map(|launch| {
                if is_new(launch) && left > 0 {
                    left -= 1;
                    return Removal::Accepted;
                }
                // Its place was filled after all.
                Removal::Gone
            });
            removals.collect::<Vec<_>>().into_iter()
        }
        Err(problem) => {
            let removals = launches.iter().map(|launch| {
                if is_new(launch) {
                    return Removal::Refused(problem.clone());
                }
                Removal::Gone
            });
            removals.collect::<Vec<_>>().into_iter()
        }
    }
}

/// By how many of `places` the group became smaller.
fn lower_places(
    host: &dyn Host,
    client: &Client<'_>,
    group: &AutoScalingGroup,
    places: usize,
) -> Result<u32, Problem> {
    let name = &group.auto_scaling_group_name;
    let mut empty = launches::lacking(group);
    if empty > 0 {
        empty = launches::empty(group, &client.activities(name)?);
    }
    let lowered = u32::try_from(places).unwrap_or(u32::MAX).min(empty);
    let size = group
        .desired_capacity
        .saturating_sub(lowered)
        .max(group.min_size);
    if size >= group.desired_capacity {
        return Ok(0);
    }
    set_size(client, name, size)?;
    let lowered = group.desired_capacity - size;
    wishes::lower(host, lowered);
    Ok(lowered)
}

enum Membership {
    Member,
    Ending,
    Gone,
}

fn membership(group: &AutoScalingGroup, id: &str) -> Membership {
    let mut members = group.instances.member.iter();
    match members.find(|member| member.instance_id == id) {
        None => Membership::Gone,
        Some(member) => match member::state(&member.lifecycle_state, None) {
            InstanceState::Deleting => Membership::Ending,
            _ => Membership::Member,
        },
    }
}

fn terminate(client: &Client<'_>, group: &AutoScalingGroup, id: &str) -> Removal {
    let Err(failure) = client.terminate(id) else {
        return Removal::Accepted;
    };
    let problem = Problem::from(failure);
    // `ValidationError` has no finer codes: the sentence is all there is.
    if problem.code.as_deref() == Some("ValidationError") {
        if problem.message.contains("not found") {
            return Removal::Gone;
        }
        if problem.message.contains("minSize") || problem.message.contains("min size") {
            let name = &group.auto_scaling_group_name;
            let message = format!(
                "group `{name}` keeps at least {} instances, so {id} cannot be removed; next: set its \
                 minimum to 0",
                group.min_size
            );
            return Removal::Refused(
                Problem::new(ProblemKind::Quota, message)
                    .about("MinSize")
                    .with_code("ValidationError"),
            );
        }
    }
    Removal::Refused(problem)
}

fn concerns_all(kind: ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::Unauthenticated | ProblemKind::Forbidden | ProblemKind::Throttled
    )
}

#[cfg(test)]
mod tests;

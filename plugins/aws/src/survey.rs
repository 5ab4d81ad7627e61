//! `update`: the group's members, and what EC2 and the group's activities tell beside.
//!
//! | asked | calls | when |
//! |---|---|---|
//! | Auto Scaling for the group and its members | 1 | always |
//! | EC2 for the same instances | 1 for each 200 | there are any |
//! | Auto Scaling for the latest launches | 1 | the group has fewer members than it wants |
//! | EC2 for spot instances that it takes back | 1 | a member is a spot instance |
//! | EC2 for the number of a template's version | 1 | the group follows `$Latest` or `$Default` and has members |
//!
//! Auto Scaling notices only after some minutes that an instance was ended from outside, and never says when one was
//! launched or whether it is a spot instance; a job on an instance that is gone would hang until then. Where anything but
//! the first is refused, its part is missing and a notice says so: the snapshot must not fail for it.

use std::collections::BTreeMap;

use fleetling_plugin_sdk::{Instance, Notice, Problem, ProblemKind, Snapshot};

use crate::client::Client;
use crate::generation::{self, Current};
use crate::xml::autoscaling::AutoScalingGroup;
use crate::xml::{ec2, millis};
use crate::{group, launches, member, notices, unix_millis, wishes};

/// How long EC2 leaves a spot instance after it said that it takes it back.
const RECLAIM: u64 = 120_000;

/// Everything that is known, whatever could not be asked.
pub(crate) fn update(
    client: &Client<'_>,
    name: &str,
    max_instances: Option<u32>,
) -> Result<Snapshot, Problem> {
    let group = group::find(client, name)?;
    let mut survey = Survey {
        client,
        notices: notices::of_group(&group, max_instances),
    };
    let seen = survey.seen(&group)?;
    let reclaimed = survey.reclaimed(seen.values())?;
    let mut instances: Vec<Instance> = group
        .instances
        .member
        .iter()
        .map(|one| {
            let id = &one.instance_id;
            member::instance(one, seen.get(id), reclaimed.get(id).copied())
        })
        .collect();
    instances.extend(survey.failed_launches(&group)?);
    let generation = survey.generation(&group)?;
    let mut notices = survey.notices;
    notices.extend(notices::of_members(&group.instances.member));
    notices.extend(notices::of_instances(seen.values()));
    Ok(Snapshot {
        instances,
        target: Some(group.desired_capacity),
        max_size: Some(group.max_size),
        owner: group::owner(&group),
        notices,
        extras: generation
            .map(|generation| ("generation".to_owned(), generation))
            .into_iter()
            .collect(),
    })
}

/// A snapshot in the making, and what had to be left out of it.
struct Survey<'a> {
    client: &'a Client<'a>,
    notices: Vec<Notice>,
}

impl Survey<'_> {
    /// EC2's view of the members, by their IDs.
    fn seen(
        &mut self,
        group: &AutoScalingGroup,
    ) -> Result<BTreeMap<String, ec2::Instance>, Problem> {
        let members = group.instances.member.iter();
        let ids: Vec<&str> = members.map(|one| &*one.instance_id).collect();
        let seen = self.optional(
            "ec2:DescribeInstances",
            "instances ended from outside are noticed late",
            self.client.instances(&ids),
        )?;
        let seen = seen.into_iter();
        Ok(seen.map(|one| (one.instance_id.clone(), one)).collect())
    }

    /// Spot instances that EC2 takes back, and when.
    fn reclaimed<'s>(
        &mut self,
        mut seen: impl Iterator<Item = &'s ec2::Instance>,
    ) -> Result<BTreeMap<String, Option<u64>>, Problem> {
        if !seen.any(|one| one.instance_lifecycle == "spot") {
            return Ok(BTreeMap::new());
        }
        let marked = self.optional(
            "ec2:DescribeSpotInstanceRequests",
            "spot instances that EC2 takes back are noticed only when they are gone",
            self.client.marked_spot_requests(),
        )?;
        let marked = marked.into_iter().map(|request| {
            let at = millis(&request.status.update_time).map(|marked| marked + RECLAIM);
            (request.instance_id, at)
        });
        Ok(marked.collect())
    }

    fn failed_launches(&mut self, group: &AutoScalingGroup) -> Result<Vec<Instance>, Problem> {
        if launches::lacking(group) == 0 {
            return Ok(Vec::new());
        }
        let activities = self.optional(
            "autoscaling:DescribeScalingActivities",
            "launches that fail are not noticed",
            self.client.activities(&group.auto_scaling_group_name),
        )?;
        let host = self.client.host;
        let now = unix_millis(self.client.now()).unwrap_or_default();
        let (given_up, since) = (launches::given_up(host), wishes::newest(host));
        Ok(launches::failed(group, &activities, &given_up, since, now))
    }

    /// What the group makes its instances of now.
    fn generation(&mut self, group: &AutoScalingGroup) -> Result<Option<String>, Problem> {
        let (template, word) = match generation::of_group(group) {
            Current::Is(generation) => return Ok(Some(generation)),
            Current::Unknown => return Ok(None),
            // Nobody would be compared with it.
            Current::Follows(..) if group.instances.member.is_empty() => return Ok(None),
            Current::Follows(template, word) => (template, word),
        };
        let versions = self.optional(
            "ec2:DescribeLaunchTemplates",
            "instances made from an older version of the launch template are not replaced",
            self.client.template_versions(&template),
        )?;
        Ok(versions.map(|versions| word.of(&template, &versions)))
    }

    /// What the snapshot can do without. Keys that AWS does not take would not do for the next call either.
    fn optional<T: Default>(
        &mut self,
        action: &str,
        missing: &str,
        asked: Result<T, Problem>,
    ) -> Result<T, Problem> {
        match asked {
            Err(problem) if problem.kind != ProblemKind::Unauthenticated => {
                self.notices.push(Notice {
                    subject: action.to_owned(),
                    message: format!("{missing}: {}", problem.message),
                });
                Ok(T::default())
            }
            asked => asked,
        }
    }
}

//! The group itself: found by its name, opened.

use fleetling_plugin_sdk::{Group, Problem, ProblemKind};

use crate::client::Client;
use crate::notices;
use crate::xml::autoscaling::AutoScalingGroup;

/// The tag by which a manager says that a group is its own.
const OWNER: &str = "fleetling:owner";

/// The one group of this name.
pub(crate) fn find(client: &Client<'_>, name: &str) -> Result<AutoScalingGroup, Problem> {
    let region = client.region();
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
        owner: owner(group),
        notices: notices::of_group(group, max_instances),
        extras: Vec::new(),
    }
}

/// Who marked the group as their own.
pub(crate) fn owner(group: &AutoScalingGroup) -> Option<String> {
    let mut tags = group.tags.member.iter();
    let tag = tags.find(|tag| tag.key == OWNER)?;
    (!tag.value.is_empty()).then(|| tag.value.clone())
}

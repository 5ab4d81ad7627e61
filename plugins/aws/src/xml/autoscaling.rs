//! `DescribeAutoScalingGroups`.

use serde::Deserialize;

use crate::client::Page;

#[derive(Debug, Deserialize)]
pub(crate) struct DescribeAutoScalingGroupsResponse {
    #[serde(rename = "DescribeAutoScalingGroupsResult")]
    pub(crate) result: Groups,
}

impl Page for DescribeAutoScalingGroupsResponse {
    type Item = AutoScalingGroup;

    fn split(self) -> (Vec<AutoScalingGroup>, Option<String>) {
        (
            self.result.auto_scaling_groups.member,
            self.result.next_token,
        )
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Groups {
    #[serde(default)]
    pub(crate) auto_scaling_groups: Members<AutoScalingGroup>,
    pub(crate) next_token: Option<String>,
}

/// A list of the Query protocol.
#[derive(Debug, Deserialize)]
pub(crate) struct Members<T> {
    #[serde(default = "Vec::new")]
    pub(crate) member: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { member: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AutoScalingGroup {
    pub(crate) auto_scaling_group_name: String,
    pub(crate) min_size: u32,
    pub(crate) max_size: u32,
    pub(crate) desired_capacity: u32,
    #[serde(default)]
    pub(crate) instances: Members<Member>,
    #[serde(default)]
    pub(crate) suspended_processes: Members<SuspendedProcess>,
    #[serde(default)]
    pub(crate) new_instances_protected_from_scale_in: bool,
    #[serde(default)]
    pub(crate) capacity_rebalance: bool,
    pub(crate) launch_template: Option<LaunchTemplate>,
    pub(crate) mixed_instances_policy: Option<MixedInstancesPolicy>,
    pub(crate) launch_configuration_name: Option<String>,
    #[serde(default)]
    pub(crate) tags: Members<Tag>,
    pub(crate) warm_pool_configuration: Option<WarmPool>,
    /// `units`, which are instances, where it is absent; `vcpu` or `memory-mib`.
    pub(crate) desired_capacity_type: Option<String>,
}

impl AutoScalingGroup {
    /// Whether its size counts something else than instances.
    pub(crate) fn is_weighted(&self) -> bool {
        let template = self.mixed_instances_policy.as_ref();
        let template = template.and_then(|policy| policy.launch_template.as_ref());
        let mut overrides = template
            .into_iter()
            .flat_map(|template| &template.overrides.member);
        let is_other_type = |kind: &String| !kind.is_empty() && kind != "units";
        let is_weight = |weight: &String| !weight.is_empty() && weight != "1";
        overrides.any(|one| one.weighted_capacity.as_ref().is_some_and(is_weight))
            || self
                .desired_capacity_type
                .as_ref()
                .is_some_and(is_other_type)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tag {
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
}

/// Only that there is one is of interest.
#[derive(Debug, Deserialize)]
pub(crate) struct WarmPool {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MixedInstancesPolicy {
    pub(crate) launch_template: Option<MixedTemplate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MixedTemplate {
    pub(crate) launch_template_specification: Option<LaunchTemplate>,
    #[serde(default)]
    pub(crate) overrides: Members<Override>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Override {
    pub(crate) launch_template_specification: Option<LaunchTemplate>,
    pub(crate) weighted_capacity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SuspendedProcess {
    pub(crate) process_name: String,
}

/// An instance as its group sees it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Member {
    pub(crate) instance_id: String,
    #[serde(default)]
    pub(crate) availability_zone: String,
    pub(crate) lifecycle_state: String,
    #[serde(default)]
    pub(crate) health_status: String,
    pub(crate) instance_type: Option<String>,
    pub(crate) launch_template: Option<LaunchTemplate>,
    pub(crate) launch_configuration_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LaunchTemplate {
    pub(crate) launch_template_id: Option<String>,
    pub(crate) version: Option<String>,
}

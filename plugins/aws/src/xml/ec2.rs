//! `DescribeInstances`, and what EC2 tells of spot requests, launch templates and passwords.

use serde::Deserialize;

use crate::client::Page;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DescribeInstancesResponse {
    #[serde(default)]
    pub(crate) reservation_set: Items<Reservation>,
    pub(crate) next_token: Option<String>,
}

impl Page for DescribeInstancesResponse {
    type Item = Instance;

    fn split(self) -> (Vec<Instance>, Option<String>) {
        let reservations = self.reservation_set.item.into_iter();
        let instances = reservations.flat_map(|one| one.instances_set.item);
        (instances.collect(), self.next_token)
    }
}

/// A list of EC2's dialect.
#[derive(Debug, Deserialize)]
pub(crate) struct Items<T> {
    #[serde(default = "Vec::new")]
    pub(crate) item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reservation {
    #[serde(default)]
    pub(crate) instances_set: Items<Instance>,
}

/// An instance as EC2 sees it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Instance {
    pub(crate) instance_id: String,
    pub(crate) instance_state: State,
    pub(crate) instance_type: Option<String>,
    pub(crate) launch_time: Option<String>,
    pub(crate) placement: Placement,
    pub(crate) architecture: String,
    /// `windows`, or nothing.
    pub(crate) platform: String,
    pub(crate) private_ip_address: String,
    /// Empty without one.
    pub(crate) ip_address: String,
    /// `spot`, or nothing.
    pub(crate) instance_lifecycle: String,
    pub(crate) state_reason: StateReason,
    /// Absent where EC2 does not tell.
    pub(crate) metadata_options: Option<MetadataOptions>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Placement {
    pub(crate) availability_zone: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StateReason {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Who may ask the instance's metadata service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MetadataOptions {
    /// `required` or `optional`.
    pub(crate) http_tokens: String,
    /// How many networks away an asker may be.
    pub(crate) http_put_response_hop_limit: u32,
    /// `enabled` or `disabled`.
    pub(crate) http_endpoint: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DescribeSpotInstanceRequestsResponse {
    #[serde(default)]
    pub(crate) spot_instance_request_set: Items<SpotRequest>,
    pub(crate) next_token: Option<String>,
}

impl Page for DescribeSpotInstanceRequestsResponse {
    type Item = SpotRequest;

    fn split(self) -> (Vec<SpotRequest>, Option<String>) {
        (self.spot_instance_request_set.item, self.next_token)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpotRequest {
    pub(crate) instance_id: String,
    pub(crate) status: SpotStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpotStatus {
    pub(crate) update_time: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DescribeLaunchTemplatesResponse {
    #[serde(default)]
    pub(crate) launch_templates: Items<TemplateVersions>,
    pub(crate) next_token: Option<String>,
}

impl Page for DescribeLaunchTemplatesResponse {
    type Item = TemplateVersions;

    fn split(self) -> (Vec<TemplateVersions>, Option<String>) {
        (self.launch_templates.item, self.next_token)
    }
}

/// What a launch template's words for versions stand for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TemplateVersions {
    pub(crate) default_version_number: u64,
    pub(crate) latest_version_number: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GetPasswordDataResponse {
    /// Base64, in lines.
    #[serde(default)]
    pub(crate) password_data: String,
}

//! `DescribeInstances`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DescribeInstancesResponse {
    #[serde(default)]
    pub(crate) reservation_set: Items<Reservation>,
    pub(crate) next_token: Option<String>,
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

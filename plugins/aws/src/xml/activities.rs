//! `DescribeScalingActivities`.

use serde::Deserialize;

use super::autoscaling::Members;

#[derive(Debug, Deserialize)]
pub(crate) struct DescribeScalingActivitiesResponse {
    #[serde(rename = "DescribeScalingActivitiesResult")]
    pub(crate) result: Activities,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Activities {
    #[serde(default)]
    pub(crate) activities: Members<Activity>,
}

/// Something that a group did or tries to do: one launch, one removal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Activity {
    pub(crate) activity_id: String,
    /// `Launching a new EC2 instance`, with `: i-0abc` once there is one.
    pub(crate) description: String,
    pub(crate) start_time: String,
    pub(crate) status_code: String,
    /// Cut by AWS at 255 characters.
    pub(crate) status_message: String,
    /// JSON: the subnet and its zone.
    pub(crate) details: String,
}

//! The actions of AWS that this plugin makes, one function each.

use fleetling_plugin_sdk::{Problem, ProblemKind, retry};

use crate::client::Client;
use crate::endpoint::Service;
use crate::problem::Failure;
use crate::xml::activities::{Activity, DescribeScalingActivitiesResponse};
use crate::xml::autoscaling::{AutoScalingGroup, DescribeAutoScalingGroupsResponse};
use crate::xml::ec2::{
    DescribeInstancesResponse, DescribeLaunchTemplatesResponse,
    DescribeSpotInstanceRequestsResponse, GetPasswordDataResponse, Instance, SpotRequest,
    TemplateVersions,
};

/// `DescribeInstances` takes as many values in a filter.
const FILTER_VALUES: usize = 200;
/// Activities at once; the newest come first, and more than these nobody can act upon.
const ACTIVITIES: &str = "100";

/// What AWS says of a spot request whose instance it will take back within two minutes.
const MARKED: [&str; 2] = ["marked-for-termination", "marked-for-stop"];

impl Client<'_> {
    /// Every group of this name, which is one or none.
    pub(crate) fn groups(&self, name: &str) -> Result<Vec<AutoScalingGroup>, Problem> {
        let parameters = [("AutoScalingGroupNames.member.1", name.to_owned())];
        self.list::<DescribeAutoScalingGroupsResponse>(
            Service::AutoScaling,
            "DescribeAutoScalingGroups",
            &parameters,
        )
    }

    /// The group's latest launches and removals, those under way first, then the newest. One page: older ones tell
    /// nothing of what is lacking now.
    pub(crate) fn activities(&self, group: &str) -> Result<Vec<Activity>, Problem> {
        let parameters = [
            ("AutoScalingGroupName", group.to_owned()),
            ("MaxRecords", ACTIVITIES.to_owned()),
        ];
        let page: DescribeScalingActivitiesResponse = self.read(
            Service::AutoScaling,
            "DescribeScalingActivities",
            &parameters,
        )?;
        Ok(page.result.activities.member)
    }

    /// What EC2 knows of these; one it does not know is left out.
    ///
    /// A filter, not a list of IDs: with the list a single unknown ID fails the whole call.
    pub(crate) fn instances(&self, ids: &[&str]) -> Result<Vec<Instance>, Problem> {
        let mut instances = Vec::new();
        for chunk in ids.chunks(FILTER_VALUES) {
            let names: Vec<String> = (1..=chunk.len())
                .map(|n| format!("Filter.1.Value.{n}"))
                .collect();
            let mut parameters = vec![("Filter.1.Name", "instance-id".to_owned())];
            let values = names.iter().zip(chunk);
            parameters.extend(values.map(|(name, id)| (name.as_str(), (*id).to_owned())));
            let mut found = self.list::<DescribeInstancesResponse>(
                Service::Ec2,
                "DescribeInstances",
                &parameters,
            )?;
            instances.append(&mut found);
        }
        Ok(instances)
    }

    /// One instance, or that there is none.
    pub(crate) fn instance(&self, id: &str) -> Result<Instance, Problem> {
        let found = self.instances(&[id])?.into_iter().next();
        found.ok_or_else(|| {
            Problem::new(
                ProblemKind::NotFound,
                format!("EC2 knows no instance {id} in region {}", self.region()),
            )
            .about(id)
        })
    }

    /// Spot requests, of whomever, whose instances are about to be taken back.
    pub(crate) fn marked_spot_requests(&self) -> Result<Vec<SpotRequest>, Problem> {
        let [one, other] = MARKED.map(str::to_owned);
        let parameters = [
            ("Filter.1.Name", "status-code".to_owned()),
            ("Filter.1.Value.1", one),
            ("Filter.1.Value.2", other),
        ];
        self.list::<DescribeSpotInstanceRequestsResponse>(
            Service::Ec2,
            "DescribeSpotInstanceRequests",
            &parameters,
        )
    }

    /// Which versions of a launch template `$Latest` and `$Default` stand for.
    pub(crate) fn template_versions(&self, id: &str) -> Result<Option<TemplateVersions>, Problem> {
        let parameters = [("LaunchTemplateId.1", id.to_owned())];
        let found = self.list::<DescribeLaunchTemplatesResponse>(
            Service::Ec2,
            "DescribeLaunchTemplates",
            &parameters,
        )?;
        Ok(found.into_iter().next())
    }

    /// The administrator's password, encrypted to the key pair of the launch; empty until Windows has made it.
    pub(crate) fn password_data(&self, instance: &str) -> Result<String, Problem> {
        let parameters = [("InstanceId", instance.to_owned())];
        let answer: GetPasswordDataResponse =
            self.read(Service::Ec2, "GetPasswordData", &parameters)?;
        Ok(answer.password_data)
    }

    /// The same size again changes nothing, so a caller who does not know what became of it may repeat it.
    pub(crate) fn set_desired_capacity(&self, group: &str, size: u32) -> Result<(), Failure> {
        let parameters = [
            ("AutoScalingGroupName", group.to_owned()),
            ("DesiredCapacity", size.to_string()),
            // The cool-down is for AWS's own scaling policies; jobs are waiting now.
            ("HonorCooldown", "false".to_owned()),
        ];
        let action = "SetDesiredCapacity";
        self.query(Service::AutoScaling, action, &parameters)
            .map(drop)
    }

    pub(crate) fn terminate(&self, id: &str) -> Result<(), Failure> {
        let parameters = [
            ("InstanceId", id.to_owned()),
            ("ShouldDecrementDesiredCapacity", "true".to_owned()),
        ];
        let action = "TerminateInstanceInAutoScalingGroup";
        self.query(Service::AutoScaling, action, &parameters)
            .map(drop)
    }

    /// Authorises a key for one user on one instance, for 60 seconds.
    pub(crate) fn send_ssh_public_key(
        &self,
        instance: &str,
        zone: &str,
        user: &str,
        key: &str,
    ) -> Result<(), Problem> {
        let body = serde_json::json!({
            "InstanceId": instance,
            "AvailabilityZone": zone,
            "InstanceOSUser": user,
            "SSHPublicKey": key,
        });
        // Not a read, but sending the same key again only renews its 60 seconds.
        retry::read(self.host, || {
            let sent = self.json(Service::InstanceConnect, "SendSSHPublicKey", &body);
            Ok(sent.map(drop)?)
        })
    }
}

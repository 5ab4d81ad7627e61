//! The provider from end to end, against answers in the API's real shapes.

mod groups;
mod machines;
mod policy;
pub(crate) mod stand_in;

use std::rc::Rc;

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::http::Error;
use fleetling_plugin_sdk::script::Script;
use fleetling_plugin_sdk::{InstanceState, Login, ProblemKind, Protocol, Reach};

use super::*;
use crate::credentials::Identity;

/// Whose keys the documented configuration gives.
pub(crate) fn identity() -> Identity {
    Identity {
        credentials: Credentials::new("AKIDEXAMPLE", "s3cret", None, None, "tests"),
        whose: "profile `default` from /home/user/.aws/credentials".into(),
        mend: "correct the keys in that file".into(),
    }
}

pub(crate) const CONFIG: &str = r#"{"name":"asg","profile":"default",
    "config_file":"/home/user/.aws/config","credentials_file":"/home/user/.aws/credentials"}"#;

/// A provider with its files in order, and the script that it runs against.
pub(crate) fn aws_with(settings: Settings) -> (Rc<Script>, Aws) {
    let script = Rc::new(Script::default());
    script.set_secret("aws_config", "[default]\nregion = eu-west-1\n");
    script.set_secret(
        "aws_credentials",
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cret\n",
    );
    let aws = Aws::init(script.clone(), CONFIG, settings).expect("the configuration is valid");
    (script, aws)
}

pub(crate) fn aws() -> (Rc<Script>, Aws) {
    aws_with(Settings::for_tests())
}

/// `members`: ID and lifecycle state.
pub(crate) fn group_xml(desired: u32, max: u32, members: &[(&str, &str)]) -> String {
    let members: String = members
        .iter()
        .map(|(id, state)| {
            format!(
                "<member><InstanceId>{id}</InstanceId><AvailabilityZone>eu-west-1b</AvailabilityZone>\
                 <LifecycleState>{state}</LifecycleState><HealthStatus>Healthy</HealthStatus>\
                 <LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId><LaunchTemplateName>t</LaunchTemplateName>\
                 <Version>3</Version></LaunchTemplate>\
                 <ProtectedFromScaleIn>true</ProtectedFromScaleIn></member>"
            )
        })
        .collect();
    groups_xml(&format!(
        "<member><AutoScalingGroupName>asg</AutoScalingGroupName><MinSize>0</MinSize><MaxSize>{max}</MaxSize>\
         <DesiredCapacity>{desired}</DesiredCapacity><Instances>{members}</Instances>\
         <SuspendedProcesses><member><ProcessName>AZRebalance</ProcessName><SuspensionReason/></member>\
         </SuspendedProcesses><NewInstancesProtectedFromScaleIn>true</NewInstancesProtectedFromScaleIn>\
         <CapacityRebalance>false</CapacityRebalance></member>"
    ))
}

pub(crate) fn groups_xml(groups: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><DescribeAutoScalingGroupsResponse \
         xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><DescribeAutoScalingGroupsResult>\
         <AutoScalingGroups>{groups}</AutoScalingGroups></DescribeAutoScalingGroupsResult>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></DescribeAutoScalingGroupsResponse>"
    )
}

/// `instances`: ID and state.
pub(crate) fn instances_xml(instances: &[(&str, &str)]) -> String {
    let items: String = instances
        .iter()
        .map(|(id, state)| {
            format!(
                "<item><reservationId>r</reservationId><groupSet/><instancesSet><item>\
                 <instanceId>{id}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState>\
                 <instanceType>m7i.large</instanceType><launchTime>2026-01-02T03:04:05.000Z</launchTime>\
                 <placement><availabilityZone>eu-west-1b</availabilityZone><groupName/></placement>\
                 <architecture>x86_64</architecture><privateIpAddress>10.0.0.4</privateIpAddress>\
                 <ipAddress>192.0.2.4</ipAddress><instanceLifecycle>spot</instanceLifecycle>\
                 <stateReason><code>Server.SpotInstanceTermination</code><message>taken back</message></stateReason>\
                 </item></instancesSet></item>"
            )
        })
        .collect();
    format!(
        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
         <reservationSet>{items}</reservationSet></DescribeInstancesResponse>"
    )
}

pub(crate) fn of(id: &str) -> InstanceRef {
    InstanceRef {
        id: id.into(),
        memo: "eu-west-1b".into(),
    }
}

/// `requests`: the items.
pub(crate) fn spot_xml(requests: &str) -> String {
    format!(
        "<DescribeSpotInstanceRequestsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>r</requestId><spotInstanceRequestSet>{requests}</spotInstanceRequestSet>\
         </DescribeSpotInstanceRequestsResponse>"
    )
}

pub(crate) fn error_xml(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>r</RequestId></ErrorResponse>"
    )
}

#[test]
fn what_it_wants_are_four_services_and_whoever_gives_it_keys() {
    let description = Aws::describe();
    assert_eq!(description.name, "aws");
    assert_eq!(
        description.wants[2],
        "https://ec2-instance-connect.{region}.amazonaws.com"
    );
    assert_eq!(description.wants[4], "http://169.254.169.254");
    assert_eq!(description.wants.len(), 9);
}

#[test]
fn open_names_the_group_and_says_nothing_where_all_is_well() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(0, 10, &[]));
    let group = aws.open().expect("the group is there");
    assert_eq!(group.id, "aws/eu-west-1/asg");
    assert_eq!(group.max_size, Some(10));
    assert_eq!(group.notices, []);
    let requests = script.requests();
    assert_eq!(
        requests[0].uri(),
        "https://autoscaling.eu-west-1.amazonaws.com/"
    );
    let authorization = requests[0].headers()["authorization"]
        .to_str()
        .expect("it is text");
    assert!(
        authorization.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/autoscaling/aws4_request"
        ),
        "{authorization}"
    );
    assert_eq!(
        requests[0].body(),
        b"Action=DescribeAutoScalingGroups&Version=2011-01-01&AutoScalingGroupNames.member.1=asg"
    );
}

#[test]
fn complaint_12_open_says_which_settings_of_the_group_will_hurt() {
    let (script, aws) = aws();
    script.answer(
        200,
        &groups_xml(
            "<member><AutoScalingGroupName>asg</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>4</MaxSize>\
             <DesiredCapacity>1</DesiredCapacity><CapacityRebalance>true</CapacityRebalance></member>",
        ),
    );
    let group = aws.open().expect("the group is there");
    let subjects: Vec<_> = group
        .notices
        .iter()
        .map(|one| one.subject.as_str())
        .collect();
    assert_eq!(
        subjects,
        [
            "NewInstancesProtectedFromScaleIn",
            "AZRebalance",
            "CapacityRebalance",
            "MinSize",
            "MaxSize"
        ]
    );
    assert!(
        group.notices[4]
            .message
            .contains("4 instances, fewer than max_instances = 10")
    );
}

#[test]
fn an_absent_group_is_named_with_its_region() {
    let (script, aws) = aws();
    script.answer(200, &groups_xml(""));
    let problem = aws.open().expect_err("there is none");
    assert_eq!(problem.kind, ProblemKind::NotFound);
    assert_eq!(
        problem.message,
        "there is no Auto Scaling group `asg` in region eu-west-1; next: correct plugin_config.name or the \
         region, or create the group"
    );
}

#[test]
fn refused_keys_are_not_tried_again_and_a_corrected_file_heals() {
    let (script, aws) = aws();
    script.answer(403, &error_xml("SignatureDoesNotMatch", "no match"));
    let problem = aws.open().expect_err("the keys are wrong");
    assert_eq!(problem.kind, ProblemKind::Unauthenticated);
    assert!(problem.message.contains("profile `default`"));
    assert!(problem.message.contains("/home/user/.aws/credentials"));
    assert!(!problem.message.contains("s3cret"));
    assert_eq!(script.requests().len(), 1);

    script.set_secret(
        "aws_credentials",
        "[default]\naws_access_key_id = NEW\naws_secret_access_key = n\n",
    );
    script.answer(200, &group_xml(0, 10, &[]));
    assert!(aws.open().is_ok());
    let sent = script.requests();
    let authorization = sent[0].headers()["authorization"].to_str().expect("text");
    assert!(authorization.contains("Credential=NEW/"));
}

#[test]
fn an_update_joins_both_views() {
    let (script, aws) = aws();
    let members = [
        ("i-1", "InService"),
        ("i-2", "InService"),
        ("i-3", "Pending"),
        ("i-4", "Terminating:Wait"),
    ];
    script.answer(200, &group_xml(3, 10, &members));
    script.answer(
        200,
        &instances_xml(&[("i-1", "running"), ("i-2", "terminated")]),
    );
    script.answer(200, &spot_xml(""));
    let snapshot = aws.update().expect("all answered");
    assert_eq!((snapshot.target, snapshot.max_size), (Some(3), Some(10)));
    let states: Vec<_> = snapshot.instances.iter().map(|one| one.state).collect();
    assert_eq!(
        states,
        [
            InstanceState::Running,
            InstanceState::Deleted,
            InstanceState::Creating,
            InstanceState::Deleting
        ]
    );
    let first = &snapshot.instances[0];
    assert_eq!(first.created_at, Some(1_767_323_045_000));
    assert_eq!(first.generation.as_deref(), Some("lt-1:3"));
    assert_eq!(first.pool.as_deref(), Some("eu-west-1b/m7i.large"));
    assert_eq!(first.reason, None);
    assert!(first.extras.contains(&("arch".into(), "amd64".into())));
    assert!(
        first
            .extras
            .contains(&("price-class".into(), "spot".into()))
    );
    let ended = snapshot.instances[1].reason.as_ref().expect("EC2 told why");
    assert_eq!(ended.message, "taken back");
    assert!(script.bodies()[1].contains("Filter.1.Name=instance-id&Filter.1.Value.1=i-1"));
}

#[test]
fn an_update_reads_every_page() {
    let (script, aws) = aws();
    let first = group_xml(0, 10, &[]).replace(
        "</DescribeAutoScalingGroupsResult>",
        "<NextToken>more</NextToken></DescribeAutoScalingGroupsResult>",
    );
    script.answer(200, &first);
    script.answer(200, &groups_xml(""));
    assert!(aws.update().is_ok());
    assert!(script.bodies()[1].ends_with("&NextToken=more"));
}

#[test]
fn an_update_survives_ec2_and_says_so() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(1, 10, &[("i-1", "InService")]));
    script.answer(403, &error_xml("UnauthorizedOperation", "not allowed"));
    let snapshot = aws.update().expect("the group answered");
    assert_eq!(snapshot.instances[0].state, InstanceState::Running);
    assert_eq!(snapshot.notices[0].subject, "ec2:DescribeInstances");
}

#[test]
fn a_read_is_repeated_and_what_comes_then_counts() {
    let (script, aws) = aws();
    script.answer(503, "<html>busy</html>");
    script.fail(Error::TimedOut("connecting"));
    script.answer(200, &group_xml(0, 10, &[]));
    assert!(aws.open().is_ok());
    assert_eq!(script.slept().len(), 2);
}

#[test]
fn a_strange_answer_is_unavailable_and_names_the_endpoint() {
    let (script, aws) = aws();
    script.answer(200, "<html><body>log in to the hotel</body></html>");
    let problem = aws.open().expect_err("that was no AWS");
    assert_eq!(problem.kind, ProblemKind::Unavailable);
    assert!(
        problem
            .message
            .starts_with("https://autoscaling.eu-west-1.amazonaws.com answered")
    );
}

#[test]
fn connecting_authorises_the_hosts_key_for_a_minute() {
    let (script, aws) = aws();
    script.answer(200, &instances_xml(&[("i-1", "running")]));
    script.answer(200, r#"{"RequestId":"r","Success":true}"#);
    let connection = aws.connect_info(of("i-1")).expect("it runs");
    assert_eq!(connection.os.as_deref(), Some("linux"));
    assert_eq!(connection.arch.as_deref(), Some("amd64"));
    assert_eq!(connection.username.as_deref(), Some("ec2-user"));
    assert_eq!(connection.protocol, Some(Protocol::Ssh));
    assert_eq!(connection.login, Login::PublicKey);
    assert_eq!(connection.valid_until, Some(1_767_323_105_000));
    let addresses: Vec<_> = connection
        .addresses
        .iter()
        .map(|one| (one.reach, one.host.as_str()))
        .collect();
    assert_eq!(
        addresses,
        [
            (Reach::Internal, "10.0.0.4"),
            (Reach::External, "192.0.2.4")
        ]
    );
    let requests = script.requests();
    assert_eq!(
        requests[1].headers()["x-amz-target"],
        "AWSEC2InstanceConnectService.SendSSHPublicKey"
    );
    let body: serde_json::Value = serde_json::from_slice(requests[1].body()).expect("it is JSON");
    assert_eq!(body["AvailabilityZone"], "eu-west-1b");
    assert_eq!(body["InstanceOSUser"], "ec2-user");
    let key = body["SSHPublicKey"].as_str().expect("it is text");
    assert!(key.starts_with("ssh-ed25519 "));
}

#[test]
fn the_operators_words_win_and_static_credentials_authorise_nothing() {
    let mut settings = Settings::for_tests();
    settings.connector.username = Some("admin".into());
    settings.connector.arch = Some("arm64".into());
    settings.connector.static_credentials = true;
    let (script, aws) = aws_with(settings);
    script.answer(200, &instances_xml(&[("i-1", "running")]));
    let connection = aws.connect_info(of("i-1")).expect("it runs");
    assert_eq!(connection.username.as_deref(), Some("admin"));
    assert_eq!(connection.arch.as_deref(), Some("arm64"));
    assert_eq!(connection.login, Login::AsConfigured);
    assert_eq!(connection.valid_until, None);
}

#[test]
fn instances_that_cannot_be_dialled_say_why() {
    for (xml, kind) in [
        (instances_xml(&[("i-1", "pending")]), ProblemKind::NotReady),
        (
            instances_xml(&[("i-1", "terminated")]),
            ProblemKind::NotFound,
        ),
        (instances_xml(&[]), ProblemKind::NotFound),
    ] {
        let (script, aws) = aws();
        script.answer(200, &xml);
        let problem = aws
            .connect_info(of("i-1"))
            .expect_err("it cannot be dialled");
        assert_eq!(problem.kind, kind, "{problem:?}");
        assert_eq!(script.requests().len(), 1, "no key was sent");
    }
}

#[test]
fn instance_connect_that_is_too_early_is_not_ready() {
    let (script, aws) = aws();
    script.answer(200, &instances_xml(&[("i-1", "running")]));
    script.answer(
        400,
        r#"{"__type":"com.amazonaws#EC2InstanceStateInvalidException","message":"not in a valid state"}"#,
    );
    let problem = aws.connect_info(of("i-1")).expect_err("too early");
    assert_eq!(problem.kind, ProblemKind::NotReady);
    assert_eq!(
        problem.code.as_deref(),
        Some("EC2InstanceStateInvalidException")
    );
}

#[test]
fn a_heartbeat_costs_no_request() {
    let (script, aws) = aws();
    assert_eq!(aws.heartbeat(of("i-1")), Ok(()));
    assert_eq!(script.requests().len(), 0);
}

#[test]
fn a_denied_call_is_forbidden_and_names_the_origin() {
    let (script, aws) = aws();
    script.fail(Error::Denied);
    let problem = aws.open().expect_err("the operator granted nothing");
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert_eq!(
        problem.subject.as_deref(),
        Some("https://autoscaling.eu-west-1.amazonaws.com")
    );
}

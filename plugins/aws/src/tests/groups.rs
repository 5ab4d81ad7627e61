//! What a snapshot tells of the group: its launches, its generation, its marks, and what will hurt; in AWS's own shapes.

use fleetling_plugin_sdk::Removal;

use super::*;

/// One scaling activity as AWS writes it; `minute` of 03 o'clock on the day of tests.
fn activity(id: &str, minute: u32, status: &str, message: &str, zone: &str) -> String {
    format!(
        "<member><ActivityId>{id}</ActivityId><AutoScalingGroupName>asg</AutoScalingGroupName>\
         <Description>Launching a new EC2 instance.  Status Reason: {message}</Description>\
         <Cause>At 2026-01-02T03:00:00Z a user request explicitly set group desired capacity changing the desired \
         capacity from 0 to 3.</Cause><StartTime>2026-01-02T03:{minute:02}:00.123Z</StartTime>\
         <EndTime>2026-01-02T03:{minute:02}:01Z</EndTime><StatusCode>{status}</StatusCode>\
         <StatusMessage>{message}</StatusMessage><Progress>100</Progress>\
         <Details>{{&quot;Subnet ID&quot;:&quot;subnet-1&quot;,&quot;Availability Zone&quot;:&quot;{zone}&quot;}}</Details>\
         <AutoScalingGroupARN>arn:aws:autoscaling:eu-west-1:1:autoScalingGroup:u:autoScalingGroupName/asg\
         </AutoScalingGroupARN></member>"
    )
}

fn activities_xml(activities: &[String]) -> String {
    format!(
        "<DescribeScalingActivitiesResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <DescribeScalingActivitiesResult><NextToken>older</NextToken><Activities>{}</Activities>\
         </DescribeScalingActivitiesResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>\
         </DescribeScalingActivitiesResponse>",
        activities.concat()
    )
}

const NO_M7I: &str = "We currently do not have sufficient m7i.large capacity in the Availability Zone you requested \
                      (eu-west-1a). Our system will be working on provisioning additional capacity. You can currently \
                      get m7i.large capacity by not specifying an Availability Zone";

/// Failed launches of an empty group, as listed.
fn failed(desired: u32, activities: &[String]) -> Vec<fleetling_plugin_sdk::Instance> {
    let (script, aws) = aws();
    script.answer(200, &group_xml(desired, 10, &[]));
    script.answer(200, &activities_xml(activities));
    let snapshot = aws.update().expect("both answered");
    assert_eq!(
        script.bodies().len(),
        2,
        "there is nothing to ask EC2 about"
    );
    snapshot.instances
}

#[test]
fn a_launch_that_failed_is_an_instance_that_will_never_run() {
    let listed = failed(1, &[activity("a1", 2, "Failed", NO_M7I, "eu-west-1a")]);
    let [launch] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(launch.id, "launch:a1");
    assert_eq!(launch.state, InstanceState::Failed);
    assert_eq!(launch.pool.as_deref(), Some("eu-west-1a/m7i.large"));
    assert_eq!(launch.created_at, Some(1_767_322_920_123));
    let problem = launch.reason.as_ref().expect("AWS told why");
    assert_eq!(problem.kind, ProblemKind::OutOfCapacity);
    assert_eq!(problem.subject.as_deref(), Some("eu-west-1a/m7i.large"));
    assert!(
        problem.message.starts_with(
            "group `asg` could not launch an instance in eu-west-1a/m7i.large: We currently do not have sufficient"
        ),
        "{problem:?}"
    );
}

#[test]
fn awss_sentences_mean_what_the_host_can_act_on() {
    use ProblemKind::{InvalidConfig, OutOfCapacity, Quota};
    for (told, kind, code) in [
        (NO_M7I, OutOfCapacity, None),
        (
            "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available that \
             matches your request. Launching EC2 instance failed.",
            OutOfCapacity,
            Some("InsufficientInstanceCapacity"),
        ),
        (
            "Could not launch On-Demand Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your \
             request configuration. Launching EC2 instance failed.",
            OutOfCapacity,
            Some("UnfulfillableCapacity"),
        ),
        (
            "Could not launch Spot Instances. SpotMaxPriceTooLow - Your Spot request price of 0.001 is lower than the \
             minimum required Spot request fulfillment price of 0.0031. Launching EC2 instance failed.",
            OutOfCapacity,
            Some("SpotMaxPriceTooLow"),
        ),
        (
            "There are not enough free addresses in subnet 'subnet-1' to satisfy the requested number of instances. \
             Launching EC2 instance failed.",
            OutOfCapacity,
            None,
        ),
        (
            "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket \
             that the specified instance type belongs to. Launching EC2 instance failed.",
            Quota,
            None,
        ),
        (
            "Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU capacity",
            Quota,
            Some("VcpuLimitExceeded"),
        ),
        (
            "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded. \
             Launching EC2 instance failed.",
            Quota,
            Some("MaxSpotInstanceCountExceeded"),
        ),
        (
            "20 instance(s) are already running. Launching EC2 instance failed.",
            Quota,
            None,
        ),
        (
            "The AMI ID 'ami-1' does not exist. Launching EC2 instance failed.",
            InvalidConfig,
            None,
        ),
        (
            "Client.InternalError: Client error on launch. Launching EC2 instance failed.",
            InvalidConfig,
            None,
        ),
    ] {
        let listed = failed(1, &[activity("a", 2, "Failed", told, "eu-west-1a")]);
        let problem = listed[0].reason.as_ref().expect("AWS told why");
        assert_eq!(
            (problem.kind, problem.code.as_deref()),
            (kind, code),
            "{told}"
        );
        assert!(!problem.message.contains("instance failed"), "{problem:?}");
    }
}

#[test]
fn only_as_many_launches_failed_as_places_are_empty_and_nobody_fills() {
    let at = |id: &str, minute, status| activity(id, minute, status, NO_M7I, "eu-west-1a");
    let ids = |desired, activities: &[String]| -> Vec<String> {
        let listed = failed(desired, activities).into_iter();
        listed.map(|one| one.id).collect()
    };
    let four = [
        at("a", 1, "Failed"),
        at("b", 2, "Failed"),
        at("c", 3, "Failed"),
        at("d", 0, "Successful"),
    ];
    assert_eq!(ids(2, &four), ["launch:c", "launch:b"], "the newest count");
    assert_eq!(ids(9, &four), ["launch:c", "launch:b", "launch:a"]);
    let under_way = [
        at("w", 3, "PreInService"),
        at("x", 3, "WaitingForSpotInstanceId"),
        at("a", 2, "Failed"),
    ];
    assert_eq!(ids(2, &under_way), Vec::<String>::new());
    assert_eq!(ids(3, &under_way), ["launch:a"]);
    let terminating = at("t", 2, "Failed").replace("Launching a new", "Terminating");
    assert_eq!(ids(2, &[terminating]), Vec::<String>::new());
    let an_hour_ago = at("y", 2, "Failed").replace("T03:", "T02:");
    assert_eq!(ids(2, &[an_hour_ago]), Vec::<String>::new());
}

#[test]
fn an_older_failure_is_not_taken_for_one_of_the_latest_increase() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(0, 10, &[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    let request = fleetling_plugin_sdk::IncreaseRequest {
        token: "t".into(),
        count: 1,
        avoid_pools: Vec::new(),
        extras: Vec::new(),
    };
    assert_eq!(aws.increase(request).accepted, 1);
    // Asked at 03:04:05.
    let update = |minute| {
        script.answer(200, &group_xml(1, 10, &[]));
        script.answer(
            200,
            &activities_xml(&[activity("a", minute, "Failed", NO_M7I, "eu-west-1a")]),
        );
        aws.update().expect("both answered").instances.len()
    };
    assert_eq!(update(3), 0);
    assert_eq!(update(5), 1);
}

fn launch(id: &str) -> InstanceRef {
    InstanceRef {
        id: format!("launch:{id}"),
        memo: String::new(),
    }
}

#[test]
fn giving_a_failed_launch_up_makes_the_group_smaller_down_to_what_exists() {
    let failures = ["a", "b", "c"].map(|id| activity(id, 2, "Failed", NO_M7I, "eu-west-1a"));
    let (script, aws) = aws();
    script.answer(200, &group_xml(4, 10, &[("i-1", "InService")]));
    script.answer(200, &activities_xml(&failures));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    let removals = aws.decrease(vec![launch("a"), launch("b")]);
    assert_eq!(removals, [Removal::Accepted, Removal::Accepted]);
    let bodies = script.bodies();
    assert!(bodies[2].contains("&DesiredCapacity=2&"), "{bodies:?}");

    // What was given up is not listed again, and not given up again.
    script.answer(200, &group_xml(2, 10, &[("i-1", "InService")]));
    script.answer(200, &instances_xml(&[]));
    script.answer(200, &activities_xml(&failures));
    let snapshot = aws.update().expect("all answered");
    let ids: Vec<_> = snapshot
        .instances
        .iter()
        .map(|one| one.id.as_str())
        .collect();
    assert_eq!(ids, ["i-1", "launch:c"]);
    script.requests();
    script.answer(200, &group_xml(2, 10, &[("i-1", "InService")]));
    assert_eq!(aws.decrease(vec![launch("a")]), [Removal::Gone]);
    assert_eq!(script.requests().len(), 1);

    // Somebody filled the place meanwhile: nothing that exists is ended, and nothing is asked for.
    script.answer(
        200,
        &group_xml(2, 10, &[("i-1", "InService"), ("i-2", "Pending")]),
    );
    assert_eq!(aws.decrease(vec![launch("c")]), [Removal::Gone]);
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn a_place_that_aws_is_filling_is_not_given_up() {
    let again = [
        activity("b", 3, "WaitingForSpotInstanceId", "", "eu-west-1a"),
        activity("a", 2, "Failed", NO_M7I, "eu-west-1a"),
    ];
    let (script, aws) = aws();
    script.answer(200, &group_xml(2, 10, &[("i-1", "InService")]));
    script.answer(200, &activities_xml(&again));
    assert_eq!(aws.decrease(vec![launch("a")]), [Removal::Gone]);
    assert_eq!(script.requests().len(), 2, "the size was changed");
}

#[test]
fn a_group_that_counts_in_other_units_has_no_empty_places() {
    let vcpu = "<DesiredCapacityType>vcpu</DesiredCapacityType><MinSize>";
    let (script, aws) = aws();
    let group = group_xml(8, 10, &[("i-1", "InService")]).replace("<MinSize>", vcpu);
    script.answer(200, &group);
    assert_eq!(aws.decrease(vec![launch("a")]), [Removal::Gone]);
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn a_launch_is_given_up_beside_a_removal_and_again_after_a_refusal() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(3, 10, &[("i-1", "InService")]));
    script.answer(200, &activities_xml(&[]));
    script.answer(400, &error_xml("ScalingActivityInProgress", "busy"));
    script.answer(200, "<TerminateInstanceInAutoScalingGroupResponse/>");
    let removals = aws.decrease(vec![launch("a"), of("i-1")]);
    assert!(
        matches!(&removals[0], Removal::Refused(problem) if problem.kind == ProblemKind::Conflict)
    );
    assert_eq!(removals[1], Removal::Accepted);
    script.requests();
    script.answer(200, &group_xml(2, 10, &[]));
    script.answer(200, &activities_xml(&[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    assert_eq!(aws.decrease(vec![launch("a")]), [Removal::Accepted]);
    assert!(script.bodies()[2].contains("&DesiredCapacity=1&"));
}

#[test]
fn what_others_ask_for_in_the_same_moment_is_kept() {
    let (script, aws) = aws();
    // 2 were wanted and failed; now somebody wants 5.
    script.answer(200, &group_xml(5, 10, &[]));
    script.answer(200, &activities_xml(&[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    aws.decrease(vec![launch("a"), launch("b")]);
    assert!(script.bodies()[2].contains("&DesiredCapacity=3&"));
}

#[test]
fn what_cannot_be_asked_is_a_notice_that_names_the_action() {
    let denied = |action: &str| {
        error_xml(
            "AccessDenied",
            &format!("not authorized to perform: {action}"),
        )
    };
    let latest = "<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId><LaunchTemplateName>t</LaunchTemplateName>\
                  <Version>$Latest</Version></LaunchTemplate><MinSize>";
    let (script, aws) = aws();
    let group = group_xml(2, 10, &[("i-1", "InService")]).replace("<MinSize>", latest);
    script.answer(200, &group);
    script.answer(200, &instances_xml(&[("i-1", "running")]));
    script.answer(403, &denied("ec2:DescribeSpotInstanceRequests"));
    script.answer(403, &denied("autoscaling:DescribeScalingActivities"));
    script.answer(403, &denied("ec2:DescribeLaunchTemplates"));
    let snapshot = aws.update().expect("the group answered");
    let subjects: Vec<_> = snapshot
        .notices
        .iter()
        .map(|one| one.subject.as_str())
        .collect();
    assert_eq!(
        subjects,
        [
            "ec2:DescribeSpotInstanceRequests",
            "autoscaling:DescribeScalingActivities",
            "ec2:DescribeLaunchTemplates"
        ]
    );
    for notice in &snapshot.notices {
        assert!(
            notice
                .message
                .contains(&format!("may not do {}", notice.subject)),
            "{notice:?}"
        );
    }
}

/// The generation that a snapshot gives for the group, when its description holds this.
fn generation_of(made_of: &str) -> Option<String> {
    let (script, aws) = aws();
    let group = group_xml(0, 10, &[]);
    script.answer(
        200,
        &group.replace("<MinSize>", &format!("{made_of}<MinSize>")),
    );
    let snapshot = aws.update().expect("the group is there");
    let mut extras = snapshot.extras.into_iter();
    extras.find(|(key, _)| key == "generation").map(|(_, v)| v)
}

#[test]
fn the_groups_generation_is_told_where_aws_tells_it() {
    let template = |version: &str| {
        format!(
            "<LaunchTemplateId>lt-1</LaunchTemplateId><LaunchTemplateName>t</LaunchTemplateName>{version}"
        )
    };
    let plain = |version: &str| format!("<LaunchTemplate>{}</LaunchTemplate>", template(version));
    let mixed = |overrides: &str| {
        format!(
            "<MixedInstancesPolicy><LaunchTemplate><LaunchTemplateSpecification>{}\
             </LaunchTemplateSpecification><Overrides>{overrides}</Overrides></LaunchTemplate>\
             <InstancesDistribution><SpotAllocationStrategy>lowest-price</SpotAllocationStrategy>\
             </InstancesDistribution></MixedInstancesPolicy>",
            template("<Version>4</Version>")
        )
    };
    let type_only = "<member><InstanceType>m7i.large</InstanceType></member>";
    let of_its_own = format!(
        "{type_only}<member><InstanceType>m7g.large</InstanceType><LaunchTemplateSpecification>{}\
         </LaunchTemplateSpecification></member>",
        template("<Version>9</Version>")
    );
    for (made_of, expected) in [
        (plain("<Version>4</Version>"), Some("lt-1:4")),
        (mixed(type_only), Some("lt-1:4")),
        (mixed(&of_its_own), None),
        (
            "<LaunchConfigurationName>lc-2</LaunchConfigurationName>".to_owned(),
            Some("lc-2"),
        ),
        (String::new(), None),
    ] {
        assert_eq!(generation_of(&made_of).as_deref(), expected, "{made_of}");
    }
}

#[test]
fn a_version_that_the_group_follows_is_looked_up() {
    let versions = "<DescribeLaunchTemplatesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
                    <requestId>r</requestId><launchTemplates><item><launchTemplateId>lt-1</launchTemplateId>\
                    <launchTemplateName>t</launchTemplateName><defaultVersionNumber>2</defaultVersionNumber>\
                    <latestVersionNumber>5</latestVersionNumber></item></launchTemplates>\
                    </DescribeLaunchTemplatesResponse>";
    for (version, expected) in [
        ("<Version>$Latest</Version>", "lt-1:5"),
        ("<Version>$Default</Version>", "lt-1:2"),
        ("", "lt-1:2"),
    ] {
        let follows = format!(
            "<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId>{version}</LaunchTemplate><MinSize>"
        );
        let (script, aws) = aws();
        let group = group_xml(1, 10, &[("i-1", "InService")]).replace("<MinSize>", &follows);
        script.answer(200, &group);
        script.answer(
            200,
            &instances_xml(&[("i-1", "running")]).replace("spot", "scheduled"),
        );
        script.answer(200, versions);
        let snapshot = aws.update().expect("all answered");
        assert_eq!(
            snapshot.extras,
            [("generation".to_owned(), expected.to_owned())]
        );
        assert_eq!(snapshot.instances[0].generation.as_deref(), Some("lt-1:3"));
        assert!(script.bodies()[2].ends_with("&LaunchTemplateId.1=lt-1"));
    }
}

#[test]
fn the_owners_tag_is_read() {
    let tags = "<Tags><member><Key>Name</Key><Value>x</Value></member><member><ResourceId>asg</ResourceId>\
                <ResourceType>auto-scaling-group</ResourceType><Key>fleetling:owner</Key><Value>s_1/k</Value>\
                <PropagateAtLaunch>false</PropagateAtLaunch></member></Tags><MinSize>";
    let (script, aws) = aws();
    let group = group_xml(0, 10, &[]).replace("<MinSize>", tags);
    script.answer(200, &group);
    script.answer(200, &group);
    let opened = aws.open().expect("it is there");
    assert_eq!(opened.owner.as_deref(), Some("s_1/k"));
    let snapshot = aws.update().expect("it is there");
    assert_eq!(snapshot.owner.as_deref(), Some("s_1/k"));
}

#[test]
fn a_warm_pool_is_remarked_on() {
    let pool = "<WarmPoolConfiguration><MinSize>2</MinSize><PoolState>Stopped</PoolState></WarmPoolConfiguration><MinSize>";
    let (script, aws) = aws();
    script.answer(200, &group_xml(0, 10, &[]).replacen("<MinSize>", pool, 1));
    let notices = aws.open().expect("it is there").notices;
    assert_eq!(notices[0].subject, "WarmPool");
}

/// A mixed instances policy whose types have these weights.
fn weights_xml(weights: &[&str]) -> String {
    let overrides: String = weights
        .iter()
        .map(|weight| format!("<member><InstanceType>m7i.large</InstanceType>{weight}</member>"))
        .collect();
    format!(
        "<MixedInstancesPolicy><LaunchTemplate><LaunchTemplateSpecification><LaunchTemplateId>lt-1</LaunchTemplateId>\
         <Version>3</Version></LaunchTemplateSpecification><Overrides>{overrides}</Overrides></LaunchTemplate>\
         </MixedInstancesPolicy><MinSize>"
    )
}

#[test]
fn a_group_that_counts_something_else_than_instances_is_remarked_on_while_it_is_empty_too() {
    let weight = |number| format!("<WeightedCapacity>{number}</WeightedCapacity>");
    let units = |word| format!("<DesiredCapacityType>{word}</DesiredCapacityType><MinSize>");
    for (group, expected) in [
        (weights_xml(&[&weight(2), &weight(4)]), true),
        (weights_xml(&[&weight(1), &weight(4)]), true),
        (weights_xml(&[&weight(1), &weight(1)]), false),
        (weights_xml(&["", ""]), false),
        (units("vcpu"), true),
        (units("memory-mib"), true),
        (units("units"), false),
    ] {
        let (script, aws) = aws();
        let xml = group_xml(0, 10, &[]).replacen("<MinSize>", &group, 1);
        script.answer(200, &xml);
        script.answer(200, &xml);
        let opened = aws.open().expect("it is there").notices;
        let updated = aws.update().expect("it is there").notices;
        for notices in [opened, updated] {
            let subjects: Vec<_> = notices.iter().map(|one| one.subject.as_str()).collect();
            let wanted: &[&str] = if expected { &["WeightedCapacity"] } else { &[] };
            assert_eq!(subjects, wanted, "{group}");
        }
    }
}

#[test]
fn a_thousand_instances_are_read_in_five_questions_and_every_page() {
    let ids: Vec<String> = (0..1000).map(|n| format!("i-{n:04}")).collect();
    let members: Vec<(&str, &str)> = ids.iter().map(|id| (&**id, "InService")).collect();
    let (script, aws) = aws();
    script.answer(200, &group_xml(1000, 1000, &members));
    for chunk in ids.chunks(200) {
        let (first, second) = chunk.split_at(120);
        let page = |ids: &[String]| {
            let seen: Vec<(&str, &str)> = ids.iter().map(|id| (&**id, "running")).collect();
            instances_xml(&seen).replace("spot", "scheduled")
        };
        let more = "</reservationSet><nextToken>n</nextToken>";
        script.answer(200, &page(first).replace("</reservationSet>", more));
        script.answer(200, &page(second));
    }
    let snapshot = aws.update().expect("all answered");
    assert_eq!(snapshot.instances.len(), 1000);
    assert!(
        snapshot
            .instances
            .iter()
            .all(|one| one.created_at.is_some())
    );
    let bodies = script.bodies();
    assert_eq!(
        bodies.len(),
        11,
        "five questions of two pages beside the group"
    );
    assert!(bodies[2].ends_with("&NextToken=n"));
    assert!(bodies[3].contains("&Filter.1.Value.200=i-0399") && !bodies[3].contains("NextToken"));
}

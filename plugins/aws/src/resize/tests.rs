//! What is asked of the group, what is answered, and that a wish told twice is granted once.

use fleetling_plugin_sdk::Provider;
use fleetling_plugin_sdk::http::Error;

use super::*;
use crate::tests::{aws, group_xml, of};

fn wish(token: &str, count: u32) -> IncreaseRequest {
    IncreaseRequest {
        token: token.into(),
        count,
        avoid_pools: vec!["eu-west-1a".into()],
        extras: Vec::new(),
    }
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
}

#[test]
fn more_is_counted_from_the_size_of_this_moment() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(3, 10, &[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    let outcome = aws.increase(wish("a", 2));
    assert_eq!((outcome.accepted, outcome.target), (2, Some(5)));
    assert_eq!(outcome.problems, []);
    assert_eq!(
        script.bodies()[1],
        "Action=SetDesiredCapacity&Version=2011-01-01&AutoScalingGroupName=asg&DesiredCapacity=5\
         &HonorCooldown=false"
    );
}

#[test]
fn the_groups_maximum_accepts_a_part_or_nothing() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(3, 4, &[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    let outcome = aws.increase(wish("a", 3));
    assert_eq!((outcome.accepted, outcome.target), (1, Some(4)));
    assert_eq!(outcome.problems[0].kind, ProblemKind::Quota);
    assert!(
        outcome.problems[0]
            .message
            .contains("allows 4 instances: 1 of 3")
    );

    script.requests();
    script.answer(200, &group_xml(4, 4, &[]));
    let outcome = aws.increase(wish("b", 1));
    assert_eq!((outcome.accepted, outcome.target), (0, Some(4)));
    assert_eq!(script.requests().len(), 1, "nothing was asked for");
}

#[test]
fn a_token_told_twice_adds_nothing() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(0, 10, &[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    assert_eq!(aws.increase(wish("a", 2)).accepted, 2);
    script.requests();
    // One of them was removed since: the wish was served all the same.
    script.answer(200, &group_xml(1, 10, &[]));
    let again = aws.increase(wish("a", 2));
    assert_eq!((again.accepted, again.target), (2, Some(1)));
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn a_lost_answer_is_asked_for_once_more() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(0, 10, &[]));
    script.fail(Error::TimedOut("waiting for the answer"));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    assert_eq!(aws.increase(wish("a", 2)).accepted, 2);
}

#[test]
fn an_open_wish_is_settled_by_the_size_of_the_group() {
    for (size_now, asked) in [(2, false), (0, true)] {
        let (script, aws) = aws();
        script.answer(200, &group_xml(0, 10, &[]));
        script.fail(Error::Cut);
        script.fail(Error::Cut);
        let outcome = aws.increase(wish("a", 2));
        assert_eq!(outcome.accepted, 0);
        assert_eq!(outcome.problems[0].kind, ProblemKind::Unavailable);
        script.requests();

        script.answer(200, &group_xml(size_now, 10, &[]));
        if asked {
            script.answer(200, "<SetDesiredCapacityResponse/>");
        }
        let outcome = aws.increase(wish("a", 2));
        assert_eq!((outcome.accepted, outcome.target), (2, Some(2)));
        assert_eq!(script.unasked(), 0);
    }
}

#[test]
fn a_removal_in_between_does_not_make_an_open_wish_add_twice() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(1, 10, &[("i-1", "InService")]));
    script.fail(Error::Cut);
    script.fail(Error::Cut);
    aws.increase(wish("a", 2));
    // It had been granted: the group grew from 1 to 3. Now i-1 goes.
    script.answer(200, &group_xml(3, 10, &[("i-1", "InService")]));
    script.answer(200, "<TerminateInstanceInAutoScalingGroupResponse/>");
    assert_eq!(aws.decrease(vec![of("i-1")]), [Removal::Accepted]);
    script.requests();
    script.answer(200, &group_xml(2, 10, &[]));
    let outcome = aws.increase(wish("a", 2));
    assert_eq!((outcome.accepted, outcome.target), (2, Some(2)));
    assert_eq!(script.requests().len(), 1, "nothing was asked for");
}

#[test]
fn a_refusal_leaves_no_wish_behind() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(0, 10, &[]));
    script.answer(400, &error("ScalingActivityInProgress", "busy"));
    let outcome = aws.increase(wish("a", 2));
    assert_eq!(outcome.accepted, 0);
    assert_eq!(outcome.problems[0].kind, ProblemKind::Conflict);
    script.answer(200, &group_xml(5, 10, &[]));
    script.answer(200, "<SetDesiredCapacityResponse/>");
    assert_eq!(aws.increase(wish("a", 2)).target, Some(7));
}

#[test]
fn removals_answer_for_each_in_order() {
    let (script, aws) = aws();
    let members = [
        ("i-1", "InService"),
        ("i-2", "Terminating"),
        ("i-3", "InService"),
        ("i-4", "InService"),
    ];
    script.answer(200, &group_xml(3, 10, &members));
    script.answer(200, "<TerminateInstanceInAutoScalingGroupResponse/>");
    script.answer(
        400,
        &error(
            "ValidationError",
            "Instance Id not found - No managed instance found for instance ID i-3",
        ),
    );
    script.answer(500, "<html>oops</html>");
    let removals = aws.decrease(vec![
        of("i-1"),
        of("i-unknown"),
        of("i-2"),
        of("i-3"),
        of("i-4"),
    ]);
    assert_eq!(removals[..2], [Removal::Accepted, Removal::Gone]);
    assert_eq!(removals[2..4], [Removal::Accepted, Removal::Gone]);
    assert!(
        matches!(&removals[4], Removal::Refused(problem) if problem.kind == ProblemKind::Unavailable)
    );
    assert_eq!(
        script.bodies()[1],
        "Action=TerminateInstanceInAutoScalingGroup&Version=2011-01-01&InstanceId=i-1\
         &ShouldDecrementDesiredCapacity=true"
    );
}

#[test]
fn what_refuses_one_removal_for_all_is_asked_once() {
    let (script, aws) = aws();
    script.answer(
        200,
        &group_xml(2, 10, &[("i-1", "InService"), ("i-2", "InService")]),
    );
    script.answer(403, &error("AccessDenied", "no"));
    let removals = aws.decrease(vec![of("i-1"), of("i-2")]);
    assert!(removals.iter().all(
        |one| matches!(one, Removal::Refused(problem) if problem.kind == ProblemKind::Forbidden)
    ));
    assert_eq!(script.requests().len(), 2);
    assert_eq!(aws.decrease(Vec::new()), []);
    assert_eq!(script.requests().len(), 0);
}

#[test]
fn a_minimum_in_the_way_is_named() {
    let (script, aws) = aws();
    script.answer(200, &group_xml(1, 10, &[("i-1", "InService")]));
    script.answer(
        400,
        &error(
            "ValidationError",
            "Currently, desiredSize equals minSize (1). Terminating instance without replacement will \
             violate group&apos;s min size constraint.",
        ),
    );
    let removals = aws.decrease(vec![of("i-1")]);
    let [Removal::Refused(problem)] = &removals[..] else {
        panic!("{removals:?}");
    };
    assert_eq!(problem.subject.as_deref(), Some("MinSize"));
}

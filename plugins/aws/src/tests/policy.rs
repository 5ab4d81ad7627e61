//! The published policy as a document: no action too many, and each no further than it has to reach.

use std::collections::BTreeSet;

use serde_json::{Value, json};

const POLICY: &str = include_str!("../../iam-policy.json");
const CALLS: &str = include_str!("../api.rs");

fn statements() -> Vec<Value> {
    let policy: Value = serde_json::from_str(POLICY).expect("it is JSON");
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().expect("a list").clone()
}

fn actions(statement: &Value) -> Vec<&str> {
    let actions = statement["Action"].as_array().expect("a list");
    actions
        .iter()
        .map(|action| action.as_str().expect("text"))
        .collect()
}

#[test]
fn it_allows_the_actions_that_the_plugin_makes_and_no_other() {
    let is_action = |word: &&str| {
        let verbs = ["Describe", "Get", "Set", "Terminate", "Send"];
        verbs.iter().any(|verb| word.starts_with(verb))
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let made: BTreeSet<&str> = CALLS.split('"').filter(is_action).collect();
    let statements = statements();
    let allowed = statements.iter().flat_map(actions);
    let allowed: BTreeSet<&str> = allowed
        .map(|action| action.split_once(':').expect("a service").1)
        .collect();
    assert_eq!(allowed, made);
    assert_eq!(allowed.len(), 9);
}

#[test]
fn only_what_changes_nothing_is_allowed_on_everything() {
    let arn = "arn:aws:autoscaling:REGION:ACCOUNT:autoScalingGroup:*:autoScalingGroupName/GROUP";
    for statement in statements() {
        assert_eq!(statement["Effect"], "Allow");
        for action in actions(&statement) {
            let (service, name) = action.split_once(':').expect("a service");
            assert!(!name.contains('*'), "{action}");
            let (resource, condition) = match (service, name) {
                (_, name) if name.starts_with("Describe") => ("*", Value::Null),
                ("autoscaling", _) => (arn, Value::Null),
                _ => (
                    "arn:aws:ec2:REGION:ACCOUNT:instance/*",
                    json!({"StringEquals": {"ec2:ResourceTag/aws:autoscaling:groupName": "GROUP"}}),
                ),
            };
            assert_eq!(statement["Resource"], resource, "{action}");
            assert_eq!(statement["Condition"], condition, "{action}");
        }
    }
}

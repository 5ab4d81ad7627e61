//! Each way to keys, from a configuration with only `name`, against a stand-in for whoever gives them; and what the
//! operator reads where none leads anywhere.

mod held;
mod refused;
mod ways;

use std::rc::Rc;
use std::time::Duration;

use fleetling_plugin_sdk::http::Error;
use fleetling_plugin_sdk::{Provider, Settings};

use super::*;
use crate::Aws;
use crate::tests::stand_in::{StandIn, response};
use crate::tests::{error_xml, group_xml};

const GROUPS: &str = "POST https://autoscaling.eu-west-1.amazonaws.com/ DescribeAutoScalingGroups";
const STS: &str = "POST https://sts.eu-west-1.amazonaws.com/ AssumeRole";
const WEB: &str = "POST https://sts.eu-west-1.amazonaws.com/ AssumeRoleWithWebIdentity";
const TOKEN: &str = "PUT http://169.254.169.254/latest/api/token";
const ROLES: &str = "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/builders";
const REGION: &str = "GET http://169.254.169.254/latest/meta-data/placement/region";
const ARN: &str = "arn:aws:iam::123456789012:role/runner";
const KEYS: &str = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cret\n";

fn aws(world: &Rc<StandIn>, json: &str) -> Aws {
    let mut settings = Settings::for_tests();
    settings.owner = "s_ab12/https://gitlab.example|7".into();
    world.on(GROUPS, 200, &group_xml(0, 10, &[]));
    Aws::init(world.clone(), json, settings).expect("the configuration is valid")
}

/// With only `name`, in a region.
fn named(world: &Rc<StandIn>) -> Aws {
    world.variable("AWS_REGION", "eu-west-1");
    aws(world, r#"{"name":"asg"}"#)
}

/// Whose key signed the last question about the group, with its session token.
fn signed_by(world: &StandIn) -> (String, Option<String>) {
    let requests = world.requests(GROUPS);
    let headers = requests.last().expect("the group was asked for").headers();
    let text = |name: &str| Some(headers.get(name)?.to_str().expect("text").to_owned());
    let authorization = text("authorization").expect("it is signed");
    let (_, key) = authorization.split_once("Credential=").expect("with a key");
    let (key, _) = key.split_once('/').expect("of a scope");
    (key.to_owned(), text("x-amz-security-token"))
}

fn body(world: &StandIn, asked: &str) -> String {
    let requests = world.requests(asked);
    let request = requests.last().expect("it was asked");
    String::from_utf8_lossy(request.body()).into_owned()
}

/// 03:04:05 is the present of tests.
fn offered(key: &str, expiration: &str) -> String {
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"{key}","SecretAccessKey":"s3cret","Token":"tok",
            "Expiration":"{expiration}"}}"#
    )
}

fn taken(action: &str, key: &str, expiration: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
         <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/runner/x</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey>\
         <SessionToken>tok</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
         </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    )
}

const LATER: &str = "2026-01-02T04:04:05Z";

fn machine_with_role(world: &StandIn, key: &str) {
    world
        .on(TOKEN, 200, "AQAEtoken==")
        .on(ROLES, 200, "builders\n")
        .on(ROLE, 200, &offered(key, LATER));
}

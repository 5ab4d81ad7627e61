//! Each way to keys, from a configuration with only `name`, against a stand-in for whoever gives them; and what the
//! operator reads where none leads anywhere.

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

#[test]
fn keys_of_the_environment() {
    let world = StandIn::new();
    world
        .variable("AWS_ACCESS_KEY_ID", "AKIAENV")
        .variable("AWS_SECRET_ACCESS_KEY", "s3cret")
        .variable("AWS_SESSION_TOKEN", "envtok")
        .secret("aws_credentials", &format!("[default]\n{KEYS}"));
    named(&world).open().expect("the environment has keys");
    assert_eq!(signed_by(&world), ("AKIAENV".into(), Some("envtok".into())));
    let requests = world.requests(GROUPS);
    let agent = requests[0].headers()["user-agent"].to_str().expect("text");
    assert!(
        agent.contains("fleetling-s_ab12-https---gitlab.example-7"),
        "{agent}"
    );
}

#[test]
fn a_profile_that_the_configuration_names_comes_before_the_environment() {
    let world = StandIn::new();
    world
        .variable("AWS_ACCESS_KEY_ID", "AKIAENV")
        .variable("AWS_SECRET_ACCESS_KEY", "s3cret")
        .secret("aws_credentials", &format!("[default]\n{KEYS}"));
    let named = aws(
        &world,
        r#"{"name":"asg","profile":"default","region":"eu-west-1"}"#,
    );
    named.open().expect("the profile has keys");
    assert_eq!(signed_by(&world).0, "AKIDEXAMPLE");
}

#[test]
fn keys_in_the_configuration_work_and_are_remarked_on() {
    let world = StandIn::new();
    let json = r#"{"name":"asg","region":"eu-west-1","access_key_id":"AKIACONF","secret_access_key":"s3cret"}"#;
    let group = aws(&world, json).open().expect("there are keys");
    assert_eq!(signed_by(&world), ("AKIACONF".into(), None));
    assert_eq!(group.notices[0].subject, "plugin_config.secret_access_key");
}

#[test]
fn keys_of_the_default_profile() {
    let world = StandIn::new();
    world.secret(
        "aws_credentials",
        &format!("[default]\n{KEYS}aws_session_token = tok\n"),
    );
    world.secret(
        "aws_config",
        "[default]\nregion = eu-west-1\naws_access_key_id = other\naws_secret_access_key = x\n",
    );
    aws(&world, r#"{"name":"asg"}"#)
        .open()
        .expect("it has keys");
    assert_eq!(
        signed_by(&world),
        ("AKIDEXAMPLE".into(), Some("tok".into()))
    );
}

#[test]
fn a_role_of_a_profile_is_taken_with_the_keys_of_another() {
    let world = StandIn::new();
    world.secret(
        "aws_config",
        &format!(
            "[default]\nregion = eu-west-1\nrole_arn = {ARN}\nsource_profile = base\nexternal_id = ext\n\
             role_session_name = mine\nduration_seconds = 900\n[profile base]\nregion = us-east-1\n"
        ),
    );
    world.secret("aws_credentials", &format!("[base]\n{KEYS}"));
    world.on(STS, 200, &taken("AssumeRole", "ASIAROLE", LATER));
    named(&world).open().expect("the role is taken");
    assert_eq!(signed_by(&world), ("ASIAROLE".into(), Some("tok".into())));
    assert_eq!(
        body(&world, STS),
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Frunner\
         &RoleSessionName=mine&DurationSeconds=900&ExternalId=ext"
    );
    let requests = world.requests(STS);
    let authorization = requests[0].headers()["authorization"]
        .to_str()
        .expect("text");
    assert!(authorization.contains("Credential=AKIDEXAMPLE/20260102/eu-west-1/sts/"));
}

#[test]
fn roles_in_a_row_end_at_keys_a_service_or_themselves() {
    let chain = format!(
        "[profile a]\nrole_arn = {ARN}-a\nsource_profile = b\n[profile b]\nrole_arn = {ARN}-b\n"
    );
    for (profiles, credentials, takes) in [
        (
            format!("{chain}source_profile = c\n"),
            format!("[c]\n{KEYS}"),
            2,
        ),
        (
            format!("{chain}credential_source = Ec2InstanceMetadata\n"),
            String::new(),
            2,
        ),
        (
            format!("[profile a]\nrole_arn = {ARN}\nsource_profile = a\n"),
            format!("[a]\n{KEYS}"),
            1,
        ),
        (
            // Below the first profile, its own keys come before its role.
            format!("{chain}source_profile = c\n"),
            format!("[b]\n{KEYS}"),
            1,
        ),
        (
            format!("[profile a]\nrole_arn = {ARN}\ncredential_source = Environment\n"),
            String::new(),
            1,
        ),
        (
            format!("[profile a]\nrole_arn = {ARN}\ncredential_source = EcsContainer\n"),
            String::new(),
            1,
        ),
    ] {
        let world = StandIn::new();
        world
            .secret("aws_config", &profiles)
            .secret("aws_credentials", &credentials)
            .variable("AWS_ACCESS_KEY_ID", "AKIAENV")
            .variable("AWS_SECRET_ACCESS_KEY", "s3cret")
            .variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/task")
            .on(
                "GET http://169.254.170.2/v2/task",
                200,
                &offered("ASIATASK", LATER),
            );
        machine_with_role(&world, "ASIAMACHINE");
        world.on(STS, 200, &taken("AssumeRole", "ASIAROLE", LATER));
        let aws = aws(
            &world,
            r#"{"name":"asg","profile":"a","region":"eu-west-1"}"#,
        );
        aws.open()
            .unwrap_or_else(|problem| panic!("{profiles}: {problem:?}"));
        assert_eq!(signed_by(&world).0, "ASIAROLE", "{profiles}");
        assert_eq!(world.requests(STS).len(), takes, "{profiles}");
    }
}

#[test]
fn web_identity_of_the_environment_and_of_a_profile() {
    let token_file = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
    for by_profile in [false, true] {
        let world = StandIn::new();
        if by_profile {
            let profile =
                format!("[default]\nrole_arn = {ARN}\nweb_identity_token_file = {token_file}\n");
            world.secret("aws_config", &profile);
        } else {
            world
                .variable("AWS_WEB_IDENTITY_TOKEN_FILE", token_file)
                .variable("AWS_ROLE_ARN", ARN);
        }
        world.secret("aws_web_identity_token", "eyJtoken\n");
        world.on(
            WEB,
            200,
            &taken("AssumeRoleWithWebIdentity", "ASIAWEB", LATER),
        );
        named(&world).open().expect("the token is good");
        assert_eq!(signed_by(&world), ("ASIAWEB".into(), Some("tok".into())));
        let body = body(&world, WEB);
        assert!(body.ends_with("&WebIdentityToken=eyJtoken"), "{body}");
        assert!(
            body.contains("&RoleSessionName=fleetling-s_ab12-https---gitlab.example-7&"),
            "{body}"
        );
        let requests = world.requests(WEB);
        assert!(!requests[0].headers().contains_key("authorization"));
    }
}

#[test]
fn container_credentials_of_ecs_and_of_eks() {
    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    for (variable, value, url) in [
        (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/credentials/uuid",
            "http://169.254.170.2/v2/credentials/uuid",
        ),
        (
            full,
            "http://169.254.170.23/v1/credentials",
            "http://169.254.170.23/v1/credentials",
        ),
        (
            full,
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ),
    ] {
        let world = StandIn::new();
        world
            .variable(variable, value)
            .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "value")
            .on(&format!("GET {url}"), 200, &offered("ASIATASK", LATER));
        named(&world).open().expect(value);
        assert_eq!(signed_by(&world), ("ASIATASK".into(), Some("tok".into())));
        let requests = world.requests(&format!("GET {url}"));
        assert_eq!(requests[0].headers()["authorization"], "value");
    }
}

#[test]
fn the_containers_token_is_read_anew_from_its_file() {
    let world = StandIn::new();
    let url = "http://169.254.170.23/v1/credentials";
    world
        .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        .variable(
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "/var/run/secrets/pods/token",
        )
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "stale")
        .secret("aws_container_token", "first\n");
    // Soon at their end, so that each call asks.
    let asked = format!("GET {url}");
    world.on(&asked, 200, &offered("ASIATASK", "2026-01-02T03:06:05Z"));
    let aws = named(&world);
    aws.open().expect("the token is good");
    world.secret("aws_container_token", "second\n");
    aws.open().expect("the token is good");
    let sent: Vec<_> = world
        .requests(&asked)
        .iter()
        .map(|request| request.headers()["authorization"].clone())
        .collect();
    assert_eq!(sent, ["first", "second"]);
}

#[test]
fn instance_metadata_gives_keys_and_region() {
    let world = StandIn::new();
    machine_with_role(&world, "ASIAMACHINE");
    world.on(REGION, 200, "eu-west-1");
    let aws = aws(&world, r#"{"name":"asg"}"#);
    aws.open().expect("the machine has a role");
    assert_eq!(
        signed_by(&world),
        ("ASIAMACHINE".into(), Some("tok".into()))
    );
    let requests = world.requests(ROLE);
    assert_eq!(
        requests[0].headers()["x-aws-ec2-metadata-token"],
        "AQAEtoken=="
    );
    world.asked();
    aws.open().expect("it still has");
    assert_eq!(world.asked(), [GROUPS], "keys and region are held");
}

#[test]
fn instance_metadata_is_asked_where_the_operator_says() {
    let world = StandIn::new();
    world
        .variable(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "http://127.0.0.1:1338/",
        )
        .on("PUT http://127.0.0.1:1338/latest/api/token", 200, "t")
        .on(
            "GET http://127.0.0.1:1338/latest/meta-data/iam/security-credentials/",
            200,
            "r",
        )
        .on(
            "GET http://127.0.0.1:1338/latest/meta-data/iam/security-credentials/r",
            200,
            &offered("ASIAHERE", LATER),
        );
    named(&world).open().expect("it answers");
    assert_eq!(signed_by(&world).0, "ASIAHERE");

    let world = StandIn::new();
    world
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")
        .on("PUT http://[fd00:ec2::254]/latest/api/token", 200, "t");
    let problem = named(&world).open().expect_err("it knows no role");
    assert!(
        problem.message.contains("http://[fd00:ec2::254]"),
        "{problem:?}"
    );
}

#[test]
fn a_metadata_token_that_is_not_taken_any_more_is_renewed_once() {
    let world = StandIn::new();
    world
        .on(TOKEN, 200, "old")
        .on(TOKEN, 200, "new")
        .on(ROLES, 401, "")
        .on(ROLES, 200, "builders")
        .on(ROLE, 200, &offered("ASIAMACHINE", LATER));
    named(&world).open().expect("the second token is good");
    let sent = world.requests(ROLES);
    assert_eq!(sent[1].headers()["x-aws-ec2-metadata-token"], "new");
}

#[test]
fn keys_are_renewed_before_they_end_and_used_while_they_last() {
    let world = StandIn::new();
    world
        .on(TOKEN, 200, "t")
        .on(ROLES, 200, "builders")
        .on(ROLE, 200, &offered("ASIAFIRST", LATER))
        .on(ROLE, 200, &offered("ASIASECOND", "2026-01-02T06:04:05Z"));
    let aws = named(&world);
    let key = |aws: &Aws| {
        aws.open().expect("there are keys");
        let key = signed_by(&world).0;
        world.asked();
        key
    };
    assert_eq!(key(&aws), "ASIAFIRST");
    world.wait(Duration::from_secs(54 * 60));
    assert_eq!(key(&aws), "ASIAFIRST");
    world.wait(Duration::from_secs(2 * 60));
    assert_eq!(key(&aws), "ASIASECOND");

    let world = StandIn::new();
    machine_with_role(&world, "ASIAFIRST");
    let aws = named(&world);
    aws.open().expect("there are keys");
    world.answers(ROLES, Err(Error::Refused));
    world.answers(ROLES, Err(Error::Refused));
    world.wait(Duration::from_secs(56 * 60));
    aws.open().expect("the old ones last for four more minutes");
    aws.open().expect("the old ones last for four more minutes");
    let lines = world.around.lines();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("could not be renewed yet")),
        "{lines:?}"
    );
    world.wait(Duration::from_secs(4 * 60));
    aws.open().expect_err("now they have ended");
}

#[test]
fn what_another_configuration_leads_to_is_not_held() {
    let world = StandIn::new();
    world.on(STS, 200, &taken("AssumeRole", "ASIAROLE", LATER));
    let profile = |arn: &str| format!("[default]\nrole_arn = {arn}\nsource_profile = base\n");
    world.secret("aws_credentials", &format!("[base]\n{KEYS}"));
    world.secret("aws_config", &profile(ARN));
    let aws = named(&world);
    aws.open().expect("the role is taken");
    aws.open().expect("it is held");
    assert_eq!(world.requests(STS).len(), 1);
    world.secret(
        "aws_config",
        &profile("arn:aws:iam::123456789012:role/other"),
    );
    aws.open().expect("the other role is taken");
    assert_eq!(world.requests(STS).len(), 2);
}

#[test]
fn expired_keys_are_renewed_in_the_same_call() {
    let world = StandIn::new();
    world
        .on(TOKEN, 200, "t")
        .on(ROLES, 200, "builders")
        .on(ROLE, 200, &offered("ASIAFIRST", LATER))
        .on(ROLE, 200, &offered("ASIASECOND", LATER));
    world.on(
        GROUPS,
        403,
        &error_xml(
            "ExpiredToken",
            "The security token included in the request is expired",
        ),
    );
    named(&world).open().expect("the second keys are good");
    assert_eq!(signed_by(&world).0, "ASIASECOND");
    assert_eq!(world.requests(GROUPS).len(), 2);
}

#[test]
fn keys_that_nobody_can_renew_are_refused_once() {
    let world = StandIn::new();
    world
        .secret("aws_credentials", &format!("[default]\n{KEYS}"))
        .on(GROUPS, 403, &error_xml("ExpiredToken", "expired"));
    let problem = named(&world).open().expect_err("they have expired");
    assert_eq!(problem.kind, ProblemKind::Unauthenticated);
    assert_eq!(world.requests(GROUPS).len(), 1);
}

#[test]
fn a_wrong_clock_is_corrected_by_awss_own() {
    let world = StandIn::new();
    world.secret("aws_credentials", &format!("[default]\n{KEYS}"));
    let skew = "Signature expired: 20260102T030405Z is now earlier than 20260102T033405Z (20260102T034905Z - 15 min.)";
    let refused = response(
        403,
        &[("date", "Fri, 02 Jan 2026 03:49:05 GMT")],
        &error_xml("SignatureDoesNotMatch", skew),
    );
    world.answers(GROUPS, Ok(refused.clone()));
    named(&world).open().expect("AWS's time is taken");
    let requests = world.requests(GROUPS);
    assert_eq!(requests[1].headers()["x-amz-date"], "20260102T034905Z");
    let lines = world.around.lines();
    assert!(lines[0].contains("aws_is_ahead_s\", \"2700\""), "{lines:?}");

    // Where AWS's own time does not help either, the operator is told.
    let world = StandIn::new();
    world
        .secret("aws_credentials", &format!("[default]\n{KEYS}"))
        .answers(GROUPS, Ok(refused.clone()))
        .answers(GROUPS, Ok(refused));
    let problem = named(&world).open().expect_err("it is refused twice");
    assert!(
        problem.message.ends_with("next: set this machine's clock"),
        "{problem:?}"
    );
    assert_eq!(world.requests(GROUPS).len(), 2);
}

#[test]
fn a_service_that_is_slow_is_asked_again_as_it_says() {
    let world = StandIn::new();
    let busy = response(503, &[("retry-after", "1")], "");
    world
        .on(TOKEN, 200, "t")
        .answers(ROLES, Ok(busy))
        .on(ROLES, 200, "builders")
        .on(ROLE, 200, &offered("ASIAMACHINE", LATER));
    named(&world).open().expect("it answers the second time");
    assert_eq!(world.around.slept(), [Duration::from_secs(1)]);
}

/// Config file, credentials file, environment; kind and a part of the message.
type Refusal<'a> = (
    &'a str,
    &'a str,
    &'a [(&'a str, &'a str)],
    ProblemKind,
    &'a str,
);

#[test]
fn what_cannot_be_used_is_named_and_no_secret_is_told() {
    use ProblemKind::{InvalidConfig, Unauthenticated};
    let role = format!("role_arn = {ARN}\n");
    let with = |lines: &str| format!("[default]\n{role}{lines}");
    let circle = format!(
        "[default]\n{role}source_profile = b\n[profile b]\n{role}source_profile = c\n[profile c]\n{role}source_profile = b\n"
    );
    let refusals: [Refusal<'_>; 19] = [
        (
            &circle,
            "",
            &[],
            InvalidConfig,
            "source_profile leads in a circle: default → b → c → b",
        ),
        (
            &with("source_profile = default\n"),
            "",
            &[],
            InvalidConfig,
            "in a circle: default → default",
        ),
        (
            &with(""),
            "",
            &[],
            InvalidConfig,
            "does not say whose keys take that role",
        ),
        (
            &with("source_profile = b\ncredential_source = Environment\n"),
            "",
            &[],
            InvalidConfig,
            "has more than one of source_profile, credential_source",
        ),
        (
            &with("source_profile = b\n"),
            "",
            &[],
            InvalidConfig,
            "is `b`, which stands neither in",
        ),
        (
            &format!("{}[profile b]\nregion = x\n", with("source_profile = b\n")),
            "",
            &[],
            Unauthenticated,
            "is `b`, which has no aws_access_key_id",
        ),
        (
            &with("credential_source = Vault\n"),
            "",
            &[],
            InvalidConfig,
            "is `Vault`; next: write Environment",
        ),
        (
            &with("credential_source = Environment\n"),
            "",
            &[],
            Unauthenticated,
            "is Environment, and the environment has no AWS_ACCESS_KEY_ID",
        ),
        (
            &with("credential_source = EcsContainer\n"),
            "",
            &[],
            Unauthenticated,
            "no container credentials",
        ),
        (
            &with("mfa_serial = arn:mfa\nsource_profile = b\n"),
            "",
            &[],
            InvalidConfig,
            "`mfa_serial`, which needs",
        ),
        (
            &with("source_profile = b\nduration_seconds = 1h\n"),
            "",
            &[],
            InvalidConfig,
            "duration_seconds of",
        ),
        (
            &with("web_identity_token_file = /tmp/token\n"),
            "",
            &[],
            InvalidConfig,
            "next: set plugin_config.web_identity_token_file",
        ),
        (
            "[default]\ncredential_process = x\n",
            "",
            &[],
            InvalidConfig,
            "`credential_process`, which needs",
        ),
        (
            "[default]\nsso_session = x\n",
            "",
            &[],
            InvalidConfig,
            "`sso_session`, which needs",
        ),
        (
            "",
            "[default]\naws_secret_access_key = s3cret\n",
            &[],
            Unauthenticated,
            "in ~/.aws/credentials has no aws_access_key_id",
        ),
        (
            "",
            "",
            &[("AWS_SECRET_ACCESS_KEY", "s3cret")],
            Unauthenticated,
            "next: set AWS_ACCESS_KEY_ID",
        ),
        (
            "",
            "",
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/keys")],
            InvalidConfig,
            "leads to http://10.0.0.1, where credentials would travel in clear",
        ),
        (
            "",
            "",
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "ftp://169.254.170.2/")],
            InvalidConfig,
            "is no http or https address",
        ),
        (
            "",
            "",
            &[("AWS_PROFILE", "p")],
            InvalidConfig,
            "profile `p` stands neither in",
        ),
    ];
    for (config, credentials, variables, kind, part) in refusals {
        let world = StandIn::new();
        world
            .secret("aws_config", config)
            .secret("aws_credentials", credentials);
        for (name, value) in variables {
            world.variable(name, value);
        }
        let problem = named(&world).open().expect_err(part);
        assert_eq!(problem.kind, kind, "{problem:?}");
        assert!(problem.message.contains(part), "{part}: {problem:?}");
        assert!(!problem.message.contains("s3cret"), "{problem:?}");
    }
}

#[test]
fn where_nothing_leads_to_keys_every_way_is_named() {
    let world = StandIn::new();
    world
        .secret("aws_credentials", "")
        .secret("aws_config", "")
        .answers(TOKEN, Err(Error::TimedOut("waiting for the answer")));
    let problem = named(&world).open().expect_err("there are none");
    assert_eq!(problem.kind, ProblemKind::Unauthenticated);
    assert_eq!(
        problem.message,
        "no AWS credentials were found: the environment has no AWS_ACCESS_KEY_ID; profile `default` stands neither in \
         ~/.aws/credentials nor in ~/.aws/config; AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not set; no container \
         credentials are offered (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI); instance metadata does not \
         answer at http://169.254.169.254: timed out while waiting for the answer; if the manager runs in a container \
         on an EC2 instance, next: set the instance's HttpPutResponseHopLimit to 2; next: give the manager's machine a \
         role, or add aws_access_key_id and aws_secret_access_key to the credentials file"
    );
    let world = StandIn::new();
    world.variable("AWS_EC2_METADATA_DISABLED", "true");
    let problem = named(&world).open().expect_err("there are none");
    assert!(
        problem
            .message
            .contains("instance metadata is switched off")
    );
    assert_eq!(world.asked(), Vec::<String>::new());
}

#[test]
fn a_role_that_may_not_be_taken_names_role_and_keys() {
    let world = StandIn::new();
    world
        .secret(
            "aws_config",
            &format!("[default]\nrole_arn = {ARN}\nsource_profile = base\n"),
        )
        .secret("aws_credentials", &format!("[base]\n{KEYS}"))
        .on(
            STS,
            403,
            &error_xml(
                "AccessDenied",
                "User is not authorized to perform: sts:AssumeRole",
            ),
        );
    let problem = named(&world).open().expect_err("the role is not theirs");
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert_eq!(
        problem.message,
        "profile `base` from ~/.aws/credentials may not do sts:AssumeRole of arn:aws:iam::123456789012:role/runner: User \
         is not authorized to perform: sts:AssumeRole; next: allow that action in its IAM policy"
    );
}

#[test]
fn a_session_is_named_within_awss_alphabet_and_length() {
    assert_eq!(session_name("s_1/https://x|2"), "fleetling-s_1-https---x-2");
    assert_eq!(session_name(&"é".repeat(99)).len(), 64);
}

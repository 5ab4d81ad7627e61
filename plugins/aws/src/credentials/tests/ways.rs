//! Each way to keys, from a configuration with only `name` where that is enough.

use super::*;

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

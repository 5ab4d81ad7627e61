//! What the operator reads where a way leads to no keys.

use super::*;

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
fn a_metadata_service_with_a_fault_of_its_own_is_asked_again() {
    let machine = "instance metadata at http://169.254.169.254";
    let goes_on = "next: none at first, it is asked again; if this goes on, check the metadata options of the \
                   manager's machine";
    for (place, status, kind) in [
        (TOKEN, 503, ProblemKind::Unavailable),
        (ROLES, 500, ProblemKind::Unavailable),
        (ROLE, 502, ProblemKind::Unavailable),
        (ROLE, 429, ProblemKind::Throttled),
    ] {
        let world = StandIn::new();
        world.on(place, status, "<html>busy</html>");
        for (other, answer) in [(TOKEN, "t"), (ROLES, "builders")] {
            if other != place {
                world.on(other, 200, answer);
            }
        }
        let asked = match place {
            TOKEN => ", asked for a token,",
            _ => "",
        };
        let problem = named(&world).open().expect_err(place);
        assert_eq!(problem.kind, kind, "{problem:?}");
        assert_eq!(
            problem.message,
            format!("{machine}{asked} answered with status {status}; {goes_on}")
        );
    }

    let world = StandIn::new();
    world.on(REGION, 503, "");
    machine_with_role(&world, "ASIAMACHINE");
    let nameless = aws(&world, r#"{"name":"asg"}"#);
    let problem = nameless.open().expect_err("it has no region yet");
    assert_eq!(problem.kind, ProblemKind::Unavailable, "{problem:?}");
    assert!(problem.message.starts_with(machine), "{problem:?}");

    let world = StandIn::new();
    world.on(TOKEN, 200, "t").on(ROLES, 200, "builders");
    world.on(ROLE, 200, "<html>log in</html>");
    let problem = named(&world).open().expect_err("these are no keys");
    assert_eq!(problem.kind, ProblemKind::Unavailable, "{problem:?}");
    assert!(
        problem.message.starts_with("instance metadata for role"),
        "{problem:?}"
    );
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

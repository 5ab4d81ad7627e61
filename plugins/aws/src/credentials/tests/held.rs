//! How long keys are held, when they are renewed, and what the clock has to do with it.

use super::*;

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
fn a_machine_whose_role_gave_keys_before_has_one_and_its_silence_passes() {
    let world = StandIn::new();
    world
        .on(TOKEN, 200, "for the role's name")
        .on(TOKEN, 200, "for its keys")
        .answers(TOKEN, Err(Error::TimedOut("waiting for the answer")))
        .on(ROLES, 200, "builders")
        .on(ROLE, 200, &offered("ASIAMACHINE", LATER));
    let aws = named(&world);
    aws.open().expect("there are keys");
    world.wait(Duration::from_secs(61 * 60));
    let problem = aws.open().expect_err("it is silent");
    assert_eq!(problem.kind, ProblemKind::Unavailable, "{problem:?}");
    assert!(
        problem
            .message
            .starts_with("instance metadata does not answer at http://169.254.169.254"),
        "{problem:?}"
    );
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

#[test]
fn a_throttled_call_is_repeated_as_aws_says_or_left_to_the_host() {
    let throttled = |wait: &str| {
        let body = error_xml("Throttling", "Rate exceeded");
        Ok(response(400, &[("retry-after", wait)], &body))
    };
    let world = StandIn::new();
    world
        .secret("aws_credentials", &format!("[default]\n{KEYS}"))
        .answers(GROUPS, throttled("2"));
    named(&world).open().expect("it answers the second time");
    assert_eq!(world.around.slept(), [Duration::from_secs(2)]);

    let world = StandIn::new();
    world
        .secret("aws_credentials", &format!("[default]\n{KEYS}"))
        .answers(GROUPS, throttled("30"));
    let problem = named(&world).open().expect_err("that is long");
    assert_eq!(problem.kind, ProblemKind::Throttled);
    assert_eq!(problem.retry_after_ms, Some(30_000));
    assert_eq!(world.around.slept(), Vec::<Duration>::new());
}

//! Single instances: spot reclaims, metadata that jobs reach, Windows passwords.

use fleetling_plugin_sdk::{Cipher, Interruption, InterruptionKind};

use super::*;

#[test]
fn a_spot_instance_that_is_taken_back_is_announced_with_its_end() {
    let (script, aws) = aws();
    let members = [("i-1", "InService"), ("i-2", "InService")];
    script.answer(200, &group_xml(2, 10, &members));
    script.answer(
        200,
        &instances_xml(&[("i-1", "running"), ("i-2", "running")]),
    );
    script.answer(
        200,
        &spot_xml(
            "<item><spotInstanceRequestId>sir-1</spotInstanceRequestId><state>active</state><status>\
             <code>marked-for-termination</code><updateTime>2026-01-02T03:04:05.000Z</updateTime>\
             <message>marked</message></status><instanceId>i-2</instanceId></item>\
             <item><spotInstanceRequestId>sir-2</spotInstanceRequestId><instanceId>i-of-others</instanceId></item>",
        ),
    );
    let snapshot = aws.update().expect("all answered");
    assert_eq!(snapshot.instances[0].interruption, None);
    assert_eq!(
        snapshot.instances[1].interruption,
        Some(Interruption {
            kind: InterruptionKind::Reclaim,
            at: Some(1_767_323_165_000),
        })
    );
    let bodies = script.bodies();
    assert!(
        bodies[2].contains(
            "Action=DescribeSpotInstanceRequests&Version=2016-11-15&Filter.1.Name=status-code\
             &Filter.1.Value.1=marked-for-termination&Filter.1.Value.2=marked-for-stop"
        ),
        "{bodies:?}"
    );
}

#[test]
fn an_unhealthy_member_will_be_replaced() {
    let (script, aws) = aws();
    let group = group_xml(1, 10, &[("i-1", "InService")]).replace("Healthy", "Unhealthy");
    script.answer(200, &group);
    script.answer(200, &instances_xml(&[("i-1", "running")]));
    script.answer(200, &spot_xml(""));
    let interruption = aws.update().expect("all answered").instances[0].interruption;
    assert_eq!(
        interruption.map(|one| one.kind),
        Some(InterruptionKind::Maintenance)
    );
}

#[test]
fn an_instance_that_an_abandoned_hook_left_standing_is_remarked_on() {
    for (state, expected) in [
        ("Terminating:Retained", true),
        ("Warmed:Pending:Retained", true),
        ("Terminating:Wait", false),
    ] {
        let (script, aws) = aws();
        script.answer(200, &group_xml(0, 10, &[("i-7", state)]));
        script.answer(
            200,
            &instances_xml(&[("i-7", "running")]).replace("spot", "scheduled"),
        );
        let notices = aws.update().expect("all answered").notices;
        let said: Vec<_> = notices.iter().map(|one| one.subject.as_str()).collect();
        let wanted: &[&str] = if expected { &["LifecycleState"] } else { &[] };
        assert_eq!(said, wanted, "{state}");
        if expected {
            assert!(notices[0].message.contains("i-7"), "{notices:?}");
        }
    }
}

#[test]
fn metadata_that_jobs_reach_from_their_containers_is_remarked_on() {
    for (tokens, hops, endpoint, expected) in [
        ("optional", 1, "enabled", true),
        ("required", 2, "enabled", true),
        ("required", 1, "enabled", false),
        ("optional", 2, "disabled", false),
    ] {
        let options = format!(
            "<metadataOptions><state>applied</state><httpTokens>{tokens}</httpTokens>\
             <httpPutResponseHopLimit>{hops}</httpPutResponseHopLimit><httpEndpoint>{endpoint}</httpEndpoint>\
             </metadataOptions><instanceLifecycle>"
        );
        let (script, aws) = aws();
        script.answer(200, &group_xml(1, 10, &[("i-1", "InService")]));
        script.answer(
            200,
            &instances_xml(&[("i-1", "running")]).replace("<instanceLifecycle>", &options),
        );
        script.answer(200, &spot_xml(""));
        let notices = aws.update().expect("all answered").notices;
        let said = notices.iter().any(|one| one.subject == "MetadataOptions");
        assert_eq!(said, expected, "{tokens} {hops} {endpoint}: {notices:?}");
    }
}

fn windows_xml() -> String {
    instances_xml(&[("i-1", "running")]).replace(
        "<architecture>",
        "<platform>windows</platform><architecture>",
    )
}

fn password_xml(data: &str) -> String {
    format!(
        "<GetPasswordDataResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
         <instanceId>i-1</instanceId><timestamp>2026-01-02T03:04:05.000Z</timestamp>{data}</GetPasswordDataResponse>"
    )
}

#[test]
fn a_windows_password_is_handed_over_as_it_was_encrypted() {
    let (script, aws) = aws();
    script.answer(200, &windows_xml());
    script.answer(
        200,
        &password_xml("<passwordData>\n3q2+\n7w==\n</passwordData>"),
    );
    let connection = aws.connect_info(of("i-1")).expect("it runs");
    assert_eq!(connection.os.as_deref(), Some("windows"));
    assert_eq!(connection.protocol, Some(Protocol::Winrm));
    assert_eq!(connection.username.as_deref(), Some("Administrator"));
    let Login::Sealed(sealed) = connection.login else {
        panic!("{connection:?}");
    };
    assert_eq!(sealed.ciphertext, [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(sealed.cipher, Cipher::RsaPkcs1V15);
    assert!(
        script.bodies()[1].ends_with("Action=GetPasswordData&Version=2016-11-15&InstanceId=i-1")
    );
}

#[test]
fn a_password_that_is_not_there_yet_or_is_none_is_told() {
    for (data, kind) in [
        ("<passwordData/>", ProblemKind::NotReady),
        ("", ProblemKind::NotReady),
        ("<passwordData>!</passwordData>", ProblemKind::Unavailable),
    ] {
        let (script, aws) = aws();
        script.answer(200, &windows_xml());
        script.answer(200, &password_xml(data));
        let problem = aws
            .connect_info(of("i-1"))
            .expect_err("there is no password");
        assert_eq!(problem.kind, kind, "{data}");
    }
}

#[test]
fn only_windows_machines_have_passwords() {
    let mut settings = Settings::for_tests();
    settings.connector.protocol = Some(Protocol::Winrm);
    let (script, aws) = aws_with(settings);
    script.answer(200, &instances_xml(&[("i-1", "running")]));
    let problem = aws
        .connect_info(of("i-1"))
        .expect_err("it is no Windows machine");
    assert_eq!(problem.kind, ProblemKind::Unsupported);
    assert_eq!(
        problem.subject.as_deref(),
        Some("connector_config.protocol")
    );
}

//! Which profile, region, keys and endpoint are chosen, and what the operator reads when none can be.

use fleetling_plugin_sdk::script::Script;

use super::*;

const KEYS: &str = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cret\n";

fn config(json: &str) -> PluginConfig {
    PluginConfig::parse(json).expect("a test's configuration is valid")
}

fn host(config: &str, credentials: &str) -> Script {
    let host = Script::default();
    host.set_secret("aws_config", config);
    host.set_secret("aws_credentials", credentials);
    host
}

#[test]
fn keys_come_from_the_credentials_file_and_region_from_the_config_file() {
    let host = host(
        "[default]\nregion = eu-west-1\naws_access_key_id = other\naws_secret_access_key = x\n",
        &format!("[default]\n{KEYS}aws_session_token = tok\n"),
    );
    let config = config(r#"{"name":"g","credentials_file":"/a/credentials"}"#);
    let account = Account::load(&host, &config).expect("all is there");
    assert_eq!(account.credentials.access_key_id(), "AKIDEXAMPLE");
    assert_eq!(account.credentials.session_token(), Some("tok"));
    assert_eq!(account.source, "/a/credentials");
    assert_eq!(account.region, "eu-west-1");
    assert_eq!(
        account.endpoint(Service::Ec2),
        "https://ec2.eu-west-1.amazonaws.com"
    );
}

#[test]
fn the_profile_is_chosen_by_configuration_then_environment() {
    let host = host(
        "[profile b]\nregion = r-b\n[profile c]\nregion = r-c\n",
        &format!("[b]\n{KEYS}[c]\n{KEYS}"),
    );
    host.set_variable("AWS_PROFILE", "b");
    let load = |json| Account::load(&host, &config(json)).expect("it is there");
    assert_eq!(load(r#"{"name":"g"}"#).region, "r-b");
    assert_eq!(load(r#"{"name":"g","profile":"c"}"#).region, "r-c");
    host.set_variable("AWS_DEFAULT_REGION", "r-default");
    assert_eq!(load(r#"{"name":"g"}"#).region, "r-default");
    host.set_variable("AWS_REGION", "r-env");
    assert_eq!(load(r#"{"name":"g"}"#).region, "r-env");
    assert_eq!(load(r#"{"name":"g","region":"r-own"}"#).region, "r-own");
}

#[test]
fn endpoints_come_from_the_services_section_then_the_profile_then_aws() {
    let host = host(
        "[default]\nregion = cn-north-1\nendpoint_url = http://127.0.0.1:5000/\nservices = lab\n\
         [services lab]\nec2 =\n  endpoint_url = http://127.0.0.1:6000\n",
        &format!("[default]\n{KEYS}"),
    );
    let account = Account::load(&host, &config(r#"{"name":"g"}"#)).expect("it is there");
    assert_eq!(account.endpoint(Service::Ec2), "http://127.0.0.1:6000");
    assert_eq!(
        account.endpoint(Service::AutoScaling),
        "http://127.0.0.1:5000"
    );

    host.set_secret("aws_config", "[default]\nregion = cn-north-1\n");
    let account = Account::load(&host, &config(r#"{"name":"g"}"#)).expect("it is there");
    assert_eq!(
        account.endpoint(Service::InstanceConnect),
        "https://ec2-instance-connect.cn-north-1.amazonaws.com.cn"
    );
}

/// Configuration, config file, credentials file; then kind and a part of the message.
type Refusal = (
    &'static str,
    &'static str,
    &'static str,
    ProblemKind,
    &'static str,
);

#[test]
fn what_cannot_be_used_is_named_and_no_secret_is_told() {
    let refusals: [Refusal; 5] = [
        (
            r#"{"name":"g","profile":"p"}"#,
            "[default]\nregion=r\n",
            "[default]\n",
            ProblemKind::InvalidConfig,
            "profile `p` stands neither in ~/.aws/credentials nor in ~/.aws/config",
        ),
        (
            r#"{"name":"g"}"#,
            "[default]\nregion=r\n",
            "[default]\naws_secret_access_key=s3cret\n",
            ProblemKind::Unauthenticated,
            "in ~/.aws/credentials has no aws_access_key_id",
        ),
        (
            r#"{"name":"g"}"#,
            "[default]\nregion=r\n",
            "",
            ProblemKind::Unauthenticated,
            "has no aws_access_key_id, neither in",
        ),
        (
            r#"{"name":"g"}"#,
            "[default]\n",
            "[default]\naws_access_key_id=a\naws_secret_access_key=s3cret\n",
            ProblemKind::InvalidConfig,
            "no region: plugin_config.region is not set",
        ),
        (
            r#"{"name":"g","credentials_file":"/c"}"#,
            "[default]\n",
            "[default]\ns3cret\n",
            ProblemKind::Unauthenticated,
            "/c: line 2: neither a `[section]`",
        ),
    ];
    for (json, config_file, credentials_file, kind, part) in refusals {
        let host = host(config_file, credentials_file);
        let problem = Account::load(&host, &config(json)).expect_err(part);
        assert_eq!(problem.kind, kind, "{problem:?}");
        assert!(problem.message.contains(part), "{problem:?}");
        assert!(!problem.message.contains("s3cret"), "{problem:?}");
    }
}

#[test]
fn ways_to_keys_that_are_not_supported_are_named() {
    // Keys beside a role are those that may take it, not those to use.
    let beside = [
        ("role_arn", KEYS),
        ("credential_process", ""),
        ("sso_session", ""),
    ];
    for (key, keys) in beside {
        let profile = format!("[default]\nregion=r\n{key}=x\n");
        let host = host(&profile, &format!("[default]\n{keys}"));
        let problem = Account::load(&host, &config(r#"{"name":"g"}"#)).expect_err(key);
        assert_eq!(problem.kind, ProblemKind::InvalidConfig, "{problem:?}");
        let part = format!("`{key}`, which this plugin does not support yet");
        assert!(problem.message.contains(&part), "{problem:?}");
        assert!(!problem.message.contains("s3cret"), "{problem:?}");
    }
}

#[test]
fn a_credentials_file_alone_is_enough_and_a_named_one_must_be_readable() {
    let host = Script::default();
    host.set_secret("aws_credentials", &format!("[default]\n{KEYS}"));
    let json = r#"{"name":"g","region":"eu-west-1"}"#;
    assert!(Account::load(&host, &config(json)).is_ok());

    let why = SecretProblem::Unreadable("no such file".into());
    host.break_secret("aws_credentials", why);
    let json = r#"{"name":"g","region":"eu-west-1","credentials_file":"/x"}"#;
    let problem = Account::load(&host, &config(json)).expect_err("it is not there");
    assert_eq!(
        problem.subject.as_deref(),
        Some("plugin_config.credentials_file")
    );
    assert!(
        problem
            .message
            .contains("/x: could not be read: no such file")
    );
}

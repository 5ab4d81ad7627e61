//! Each matching rule by its own name.

mod file;
mod suggested;

use serde_json::json;

use super::*;

fn target(url: &str) -> Target {
    Target::parse(url).expect("the test names a target")
}

fn granted(toml: &str) -> Grants {
    let file = GrantsFile::parse(&format!("[p]\n{toml}")).expect("the test's grants parse");
    file.plugins["p"].clone()
}

fn admits(toml: &str, url: &str) -> bool {
    granted(toml).reach(&json!({})).admits(&target(url)).is_ok()
}

#[test]
fn rule_1_a_scheme_is_mandatory_and_plaintext_is_its_own_grant() {
    assert_eq!(
        Entry::parse("api.example.com:8080"),
        Err(EntryProblem::NoScheme("api.example.com:8080".into()))
    );
    assert!(Entry::parse("ftp://example.com").is_err());
    assert!(!admits(
        r#"http = ["http://example.com"]"#,
        "http://example.com"
    ));
    assert!(admits(
        "http = [\"http://example.com\"]\nplaintext = true",
        "http://example.com"
    ));
    assert!(!admits(
        "http = [\"https://example.com\"]\nplaintext = true",
        "http://example.com"
    ));
    assert!(admits("metadata = true", "http://169.254.169.254"));
}

#[test]
fn rule_2_no_port_is_the_schemes_and_any_must_be_written() {
    let one = r#"http = ["https://example.com"]"#;
    assert!(admits(one, "https://example.com:443/x"));
    assert!(!admits(one, "https://example.com:8443"));
    assert!(admits(
        r#"http = ["https://example.com:*"]"#,
        "https://example.com:8443"
    ));
    assert_eq!(
        Entry::parse("https://example.com:443"),
        Entry::parse("https://example.com")
    );
    for text in ["https://e.com:0", "https://e.com:65536", "https://e.com:+5"] {
        assert!(Entry::parse(text).is_err(), "{text}");
    }
}

#[test]
fn rule_3_a_star_is_one_whole_label() {
    let star = r#"http = ["https://ec2.*.amazonaws.com"]"#;
    assert!(admits(star, "https://ec2.eu-west-1.amazonaws.com"));
    assert!(!admits(star, "https://ec2.a.b.amazonaws.com"));
    assert!(!admits(star, "https://ec2.amazonaws.com"));
    assert!(!admits(star, "https://ec2.x.amazonaws.com.evil.org"));
    assert!(Entry::parse("https://ec2-*.amazonaws.com").is_err());
    assert!(Entry::parse("https://*").is_err());
    assert!(Entry::parse("https://*.*").is_err());
    assert!(Entry::parse("*://example.com").is_err());
    assert!(admits("allow_any_host = true", "https://example.com"));
    assert_eq!(
        granted("allow_any_host = true").hazards(),
        ["any host may be reached"]
    );
}

#[test]
fn rule_4_names_are_compared_normalised() {
    assert!(admits(
        r#"http = ["https://EC2.example.com."]"#,
        "https://ec2.Example.COM"
    ));
    assert!(admits(
        r#"http = ["https://ec2.example.com"]"#,
        "https://ec2.example.com./x"
    ));
    assert!(admits(
        r#"http = ["https://bücher.example"]"#,
        "https://xn--bcher-kva.example"
    ));
    assert!(!admits("allow_any_host = true", "https://0x7f.1"));
    assert_eq!(target("https://127.1"), target("https://0x7f.1"));
    assert_eq!(target("https://2130706433"), target("https://127.0.0.1"));
}

#[test]
fn rule_5_it_grants_hosts_not_urls() {
    for text in [
        "https://example.com/",
        "https://example.com/x",
        "https://example.com?x",
        "https://example.com#x",
        "https://user@example.com",
    ] {
        let problem = Entry::parse(text).expect_err("it is no host");
        assert!(problem.to_string().ends_with("hosts, not URLs"), "{text}");
    }
    for text in [
        "https://user:s3cret@example.com",
        "https://example.com/?token=s3cret",
        "https://u:p/s3cret@example.com#s3cret",
    ] {
        assert_eq!(
            Entry::parse(text),
            Err(EntryProblem::NotAHost("https://example.com".into())),
            "{text}"
        );
    }
    assert_eq!(Target::parse("https://user@example.com"), None);
}

#[test]
fn rule_6_addresses_match_only_addresses() {
    let ip = r#"http = ["https://10.0.0.1"]"#;
    assert!(admits(ip, "https://10.0.0.1"));
    assert!(admits(ip, "https://[::ffff:10.0.0.1]"));
    assert!(!admits(ip, "https://10.0.0.2"));
    assert!(!admits(
        r#"http = ["https://*.0.0.1x"]"#,
        "https://10.0.0.1"
    ));
}

#[test]
fn rule_7_wildcards_never_lead_into_private_networks() {
    let literal = granted(r#"http = ["https://db.corp.example"]"#).reach(&json!({}));
    let wild = granted(r#"http = ["https://*.corp.example"]"#).reach(&json!({}));
    let asked = target("https://db.corp.example");
    assert!(literal.admits(&asked).expect("granted").private);
    assert!(!wild.admits(&asked).expect("granted").private);
    let any = "http = [\"https://*.corp.example\"]\nprivate_addresses = \"any\"";
    let any = granted(any).reach(&json!({}));
    assert!(any.admits(&asked).expect("granted").private);
    let never = "http = [\"https://db.corp.example\"]\nprivate_addresses = \"never\"";
    assert!(
        !granted(never)
            .reach(&json!({}))
            .admits(&asked)
            .expect("granted")
            .private
    );
}

#[test]
fn rule_8_some_addresses_are_denied_whatever_is_granted() {
    for address in [
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "169.254.1.1",
        "[ff02::1]",
        "[fe80::1]",
        "[2001:db8::1]",
        "[::ffff:224.0.0.1]",
    ] {
        let toml = format!(
            "http = [\"https://{address}\"]\nallow_any_host = true\nloopback = true\n\
             private_addresses = \"any\"\nmetadata = true"
        );
        let reach = granted(&toml).reach(&json!({}));
        let denial = reach.admits(&target(&format!("https://{address}")));
        assert_eq!(denial.expect_err(address).grant(), None, "{address}");
    }
    assert!(!admits(
        r#"http = ["https://127.0.0.1"]"#,
        "https://127.0.0.1"
    ));
    assert!(!admits(
        "allow_any_host = true\nloopback = true",
        "https://127.0.0.1"
    ));
    assert!(admits(
        "http = [\"http://127.0.0.1:5000\"]\nplaintext = true\nloopback = true",
        "http://127.0.0.1:5000"
    ));
    assert!(!admits(
        r#"http = ["https://169.254.169.254"]"#,
        "https://169.254.169.254"
    ));
    assert!(admits("metadata = true", "http://169.254.169.254/latest"));
    assert!(!admits("", "http://[fd00:ec2::254]"));
    assert!(admits("metadata = true", "http://[fd00:ec2::254]"));
}

#[test]
fn rule_9_a_name_reaches_the_loopback_only_as_localhost() {
    let toml = "http = [\"https://rebind.example\", \"https://localhost\"]\nloopback = true";
    let reach = granted(toml).reach(&json!({}));
    let rules = |url| reach.admits(&target(url)).expect("granted");
    assert!(!rules("https://rebind.example").loopback);
    assert!(rules("https://localhost").loopback);
}

#[test]
fn rule_10_a_denial_names_the_grant() {
    let reach = Grants::default().reach(&json!({}));
    let denial = |url| reach.admits(&target(url)).expect_err("nothing is granted");
    let grant = |url| denial(url).grant().expect("it can be granted");
    assert_eq!(
        denial("https://Example.com:8443/x").to_string(),
        "https://example.com:8443 is not granted"
    );
    assert_eq!(
        grant("https://example.com/x"),
        r#"http = ["https://example.com"]"#
    );
    assert_eq!(
        grant("http://127.0.0.1:5000"),
        "http = [\"http://127.0.0.1:5000\"]\nplaintext = true\nloopback = true"
    );
    assert_eq!(grant("http://169.254.169.254"), "metadata = true");
    let wild = granted(r#"http = ["https://*.corp.example"]"#).reach(&json!({}));
    let asked = target("https://db.corp.example");
    let private = wild.refused_address(&asked, "10.0.0.5".parse().expect("an address"));
    assert_eq!(
        private.to_string(),
        "https://db.corp.example leads to 10.0.0.5, a private address"
    );
    assert_eq!(
        private.grant().as_deref(),
        Some(r#"http = ["https://db.corp.example"]"#)
    );
    let rebound = wild.refused_address(&asked, "127.0.0.1".parse().expect("an address"));
    assert_eq!(rebound.grant(), None);
}

#[test]
fn templates_take_one_label_from_the_configuration() {
    let grants = granted(r#"http = ["https://ec2.{region}.amazonaws.com"]"#);
    let asked = target("https://ec2.eu-west-1.amazonaws.com");
    let over = |config| grants.reach(&config).admits(&asked);
    assert!(
        over(json!({"region": "eu-west-1"}))
            .expect("granted")
            .private
    );
    assert!(over(json!({"region": "us-east-1"})).is_err());
    assert!(over(json!({})).is_err());
    let evil = grants.reach(&json!({"region": "x.evil.org/"}));
    assert_eq!(evil, Grants::default().reach(&json!({})));
}

#[test]
fn a_secret_may_be_where_the_environment_says() {
    let grants = granted(
        r#"secret.a = { variable = "A_FILE" }
        secret.b = { config_key = "b_file", variable = "B_FILE", default = "/b" }"#,
    );
    let source =
        |key: Option<&str>, variable: &str, default: Option<&str>| SecretSource::Variable {
            key: key.map(str::to_owned),
            variable: variable.to_owned(),
            default: default.map(PathBuf::from),
        };
    assert_eq!(grants.secrets["a"], source(None, "A_FILE", None));
    assert_eq!(
        grants.secrets["b"],
        source(Some("b_file"), "B_FILE", Some("/b"))
    );
    assert_eq!(
        grants.secrets["a"].to_string(),
        "the path in the variable A_FILE"
    );
    assert_eq!(
        grants.secrets["b"].to_string(),
        "the path in plugin_config.b_file, else the path in the variable B_FILE, else /b"
    );
}

#[test]
fn the_operators_table_extends_the_built_in_one() {
    let ours = built_in("aws").expect("aws ships");
    let lab = granted("http = [\"http://172.28.0.1:5000\"]\nplaintext = true");
    let reach = ours.clone().extended_by(&lab).reach(&json!({}));
    assert!(reach.admits(&target("http://172.28.0.1:5000")).is_ok());
    assert!(
        reach
            .admits(&target("https://ec2.eu-west-1.amazonaws.com"))
            .is_ok()
    );
    assert!(
        reach
            .admits(&target("https://autoscaling.cn-north-1.amazonaws.com.cn"))
            .is_ok()
    );
    assert!(
        reach
            .admits(&target("https://s3.eu-west-1.amazonaws.com"))
            .is_err()
    );
    for origin in [
        "https://sts.us-gov-west-1.amazonaws.com",
        "https://ec2.eu-west-1.api.aws",
        "https://ec2-fips.us-east-1.amazonaws.com",
        "http://169.254.169.254/latest/api/token",
        "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
    ] {
        assert!(reach.admits(&target(origin)).is_ok(), "{origin}");
    }
    let alone = ours.extended_by(&granted("builtin = false"));
    assert!(!alone.give_anything());
    assert_eq!(built_in("hetzner"), None);
}

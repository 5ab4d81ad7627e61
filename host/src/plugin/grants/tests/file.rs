//! `plugins.toml`: what its keys mean, and every problem with its line and column.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::*;

fn problems(text: &str) -> String {
    let problems = GrantsFile::parse(text).expect_err("it is full of them");
    let lines: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn every_problem_is_told_with_its_line_and_column() {
    let told = problems(
        "[aws]\nhttp = [\n  \"example.com\",\n  7,\n]\nplain_text = true\nloopback = 1\n\
         secret.x = { path = \"/x\" }\nmemory = \"8TB\"\nreload = \"never\"\nsha256 = \"abc\"\n\
         env = [\"A=B\"]\nrequire_pins = 1\ncpu = \"1s\"\n\
         [\"aws:latest\"]\n",
    );
    insta::assert_snapshot!(told, @r#"
    line 3, column 3: `example.com` names no scheme: write `https://example.com`
    line 4, column 3: `http` is a list of strings, and this is of type integer
    line 6, column 1: `plain_text` is not known here; is it `plaintext`?
    line 7, column 12: `loopback` is true or false, and this is of type integer
    line 8, column 12: secret `x` is { file = "…" } or { config_key = "…", variable = "…", default = "…" } with at least one of the first two
    line 9, column 10: `memory` is a size from 64KiB to 4GiB, such as "128MiB"
    line 10, column 10: `reload` is one of "pinned", "any"
    line 11, column 10: `sha256` is 64 hexadecimal digits, as `sha256sum` prints them
    line 12, column 8: `A=B` is no name of an environment variable: write only the name
    line 13, column 16: `require_pins` is true or false, and this is of type integer
    line 14, column 1: `cpu` is a limit: write `limits.cpu` for it
    line 15, column 2: a second table for the plugin `aws`: join the two
    "#);
    let syntax = GrantsFile::parse("[aws]\nhttp = [\n").expect_err("it is no TOML");
    assert_eq!(syntax.0.len(), 1);
}

#[test]
fn a_column_counts_characters() {
    let told = problems("[aws]\n\"ключ\" = 1 # one\nlimits = { \"é\" = 1, cpu = 5 }\n");
    insta::assert_snapshot!(told, @r#"
    line 2, column 1: `ключ` is not known here
    line 3, column 12: `é` is not known here
    line 3, column 27: `cpu` is a duration from 10ms to 60s, such as "2s"
    "#);
}

#[test]
fn what_stands_at_the_wrong_place_is_told_the_right_one() {
    insta::assert_snapshot!(problems("http = []\nrequired_pins = true\nrequire_pins = 1\naws = 1\n"), @r#"
    line 1, column 1: `http` stands in a plugin's table: write `[aws]` above it, with the plugin's name
    line 2, column 1: `required_pins` is not known here; is it `require_pins`?
    line 3, column 16: `require_pins` is true or false, and this is of type integer
    line 4, column 1: `aws` is no table: write `[aws]`
    "#);
}

#[test]
fn problems_of_tls_proxy_and_limits_say_what_to_write() {
    let told = problems(
        "[p]\nproxy = \"https://ann:s3cret@proxy\"\n\
         limits = { memory = \"5GiB\", memroy = \"1MiB\", cpu = 2, request_burst = \"many\", idle = \"1h\" }\n\
         [p.tls]\n\"https://a.example\" = { ca = \"/ca.pem\" }\n\"b.example\" = {}\n\
         \"c.example\" = { client_key = \"/key.pem\" }\n\"d.example\" = { insecure_skip_verify = true }\n\
         \"e.example\" = { sha256 = \"abc\", ca = 1, clientcert = \"\" }\n\"f.example\" = true\n\
         \"g.example\" = { ca = \"\" }\n\"a.b\" = { ca = \"/a\" }\n\"A.B.\" = { ca = \"/b\" }\n",
    );
    assert!(!told.contains("s3cret"));
    insta::assert_snapshot!(told, @r#"
    line 2, column 9: `proxy` is "environment" or a proxy's address: only proxies spoken to over http:// are known; write it like `http://proxy.example.com:3128`
    line 3, column 21: `memory` is a size from 64KiB to 4GiB, such as "128MiB"
    line 3, column 29: `memroy` is not known here; is it `memory`?
    line 3, column 52: `cpu` is a duration from 10ms to 60s, such as "2s"
    line 3, column 71: `request_burst` is a whole number from 1 to 10000
    line 3, column 86: `idle` is a duration from 10ms to 600s, such as "30s"
    line 5, column 1: `https://a.example` is no host: write it like "api.example.com" or "api.example.com:8006"
    line 6, column 15: nothing is written for this host: name `ca`, `client_cert` or `sha256`
    line 7, column 15: `client_key` needs `client_cert`, the certificate that it belongs to
    line 8, column 17: `insecure_skip_verify` is not known here, because certificates are always checked: name the signer's with `ca`, or the host's own with `sha256`
    line 9, column 26: `sha256` is 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them
    line 9, column 38: `ca` is a string, and this is of type integer
    line 9, column 41: `clientcert` is not known here; is it `client_cert`?
    line 10, column 15: `f.example` is a table with `ca`, `client_cert`, `client_key`, `sha256`, and this is of type boolean
    line 11, column 22: `ca` names no file
    line 12, column 1: a second table for the host `a.b`: join the two
    "#);
}

#[test]
fn a_limit_is_written_once() {
    assert_eq!(
        granted("memory = \"1MiB\"").limits,
        granted("limits.memory = \"1MiB\"").limits
    );
    let told = problems("[p]\nmemory = \"1MiB\"\nlimits.memory = \"2MiB\"\n");
    insta::assert_snapshot!(told, @r#"
    line 2, column 1: `memory` is written twice, here and in `limits`
    "#);
}

#[test]
fn all_keys_are_read() {
    let digest = "ab".repeat(32);
    let text = format!(
        "require_pins = true\n\
         [fleeting-plugin-p]\nhttp = [\"https://{{region}}.example\"]\nenv = [\"A\", \"B\"]\n\
         secret.one = {{ file = \"/one\" }}\nsecret.two = {{ config_key = \"two\", default = \"~/two\" }}\n\
         plaintext = true\nloopback = true\nmetadata = true\nallow_any_host = true\nprivate_addresses = \"any\"\n\
         tls.\"a.example:8006\" = {{ ca = \"/ca\", client_cert = \"/cert\", client_key = \"/key\", sha256 = \"{digest}\" }}\n\
         proxy = \"environment\"\nlimits = {{ cpu = \"5s\", requests_per_second = 5 }}\nlog_requests = true\n\
         reload = \"any\"\nsha256 = \"{digest}\"\nrequire_pins = false\nbuiltin = false\n"
    );
    let file = GrantsFile::parse(&text).unwrap();
    assert_eq!(file.require_pins, Some(true));
    let secret = |name: &str| (name.to_owned(), SecretSource::File("/one".into()));
    let two = SecretSource::ConfigKey {
        key: "two".into(),
        default: Some("~/two".into()),
    };
    let tls = Tls {
        ca: Some("/ca".into()),
        client: Some(ClientCertificate {
            certificate: "/cert".into(),
            key: "/key".into(),
        }),
        sha256: CertificateDigest::parse(&digest),
    };
    let mut limits = LimitsWritten::default();
    limits.put(Limit::Cpu, 5_000);
    limits.put(Limit::RequestsPerSecond, 5);
    let expected = Grants {
        http: vec![Template::parse("https://{region}.example").unwrap()],
        env: vec!["A".into(), "B".into()],
        secrets: BTreeMap::from([secret("one"), ("two".into(), two)]),
        plaintext: Some(true),
        loopback: Some(true),
        metadata: Some(true),
        allow_any_host: Some(true),
        private_addresses: Some(PrivateAddresses::Any),
        tls: BTreeMap::from([(TlsHost::parse("a.example:8006").unwrap(), tls)]),
        proxy: Some(Proxy::Environment),
        limits,
        log_requests: Some(true),
        reload: Some(Reload::Any),
        sha256: Some(digest),
        require_pins: Some(false),
        builtin: Some(false),
    };
    assert_eq!(file.plugins["p"], expected);
    // Every key is one that a table over another may replace or add to.
    assert_eq!(Grants::default().extended_by(&expected), expected);
}

#[test]
fn a_table_over_another_adds_hosts_and_replaces_single_values() {
    let ours = granted(
        "tls.\"a.example\" = { ca = \"/ours\" }\ntls.\"b.example\" = { ca = \"/ours\" }\n\
         proxy = \"http://ours\"\nlimits = { cpu = \"1s\", memory = \"1MiB\" }\nlog_requests = true",
    );
    let theirs = granted(
        "tls.\"b.example\" = { ca = \"/theirs\" }\nproxy = \"environment\"\nlimits.cpu = \"3s\"\nlog_requests = false",
    );
    let both = ours.clone().extended_by(&theirs);
    let ca = |host: &str| both.tls[&TlsHost::parse(host).unwrap()].ca.clone().unwrap();
    assert_eq!(ca("a.example").to_str(), Some("/ours"));
    assert_eq!(ca("b.example").to_str(), Some("/theirs"));
    assert_eq!(both.proxy, Some(Proxy::Environment));
    assert_eq!(both.log_requests, Some(false));
    let limits = both.limits.over(Limits::default());
    assert_eq!(
        (limits.cpu, limits.memory),
        (Duration::from_secs(3), 1 << 20)
    );
}

#[test]
fn a_proxy_is_a_hazard_that_is_said_and_shows_no_credentials() {
    let grants = granted("proxy = \"http://ann:s3cret@proxy:3128\"");
    assert_eq!(
        grants.hazards(),
        ["a proxy resolves names, so the addresses they lead to are not judged"]
    );
    assert!(!format!("{grants:?}").contains("s3cret"));
}

//! The promise that a denial names the grant that admits what was denied, whatever a guest asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// A host as a guest may write it: in any case and alphabet, with the marks that mean something in a grant or in TOML.
fn any_host() -> impl Strategy<Value = String> {
    let v4 = any::<Ipv4Addr>;
    prop_oneof![
        "[a-zA-Z0-9-]{1,8}(\\.[a-zA-Z]{1,6}){0,3}\\.?",
        "[a-zA-Z0-9_*{}\"'$~!,;&=+ü中-]{1,10}(\\.[a-z*{}\"]{1,6}){0,3}",
        "(bücher|ＡＢＣ|xn--bcher-kva|xn--|☃|ß|ı)\\.(example|中国|рф)\\.?",
        "(localhost|LOCALHOST)\\.?",
        "(0x)?[0-9a-fA-F]{1,8}(\\.(0x)?[0-9]{1,3}){0,3}",
        v4().prop_map(|ip| ip.to_string()),
        v4().prop_map(|ip| format!("[::ffff:{ip}]")),
        v4().prop_map(|ip| {
            let [a, b, c, d] = ip.octets();
            format!("[64:ff9b::{a:x}{b:02x}:{c:x}{d:02x}]")
        }),
        any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        prop::sample::select(vec![
            "127.0.0.1",
            "[::1]",
            "10.0.0.1",
            "192.168.1.1",
            "[fd00::1]",
            "169.254.169.254",
            "169.254.170.2",
            "[fd00:ec2::254]",
            "169.254.1.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_url() -> impl Strategy<Value = String> {
    let scheme = "(https|http|HTTPS|Http)";
    let port = prop_oneof![
        Just(String::new()),
        (0..=u16::MAX).prop_map(|port| format!(":{port}")),
        Just(":443".to_owned()),
        Just(":80".to_owned()),
    ];
    let path = "(/[a-z*\"]{0,4}(\\?q=\"x\")?)?";
    (scheme, any_host(), port, path)
        .prop_map(|(scheme, host, port, path)| format!("{scheme}://{host}{port}{path}"))
}

fn any_base() -> impl Strategy<Value = String> {
    let http = prop_oneof![
        Just(""),
        Just("http = [\"https://*.example\", \"http://*.example\"]"),
        Just("http = [\"https://localhost\", \"http://10.0.0.1\", \"https://127.0.0.1:*\"]"),
        Just("allow_any_host = true"),
    ];
    let flags = prop::sample::subsequence(
        vec![
            "plaintext = true",
            "loopback = true",
            "metadata = false",
            "private_addresses = \"never\"",
            "proxy = \"http://proxy:3128\"",
        ],
        0..=5,
    );
    (http, flags).prop_map(|(http, flags)| format!("{http}\n{}", flags.join("\n")))
}

/// All that an operator can open for one target.
fn everything(target: &Target) -> Reach {
    let toml = format!(
        "http = [\"{target}\"]\nplaintext = true\nloopback = true\nmetadata = true\nprivate_addresses = \"any\""
    );
    granted(&toml).reach(&json!({}))
}

fn with_suggestion(base: &Grants, suggested: &str) -> Reach {
    let added = GrantsFile::parse(&format!("[p]\n{suggested}\n"));
    let added = added.unwrap_or_else(|problems| panic!("{suggested:?} does not parse: {problems}"));
    let after = base.clone().extended_by(&added.plugins["p"]);
    after.reach(&json!({}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_entry_reads_as_it_is_shown(url in any_url()) {
        if let Some(target) = Target::parse(&url) {
            let entry = target.entry();
            prop_assert_eq!(Entry::parse(&entry.to_string()), Ok(entry.clone()));
            prop_assert!(entry.admits(&target));
            prop_assert!(entry.is_literal(), "{} would open more than was asked for", entry);
            prop_assert_eq!(Target::parse(&target.to_string()), Some(target));
        }
    }

    #[test]
    fn rule_10_the_suggested_line_parses_and_admits_what_was_denied(url in any_url(), base in any_base()) {
        let Some(target) = Target::parse(&url) else {
            return Ok(());
        };
        let base = granted(&base);
        let Err(denial) = base.reach(&json!({})).admits(&target) else {
            return Ok(());
        };
        match denial.grant() {
            Some(suggested) => {
                let after = with_suggestion(&base, &suggested);
                prop_assert!(after.admits(&target).is_ok(), "{} does not admit {}", suggested, target);
            }
            None => prop_assert!(everything(&target).admits(&target).is_err(), "{} could be granted", target),
        }
    }

    /// The second layer's denials: the name is granted and leads to an address that is not.
    #[test]
    fn rule_10_the_suggested_line_admits_the_address_that_was_refused(
        url in any_url(),
        base in any_base(),
        address in prop_oneof![
            any::<Ipv4Addr>().prop_map(IpAddr::from),
            any::<Ipv6Addr>().prop_map(IpAddr::from),
            Just(IpAddr::from([10, 0, 0, 1])),
            Just(IpAddr::from([127, 0, 0, 1])),
            Just(IpAddr::from([169, 254, 169, 254])),
            Just(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ],
    ) {
        let Some(target) = Target::parse(&url).filter(|t| matches!(t.name, Name::Dns(_))) else {
            return Ok(());
        };
        let base = granted(&base);
        let reach = base.reach(&json!({}));
        let Ok(rules) = reach.admits(&target) else {
            return Ok(());
        };
        if rules.refuse(address).is_none() {
            return Ok(());
        }
        let denial = reach.refused_address(&target, address);
        match denial.grant() {
            Some(suggested) => {
                let rules = with_suggestion(&base, &suggested).admits(&target);
                let rules = rules.unwrap_or_else(|denial| panic!("{suggested} takes the name away: {denial}"));
                prop_assert!(rules.refuse(address).is_none(), "{} does not admit {} at {}", suggested, target, address);
            }
            None => {
                let rules = everything(&target).admits(&target).expect("everything is granted");
                prop_assert!(rules.refuse(address).is_some(), "{} at {} could be granted", target, address);
            }
        }
    }
}

//! Composition and expansion, by tables.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use crate::coordinator::server_files::{ClientFiles, ServerFiles};
use crate::job::plan;
use crate::job::tests::work;

#[test]
fn values_are_expanded_once_against_unexpanded_ones() {
    let variables = json!([
        { "key": "C", "value": "c" },
        { "key": "B", "value": "$C" },
        { "key": "A", "value": "[$B]" },
        { "key": "RAW", "value": "$C", "raw": true },
        { "key": "FILE", "value": "content of $C", "file": true },
        { "key": "PATH_OF", "value": "at ${FILE}" },
        { "key": "TWICE", "value": "first" },
        { "key": "TWICE", "value": "last" },
        { "key": "SECRET", "value": "s3cret-$C", "masked": true },
    ]);
    let services = json!([
        { "name": "db", "variables": [
            { "key": "PASSWORD", "value": "of-$C", "masked": true },
            { "key": "RAW", "value": "raw-$C", "masked": true, "raw": true },
            { "key": "PORT", "value": "5432" },
        ] },
        { "name": "cache", "variables": [{ "key": "SECRET", "value": "another", "masked": true }] },
    ]);
    let parts = json!({ "variables": variables, "services": services });
    let work = work(&parts);
    let prepared = plan::prepare(&work).unwrap();
    let variables = prepared.variables;
    let tmp = "/builds/group/project.tmp";
    let cases = [
        ("A", "[$C]".to_owned()),
        ("B", "c".into()),
        ("RAW", "$C".into()),
        ("FILE", format!("{tmp}/FILE")),
        ("PATH_OF", format!("at {tmp}/FILE")),
        ("TWICE", "last".into()),
        ("OPERATOR", "yes".into()),
        ("CI_PROJECT_DIR", "/builds/group/project".into()),
        ("CI_CONCURRENT_ID", "4".into()),
        ("CI_JOB_TIMEOUT", "3600".into()),
        ("CI_DISPOSABLE_ENVIRONMENT", "true".into()),
    ];
    for (key, expected) in cases {
        assert_eq!(
            variables.get(key).as_deref(),
            Some(expected.as_str()),
            "{key}"
        );
    }
    let texts = [
        ("$$ ${C} $C. $? ${} ${unclosed", "$ c c.   unclosed"),
        ("50$ and $/x", "50$ and $/x"),
        ("$UNKNOWN|${UNKNOWN}", "|"),
    ];
    for (text, expected) in texts {
        assert_eq!(variables.expand(text), expected, "{text}");
    }
    let of_job = ["job-token", "s3cret-c", "s3cret-$C"];
    assert_eq!(variables.masked(&[]), of_job);
    let of_services = ["of-c", "of-$C", "raw-$C", "another"];
    assert_eq!(
        variables.masked(&work.payload.services),
        [&of_job[..], &of_services].concat()
    );
    let file = variables
        .all()
        .into_iter()
        .find(|v| v.key == "FILE")
        .unwrap();
    assert_eq!(file.value, "content of c");
    assert_eq!(
        variables
            .environment()
            .iter()
            .filter(|(key, _)| key == "TWICE")
            .count(),
        1
    );
}

#[test]
fn files_for_gitlabs_tls_are_the_jobs_and_the_key_is_nobody_elses() {
    let key =
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqG\n-----END PRIVATE KEY-----\n";
    let mut work = work(&json!({}));
    let nothing = plan::prepare(&work).unwrap().variables;
    assert_eq!(nothing.get("CI_SERVER_TLS_CA_FILE"), None);
    work.server_files = Arc::new(ServerFiles {
        authority: Some("chain of $HOME".to_owned()),
        client: Some(ClientFiles {
            certificate: "certificate".to_owned(),
            key: key.to_owned().into(),
        }),
    });
    let variables = plan::prepare(&work).unwrap().variables;
    for (name, content) in [
        ("CI_SERVER_TLS_CA_FILE", "chain of $HOME"),
        ("CI_SERVER_TLS_CERT_FILE", "certificate"),
        ("CI_SERVER_TLS_KEY_FILE", key),
    ] {
        let path = format!("{}/{name}", variables.tmp_dir());
        assert_eq!(variables.get(name), Some(path));
        assert_eq!(variables.content(name).as_deref(), Some(content));
    }
    let public = variables.for_service(&[]);
    let is_public = |name| public.iter().any(|(key, _)| key == name);
    assert!(is_public("CI_SERVER_TLS_CERT_FILE") && !is_public("CI_SERVER_TLS_KEY_FILE"));
    assert!(variables.masked(&[]).contains(&key.to_owned()));
    assert_eq!(
        work.server_files.secret_lines(),
        ["MIGHAgEAMBMGByqGSM49AgEGCCqG"]
    );
}

proptest! {
    #[test]
    fn any_text_expands_without_panicking(text in ".{0,60}") {
        let _ = super::expand(&text, |name| name.to_owned());
    }

    #[test]
    fn text_without_a_dollar_is_left_alone(text in "[^$]{0,60}") {
        prop_assert_eq!(super::expand(&text, |_| unreachable!()), text);
    }
}

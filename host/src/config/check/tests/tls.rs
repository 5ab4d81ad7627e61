//! The files of GitLab's TLS: found, read, and refused without a word of what they hold.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A certificate in PEM, and its key.
fn made() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["gitlab.com".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn with_files(more: &str, there: &[(&str, io::Result<&str>)]) -> Loaded {
    let files: BTreeMap<&Path, &io::Result<&str>> = there
        .iter()
        .map(|(file, held)| (Path::new(*file), held))
        .collect();
    let read = |file: &Path| match files.get(file) {
        Some(Ok(text)) => Ok((*text).to_owned()),
        Some(Err(problem)) => Err(problem.kind().into()),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    check(Path::new("/etc/f/config.toml"), &entry(more), &env, &read).unwrap()
}

fn said(loaded: &Loaded) -> Vec<String> {
    let problems = loaded.problems.iter();
    problems
        .map(|problem| format!("{}: {}", problem.key, problem.text))
        .collect()
}

#[test]
fn what_no_key_names_is_looked_for_by_gitlabs_host() {
    let (certificate, key) = made();
    let loaded = with_files(
        "",
        &[
            ("/etc/f/certs/gitlab.com.crt", Ok(&certificate)),
            ("/etc/f/certs/gitlab.com.auth.crt", Ok(&certificate)),
            ("/etc/f/certs/gitlab.com.auth.key", Ok(&key)),
        ],
    );
    assert_eq!(said(&loaded), [""; 0]);
    let tls = &loaded.config.runners[0].server_tls;
    let authority = tls.authority.as_ref().unwrap();
    assert_eq!(
        (&authority.pem, authority.certificates.len()),
        (&certificate, 1)
    );
    let client = tls.client.as_ref().unwrap();
    assert_eq!(client.key.expose_secret(), key);
    assert!(!format!("{tls:?}").contains(key.lines().nth(1).unwrap()));
    assert_eq!(loaded.files.len(), 3);

    let loaded = with_files("", &[]);
    assert_eq!(said(&loaded), [""; 0]);
    let tls = &loaded.config.runners[0].server_tls;
    assert!(tls.authority.is_none() && tls.client.is_none());
    // They may come.
    assert_eq!(loaded.files[0], Path::new("/etc/f/certs/gitlab.com.crt"));
}

#[test]
fn what_a_key_names_wins_and_is_watched() {
    let (certificate, _) = made();
    let loaded = with_files(
        "tls-ca-file = \"/ca.pem\"",
        &[
            ("/etc/f/certs/gitlab.com.crt", Ok("not looked at")),
            ("/ca.pem", Ok(&certificate)),
        ],
    );
    assert_eq!(said(&loaded), [""; 0]);
    let authority = loaded.config.runners[0].server_tls.authority.clone();
    assert_eq!(authority.unwrap().file, Path::new("/ca.pem"));
    assert!(loaded.files.contains(&"/ca.pem".into()));
}

#[test]
fn a_file_of_no_use_is_named_with_its_key_and_never_quoted() {
    let ((certificate, key), (_, other_key)) = (made(), made());
    let all = "tls-ca-file = \"/ca\"\ntls-cert-file = \"/cert\"\ntls-key-file = \"/key\"";
    let denied = || Err(io::ErrorKind::PermissionDenied.into());
    type Read<'a> = io::Result<&'a str>;
    let table: [(&str, Read<'_>, Read<'_>, Read<'_>, &str); 7] = [
        (
            "an authority of no use",
            Ok("hunter2"),
            Ok(&certificate),
            Ok(&key),
            "tls-ca-file: /ca holds no certificate in PEM; put it there as PEM",
        ),
        (
            "binary",
            Err(io::ErrorKind::InvalidData.into()),
            Ok(&certificate),
            Ok(&key),
            "tls-ca-file: /ca holds no certificate in PEM; put it there as PEM",
        ),
        (
            "unreadable",
            denied(),
            Ok(&certificate),
            Ok(&key),
            "tls-ca-file: /ca cannot be read: permission denied; make it readable for the manager's user",
        ),
        (
            "no certificate",
            Ok(&certificate),
            Ok(&key),
            Ok(&key),
            "tls-cert-file: /cert holds no certificate in PEM; put it there as PEM",
        ),
        (
            "no key",
            Ok(&certificate),
            Ok(&certificate),
            Ok("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"),
            "tls-key-file: /key holds no private key in PEM that can be used; put it there as PEM, not encrypted",
        ),
        (
            "another's key",
            Ok(&certificate),
            Ok(&certificate),
            Ok(&other_key),
            "tls-key-file: /key is not the key of the certificate in /cert; name the two that belong together",
        ),
        (
            "unreadable key",
            Ok(&certificate),
            Ok(&certificate),
            denied(),
            "tls-key-file: /key cannot be read: permission denied; make it readable for the manager's user",
        ),
    ];
    for (name, ca, cert, key, expected) in table {
        let loaded = with_files(all, &[("/ca", ca), ("/cert", cert), ("/key", key)]);
        assert!(loaded.config.runners.is_empty(), "{name}");
        let said = said(&loaded);
        assert!(said.contains(&expected.to_owned()), "{name}: {said:#?}");
        assert!(!said.concat().contains("hunter2"), "{said:#?}");
    }
}

#[test]
fn a_file_that_is_not_there_and_half_a_pair_are_told_and_the_entry_works() {
    let (certificate, key) = made();
    for (more, there, expected) in [
        (
            "tls-ca-file = \"/ca\"",
            None,
            "tls-ca-file: /ca is not there and the entry runs without it; put the file there, or remove the key",
        ),
        (
            "tls-cert-file = \"/cert\"",
            Some(("/cert", &certificate)),
            "tls-cert-file: has no effect without tls-key-file; name both, or neither",
        ),
        (
            "tls-key-file = \"/key\"",
            Some(("/key", &key)),
            "tls-key-file: has no effect without tls-cert-file; name both, or neither",
        ),
        (
            "tls-cert-file = \"/cert\"\ntls-key-file = \"/key\"",
            Some(("/cert", &certificate)),
            "tls-key-file: /key is not there and the entry runs without it; put the file there, or remove the key",
        ),
    ] {
        let there: Vec<_> = there
            .iter()
            .map(|(file, text)| (*file, Ok(text.as_str())))
            .collect();
        let loaded = with_files(more, &there);
        assert_eq!(said(&loaded), [expected]);
        assert_eq!(loaded.config.runners.len(), 1);
    }
}

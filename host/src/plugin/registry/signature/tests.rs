//! Keys and signatures that openssl made, and what must not pass.

use super::*;

/// `openssl ecparam -name prime256v1 -genkey`, `openssl pkey -pubout`.
const ECDSA: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJBkiHm76aKpEgRN4rP/5n1l/MJiX
S526Z0TgX2zVlcwH/9cGiZPR+QCs05iqg8zH5Dng7B0oqGyuvI1UCj2zdQ==
-----END PUBLIC KEY-----
";
/// `openssl genpkey -algorithm ed25519`.
const ED25519_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAdqsSDEO9Rdb12d6ALLqC63I8fqA3VGupcMrp0O9tYfk=
-----END PUBLIC KEY-----
";
const MESSAGE: &[u8] = b"a plugin";
/// `openssl dgst -sha256 -sign`.
const ECDSA_SIGNATURE: &str = "MEUCIA5KqHH+DWWroKwUk3NJ4AAh+pJnL4LY0us3kaS95ItuAiEAy4yI4lSURnmP0pCi//CjjPmKW517A27gPw8lj/6Epjw=";
/// `openssl pkeyutl -sign -rawin`.
const ED25519_SIGNATURE: &str =
    "kOLUYUm5D7X/hOmiiGurLG009z36KfYBDc0CbD/0sRwp7aGa/1CvCvIAey1tuGCqEFhKe+jhOSPq6rxMsNwjDA==";
const PAYLOAD_SIGNATURE: &str = "MEYCIQCVX4glLb9NG0z2XYS/YQzYNnz6obY3JTcfHVB82o/m2wIhAPrwdyZ1Di6kxOfX2oM6Fpe6yPMFJqjxB8ALgs6YVNYY";

fn key(pem: &str) -> PublicKey {
    let Ok(key) = PublicKey::parse("public.pem", pem) else {
        panic!("no key: {pem}");
    };
    key
}

fn refused(pem: &str) -> String {
    match PublicKey::parse("public.pem", pem) {
        Ok(_) => panic!("it is taken: {pem}"),
        Err(problem) => problem.to_string(),
    }
}

#[test]
fn what_openssl_signed_is_signed_and_nothing_else() {
    for (pem, signature) in [(ECDSA, ECDSA_SIGNATURE), (ED25519_KEY, ED25519_SIGNATURE)] {
        let key = key(pem);
        assert!(key.signed(MESSAGE, signature.as_bytes()), "base64");
        assert!(key.signed(MESSAGE, format!("{signature}\n").as_bytes()));
        let bytes = STANDARD.decode(signature).expect("it is base64");
        assert!(key.signed(MESSAGE, &bytes), "bytes");
        let hint = r#""verificationMaterial":{"publicKey":{"hint":"x"},"tlogEntries":[]}"#;
        let new = r#""messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"x"},"signature":"#;
        for bundle in [
            format!(r#"{{{hint},{new}"{signature}"}}}}"#),
            format!(r#"{{"base64Signature":"{signature}","cert":""}}"#),
        ] {
            assert!(key.signed(MESSAGE, bundle.as_bytes()), "{bundle}");
            assert!(
                !key.signed(b"another plugin", bundle.as_bytes()),
                "{bundle}"
            );
        }
        assert!(!key.signed(MESSAGE, b"{}"));
        assert!(!key.signed(b"another plugin", signature.as_bytes()));
        assert!(!key.signed(MESSAGE, b""));
        assert!(!key.signed(MESSAGE, b"not base64!"));
        for position in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[position] ^= 1;
            assert!(!key.signed(MESSAGE, &forged), "byte {position}");
        }
    }
    assert!(!key(ECDSA).signed(MESSAGE, ED25519_SIGNATURE.as_bytes()));
    assert!(!key(ED25519_KEY).signed(MESSAGE, ECDSA_SIGNATURE.as_bytes()));
}

#[test]
fn a_payload_vouches_for_the_digest_it_names_only() {
    let payload = |digest: &str, kind: &str| {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"r.example/team/aws"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":null}}"#
        )
    };
    let digest = crate::plugin::registry::sha256(b"a manifest");
    let key = key(ECDSA);
    let good = payload(&digest, KIND);
    assert!(key.vouches(good.as_bytes(), PAYLOAD_SIGNATURE, &digest));
    let other = crate::plugin::registry::sha256(b"another manifest");
    // Signed, and of another manifest.
    assert!(!key.vouches(good.as_bytes(), PAYLOAD_SIGNATURE, &other));
    // Of this manifest, and not signed.
    let forged = payload(&other, KIND);
    assert!(!key.vouches(forged.as_bytes(), PAYLOAD_SIGNATURE, &other));
    let other_kind = payload(&digest, "something else");
    assert!(!key.vouches(other_kind.as_bytes(), PAYLOAD_SIGNATURE, &digest));
    assert!(!key.vouches(b"no JSON", PAYLOAD_SIGNATURE, &digest));
}

#[test]
fn a_key_of_no_use_is_told() {
    let p384 = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEx4p3NIOtqD6zv+VuWbDsxe503nFUi5Pb
u29voTtl/CKV9Rw44Vm0ZgpLX/et4wRfNM4xSgh+xJqi6fkjgQCIqILHiI1X6f7r
zJsTGRHiRrDe4orSsJ3/TXusmqzR+8YX
-----END PUBLIC KEY-----
";
    insta::assert_snapshot!(refused(p384), @"public.pem is no public key of a known kind; next: name a PEM file with an ECDSA P-256 or Ed25519 key, as `cosign generate-key-pair` and `openssl pkey -pubout` write them");
    for pem in [
        "",
        "no PEM",
        &ECDSA.replace("MFkw", "MFkx"),
        &ECDSA.replace("zdQ==", ""),
    ] {
        assert!(
            refused(pem).contains("is no public key of a known kind"),
            "{pem}"
        );
    }
    let private = "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n";
    insta::assert_snapshot!(refused(private), @"public.pem is a private key; next: name the public one (`openssl pkey -in public.pem -pubout`), and keep this one to yourself");
    let missing = PublicKey::read(Path::new("/nowhere/public.pem"));
    let missing = missing.map(|_| ()).map_err(|problem| problem.to_string());
    assert!(missing.is_err_and(|problem| problem.contains("--key")));
}

#[test]
fn signatures_lie_under_the_manifest_s_digest() {
    assert_eq!(tag("sha256:0abc"), "sha256-0abc.sig");
}

//! Signatures as cosign's versions lay them beside a manifest, of the right key and manifest and of others.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::plugin::registry::client::Access;
use crate::plugin::registry::fake::{Guard, PASSWORD, Registry, password};
use crate::plugin::registry::pull::resolve;

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Self(key.expect("there is randomness"))
    }

    fn public(&self, dir: &std::path::Path) -> PublicKey {
        // The head of every P-256 key, then its point.
        let mut der = STANDARD
            .decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=")
            .expect("it is base64");
        der.extend_from_slice(self.0.public_key().as_ref());
        let pem = STANDARD.encode(&der);
        let file = dir.join("public.pem");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
        std::fs::write(&file, pem).expect("it is writable");
        let Ok(key) = PublicKey::read(&file) else {
            panic!("it is a key");
        };
        key
    }

    /// Lays a signature of `signed` beside the manifest `digest`, as cosign did before its version 3.
    fn sign(&self, registry: &Registry, signed: &str, digest: &str) {
        let payload = json!({"critical": {
            "identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": signed},
            "type": "cosign container image signature",
        }, "optional": null});
        let payload = payload.to_string().into_bytes();
        let signature = self.signature(&payload);
        let layer = json!({
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": registry.blob(&payload), "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        });
        registry.manifest(
            &tag(digest),
            &json!({"schemaVersion": 2, "layers": [layer]}),
        );
    }

    fn signature(&self, message: &[u8]) -> String {
        let signature = self.0.sign(&SystemRandom::new(), message);
        STANDARD.encode(signature.expect("it signs"))
    }

    /// Refers to the manifest `digest` with a bundle around a statement about `signed`, as cosign 3 does.
    fn refer(&self, registry: &Registry, signed: &str, predicate: &str, digest: &str) {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
            "subject": [{"digest": {"sha256": signed.trim_start_matches("sha256:")}, "annotations": {}}],
        });
        let statement = statement.to_string();
        let signed = format!(
            "DSSEv1 28 application/vnd.in-toto+json {} {statement}",
            statement.len()
        );
        let bundle = json!({
            "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "of-the-key"}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&statement), "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": self.signature(signed.as_bytes()), "keyid": ""}],
            },
        });
        let bundle = bundle.to_string().into_bytes();
        let layer =
            json!({"mediaType": BUNDLE, "digest": registry.blob(&bundle), "size": bundle.len()});
        registry.refer(digest, &json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": BUNDLE, "layers": [layer],
            "annotations": {"dev.sigstore.bundle.content": "dsse-envelope"},
            "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1},
        }));
    }
}

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

#[tokio::test]
async fn a_signature_counts_if_it_is_of_this_key_and_of_this_manifest() {
    let dir = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(Guard::Nobody).await;
    let digest = registry.plugin("1.0.0", b"wasm");
    let other = registry.plugin("1.1.0", b"other");
    let (publisher, stranger) = (Signer::new(), Signer::new());
    let key = publisher.public(dir.path());
    let client = registry.client(":1.0.0", None, Access::Read);
    let pinned = resolve(&client).await.expect("it is there");
    let checked = async || {
        let checked = check(&client, &pinned, &key).await;
        let told = checked.map_err(|problem| problem.to_string());
        told.map_err(|told| {
            told.replace(&registry.address, "REGISTRY")
                .replace(&digest, "DIGEST")
        })
    };
    insta::assert_snapshot!(checked().await.expect_err("it is not signed"), @"REGISTRY/team/aws:1.0.0 (DIGEST) has no signature in the registry; next: ask its publisher to sign it (`cosign sign --key`), or check a downloaded file with `fleetling plugin verify FILE --signature FILE`");
    stranger.sign(&registry, &digest, &digest);
    insta::assert_snapshot!(checked().await.expect_err("it is a stranger's"), @"REGISTRY/team/aws:1.0.0 (DIGEST) is signed, but not by this key (1 signatures); next: check that the key is its publisher's; do not install it else");
    publisher.sign(&registry, &other, &digest);
    assert!(
        checked().await.is_err(),
        "the signature of another manifest was taken"
    );
    publisher.sign(&registry, &digest, &digest);
    assert_eq!(checked().await, Ok(()));
}

#[tokio::test]
async fn a_bundle_that_refers_to_the_manifest_counts_whether_the_registry_lists_it_or_not() {
    let dir = tempfile::tempdir().expect("a directory");
    for lists in [true, false] {
        let registry = Registry::start(Guard::Bearer).await;
        if lists {
            registry.list_referrers();
        }
        let digest = registry.plugin("1.0.0", b"wasm");
        let other = registry.plugin("1.1.0", b"other");
        let (publisher, stranger) = (Signer::new(), Signer::new());
        let key = publisher.public(dir.path());
        let client = registry.client(":1.0.0", password(PASSWORD), Access::Read);
        let pinned = resolve(&client).await.expect("it is there");
        let checked = async || check(&client, &pinned, &key).await;
        // A list of what is inside, signed by the publisher, says nothing of whether it may be run.
        publisher.refer(&registry, &digest, "https://spdx.dev/Document", &digest);
        assert!(
            matches!(checked().await, Err(SignatureProblem::Unsigned { .. })),
            "{lists}"
        );
        stranger.refer(&registry, &digest, SIGNATURE, &digest);
        publisher.refer(&registry, &other, SIGNATURE, &digest);
        assert!(
            matches!(
                checked().await,
                Err(SignatureProblem::OtherKey { count: 2, .. })
            ),
            "{lists}"
        );
        publisher.refer(&registry, &digest, SIGNATURE, &digest);
        assert_eq!(checked().await, Ok(()), "{lists}");
    }
}

//! From references to plugins, and whose they are.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::plugin::outline::Outline;
use crate::plugin::registry::artifact::{Label, Package};
use crate::plugin::registry::client::Access;
use crate::plugin::registry::fake::{Guard, PASSWORD, Registry, password};
use crate::plugin::registry::push::push;
use crate::plugin::registry::sha256;

async fn pulled(registry: &Registry, constraint: &str) -> Result<Pulled, RegistryProblem> {
    let client = registry.client(constraint, None, Access::Read);
    let pinned = resolve(&client).await?;
    pull(&client, &pinned).await
}

#[tokio::test]
async fn the_newest_tag_that_fits_is_pulled_else_the_tag_of_that_name() {
    let registry = Registry::start(Guard::Nobody).await;
    for tag in ["1.4.0", "v1.5.0", "2.0.0-rc.1", "3", "nightly"] {
        registry.plugin(tag, tag.as_bytes());
    }
    let digest = registry.plugin("1.5.2", b"1.5.2");
    let by_digest = format!("@{digest}");
    for (constraint, bytes, version) in [
        ("", "1.5.2", Some("1.5.2")),
        (":1", "1.5.2", Some("1.5.2")),
        (":1.4", "1.4.0", Some("1.4.0")),
        (":1.5.0", "v1.5.0", Some("1.5.0")),
        (":2.0.0-rc.1", "2.0.0-rc.1", Some("2.0.0-rc.1")),
        (":3", "3", None),
        (":nightly", "nightly", None),
        (&by_digest, "1.5.2", None),
    ] {
        let pulled = pulled(&registry, constraint).await.expect(constraint);
        assert_eq!(pulled.bytes, bytes.as_bytes(), "{constraint}");
        assert_eq!(pulled.version.as_deref(), version, "{constraint}");
    }
    let missing = pulled(&registry, ":4").await.expect_err("there is none");
    let missing = missing.to_string().replace(&registry.address, "REGISTRY");
    assert_eq!(
        missing,
        "REGISTRY/team/aws:4 is not there; next: check its name and tag"
    );
}

#[tokio::test]
async fn an_index_leads_to_its_one_manifest_and_native_programs_are_refused() {
    let registry = Registry::start(Guard::Nobody).await;
    let inner = registry.plugin("inner", b"wasm");
    let entry = |architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": inner, "size": 1,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let version = json!({"org.opencontainers.image.version": "1.7.0"});
    registry.manifest(
        "latest",
        &json!({"manifests": [entry("wasm"), entry("amd64")], "annotations": version}),
    );
    let found = pulled(&registry, "").await.expect("it is there");
    assert_eq!(
        (&found.bytes[..], found.version.as_deref()),
        (&b"wasm"[..], Some("1.7.0"))
    );
    registry.manifest(
        "latest",
        &json!({"manifests": [entry("arm64"), entry("amd64")]}),
    );
    let native = pulled(&registry, "")
        .await
        .expect_err("it is native")
        .to_string();
    assert!(
        native.contains("it holds native programs (linux/arm64, linux/amd64)"),
        "{native}"
    );
}

#[tokio::test]
async fn what_is_pushed_is_pulled_and_sent_once() {
    let registry = Registry::start(Guard::Bearer).await;
    let outline = Outline::default();
    let package = Package::of(
        b"wasm",
        Label {
            title: "aws",
            version: "1.5.1",
            author: None,
            created: "2026-11-28T09:00:00Z".to_owned(),
            outline: &outline,
        },
    );
    let writer = registry.client("", password(PASSWORD), Access::Write);
    for _ in 0..2 {
        let digest = push(&writer, b"wasm".to_vec(), package.clone(), "1.5.1").await;
        assert_eq!(digest, Ok(sha256(&package.manifest)));
    }
    assert_eq!(
        registry.asked("PUT /v2/team/aws/blobs/"),
        2,
        "layer and config, once each"
    );
    let reader = registry.client(":1", password(PASSWORD), Access::Read);
    let pinned = resolve(&reader).await.expect("it is there");
    assert_eq!(pinned.digest, sha256(&package.manifest));
    let pulled = pull(&reader, &pinned).await.expect("it is there");
    assert_eq!(pulled.bytes, b"wasm");
}

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

    /// Lays a signature of `signed` beside the manifest `digest`.
    fn sign(&self, registry: &Registry, signed: &str, digest: &str) {
        let payload = json!({"critical": {
            "identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": signed},
            "type": "cosign container image signature",
        }, "optional": null});
        let payload = payload.to_string().into_bytes();
        let signature = self.0.sign(&SystemRandom::new(), &payload);
        let signature = STANDARD.encode(signature.expect("it signs"));
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
}

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

//! From references to plugins.

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

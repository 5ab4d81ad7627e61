//! The layout of a WebAssembly component in an OCI registry: which layer of a manifest is the plugin, and what is
//! written around one that is pushed. Pure.
//!
//! The layout is the CNCF's guidance for wasm artifacts: a config `application/vnd.wasm.config.v0+json` and one layer
//! `application/wasm`. Pushed so; read also where a tool knows the layer only.

use crate::plugin::sighting::MOST_BYTES;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{printable, sha256};
use crate::plugin::outline::Outline;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const LAYER: &str = "application/wasm";
/// What tools wrote before the guidance.
const OLD_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const VERSION: &str = "org.opencontainers.image.version";
const TITLE: &str = "org.opencontainers.image.title";

/// Bytes of a layer that are read at most.
pub const LAYER_BYTES: u64 = MOST_BYTES;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    /// Of what it describes, where a list tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

/// An image manifest or an index, whichever came.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Manifest {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Why a manifest is no plugin's; a fragment for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoArtifact {
    #[error("its manifest cannot be read: {0}")]
    Unreadable(String),
    #[error(
        "it holds native programs ({0}), and a `.wasm` is needed; next: ask its publisher for the WebAssembly release"
    )]
    Native(String),
    #[error(
        "it has {wasm} layers of type application/wasm and {other} others, and one is needed; next: push it with \
         `fleetling plugin push`, `wkg oci push` or `oras push … plugin.wasm:application/wasm`"
    )]
    Layers { wasm: usize, other: usize },
    #[error("its plugin has {0} bytes, more than {LAYER_BYTES}")]
    TooLarge(u64),
    #[error("it names `{0}`, which is no SHA-256 digest")]
    Digest(String),
}

impl Manifest {
    pub fn parse(bytes: &[u8]) -> Result<Self, NoArtifact> {
        let parsed = serde_json::from_slice(bytes);
        parsed.map_err(|problem| NoArtifact::Unreadable(printable(&problem.to_string())))
    }

    /// The one manifest of an index that can be a plugin's; `None` if this is no index.
    pub fn only(&self) -> Result<Option<&Descriptor>, NoArtifact> {
        if self.manifests.is_empty() {
            return Ok(None);
        }
        let of = |manifest: &Descriptor| match &manifest.platform {
            Some(platform) => (platform.architecture.clone(), platform.os.clone()),
            None => ("wasm".to_owned(), String::new()),
        };
        let is_wasm = |manifest: &&Descriptor| of(manifest).0 == "wasm";
        let mut wasm = self.manifests.iter().filter(is_wasm);
        match (wasm.next(), wasm.next(), &self.manifests[..]) {
            (Some(manifest), None, _) | (None, None, [manifest]) => digest(manifest).map(Some),
            _ => {
                let platforms = self.manifests.iter().map(of);
                let platforms: Vec<_> =
                    platforms.map(|(arch, os)| format!("{os}/{arch}")).collect();
                Err(NoArtifact::Native(printable(&platforms.join(", "))))
            }
        }
    }

    /// The layer that is the plugin.
    pub fn plugin(&self) -> Result<&Descriptor, NoArtifact> {
        let is_wasm = |layer: &&Descriptor| [LAYER, OLD_LAYER].contains(&layer.media_type.as_str());
        let wasm: Vec<_> = self.layers.iter().filter(is_wasm).collect();
        match wasm[..] {
            [layer] if layer.size > LAYER_BYTES => Err(NoArtifact::TooLarge(layer.size)),
            [layer] => digest(layer),
            _ => Err(NoArtifact::Layers {
                wasm: wasm.len(),
                other: self.layers.len() - wasm.len(),
            }),
        }
    }
}

/// The descriptor, if its digest is one that is computed here.
pub fn digest(of: &Descriptor) -> Result<&Descriptor, NoArtifact> {
    let hex = of.digest.strip_prefix("sha256:");
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if hex.is_some_and(|hex| hex.len() == 64 && hex.chars().all(is_hex)) {
        Ok(of)
    } else {
        Err(NoArtifact::Digest(printable(&of.digest)))
    }
}

/// What is written into the config; field names are the guidance's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: String,
    author: Option<&'a str>,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a str; 1],
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
    target: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
    annotations: BTreeMap<String, String>,
}

/// What is to be written around a plugin.
pub struct Label<'a> {
    pub title: &'a str,
    pub version: &'a str,
    pub author: Option<&'a str>,
    /// RFC 3339.
    pub created: String,
    pub outline: &'a Outline,
}

/// What is pushed beside the layer.
#[derive(Clone, Debug)]
pub struct Package {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Package {
    pub fn of(plugin: &[u8], label: Label<'_>) -> Self {
        let layer = sha256(plugin);
        let config = Config {
            created: label.created,
            author: label.author,
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [&layer],
            component: Component {
                exports: &label.outline.exports,
                imports: &label.outline.imports,
                target: None,
            },
        };
        let config = json(&config);
        let described = |media_type: &str, bytes: &[u8]| Descriptor {
            media_type: media_type.to_owned(),
            digest: sha256(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let annotations = [(TITLE, label.title), (VERSION, label.version)];
        let manifest = Written {
            schema_version: 2,
            media_type: MANIFEST,
            config: described(CONFIG, &config),
            layers: [described(LAYER, plugin)],
            annotations: annotations
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        let manifest = json(&manifest);
        Self { config, manifest }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has text keys only, so it is JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(value: &Value) -> Manifest {
        Manifest::parse(value.to_string().as_bytes()).expect("it is one")
    }

    fn described(media_type: &str, size: u64) -> Value {
        json!({"mediaType": media_type, "digest": sha256(b"x"), "size": size})
    }

    #[test]
    fn one_layer_of_wasm_is_the_plugin_whatever_else_there_is() {
        for (layers, expected) in [
            (json!([described(LAYER, 1)]), Ok(1)),
            (json!([described(OLD_LAYER, 2)]), Ok(2)),
            (
                json!([described("text/markdown", 1), described(LAYER, 3)]),
                Ok(3),
            ),
            (json!([]), Err(NoArtifact::Layers { wasm: 0, other: 0 })),
            (
                json!([described(LAYER, 1), described(LAYER, 1)]),
                Err(NoArtifact::Layers { wasm: 2, other: 0 }),
            ),
            (
                json!([described("application/vnd.oci.image.layer.v1.tar+gzip", 1)]),
                Err(NoArtifact::Layers { wasm: 0, other: 1 }),
            ),
            (
                json!([described(LAYER, LAYER_BYTES + 1)]),
                Err(NoArtifact::TooLarge(LAYER_BYTES + 1)),
            ),
            (
                json!([{"mediaType": LAYER, "digest": "sha512:00", "size": 1}]),
                Err(NoArtifact::Digest("sha512:00".to_owned())),
            ),
        ] {
            let manifest = manifest(&json!({"schemaVersion": 2, "layers": layers}));
            assert_eq!(
                manifest.plugin().map(|layer| layer.size),
                expected,
                "{layers}"
            );
        }
    }

    #[test]
    fn of_an_index_the_one_for_wasm_is_taken_and_native_ones_are_named() {
        let entry = |os: &str, architecture: &str, size: u64| {
            let mut entry = described(MANIFEST, size);
            entry["platform"] = json!({"os": os, "architecture": architecture});
            entry
        };
        let index =
            |manifests: Value| manifest(&json!({"schemaVersion": 2, "manifests": manifests}));
        let size = |index: &Manifest| index.only().map(|found| found.map(|one| one.size));
        assert_eq!(size(&index(json!([]))), Ok(None));
        assert_eq!(size(&index(json!([described(MANIFEST, 7)]))), Ok(Some(7)));
        assert_eq!(
            size(&index(json!([entry("linux", "amd64", 7)]))),
            Ok(Some(7))
        );
        let mixed = json!([entry("linux", "amd64", 7), entry("wasip2", "wasm", 8)]);
        assert_eq!(size(&index(mixed)), Ok(Some(8)));
        let native = json!([entry("linux", "amd64", 7), entry("windows", "arm64", 8)]);
        insta::assert_snapshot!(index(native).only().expect_err("they are native"), @"it holds native programs (linux/amd64, windows/arm64), and a `.wasm` is needed; next: ask its publisher for the WebAssembly release");
    }

    #[test]
    fn a_package_is_laid_out_as_other_wasm_tools_read_it() {
        let outline = Outline {
            imports: vec!["wasi:http/types@0.2.12".into()],
            exports: vec!["fleetling:provider/provider@0.1.0".into()],
        };
        let package = Package::of(
            b"wasm",
            Label {
                title: "aws",
                version: "1.5.1",
                author: Some("Someone"),
                created: "2026-11-28T09:00:00Z".to_owned(),
                outline: &outline,
            },
        );
        let config: Value = serde_json::from_slice(&package.config).expect("it is JSON");
        assert_eq!(
            config,
            json!({
                "created": "2026-11-28T09:00:00Z", "author": "Someone", "architecture": "wasm", "os": "wasip2",
                "layerDigests": [sha256(b"wasm")],
                "component": {
                    "exports": ["fleetling:provider/provider@0.1.0"],
                    "imports": ["wasi:http/types@0.2.12"], "target": null,
                },
            })
        );
        let written: Value = serde_json::from_slice(&package.manifest).expect("it is JSON");
        assert_eq!(
            written,
            json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.wasm.config.v0+json",
                    "digest": sha256(&package.config), "size": package.config.len(),
                },
                "layers": [{"mediaType": "application/wasm", "digest": sha256(b"wasm"), "size": 4}],
                "annotations": {
                    "org.opencontainers.image.title": "aws", "org.opencontainers.image.version": "1.5.1",
                },
            })
        );
        assert_eq!(manifest(&written).plugin().map(|l| l.size), Ok(4));
    }
}

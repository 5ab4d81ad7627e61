//! cosign 3's signature of a manifest: a Sigstore bundle around a signed statement that names the manifest's digest. Pure.
//!
//! ```text
//! bundle ─ dsseEnvelope ─┬ payload: statement { predicateType: …/cosign/sign/v1, subject: [{ digest }] }
//!                        └ signatures, over the payload and its type
//! ```
//! The layout is Sigstore's bundle 0.3, DSSE 1.0 and in-toto's statement 1. Certificates, time stamps and entries of
//! transparency logs may stand beside it, and are not looked at: the public key alone decides.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::artifact::Descriptor;
use super::signature::PublicKey;

/// What the type of every version of a bundle begins with.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement says that is a signature and nothing else, such as a list of what is inside.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Where a manifest around a bundle says the same.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// How registries show a manifest that says nothing of itself.
const NOTHING: [&str; 2] = ["", "application/vnd.oci.empty.v1+json"];

/// A statement that is a signature, whoever signed it.
#[derive(Debug)]
pub struct SignedStatement {
    payload: Vec<u8>,
    signatures: Vec<String>,
    /// SHA-256 of what it is about, in hexadecimal.
    subjects: Vec<String>,
}

impl SignedStatement {
    /// `None` for a bundle of something else.
    pub fn parse(bundle: &[u8]) -> Option<Self> {
        let bundle: Bundle = serde_json::from_slice(bundle).ok()?;
        let envelope = bundle.dsse_envelope;
        let payload = STANDARD.decode(envelope.payload).ok()?;
        let statement: Statement = serde_json::from_slice(&payload).ok()?;
        let is_signature =
            envelope.payload_type == STATEMENT && statement.predicate_type == SIGNATURE;
        let subjects = statement.subject.into_iter();
        let subjects = subjects.filter_map(|mut subject| subject.digest.remove("sha256"));
        let signatures = envelope.signatures.into_iter();
        is_signature.then(|| Self {
            payload,
            signatures: signatures.map(|signature| signature.sig).collect(),
            subjects: subjects.collect(),
        })
    }

    /// Whether this key signed it, and it is about the manifest of this digest.
    pub fn is_of(&self, key: &PublicKey, digest: &str) -> bool {
        let is_about = |subject: &String| digest.strip_prefix("sha256:") == Some(subject);
        if !self.subjects.iter().any(is_about) {
            return false;
        }
        let signed = authenticated(STATEMENT, &self.payload);
        let mut signatures = self.signatures.iter();
        signatures.any(|signature| key.signed(&signed, signature.as_bytes()))
    }
}

/// What DSSE signs: type and payload, each behind its length, so that neither can run into the other.
fn authenticated(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

pub fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(BUNDLE)
}

/// Whether what refers to a manifest can be its signature, by what the registry says of it.
pub fn may_be_signature(referrer: &Descriptor) -> bool {
    let kind = referrer.artifact_type.as_deref().unwrap_or_default();
    let says = referrer.annotations.get(PREDICATE);
    (is_bundle(kind) || NOTHING.contains(&kind)) && says.is_none_or(|says| says == SIGNATURE)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn dsse_s_own_example_is_encoded_so() {
        assert_eq!(
            authenticated("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn only_a_statement_that_is_a_signature_is_one() {
        let bundle = |payload_type: &str, predicate: &str| {
            let statement = json!({"_type": "https://in-toto.io/Statement/v1", "predicate": {},
                "predicateType": predicate, "subject": [{"digest": {"sha256": "ab"}, "annotations": {}}]});
            json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": "x"}},
                "dsseEnvelope": {"payload": STANDARD.encode(statement.to_string()),
                    "payloadType": payload_type, "signatures": [{"sig": "c2ln", "keyid": ""}]}})
        };
        let parsed = |bundle: &Value| SignedStatement::parse(bundle.to_string().as_bytes());
        let good = parsed(&bundle(STATEMENT, SIGNATURE)).expect("it is one");
        assert_eq!(
            (good.signatures, good.subjects),
            (vec!["c2ln".to_owned()], vec!["ab".to_owned()])
        );
        for other in [
            bundle(STATEMENT, "https://spdx.dev/Document"),
            bundle("text/plain", SIGNATURE),
            json!({"messageSignature": {"signature": "c2ln"}}),
            json!({"dsseEnvelope": {"payload": "no base64", "payloadType": STATEMENT, "signatures": []}}),
            json!([]),
        ] {
            assert!(parsed(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn what_says_that_it_is_something_else_is_not_fetched() {
        let refers = |kind: Option<&str>, predicate: Option<&str>| {
            let annotations = predicate.map(|p| (PREDICATE.to_owned(), p.to_owned()));
            may_be_signature(&Descriptor {
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                digest: String::new(),
                size: 1,
                artifact_type: kind.map(str::to_owned),
                platform: None,
                annotations: annotations.into_iter().collect(),
            })
        };
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        assert!(refers(Some(bundle), Some(SIGNATURE)));
        assert!(refers(Some("application/vnd.oci.empty.v1+json"), None));
        assert!(refers(None, None));
        assert!(!refers(Some(bundle), Some("https://spdx.dev/Document")));
        assert!(!refers(Some("application/vnd.cncf.notary.signature"), None));
    }
}

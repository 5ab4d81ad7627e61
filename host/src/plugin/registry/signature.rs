//! Signatures by a public key, checked without asking anybody: cosign's words and places, and openssl's.
//!
//! ```text
//! file       FILE.sig: a signature over the file, base64, bytes or a bundle    cosign sign-blob, openssl dgst -sign
//! registry   tag sha256-<digest>.sig: a payload that names the manifest's digest, and a signature over the payload;
//!            since cosign 3 a bundle that refers to the manifest (`bundle`)
//! ```

use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::artifact::{Descriptor, Manifest};

/// cosign's type of a signed payload.
pub const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What `critical.type` of a payload says.
const KIND: &str = "cosign container image signature";

/// The fixed beginnings of a key's DER form, which say what key it is.
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const EDWARDS: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// A public key that plugins are checked with.
pub struct PublicKey(ParsedPublicKey);

/// The key is of no use; a fragment for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    #[error("{file} cannot be read: {problem}; next: name the publisher's public key with --key")]
    Unreadable { file: String, problem: String },
    #[error(
        "{file} is a private key; next: name the public one (`openssl pkey -in {file} -pubout`), and keep this one \
         to yourself"
    )]
    Private { file: String },
    #[error(
        "{file} is no public key of a known kind; next: name a PEM file with an ECDSA P-256 or Ed25519 key, as \
         `cosign generate-key-pair` and `openssl pkey -pubout` write them"
    )]
    Unknown { file: String },
}

impl PublicKey {
    pub fn read(file: &Path) -> Result<Self, KeyProblem> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(pem) => Self::parse(&name, &pem),
            Err(problem) => Err(KeyProblem::Unreadable {
                file: name,
                problem: problem.to_string(),
            }),
        }
    }

    fn parse(file: &str, pem: &str) -> Result<Self, KeyProblem> {
        let file = file.to_owned();
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyProblem::Private { file });
        }
        let body = pem.split_once("-----BEGIN PUBLIC KEY-----");
        let body = body.and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"));
        let der = body.and_then(|(body, _)| {
            let digits: String = body.split_whitespace().collect();
            STANDARD.decode(digits).ok()
        });
        let key = der.and_then(|der| {
            let kind: &'static dyn VerificationAlgorithm = match () {
                () if der.starts_with(P256) => &ECDSA_P256_SHA256_ASN1,
                () if der.starts_with(EDWARDS) => &ED25519,
                () => return None,
            };
            ParsedPublicKey::new(kind, &der).ok()
        });
        key.map(Self).ok_or(KeyProblem::Unknown { file })
    }

    /// `signature` as bytes, as base64 of them, or as a bundle that holds that.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let bundled = serde_json::from_slice::<Bundle>(signature).ok();
        let bundled = bundled.and_then(Bundle::signature);
        let text = bundled.as_deref().map_or(signature, str::as_bytes);
        let digits = text.iter().copied().filter(|b| !b.is_ascii_whitespace());
        let decoded = STANDARD.decode(digits.collect::<Vec<u8>>());
        let is_by = |signature: &[u8]| self.0.verify_sig(message, signature).is_ok();
        is_by(signature) || decoded.is_ok_and(|signature| is_by(&signature))
    }

    /// Whether `payload` says, over this key's signature, that the manifest of this digest is meant.
    pub fn vouches(&self, payload: &[u8], signature: &str, digest: &str) -> bool {
        let said = serde_json::from_slice::<Payload>(payload);
        let is_meant = said
            .is_ok_and(|said| said.critical.kind == KIND && said.critical.image.digest == digest);
        is_meant && self.signed(payload, signature.as_bytes())
    }
}

/// What `cosign sign-blob --bundle` writes, in its old form and in its new; the key it names is not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    base64_signature: Option<String>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

impl Bundle {
    fn signature(self) -> Option<String> {
        let new = self.message_signature.map(|message| message.signature);
        new.or(self.base64_signature)
    }
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The tag under which a manifest's signatures lie.
pub fn tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// Payloads of a manifest of signatures, each with its signature.
pub fn signatures(manifest: &Manifest) -> impl Iterator<Item = (&Descriptor, &str)> {
    let payloads = manifest.layers.iter();
    let payloads = payloads.filter(|layer| layer.media_type == PAYLOAD);
    payloads.filter_map(|layer| Some((layer, layer.annotations.get(ANNOTATION)?.as_str())))
}

#[cfg(test)]
mod tests;

//! From a reference to a plugin's bytes: which tag, which manifest, which layer, and whether its publisher signed it.

use super::artifact::{Descriptor, Manifest, NoArtifact, VERSION, digest};
use super::client::Client;
use super::problem::RegistryProblem;
use super::signature::{PublicKey, signatures, tag};
use crate::plugin::reference::{Constraint, version};

const PAYLOAD_BYTES: u64 = 64 << 10;

/// What a reference means at this moment.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// As it is asked for: a tag or a digest.
    pub reference: String,
    /// Of the manifest under that name, which is what is signed.
    pub digest: String,
    manifest: Manifest,
}

impl Pinned {
    /// Whether its one layer is the plugin of this digest.
    pub fn is_of(&self, plugin: &str) -> bool {
        self.manifest
            .plugin()
            .is_ok_and(|layer| layer.digest == plugin)
    }
}

/// A plugin as it came.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub bytes: Vec<u8>,
    /// What the tag or the publisher's annotation says, if that is a version.
    pub version: Option<String>,
}

/// Why there is no trust in what a registry holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    #[error(
        "{what} ({digest}) has no signature in the registry; next: ask its publisher to sign it (`cosign sign --key`), \
         or check a downloaded file with `fleetling plugin verify FILE --signature FILE`"
    )]
    Unsigned { what: String, digest: String },
    #[error(
        "{what} ({digest}) is signed, but not by this key ({count} signatures); next: check that the key is its \
         publisher's; do not install it else"
    )]
    OtherKey {
        what: String,
        digest: String,
        count: usize,
    },
    #[error(transparent)]
    Registry(#[from] RegistryProblem),
}

/// Settles which manifest is meant: the newest version that fits, else the tag of the very name.
pub async fn resolve(client: &Client) -> Result<Pinned, RegistryProblem> {
    let constraint = &client.remote().constraint;
    let written = constraint.to_string();
    let reference = match constraint {
        Constraint::Digest(_) | Constraint::Tag(_) => written,
        _ => {
            let tags = client.tags().await?;
            let best = constraint.best(tags.iter().map(String::as_str));
            best.map_or(written, str::to_owned)
        }
    };
    pinned(client, reference).await
}

/// What this very tag or digest means.
pub async fn pinned(client: &Client, reference: String) -> Result<Pinned, RegistryProblem> {
    let (bytes, digest) = client.manifest(&reference).await?;
    let manifest = Manifest::parse(&bytes).map_err(|why| artifact(client, why))?;
    Ok(Pinned {
        reference,
        digest,
        manifest,
    })
}

/// The plugin of a manifest, or of the one manifest that an index has for it.
pub async fn pull(client: &Client, pinned: &Pinned) -> Result<Pulled, RegistryProblem> {
    let inner = pinned
        .manifest
        .only()
        .map_err(|why| artifact(client, why))?;
    let fetched;
    let manifest = match inner {
        None => &pinned.manifest,
        Some(inner) => {
            let (bytes, _) = client.manifest(&inner.digest).await?;
            fetched = Manifest::parse(&bytes).map_err(|why| artifact(client, why))?;
            &fetched
        }
    };
    let layer = manifest.plugin().map_err(|why| artifact(client, why))?;
    let bytes = client.blob(&layer.digest, layer.size).await?;
    let annotated = [manifest, &pinned.manifest].map(|m| m.annotations.get(VERSION));
    let mut said = std::iter::once(&pinned.reference).chain(annotated.into_iter().flatten());
    Ok(Pulled {
        bytes,
        version: said.find_map(|said| version(said)).map(|v| v.to_string()),
    })
}

/// Whether a signature of this key lies beside the manifest.
pub async fn check(
    client: &Client,
    pinned: &Pinned,
    key: &PublicKey,
) -> Result<(), SignatureProblem> {
    let what = client.remote().to_string();
    let signed = match client.manifest(&tag(&pinned.digest)).await {
        Ok((bytes, _)) => Manifest::parse(&bytes).map_err(|why| artifact(client, why))?,
        Err(RegistryProblem::Missing { .. }) => {
            let digest = pinned.digest.clone();
            return Err(SignatureProblem::Unsigned { what, digest });
        }
        Err(problem) => return Err(problem.into()),
    };
    let mut count = 0;
    for (payload, signature) in signatures(&signed) {
        count += 1;
        let payload = self::payload(client, payload).await?;
        if key.vouches(&payload, signature, &pinned.digest) {
            return Ok(());
        }
    }
    Err(SignatureProblem::OtherKey {
        what,
        digest: pinned.digest.clone(),
        count,
    })
}

async fn payload(client: &Client, payload: &Descriptor) -> Result<Vec<u8>, RegistryProblem> {
    let payload = digest(payload).map_err(|why| artifact(client, why))?;
    let size = payload.size.min(PAYLOAD_BYTES);
    client.blob(&payload.digest, size).await
}

fn artifact(client: &Client, why: NoArtifact) -> RegistryProblem {
    RegistryProblem::Artifact {
        what: client.remote().to_string(),
        why,
    }
}

#[cfg(test)]
mod tests;

//! From a reference to a plugin's bytes: which tag, which manifest, which layer.

use super::artifact::{Manifest, NoArtifact, VERSION};
use super::client::Client;
use super::problem::RegistryProblem;
use crate::plugin::reference::{Constraint, version};

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

pub(super) fn artifact(client: &Client, why: NoArtifact) -> RegistryProblem {
    RegistryProblem::Artifact {
        what: client.remote().to_string(),
        why,
    }
}

#[cfg(test)]
mod tests;

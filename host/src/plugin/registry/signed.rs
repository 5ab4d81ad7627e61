//! Whether a publisher signed what a registry holds: cosign's signatures, wherever its versions put them.
//!
//! ```text
//! cosign 3     what refers to the manifest: a bundle (`bundle`)
//! before       tag sha256-<digest>.sig: payloads that name the manifest (`signature`)
//! ```
//! One signature of the key is enough, whatever others there are.

use super::artifact::{Descriptor, Manifest, NoArtifact, digest};
use super::bundle::{SignedStatement, is_bundle, may_be_signature};
use super::client::Client;
use super::problem::RegistryProblem;
use super::pull::{Pinned, artifact};
use super::signature::{PublicKey, signatures, tag};

const PAYLOAD_BYTES: u64 = 64 << 10;
/// With a certificate chain and an entry of a log, one has some 10 KiB.
const BUNDLE_BYTES: u64 = 1 << 20;
/// Of one manifest, that are looked at.
const REFERRERS: usize = 64;

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

/// Looks for a signature of this key until one is found.
pub async fn check(
    client: &Client,
    pinned: &Pinned,
    key: &PublicKey,
) -> Result<(), SignatureProblem> {
    let mut search = Search {
        client,
        digest: &pinned.digest,
        key,
        count: 0,
    };
    if search.among_referrers().await? || search.under_tag().await? {
        return Ok(());
    }
    let (what, digest) = (client.remote().to_string(), pinned.digest.clone());
    Err(match search.count {
        0 => SignatureProblem::Unsigned { what, digest },
        count => SignatureProblem::OtherKey {
            what,
            digest,
            count,
        },
    })
}

struct Search<'a> {
    client: &'a Client,
    /// Of the manifest.
    digest: &'a str,
    key: &'a PublicKey,
    /// Signatures seen so far.
    count: usize,
}

impl Search<'_> {
    async fn among_referrers(&mut self) -> Result<bool, RegistryProblem> {
        let referrers = self.client.referrers(self.digest).await?;
        let candidates = referrers.iter().filter(|one| may_be_signature(one));
        for referrer in candidates.take(REFERRERS) {
            // Anybody who may write there can refer to it: what is broken is nothing, and stops no other.
            let Ok(referrer) = digest(referrer) else {
                continue;
            };
            let manifest = match self.client.manifest(&referrer.digest).await {
                Ok((bytes, _)) => Manifest::parse(&bytes).unwrap_or_default(),
                Err(RegistryProblem::Missing { .. }) => continue,
                Err(problem) => return Err(problem),
            };
            let bundles = manifest.layers.iter();
            for bundle in bundles.filter(|layer| is_bundle(&layer.media_type)) {
                let bundle = match self.fetched(bundle, BUNDLE_BYTES).await {
                    Ok(bundle) => bundle,
                    Err(
                        RegistryProblem::Missing { .. }
                        | RegistryProblem::TooLarge { .. }
                        | RegistryProblem::Changed { .. }
                        | RegistryProblem::Artifact { .. },
                    ) => continue,
                    Err(problem) => return Err(problem),
                };
                let Some(statement) = SignedStatement::parse(&bundle) else {
                    continue;
                };
                self.count += 1;
                if statement.is_of(self.key, self.digest) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn under_tag(&mut self) -> Result<bool, RegistryProblem> {
        let signed = match self.client.manifest(&tag(self.digest)).await {
            Ok((bytes, _)) => Manifest::parse(&bytes).map_err(|why| self.told(why))?,
            Err(RegistryProblem::Missing { .. }) => return Ok(false),
            Err(problem) => return Err(problem),
        };
        for (payload, signature) in signatures(&signed) {
            self.count += 1;
            let payload = self.fetched(payload, PAYLOAD_BYTES).await?;
            if self.key.vouches(&payload, signature, self.digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn fetched(&self, of: &Descriptor, most: u64) -> Result<Vec<u8>, RegistryProblem> {
        let of = digest(of).map_err(|why| self.told(why))?;
        self.client.blob(&of.digest, of.size.min(most)).await
    }

    fn told(&self, why: NoArtifact) -> RegistryProblem {
        artifact(self.client, why)
    }
}

#[cfg(test)]
mod tests;

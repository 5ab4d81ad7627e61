//! A plugin's file into a registry, laid out as other wasm tools read it.

use bytes::Bytes;

use super::artifact::Package;
use super::client::Client;
use super::problem::RegistryProblem;

/// Layer and config first, because a registry takes no manifest of what it does not have; answers the manifest's digest.
pub async fn push(
    client: &Client,
    plugin: Vec<u8>,
    package: Package,
    tag: &str,
) -> Result<String, RegistryProblem> {
    client.upload(Bytes::from(plugin)).await?;
    client.upload(Bytes::from(package.config)).await?;
    client
        .put_manifest(tag, Bytes::from(package.manifest))
        .await
}

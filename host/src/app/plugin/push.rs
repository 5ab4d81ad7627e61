//! `fleetling plugin push`.

use anyhow::{anyhow, bail};

use super::registry::{client, says};
use super::{Answer, Places};
use crate::app::places;
use crate::cli::plugin::Push;
use crate::plugin::reference::{Constraint, Remote, version};
use crate::plugin::registry::artifact::{Label, Package};
use crate::plugin::registry::client::{Access, Client};
use crate::plugin::registry::problem::RegistryProblem;
use crate::plugin::registry::pull::{self, Pinned};
use crate::plugin::registry::push;
use crate::store::Store;

/// Only what this manager would run is pushed, under the version that it has itself.
///
/// # Errors
/// If it is no plugin, or the registry did not take it.
pub(super) async fn push(places: &Places<'_>, command: Push) -> anyhow::Result<Answer> {
    let remote = Remote::parse(&command.reference)?;
    let file = command.file.display().to_string();
    let bytes = tokio::fs::read(&command.file).await;
    let bytes = bytes.map_err(|problem| {
        anyhow!("{file} could not be read: {problem}; next: name the plugin's .wasm, readable for whoever runs this")
    })?;
    let platform = places::platform(places.plugin_dirs, places.config, Store::in_memory())?;
    let examined = platform
        .examine(remote.name(), command.file.clone())
        .await?;
    let own = &examined.description.version;
    let Some(own) = version(own) else {
        bail!(
            "{file} calls itself {}, which is no version; next: give it one as 1.5.1 in its `describe`",
            says(&examined.description)
        );
    };
    let tag = match &remote.constraint {
        Constraint::Latest => own.to_string(),
        Constraint::Exact(version) if *version == own => own.to_string(),
        Constraint::Tag(tag) => tag.clone(),
        Constraint::Exact(version) => bail!(
            "{file} is version {own}, and {version} is written; next: push it as {own}, or build it as {version}"
        ),
        Constraint::Within(_) | Constraint::Digest(_) => bail!(
            "{} is no place to push to: a release has a whole version, by which `latest` and `1.5` find it; next: \
             leave the tag away, and {own} is taken",
            command.reference
        ),
    };
    // A tag may not have a `+`.
    let tag = tag.replace('+', "_");
    let package = Package::of(
        &bytes,
        Label {
            title: remote.name(),
            version: &own.to_string(),
            author: command.author.as_deref(),
            created: jiff::Timestamp::now().to_string(),
            outline: &examined.outline,
        },
    );
    let client = client(&remote, Access::Write, &command.transport).await?;
    let (place, sha256) = (remote.at(&tag), examined.digest.hex());
    let (done, manifest) = match released(&client, &tag).await? {
        Some(there) if there.is_of(&format!("sha256:{sha256}")) => {
            ("was pushed already", there.digest)
        }
        Some(there) => bail!(
            "{place} is there already, of another file ({}): what was released does not change under those who have it; \
             next: build it with the next version, or push it under a tag that is no version",
            there.digest
        ),
        None => (
            "is pushed",
            push::push(&client, bytes, package, &tag).await?,
        ),
    };
    let (registry, repository) = (&remote.registry, &remote.repository);
    Ok(Answer::good(format!(
        "{file} {done}\n  to       {place}\n  manifest {manifest}\n  sha256   {sha256}\n\
         next: sign it, as with `cosign sign --key cosign.key {registry}/{repository}@{manifest}`; \
         `fleetling plugin install {place}` installs it\n"
    )))
}

/// What is there under a version's tag; other tags may be moved.
async fn released(client: &Client, tag: &str) -> anyhow::Result<Option<Pinned>> {
    if version(tag).is_none() {
        return Ok(None);
    }
    match pull::pinned(client, tag.to_owned()).await {
        Ok(there) => Ok(Some(there)),
        Err(RegistryProblem::Missing { .. }) => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}

//! What the commands that speak to a registry share: the client with its login, and how things are printed.

use anyhow::Context as _;

use crate::cli::plugin::Transport;
use crate::plugin::bindings::Description;
use crate::plugin::reference::Remote;
use crate::plugin::registry::client::certificates::Certificates;
use crate::plugin::registry::client::{Access, Client};
use crate::plugin::registry::login::Sources;
use crate::plugin::registry::printable;

/// Logged in as Docker's configuration says, once the registry asks, and trusting what is kept for Docker.
pub(super) async fn client(
    remote: &Remote,
    access: Access,
    transport: &Transport,
) -> anyhow::Result<Client> {
    let registry = remote.registry.clone();
    // A credential helper may think for a while.
    let entrance = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let sources = Sources::of_process().context("a registry login could not be read")?;
        Ok((
            sources.login(&registry)?,
            Certificates::of_process(&registry)?,
        ))
    });
    let (login, certificates) = entrance.await??;
    Ok(Client::new(
        remote,
        login,
        certificates,
        access,
        transport.plain_http,
    )?)
}

/// A plugin's name and version in its own words.
pub(super) fn says(description: &Description) -> String {
    let Description { name, version, .. } = description;
    printable(&format!("{name} {version}"))
}

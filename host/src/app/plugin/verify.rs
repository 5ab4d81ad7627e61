//! `fleetling plugin verify`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::Answer;
use super::chosen::named;
use super::registry::client;
use crate::cli::plugin::Verify;
use crate::plugin::reference::Remote;
use crate::plugin::registry::client::Access;
use crate::plugin::registry::pull;
use crate::plugin::registry::signature::PublicKey;
use crate::plugin::registry::signed::{self, SignatureProblem};
use crate::plugin::report::Digest;

/// # Errors
/// If the key, the file or the registry cannot be read; a signature that is missing or another's is an answer.
pub(super) async fn verify(verify: Verify) -> anyhow::Result<Answer> {
    let key = PublicKey::read(&verify.key)?;
    let file = Path::new(&verify.target);
    if file.is_file() {
        return of_file(file, &verify, &key);
    }
    // Nobody keeps a registry where a path is meant.
    if verify.target.ends_with(".wasm") || verify.target.starts_with(['.', '/']) || file.is_dir() {
        named(file)?;
    }
    if verify.signature.is_some() {
        bail!(
            "{} is no file, and --signature is for one; next: name the plugin's file",
            verify.target
        );
    }
    let remote = Remote::parse(&verify.target)
        .with_context(|| format!("{} is no file here", verify.target))?;
    let client = client(&remote, Access::Read, &verify.transport).await?;
    let pinned = pull::resolve(&client).await?;
    let name = remote.at(&pinned.reference);
    match signed::check(&client, &pinned, &key).await {
        Ok(()) => Ok(good(&name, &pinned.digest, &verify.key)),
        Err(SignatureProblem::Registry(problem)) => Err(problem.into()),
        Err(problem) => Ok(Answer {
            text: format!("{problem}\n"),
            is_good: false,
        }),
    }
}

fn of_file(file: &Path, verify: &Verify, key: &PublicKey) -> anyhow::Result<Answer> {
    let beside = || PathBuf::from(format!("{}.sig", file.display()));
    let place = verify.signature.clone().unwrap_or_else(beside);
    let bytes = std::fs::read(file);
    let bytes = bytes.map_err(|problem| {
        anyhow!(
            "{} could not be read: {problem}; next: make it readable for whoever runs this",
            file.display()
        )
    })?;
    let signature = std::fs::read(&place).map_err(|problem| {
        anyhow!(
            "the signature {} could not be read: {problem}; next: get it from the publisher, and name it with \
             --signature",
            place.display()
        )
    })?;
    let digest = format!("sha256:{}", Digest::of(&bytes).hex());
    if key.signed(&bytes, &signature) {
        return Ok(good(&verify.target, &digest, &verify.key));
    }
    Ok(Answer {
        text: format!(
            "{} ({digest}) is not what {} signs, or not by this key; next: check that the key is its publisher's; do \
             not install it else\n",
            verify.target,
            place.display()
        ),
        is_good: false,
    })
}

fn good(what: &str, digest: &str, key: &Path) -> Answer {
    Answer::good(format!(
        "{what} ({digest}) is signed by the key {}\n",
        key.display()
    ))
}

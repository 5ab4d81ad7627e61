//! `fleetling plugin install`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::registry::{client, says};
use super::{Answer, Places};
use crate::app::places;
use crate::cli::plugin::Install;
use crate::plugin::directory::Directory;
use crate::plugin::platform::Examined;
use crate::plugin::reference::{Constraint, Remote, version};
use crate::plugin::registry::client::Access;
use crate::plugin::registry::install::{Arrival, Placed};
use crate::plugin::registry::printable;
use crate::plugin::registry::pull::{self, Pinned, Pulled};
use crate::plugin::registry::signature::PublicKey;
use crate::plugin::registry::signed;
use crate::plugin::report::LoadReport;
use crate::store::Store;

const UPGRADE: &str = "next: --upgrade gets the newest version that fits\n";

/// Pulls, checks the signature if there is a key, examines in the sandbox, and puts in place what passed.
///
/// # Errors
/// If any of these failed; nothing was put in place then.
pub(super) async fn install(places: &Places<'_>, install: Install) -> anyhow::Result<Answer> {
    let remote = Remote::parse(&install.reference)?;
    let key = install.key.as_deref().map(PublicKey::read).transpose()?;
    let dir = target(places, install.to.as_deref())?;
    let there = Directory::new(vec![dir.clone()], None).installed(&remote);
    let there = there.filter(|_| !install.upgrade);
    if let (Some(file), None) = (&there, &key) {
        return Ok(Answer::good(format!(
            "{} is installed as {}\n{UPGRADE}",
            install.reference,
            file.display()
        )));
    }
    // What is there is held against its own signature: a key is no wish for a newer one.
    let meant = match &there {
        Some(file) => installed(&remote, file)?,
        None => remote.clone(),
    };
    let client = client(&meant, Access::Read, &install.transport).await?;
    let pinned = pull::resolve(&client).await?;
    if let Some(key) = &key {
        signed::check(&client, &pinned, key).await?;
    }
    let pulled = pull::pull(&client, &pinned).await?;
    // Its folder is named by its version, which only the plugin itself may tell: it is looked at first.
    let arrival = Arrival::write(&dir, &pulled.bytes)?;
    let platform = places::platform(places.plugin_dirs, places.config, Store::in_memory())?;
    let examined = platform.examine(remote.name(), arrival.file().to_owned());
    let examined = examined.await.map_err(|report| LoadReport {
        // The file that was looked at is gone when this is read.
        file: Some(PathBuf::from(&install.reference)),
        ..report
    })?;
    let version = folder(&remote, &pulled, &examined)?;
    let place = dir.join(remote.folder()).join(&version);
    let (file, placed) = arrival.put(&place, examined.digest, install.upgrade)?;
    let facts = Facts {
        install: &install,
        remote: &remote,
        version: &version,
        pinned: &pinned,
        file: &file,
        placed: &placed,
        examined: &examined,
    };
    Ok(Answer::good(facts.told()))
}

/// The same repository, at the version of this file's folder.
fn installed(remote: &Remote, file: &Path) -> anyhow::Result<Remote> {
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    Ok(Remote::parse(&remote.at(&folder.to_string_lossy()))?)
}

fn target(places: &Places<'_>, to: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(to) = to {
        return Ok(to.to_owned());
    }
    let dirs = places::plugin_dirs(places.plugin_dirs, places.config)?;
    let first = dirs.into_iter().next();
    first.context("no plugin folder is known; next: name one with --to")
}

/// The folder's name: the version, by the tag, the publisher, or the plugin itself.
fn folder(remote: &Remote, pulled: &Pulled, examined: &Examined) -> anyhow::Result<String> {
    if let Constraint::Tag(tag) = &remote.constraint {
        return Ok(tag.clone());
    }
    let own = version(&examined.description.version).map(|version| version.to_string());
    match pulled.version.clone().or(own) {
        Some(version) => Ok(version),
        None => bail!(
            "no version is known of {remote}: neither its tag nor its publisher nor the plugin ({}) says one; next: \
             install it by a tag",
            says(&examined.description)
        ),
    }
}

struct Facts<'a> {
    install: &'a Install,
    remote: &'a Remote,
    version: &'a str,
    pinned: &'a Pinned,
    file: &'a Path,
    placed: &'a Placed,
    examined: &'a Examined,
}

impl Facts<'_> {
    fn told(&self) -> String {
        let Self {
            install,
            remote,
            version,
            pinned,
            file,
            examined,
            ..
        } = self;
        let name = remote.name();
        let done = match self.placed {
            Placed::New => "is installed".to_owned(),
            Placed::Same => "was installed already".to_owned(),
            Placed::Replaced(digest) => format!("is installed, in place of {digest}"),
        };
        let signed = match &install.key {
            Some(key) => format!("by the key {}", key.display()),
            None => "not checked, because no --key was given".to_owned(),
        };
        let (wants, digest) = (&examined.description.wants, examined.digest.hex());
        let mut text = format!("{name} {version} {done}\n");
        for (what, value) in [
            ("from", remote.at(&pinned.reference)),
            ("manifest", pinned.digest.clone()),
            ("file", file.display().to_string()),
            ("sha256", digest.clone()),
            ("signature", signed),
            ("calls itself", says(&examined.description)),
        ] {
            let _ = writeln!(text, "  {what:<13}{value}");
        }
        let _ = writeln!(text, "  asks for     {} grants", wants.len());
        for want in wants {
            let _ = writeln!(text, "    {}", printable(want));
        }
        let is_found = version == &remote.constraint.to_string()
            || self::version(version).is_some_and(|v| remote.constraint.admits(&v));
        let reference = match is_found {
            true => install.reference.clone(),
            false => remote.at(version),
        };
        let granted = match examined.grants.give_anything() {
            true => format!(
                "what [{name}] in plugins.toml grants is this file's once its digest is trusted"
            ),
            false => format!(
                "write under [{name}] in plugins.toml what it may do: it is granted nothing by being installed"
            ),
        };
        let _ = writeln!(
            text,
            "next: write `plugin = \"{reference}\"` in config.toml; {granted}"
        );
        if *self.placed == Placed::Same && !install.upgrade {
            text.push_str(UPGRADE);
        }
        match &examined.grants.sha256 {
            Some(wanted) if *wanted != digest => {
                let _ = writeln!(
                    text,
                    "  sha256 = \"{digest}\" belongs there: another digest is written, and this file is not loaded as \
                     long as it is"
                );
            }
            _ => {}
        }
        text
    }
}

//! Registry logins: where a job may have them from, and the one that fits an image best.
//!
//! ```text
//! $DOCKER_AUTH_CONFIG ──┐
//! ~/.docker/config.json ┼─▶ keys that cover the image ─ the longest, of equal ones the first source's ─▶ login
//! job payload ──────────┘                                └ a helper is asked only once its key is chosen
//! ```
//!
//! Invariants: a helper runs only if the manager's own configuration names it; a job's variable names none that runs;
//! why a source is of no use is told to the operator, to the job only that it is; no secret is in any message.
//! The crate that reads one login by its registry's exact name (`plugin/registry/login`) knows no paths and no deadline.

mod config;
mod helper;

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use tracing::warn;

pub use config::{DockerConfig, Malformed};

use super::reference;
use super::stage::Notes;
use helper::Helper;

/// What proves to a registry who asks.
#[derive(Clone, Debug)]
pub enum Login {
    Password {
        username: String,
        password: SecretString,
    },
    /// Exchanged for a token by the daemon.
    Identity(SecretString),
}

/// A login for a registry, or for a path there, as written.
#[derive(Clone, Debug)]
pub struct RegistryCredential {
    pub registry: String,
    pub login: Login,
}

/// One place that logins come from; a job has them in the order in which they win.
#[derive(Clone, Debug)]
pub enum Source {
    /// `DOCKER_AUTH_CONFIG`. Its helpers are those that may run: the operator's, none of a job's.
    Variable(DockerConfig),
    /// Docker's configuration in the home of the manager's user, read anew for each pull.
    Home,
    /// What GitLab sends with the job.
    Payload(Vec<RegistryCredential>),
}

/// The login that was chosen for an image.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) login: Login,
    /// As its source writes it.
    pub(super) registry: String,
    /// For the job log.
    pub(super) source: String,
}

/// How a key's login is had.
enum Way {
    Known(Login),
    Helper(String),
}

struct Candidate {
    length: usize,
    source: usize,
    key: String,
    way: Way,
}

/// The login for `image`; `None` if no source has one. A source that is of no use is said in the job log and left out.
pub(super) async fn for_image(
    image: &str,
    sources: &[Source],
    home: Option<&Path>,
    notes: &Arc<dyn Notes>,
) -> Option<Chosen> {
    let repository = reference::repository(image);
    let (mut names, mut candidates) = (Vec::new(), Vec::new());
    for (n, source) in sources.iter().enumerate() {
        let (name, found) = keys(source, home).await;
        let found = found.unwrap_or_else(|why| {
            unusable(&name, &why, notes);
            Vec::new()
        });
        names.push(name);
        candidates.extend(found.into_iter().filter_map(|(key, way)| {
            let path = reference::of_key(&key);
            reference::covers(&path, &repository).then_some(Candidate {
                length: path.len(),
                source: n,
                key,
                way,
            })
        }));
    }
    // Stable: of equal ones the first source stays before the others, and its helpers before its written logins.
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.length));
    let mut given_up = Vec::new();
    for candidate in candidates {
        if given_up.contains(&candidate.source) {
            continue;
        }
        let login = match candidate.way {
            Way::Known(login) => Some(login),
            Way::Helper(helper) => match ask(&helper, &candidate.key).await {
                Ok(login) => login,
                Err(why) => {
                    unusable(&names[candidate.source], &why, notes);
                    given_up.push(candidate.source);
                    None
                }
            },
        };
        if let Some(login) = login {
            return Some(Chosen {
                login,
                registry: candidate.key,
                source: names[candidate.source].clone(),
            });
        }
    }
    None
}

/// A source's name for people, and its keys: those of helpers first, as they win.
async fn keys(
    source: &Source,
    home: Option<&Path>,
) -> (String, Result<Vec<(String, Way)>, String>) {
    match source {
        Source::Variable(config) => ("$DOCKER_AUTH_CONFIG".to_owned(), keys_of(config).await),
        Source::Payload(known) => {
            let known = known.iter().cloned();
            let keys = known.map(|one| (one.registry, Way::Known(one.login)));
            (
                "job payload (GitLab Registry)".to_owned(),
                Ok(keys.collect()),
            )
        }
        Source::Home => {
            let Some(home) = home else {
                return (String::new(), Ok(Vec::new()));
            };
            for file in [home.join(".docker/config.json"), home.join(".dockercfg")] {
                let name = file.display().to_string();
                match tokio::fs::read_to_string(&file).await {
                    Ok(text) => match text.parse() {
                        Ok(config) => return (name, keys_of(&config).await),
                        Err(Malformed(why)) => return (name, Err(why)),
                    },
                    // A home that is not this user's holds nothing for it.
                    Err(error) if is_none(&error) => {}
                    Err(error) => return (name, Err(error.to_string())),
                }
            }
            (String::new(), Ok(Vec::new()))
        }
    }
}

fn is_none(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

async fn keys_of(config: &DockerConfig) -> Result<Vec<(String, Way)>, String> {
    let helpers = config.helpers.iter().cloned();
    let mut keys: Vec<_> = helpers
        .map(|(key, helper)| (key, Way::Helper(helper)))
        .collect();
    if let Some(store) = &config.store {
        let listed = Helper::named(store)?.list().await?.into_iter();
        keys.extend(listed.map(|key| (key, Way::Helper(store.clone()))));
    }
    let written = config.written.iter().cloned();
    keys.extend(written.map(|one| (one.registry, Way::Known(one.login))));
    Ok(keys)
}

async fn ask(helper: &str, registry: &str) -> Result<Option<Login>, String> {
    Helper::named(helper)?.get(registry).await
}

fn unusable(source: &str, why: &str, notes: &Arc<dyn Notes>) {
    warn!(source, reason = why, "registry credentials cannot be used");
    notes.warn(&format!(
        "Failed to resolve credentials from {source}. Credentials from this source will not be used."
    ));
}

#[cfg(test)]
mod tests;

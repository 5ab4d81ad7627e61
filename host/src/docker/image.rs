//! Images of a job on their instance: pull policies in order, and what is told of them in the job log.
//!
//! ```text
//! policy ─ never ─────────▶ look ───────────────────────────────┬─▶ present
//!        ─ if-not-present ▶ look ─ not there ─┐                 │
//!        ─ always ────────────────────────────┴▶ login ─ pull ──┘   a pull that may pass is tried three times
//!   a policy that fails is told, and the next is tried; the last error gives the job's failure reason
//! ```

mod allowed;
mod failure;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt as _;
use rand::Rng as _;
use secrecy::ExposeSecret as _;

use super::credentials::{self, Login, Source};
use super::platform::Platform;
use super::reference;
use super::site::{failed, is_answer, is_missing, unmet};
use super::stage::{Notes, StageFailure};
use crate::config::pull_policy::{PullPolicy, listed};

pub(super) use allowed::{is_allowed, refusal};
use failure::Class;

const TRIES: u32 = 3;
/// Between two tries, in milliseconds; at random, so that the jobs of a registry that was away do not come back at once.
const PAUSE: Range<u64> = 2_000..10_000;

/// An image that is on the instance.
#[derive(Clone, Debug)]
pub(super) struct Present {
    id: String,
    digest: Option<String>,
    /// What containers are made of: the first repository digest, else the ID.
    pub(super) usable_name: String,
    pub(super) entrypoint: Vec<String>,
    /// What the image says of itself, where it is what was asked for; else what was asked for.
    pub(super) platform: Option<String>,
}

pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) platform: Option<&'a str>,
    pub(super) policies: &'a [PullPolicy],
    pub(super) credentials: &'a [Source],
}

/// The images that one job has used: each stays what it was, whatever happens to its tag meanwhile.
#[derive(Default)]
pub(super) struct Used(Mutex<HashMap<(String, Option<String>), Present>>);

impl Used {
    /// As [`obtain`]; one that this job has is neither pulled nor looked for again.
    pub(super) async fn obtain(
        &self,
        docker: &Docker,
        wanted: &Wanted<'_>,
        notes: &Arc<dyn Notes>,
    ) -> Result<Present, StageFailure> {
        let key = (wanted.name.to_owned(), wanted.platform.map(str::to_owned));
        let known = self.lock().get(&key).cloned();
        if let Some(present) = known {
            tell_policies(wanted, notes);
            tell(&present, wanted, notes);
            return Ok(present);
        }
        let present = obtain(docker, wanted, notes).await?;
        self.lock().insert(key, present.clone());
        Ok(present)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Option<String>), Present>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the image to the instance by the first policy that works.
async fn obtain(
    docker: &Docker,
    wanted: &Wanted<'_>,
    notes: &Arc<dyn Notes>,
) -> Result<Present, StageFailure> {
    obtain_pausing(docker, wanted, notes, PAUSE).await
}

async fn obtain_pausing(
    docker: &Docker,
    wanted: &Wanted<'_>,
    notes: &Arc<dyn Notes>,
    pause: Range<u64>,
) -> Result<Present, StageFailure> {
    tell_policies(wanted, notes);
    let mut last = None;
    for (n, policy) in wanted.policies.iter().enumerate() {
        if n > 0 {
            notes.notice(&format!(
                "Attempt #{}: Trying \"{policy}\" pull policy",
                n + 1
            ));
        }
        match by_policy(docker, wanted, *policy, notes, &pause).await {
            Ok(image) => {
                let present = present(image, wanted.platform);
                tell(&present, wanted, notes);
                return Ok(present);
            }
            // No other policy reaches the instance either.
            Err(error) if !is_answer(&error) => {
                let what = format!(
                    "the connection was lost while getting image {}",
                    wanted.name
                );
                return Err(unmet(&what, &error));
            }
            Err(error) => {
                notes.warn(&format!(
                    "Failed to pull image with policy \"{policy}\": {error}"
                ));
                // That the image is not there either says nothing of why it could not be pulled.
                if last.is_none() || *policy != PullPolicy::Never {
                    last = Some((*policy, error));
                }
            }
        }
    }
    Err(last.map_or_else(
        || failed(format!("no pull policy for image {}", wanted.name)),
        |(policy, error)| failure::of_image(wanted.name, wanted.policies, policy, &error),
    ))
}

fn tell_policies(wanted: &Wanted<'_>, notes: &Arc<dyn Notes>) {
    notes.info(&format!(
        "Using effective pull policy of {} for container {}",
        listed(wanted.policies),
        wanted.name
    ));
}

fn tell(present: &Present, wanted: &Wanted<'_>, notes: &Arc<dyn Notes>) {
    let Present { id, digest, .. } = present;
    if id == wanted.name {
        return;
    }
    let digest = digest
        .as_ref()
        .map(|digest| format!(" with digest {digest}"));
    notes.info(&format!(
        "Using docker image {id} for {}{} ...",
        wanted.name,
        digest.unwrap_or_default()
    ));
}

async fn by_policy(
    docker: &Docker,
    wanted: &Wanted<'_>,
    policy: PullPolicy,
    notes: &Arc<dyn Notes>,
    pause: &Range<u64>,
) -> Result<ImageInspect, Error> {
    let image = reference::tagged(wanted.name);
    // An image named by its ID is in no registry.
    if policy == PullPolicy::Never || reference::is_id(wanted.name) {
        return docker.inspect_image(&image).await;
    }
    if policy == PullPolicy::IfNotPresent {
        match docker.inspect_image(&image).await {
            Ok(found) if is_for(&found, wanted.platform) => {
                notes.info(
                    "Using locally found image version due to \"if-not-present\" pull policy",
                );
                return Ok(found);
            }
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let home = std::env::home_dir();
    let chosen =
        credentials::for_image(wanted.name, wanted.credentials, home.as_deref(), notes).await;
    let credential = chosen.map(|chosen| {
        let source = &chosen.source;
        notes.info(&format!("Authenticating with credentials from {source}"));
        credential(&chosen.login, chosen.registry)
    });
    let platform = wanted
        .platform
        .map(|platform| format!(" for platform {platform}"));
    notes.info(&format!(
        "Pulling docker image {}{} ...",
        wanted.name,
        platform.unwrap_or_default()
    ));
    let mut n = 1;
    loop {
        match pull(docker, &image, wanted.platform, credential.clone()).await {
            Ok(()) => return docker.inspect_image(&image).await,
            Err(error) if n < TRIES && may_pass(&error) => {
                notes.warn(&format!(
                    "Failed to pull image \"{}\" (attempt #{n}), retrying: {error}",
                    wanted.name
                ));
                let pause = rand::rng().random_range(pause.clone());
                tokio::time::sleep(Duration::from_millis(pause)).await;
                n += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the registry, or the way to it, may be better in a moment. A lost connection is not the registry's.
fn may_pass(error: &Error) -> bool {
    is_answer(error) && Class::of(&error.to_string()).is_some_and(Class::may_pass)
}

async fn pull(
    docker: &Docker,
    image: &str,
    platform: Option<&str>,
    credential: Option<DockerCredentials>,
) -> Result<(), Error> {
    let mut options = CreateImageOptionsBuilder::default().from_image(image);
    if let Some(platform) = platform {
        options = options.platform(platform);
    }
    docker
        .create_image(Some(options.build()), None, credential)
        .try_for_each(|_| async { Ok(()) })
        .await
}

fn credential(login: &Login, registry: String) -> DockerCredentials {
    let blank = DockerCredentials {
        serveraddress: Some(registry),
        ..DockerCredentials::default()
    };
    match login {
        Login::Password { username, password } => DockerCredentials {
            username: Some(username.clone()),
            password: Some(password.expose_secret().to_owned()),
            ..blank
        },
        Login::Identity(token) => DockerCredentials {
            identitytoken: Some(token.expose_secret().to_owned()),
            ..blank
        },
    }
}

fn present(image: ImageInspect, asked: Option<&str>) -> Present {
    let platform = asked.map(|asked| match platform_of(&image) {
        Some(own) if is_for(&image, Some(asked)) => own.to_string(),
        _ => asked.to_owned(),
    });
    let digest = image.repo_digests.and_then(|all| all.into_iter().next());
    let id = image.id.unwrap_or_default();
    Present {
        usable_name: digest.clone().unwrap_or_else(|| id.clone()),
        id,
        digest,
        entrypoint: image
            .config
            .and_then(|config| config.entrypoint)
            .unwrap_or_default(),
        platform,
    }
}

fn platform_of(image: &ImageInspect) -> Option<Platform> {
    let filled = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
    Some(Platform {
        os: filled(&image.os)?,
        architecture: filled(&image.architecture),
        variant: filled(&image.variant),
    })
}

/// Whether a local image is for the platform that was asked for; what cannot be compared is for the daemon to judge.
fn is_for(image: &ImageInspect, asked: Option<&str>) -> bool {
    match (asked.and_then(Platform::parse), platform_of(image)) {
        (Some(asked), Some(own)) => asked.is_met_by(&own),
        _ => true,
    }
}

#[cfg(test)]
mod tests;

//! Images of a job: allow-list, pull policies in order, and GitLab's reason when none of them worked.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt as _;
use rand::Rng as _;
use secrecy::ExposeSecret as _;

use super::stage::{Notes, RegistryCredential, StageFailure};
use super::{glob, reference};
use crate::config::usable::PullPolicy;
use crate::coordinator::outcome::FailureReason;

const TRIES: u32 = 3;

/// An image that is on the instance.
#[derive(Clone, Debug)]
pub(super) struct Present {
    /// What containers are made of: the first repository digest, else the ID.
    pub(super) usable_name: String,
    pub(super) entrypoint: Vec<String>,
}

/// Whether an allow-list lets a job's image through; an empty list lets every image through.
pub(super) fn is_allowed(image: &str, allowed: &[String], configured: Option<&str>) -> bool {
    allowed.is_empty()
        || configured == Some(image)
        || allowed.iter().any(|pattern| glob::matches(pattern, image))
}

pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) platform: Option<&'a str>,
    pub(super) policies: &'a [PullPolicy],
    pub(super) credentials: &'a [RegistryCredential],
}

/// Brings the image to the instance by the first policy that works.
pub(super) async fn obtain(
    docker: &Docker,
    wanted: &Wanted<'_>,
    notes: &Arc<dyn Notes>,
) -> Result<Present, StageFailure> {
    let names: Vec<_> = wanted.policies.iter().map(|p| policy_name(*p)).collect();
    notes.info(&format!(
        "Using effective pull policy of [{}] for container {}",
        names.join(" "),
        wanted.name
    ));
    let mut last = None;
    for (n, policy) in wanted.policies.iter().enumerate() {
        if n > 0 {
            let name = policy_name(*policy);
            notes.info(&format!(
                "Attempt #{}: Trying \"{name}\" pull policy",
                n + 1
            ));
        }
        match by_policy(docker, wanted, *policy, notes).await {
            Ok(image) => {
                let present = present(&image);
                let id = image.id.unwrap_or_default();
                notes.info(&format!(
                    "Using docker image {id} for {} with digest {} ...",
                    wanted.name, present.usable_name
                ));
                return Ok(present);
            }
            Err(error) => {
                let name = policy_name(*policy);
                notes.warn(&format!(
                    "Failed to pull image with policy \"{name}\": {error}"
                ));
                last = Some(error);
            }
        }
    }
    let last = last.map(|e| e.to_string()).unwrap_or_default();
    Err(StageFailure::Failed {
        reason: reason(&last),
        message: format!(
            "failed to pull image \"{}\" with specified policies [{}]: {last}",
            wanted.name,
            names.join(" ")
        ),
        retry: false,
    })
}

async fn by_policy(
    docker: &Docker,
    wanted: &Wanted<'_>,
    policy: PullPolicy,
    notes: &Arc<dyn Notes>,
) -> Result<ImageInspect, Error> {
    let image = reference::tagged(wanted.name);
    match policy {
        PullPolicy::Never => return docker.inspect_image(&image).await,
        PullPolicy::IfNotPresent => {
            if let Ok(found) = docker.inspect_image(&image).await {
                notes.info(
                    "Using locally found image version due to \"if-not-present\" pull policy",
                );
                return Ok(found);
            }
        }
        PullPolicy::Always => {}
    }
    // An image named by its ID is in no registry.
    if wanted.name.starts_with("sha256:") {
        return docker.inspect_image(wanted.name).await;
    }
    let mut n = 1;
    loop {
        notes.info(&format!("Pulling docker image {image} ..."));
        match pull(docker, wanted, &image).await {
            Ok(()) => return docker.inspect_image(&image).await,
            Err(error)
                if n < TRIES
                    && reason(&error.to_string())
                        == FailureReason::RunnerExternalDependencyFailure =>
            {
                let pause = rand::rng().random_range(2_000..10_000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                n += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn pull(docker: &Docker, wanted: &Wanted<'_>, image: &str) -> Result<(), Error> {
    let mut options = CreateImageOptionsBuilder::default().from_image(image);
    if let Some(platform) = wanted.platform {
        options = options.platform(platform);
    }
    let credential =
        reference::credential(wanted.name, wanted.credentials).map(|known| DockerCredentials {
            username: Some(known.username.clone()),
            password: Some(known.password.expose_secret().to_owned()),
            serveraddress: Some(known.registry.clone()),
            ..DockerCredentials::default()
        });
    docker
        .create_image(Some(options.build()), None, credential)
        .try_for_each(|_| async { Ok(()) })
        .await
}

pub(super) fn present(image: &ImageInspect) -> Present {
    let digest = image.repo_digests.as_ref().and_then(|all| all.first());
    Present {
        usable_name: digest.or(image.id.as_ref()).cloned().unwrap_or_default(),
        entrypoint: image
            .config
            .as_ref()
            .and_then(|config| config.entrypoint.clone())
            .unwrap_or_default(),
    }
}

fn policy_name(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "always",
        PullPolicy::IfNotPresent => "if-not-present",
        PullPolicy::Never => "never",
    }
}

/// GitLab's reason for a pull error. An image that does not exist is a pull failure here, upstream a configuration error.
fn reason(error: &str) -> FailureReason {
    const REFUSED: [&str; 4] = [
        "no basic auth credentials",
        "unauthorized",
        "authentication required",
        "access to the resource is denied",
    ];
    const OUTSIDE: [&str; 8] = [
        "dial tcp",
        "connection refused",
        "no such host",
        "i/o timeout",
        "tls handshake",
        "client.timeout exceeded",
        "request canceled",
        "connection reset",
    ];
    const MISSING: [&str; 5] = [
        "not found",
        "manifest unknown",
        "no such image",
        "pull access denied",
        "repository does not exist or may require",
    ];
    let error = error.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| error.contains(phrase));
    if says(&OUTSIDE) {
        FailureReason::RunnerExternalDependencyFailure
    } else if says(&MISSING) {
        FailureReason::ImagePullFailure
    } else if says(&REFUSED) {
        FailureReason::RunnerConfigurationError
    } else {
        FailureReason::ImagePullFailure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_errors_have_gitlabs_reasons() {
        use FailureReason::*;
        for (error, expected) in [
            (
                "manifest for nope:latest not found: manifest unknown",
                ImagePullFailure,
            ),
            (
                "pull access denied for nope, repository does not exist or may require 'docker login'",
                ImagePullFailure,
            ),
            (
                "Get \"https://r/v2/\": dial tcp: i/o timeout",
                RunnerExternalDependencyFailure,
            ),
            ("Head: no basic auth credentials", RunnerConfigurationError),
            ("something else", ImagePullFailure),
        ] {
            assert_eq!(reason(error), expected, "{error}");
        }
    }

    #[test]
    fn the_configured_image_is_always_allowed() {
        let only = ["ruby:*".to_owned()];
        assert!(is_allowed("ruby:3", &only, None));
        assert!(!is_allowed("node:3", &only, None));
        assert!(is_allowed("node:3", &only, Some("node:3")));
        assert!(is_allowed("node:3", &[], None));
    }
}

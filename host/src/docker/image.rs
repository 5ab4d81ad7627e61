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

use super::site::{failed, is_answer, is_missing, may_pass, unmet};
use super::stage::{Notes, RegistryCredential, StageFailure};
use super::{glob, reference};
use crate::config::pull_policy::{PullPolicy, listed};
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
    notes.info(&format!(
        "Using effective pull policy of {} for container {}",
        listed(wanted.policies),
        wanted.name
    ));
    let mut last = None;
    for (n, policy) in wanted.policies.iter().enumerate() {
        if n > 0 {
            notes.info(&format!(
                "Attempt #{}: Trying \"{policy}\" pull policy",
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
                last = Some(error);
            }
        }
    }
    Err(last.map_or_else(
        || failed(format!("no pull policy for image {}", wanted.name)),
        |last| not_pulled(wanted.name, wanted.policies, &last),
    ))
}

/// What remains when every policy was refused.
fn not_pulled(image: &str, policies: &[PullPolicy], last: &Error) -> StageFailure {
    let error = last.to_string();
    let (reason, known) = reason(&error);
    StageFailure::Failed {
        reason,
        message: format!(
            "failed to pull image \"{image}\" with specified policies {}: {error}",
            listed(policies)
        ),
        // The daemon answers 500 for its own troubles and for a registry's; a registry's are known by their words.
        retry: !known && may_pass(last),
    }
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
        PullPolicy::IfNotPresent => match docker.inspect_image(&image).await {
            Ok(found) => {
                notes.info(
                    "Using locally found image version due to \"if-not-present\" pull policy",
                );
                return Ok(found);
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        },
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
            Err(error) if n < TRIES && is_outside(&error) => {
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

/// Whether the registry, or the way to it, is to blame.
fn is_outside(error: &Error) -> bool {
    is_answer(error)
        && reason(&error.to_string()).0 == FailureReason::RunnerExternalDependencyFailure
}

/// GitLab's reason for a pull error, and whether its words were known. An image that does not exist, or that the login
/// does not open, is a pull failure here, upstream a configuration error.
fn reason(error: &str) -> (FailureReason, bool) {
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
    const CLOSED: [&str; 9] = [
        "not found",
        "manifest unknown",
        "no such image",
        "pull access denied",
        "repository does not exist or may require",
        "no basic auth credentials",
        "unauthorized",
        "authentication required",
        "access to the resource is denied",
    ];
    let error = error.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| error.contains(phrase));
    if says(&OUTSIDE) {
        (FailureReason::RunnerExternalDependencyFailure, true)
    } else {
        (FailureReason::ImagePullFailure, says(&CLOSED))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bollard::BollardRequest;

    use super::*;

    fn answered(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.into(),
        }
    }

    #[test]
    fn pull_errors_have_gitlabs_reasons_and_only_the_daemon_s_own_may_pass() {
        use FailureReason::*;
        for (error, expected, again) in [
            (
                answered(404, "manifest for nope:latest not found: manifest unknown"),
                ImagePullFailure,
                false,
            ),
            (
                answered(
                    404,
                    "pull access denied for nope, repository does not exist or may require 'docker login'",
                ),
                ImagePullFailure,
                false,
            ),
            (
                answered(500, "Get \"https://r/v2/\": dial tcp: i/o timeout"),
                RunnerExternalDependencyFailure,
                false,
            ),
            (
                answered(500, "Head: no basic auth credentials"),
                ImagePullFailure,
                false,
            ),
            (answered(500, "layer store is busy"), ImagePullFailure, true),
            (answered(400, "something else"), ImagePullFailure, false),
            (
                Error::DockerStreamError {
                    error: "unexpected EOF".into(),
                },
                ImagePullFailure,
                false,
            ),
        ] {
            let said = error.to_string();
            let StageFailure::Failed { reason, retry, .. } =
                not_pulled("a", &[PullPolicy::Always], &error)
            else {
                panic!("{said}");
            };
            assert_eq!((reason, retry), (expected, again), "{said}");
        }
    }

    struct Unread;

    impl Notes for Unread {
        fn info(&self, _: &str) {}
        fn warn(&self, _: &str) {}
    }

    #[tokio::test]
    async fn a_connection_lost_while_pulling_is_no_pull_failure_and_may_pass() {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let docker = Docker::connect_with_custom_transport(
            move |_: BollardRequest| {
                counted.fetch_add(1, Ordering::SeqCst);
                async {
                    Err(Error::IOError {
                        err: std::io::ErrorKind::BrokenPipe.into(),
                    })
                }
            },
            Some("http://docker"),
            10,
            bollard::API_DEFAULT_VERSION,
        )
        .expect("no request is made");
        let notes: Arc<dyn Notes> = Arc::new(Unread);
        let wanted = Wanted {
            name: "busybox",
            platform: None,
            policies: &[PullPolicy::Always, PullPolicy::IfNotPresent],
            credentials: &[],
        };
        let failure = obtain(&docker, &wanted, &notes)
            .await
            .expect_err("it is lost");
        assert!(
            matches!(&failure, StageFailure::Failed { reason: FailureReason::RunnerSystemFailure, retry: true, message }
                if message.contains("connection was lost") && message.contains("busybox")),
            "{failure:?}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1, "another policy was tried");
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

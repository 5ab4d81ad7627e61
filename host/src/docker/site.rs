//! Where one job's containers live: its slot's connection, and the requests that outlive a lost one.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    RemoveContainerOptionsBuilder,
};
use rand::Rng as _;
use tokio::sync::OnceCell;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug_span};

use super::container::{self, Role};
use super::image::Used;
use super::line::{Line, REDIAL_WINDOW};
use super::machine::Machine;
use super::network;
use super::stage::{Plan, StageFailure};
use super::volume::Volumes;
use super::way::Connected;
use crate::config::usable;
use crate::coordinator::outcome::FailureReason;

/// Between two requests for the same thing.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Site {
    pub(super) machine: Arc<Machine>,
    pub(super) slot: u32,
    pub(super) plan: Plan,
    pub(super) config: usable::Docker,
    pub(super) volumes: Volumes,
    pub(super) images: Used,
    /// Requests to make something; cleanup waits for them, or it would look before they are met.
    pub(super) asked: TaskTracker,
    /// Names of the containers that may exist; read at cleanup.
    created: Mutex<Vec<String>>,
    /// Entries of `/etc/hosts` by which services are found where the network knows no names.
    links: Mutex<Vec<String>>,
    network: OnceCell<()>,
}

impl Site {
    pub(super) fn new(
        machine: Arc<Machine>,
        slot: u32,
        plan: Plan,
        config: usable::Docker,
        volumes: Volumes,
    ) -> Self {
        Self {
            machine,
            slot,
            plan,
            config,
            volumes,
            images: Used::default(),
            asked: TaskTracker::new(),
            created: Mutex::default(),
            links: Mutex::default(),
            network: OnceCell::new(),
        }
    }

    /// For containers that are created from now on.
    pub(super) fn link(&self, hosts: Vec<String>) {
        *self.links.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    fn line(&self) -> Result<&Line, StageFailure> {
        self.machine
            .slot(self.slot)
            .ok_or_else(|| failed(format!("instance has no slot {}", self.slot)))
    }

    /// The slot's connection, waiting through a redial.
    pub(super) async fn connected(&self) -> Result<Connected, StageFailure> {
        self.line()?
            .connected()
            .await
            .map_err(|why| failed(format!("instance {} lost: {why}", self.machine.instance)))
    }

    /// Ends the wait at once when the instance is gone.
    pub(super) async fn unless_gone<T>(
        &self,
        wait: impl Future<Output = T>,
    ) -> Result<T, StageFailure> {
        tokio::select! {
            done = wait => Ok(done),
            why = self.line()?.gone() => {
                Err(failed(format!("instance {} is gone: {why}", self.machine.instance)))
            }
        }
    }

    /// Creates a container of the job's own and answers its name.
    pub(super) async fn create(&self, role: &Role, image: &str) -> Result<String, StageFailure> {
        let (kind, aliases, platform) = match role {
            // The helper stays beside it, and would be asked in its place if it had the name, too.
            Role::Build { platform, .. } => ("build", vec!["build".into()], platform.as_deref()),
            Role::FedHelper | Role::PlainHelper => ("predefined", Vec::new(), None),
        };
        let name = format!("{}-{}-{kind}", self.plan.container_base, random());
        let mut body = container::spec(role, image, &self.plan, &self.config, &self.volumes);
        let links = self
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let (Some(host), false) = (&mut body.host_config, links.is_empty()) {
            host.extra_hosts.get_or_insert_default().extend(links);
        }
        let span = debug_span!("step", step = "create", container = name);
        let creating = self.create_container(&name, body, &aliases, platform);
        creating.instrument(span).await?;
        Ok(name)
    }

    /// Creates a container in the job's network, where `aliases` find it. A lost answer is no trouble: the name tells
    /// whether it was made.
    pub(super) async fn create_container(
        &self,
        name: &str,
        mut body: ContainerCreateBody,
        aliases: &[String],
        platform: Option<&str>,
    ) -> Result<(), StageFailure> {
        self.network.get_or_try_init(|| network::make(self)).await?;
        network::join(&mut body, &self.plan.network, aliases);
        {
            let mut created = self.lock();
            // A retried preparation makes some again by their names.
            if !created.iter().any(|known| known == name) {
                created.push(name.to_owned());
            }
        }
        let mut options = CreateContainerOptionsBuilder::default().name(name);
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        let options = options.build();
        let until = Instant::now() + REDIAL_WINDOW;
        loop {
            let at = self.connected().await?;
            let (docker, options, body) = (at.docker, options.clone(), body.clone());
            // In a task of its own: Docker goes on with what it was asked when the job does not wait any more.
            let asked = self.asked.spawn(async move {
                let created = docker.create_container(Some(options), body).await;
                created.map(drop)
            });
            match answered(self.unless_gone(asked).await?)? {
                Ok(_) => return Ok(()),
                Err(Error::DockerResponseServerError {
                    status_code: 409, ..
                }) => return Ok(()),
                Err(Error::DockerResponseServerError {
                    status_code: 400,
                    message,
                }) => return Err(refused(format!("docker refuses the container: {message}"))),
                Err(error @ Error::DockerResponseServerError { .. }) => {
                    return Err(unmet("docker cannot make the container", &error));
                }
                Err(error) if Instant::now() > until => {
                    return Err(failed(format!("docker does not answer: {error}")));
                }
                Err(_) => self.unless_gone(tokio::time::sleep(PAUSE)).await?,
            }
        }
    }

    /// Attaches to all three streams of a container, within the redial window; `Err` in `Ok` says why it did not work.
    pub(super) async fn attach(
        &self,
        at: &Connected,
        name: &str,
    ) -> Result<Result<AttachContainerResults, String>, StageFailure> {
        let options = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .build();
        let span = debug_span!("step", step = "attach", container = name);
        let attaching = at.docker.attach_container(name, Some(options));
        let attaching = tokio::time::timeout(REDIAL_WINDOW, attaching).instrument(span);
        Ok(match self.unless_gone(attaching).await? {
            Ok(attached) => attached.map_err(|e| e.to_string()),
            Err(_) => Err("docker does not answer".into()),
        })
    }

    /// The container's state, asked until docker answers or the redial window has passed.
    pub(super) async fn state(&self, name: &str) -> Result<ContainerState, StageFailure> {
        let until = Instant::now() + REDIAL_WINDOW;
        loop {
            let at = self.connected().await?;
            let asked = at
                .docker
                .inspect_container(name, None::<InspectContainerOptions>);
            match self.unless_gone(asked).await? {
                Ok(found) => return Ok(found.state.unwrap_or_default()),
                Err(error) if is_missing(&error) => {
                    return Err(StageFailure::ContainerVanished(name.into()));
                }
                Err(error) if Instant::now() > until => {
                    return Err(failed(format!("docker does not answer: {error}")));
                }
                Err(_) => self.unless_gone(tokio::time::sleep(PAUSE)).await?,
            }
        }
    }

    /// Removes a container and its anonymous volumes; one that is not there is no trouble.
    pub(super) async fn remove(&self, name: &str) -> Result<(), String> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(!self.config.volume_keep)
            .build();
        loop {
            let at = self.connected().await.map_err(|e| e.to_string())?;
            let asked = at.docker.remove_container(name, Some(options.clone()));
            match self.unless_gone(asked).await.map_err(|e| e.to_string())? {
                Ok(()) => break,
                Err(error) if is_missing(&error) => break,
                // Somebody's earlier request; it ends, or cleanup's own time does.
                Err(Error::DockerResponseServerError {
                    status_code: 409,
                    message,
                }) if message.contains("already in progress") => {
                    let pause = tokio::time::sleep(PAUSE);
                    self.unless_gone(pause).await.map_err(|e| e.to_string())?;
                }
                Err(error) => return Err(format!("container {name} not removed: {error}")),
            }
        }
        self.lock().retain(|created| created != name);
        Ok(())
    }

    pub(super) fn created(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's own answer; its task ends only with one.
pub(super) fn answered<T>(
    ended: Result<Result<T, Error>, JoinError>,
) -> Result<Result<T, Error>, StageFailure> {
    ended.map_err(|problem| failed(format!("a request to docker ended early: {problem}")))
}

/// Eight characters that make names of one job its own.
pub(super) fn random() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut rng = rand::rng();
    (0..8)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

pub(super) fn is_missing(error: &Error) -> bool {
    matches!(
        error,
        Error::DockerResponseServerError {
            status_code: 404,
            ..
        }
    )
}

/// Docker's answer to a kill of a container that has ended, or was never started, or is gone.
pub(super) fn is_not_running(error: &Error) -> bool {
    is_missing(error)
        || matches!(
            error,
            Error::DockerResponseServerError {
                status_code: 409,
                ..
            }
        )
}

/// Whether Docker was heard at all; otherwise the connection was lost, or stayed silent.
pub(super) fn is_answer(error: &Error) -> bool {
    matches!(
        error,
        Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. }
    )
}

/// Whether a new try may not meet this error again: there was no answer, or the daemon blames itself.
pub(super) fn may_pass(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code, .. } => *status_code >= 500,
        other => !is_answer(other),
    }
}

pub(super) fn failed(message: String) -> StageFailure {
    StageFailure::Failed {
        reason: FailureReason::RunnerSystemFailure,
        message,
        retry: false,
    }
}

/// A request of a preparation that Docker did not meet.
pub(super) fn unmet(what: &str, error: &Error) -> StageFailure {
    StageFailure::Failed {
        reason: FailureReason::RunnerSystemFailure,
        message: format!("{what}: {error}"),
        retry: may_pass(error),
    }
}

pub(super) fn refused(message: String) -> StageFailure {
    StageFailure::Failed {
        reason: FailureReason::RunnerConfigurationError,
        message,
        retry: false,
    }
}

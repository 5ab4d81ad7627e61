//! What a job asks of an executor, in terms that know no container: the seam between `job` and Docker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::credentials::Source;
use crate::config::usable::PullPolicy;
use crate::config::volume::Volume;
use crate::coordinator::outcome::FailureReason;
pub use crate::coordinator::output::{Output, Stream};

/// Where a stage runs: in the helper container H or in the build container B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Helper,
    Build,
}

/// Everything of a job that shapes its containers. Made by `job` from payload and configuration; holds no script.
#[derive(Clone)]
pub struct Plan {
    pub job_id: u64,
    pub project_id: u64,
    /// `runner-<short token>-project-<id>-concurrent-<n>`; containers add a random part and `-build`, `-predefined`.
    pub container_base: String,
    /// `runner-<hex>`: base of cache volume names; the same for the same runner, project and slot.
    pub volume_base: String,
    /// `com.gitlab.gitlab-runner.*` labels, without `type`.
    pub labels: Vec<(String, String)>,
    /// The operator's own, expanded.
    pub container_labels: Vec<(String, String)>,
    pub image: BuildImage,
    /// `[runners.docker] helper_image`, where it is set.
    pub helper_image: Option<HelperImage>,
    /// Environment of both containers: the job's variables, expanded, file variables as paths.
    pub environment: Vec<(String, String)>,
    /// Whether pid 1 of the build container and of services is Docker's own init.
    pub init: bool,
    /// Where projects are checked out: a volume, unless a folder of the instance covers it.
    pub builds_dir: String,
    /// Whether the next job of the project finds that volume again.
    pub keep_builds: bool,
    /// The configured ones, their places in the container expanded.
    pub volumes: Vec<Volume>,
    /// Caches of protected branches are kept apart from those of others.
    pub protected: bool,
    /// For every image of the job, in the order in which they win; before that the longest path does.
    pub credentials: Vec<Source>,
    pub network: Network,
    pub services: Services,
    /// Of the helper's stages. 0: a build container of any user can write to what they leave.
    pub helper_umask: u32,
    /// A build container is stopped by `docker stop`, which signals its first process alone.
    pub native_stop: bool,
}

impl std::fmt::Debug for Plan {
    /// Without the environment: the job's token and secrets are in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("job_id", &self.job_id)
            .field("project_id", &self.project_id)
            .field("container_base", &self.container_base)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub struct BuildImage {
    /// Expanded, never empty.
    pub name: String,
    /// True when the job named none and `[runners.docker].image` was taken.
    pub is_default: bool,
    /// `[runners.docker].image`, expanded: allowed whatever the allow-list says.
    pub configured: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub user: Option<String>,
    pub platform: Option<String>,
    /// Tried in order; at least one.
    pub pull_policies: Vec<PullPolicy>,
}

/// The network that a job's containers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// `network_mode`; `None` is the daemon's default bridge.
    Given(Option<String>),
    /// Made for this job, and removed with it.
    PerBuild {
        name: String,
        /// Bytes; `None` is the daemon's own.
        mtu: Option<u32>,
        ipv6: bool,
    },
}

impl Network {
    /// As containers are told it; `None` is the daemon's default.
    pub fn mode(&self) -> Option<&str> {
        match self {
            Self::Given(mode) => mode.as_deref(),
            Self::PerBuild { name, .. } => Some(name),
        }
    }

    /// Whether containers find each other by name there: the networks that Docker has from the start know no names.
    pub fn knows_names(&self) -> bool {
        !self.is_a_container_s()
            && self
                .mode()
                .is_some_and(|mode| !matches!(mode, "" | "default" | "bridge" | "host" | "none"))
    }

    /// Whether it is another container's, whose names and addresses are not the job's to set.
    pub fn is_a_container_s(&self) -> bool {
        self.mode()
            .is_some_and(|mode| mode.starts_with("container:"))
    }
}

/// What stands beside a job's containers while it runs.
#[derive(Clone, Debug, Default)]
pub struct Services {
    pub list: Vec<Service>,
    /// Images of the configuration's services, expanded: allowed whatever the allow-list says.
    pub configured: Vec<String>,
    /// Sentences for the job log, told before the first service starts.
    pub notices: Vec<String>,
    /// Whether what they print goes into the job's log.
    pub debug: bool,
}

#[derive(Clone)]
pub struct Service {
    /// Its place among the configuration's and the job's.
    pub index: usize,
    /// Expanded, a valid reference: what is pulled.
    pub image: String,
    /// For the job log: `postgres:16`.
    pub title: String,
    /// Registry and path, without port and tag.
    pub name: String,
    /// The same as part of a container's name.
    pub slug: String,
    pub version: String,
    /// Names it is found by; at least one, and no other service's.
    pub aliases: Vec<String>,
    /// The job's public variables, then its own.
    pub environment: Vec<(String, String)>,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub user: Option<String>,
    pub platform: Option<String>,
    /// Tried in order; at least one.
    pub pull_policies: Vec<PullPolicy>,
}

impl std::fmt::Debug for Service {
    /// Without the environment: a service's own variables may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("index", &self.index)
            .field("image", &self.image)
            .field("aliases", &self.aliases)
            .finish_non_exhaustive()
    }
}

/// An image of the operator's to take for H.
#[derive(Clone, Debug)]
pub struct HelperImage {
    /// Expanded, never empty.
    pub name: String,
    /// The operator's: a job's own are for its own image.
    pub pull_policies: Vec<PullPolicy>,
}

/// One stage's script. `text` is a whole shell script that ends in `exit`; its first output is `begin_mark`, which the
/// executor strips: exit 0 counts only if the mark was seen.
#[derive(Clone)]
pub struct StageScript {
    /// GitLab's stage name, such as `get_sources` or `step_script`.
    pub name: String,
    pub place: Place,
    pub text: String,
    /// One line without its newline, random for every stage.
    pub begin_mark: String,
}

impl StageScript {
    /// With a new begin mark, which `write` is given.
    pub fn new(name: String, place: Place, write: impl FnOnce(&str) -> String) -> Self {
        let begin_mark = format!("fleetling-begin-{:032x}", rand::random::<u128>());
        Self {
            name,
            place,
            text: write(&begin_mark),
            begin_mark,
        }
    }
}

/// Lines of the executor's own for the job log: `Pulling docker image …`. Without colour codes or newline.
pub trait Notes: Send + Sync + 'static {
    fn info(&self, line: &str);
    /// As `info`, where nothing is made of it to stand out.
    fn notice(&self, line: &str) {
        self.info(line);
    }
    fn warn(&self, line: &str);
    /// As `warn`, where nothing is made of it to stand out.
    fn error(&self, line: &str) {
        self.warn(line);
    }
}

/// Why a stage, or preparing for it, could not be carried through. A script that exits non-zero is not one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageFailure {
    /// Anything with a reason of GitLab's: instance lost, daemon restarted, image not pulled, configuration refused.
    #[error("{message}")]
    Failed {
        reason: FailureReason,
        message: String,
        /// A new try of the same preparation may help.
        retry: bool,
    },
    /// The container was removed under the stage and nothing says whether the script ran to its end.
    #[error("container {0} not found or removed")]
    ContainerVanished(String),
    /// `stop` was cancelled; the container's processes were ended first.
    #[error("stopped")]
    Stopped,
}

/// Hosts an instance is known by; a provider need not say both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub internal: Option<String>,
    pub external: Option<String>,
}

/// Runs the stages of one job on one slot. Methods may be called side by side: B is made ready while H fetches sources.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Name of the instance, for the job log.
    fn instance(&self) -> String;
    /// Where the instance is, as its provider says, for the job log.
    fn addresses(&self) -> Addresses;
    /// Starts H.
    async fn ready_helper(&self, notes: Arc<dyn Notes>) -> Result<(), StageFailure>;
    /// Starts the services and waits until they answer; beside that pulls the build image and creates B, and starts it
    /// early where design §6 allows. `services` takes what services print, where the plan asks for it.
    async fn ready_build(
        &self,
        notes: Arc<dyn Notes>,
        services: Arc<dyn Output>,
    ) -> Result<(), StageFailure>;
    /// Runs one stage to its end and answers its exit code. Each further stage in B starts the same B again. When
    /// `stop` is cancelled the stage's processes get TERM, then KILL; a stopped B is removed and the next stage in B
    /// gets a new one, created during the grace.
    async fn run(
        &self,
        stage: StageScript,
        output: Arc<dyn Output>,
        stop: CancellationToken,
    ) -> Result<i32, StageFailure>;
    /// Removes containers, volumes and networks within a deadline of its own (5 minutes). An error says what was left,
    /// and means that the instance must not be reused.
    async fn cleanup(&self) -> Result<(), String>;
}

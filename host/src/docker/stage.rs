//! What a job asks of an executor, in terms that know no container: the seam between `job` and Docker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::usable::PullPolicy;
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
    pub image: BuildImage,
    /// Environment of both containers: the job's variables, expanded, file variables as paths.
    pub environment: Vec<(String, String)>,
    /// Where projects are checked out; a volume of the job's own.
    pub builds_dir: String,
    pub cache_dir: String,
    /// From the payload, then from the configuration; the longest matching prefix wins.
    pub credentials: Vec<RegistryCredential>,
    /// Of the helper's stages. 0: a build container of any user can write to what they leave.
    pub helper_umask: u32,
    /// Docker's own init is the first process of the build container and of services.
    pub init: bool,
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
    pub entrypoint: Option<Vec<String>>,
    pub user: Option<String>,
    pub platform: Option<String>,
    /// Tried in order; at least one.
    pub pull_policies: Vec<PullPolicy>,
}

#[derive(Clone)]
pub struct RegistryCredential {
    pub registry: String,
    pub username: String,
    pub password: secrecy::SecretString,
}

impl std::fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryCredential")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
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
    fn warn(&self, line: &str);
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
    /// Pulls the build image and creates B; starts it early where design §6 allows.
    async fn ready_build(&self, notes: Arc<dyn Notes>) -> Result<(), StageFailure>;
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

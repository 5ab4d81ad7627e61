//! What makes an instance usable: the seam between the fleet, which asks for it, and Docker, which knows how.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::group::{CallFailure, Connection, InstanceId};

/// Asks the provider for connection details (and its authorisation, such as EC2 Instance Connect's 60 seconds) anew.
#[async_trait]
pub trait Authorise: Send + Sync + 'static {
    async fn connect_info(&self) -> Result<Connection, CallFailure>;
}

/// Why an instance could not be made ready or was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The provider gave no connection details.
    #[error("{0}")]
    NoConnection(CallFailure),
    /// Dialling, the ready command, or Docker failed; the text says which and what next.
    #[error("{0}")]
    Failed(String),
}

/// What runs on an instance of unknown history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupation {
    Idle,
    /// Containers of another manager's jobs, by name.
    Foreign(Vec<String>),
}

/// Makes instances ready: dials, runs the ready command, asks Docker, loads the helper image, warms every slot.
#[async_trait]
pub trait Preparation: Send + Sync + 'static {
    type Machine: Machine;

    /// One try. The caller backs off and decides how often; connection refusals within the boot of an instance are
    /// retried inside, up to `connector_config.timeout`.
    async fn prepare(
        &self,
        instance: InstanceId,
        authorise: Arc<dyn Authorise>,
        slots: u32,
    ) -> Result<Arc<Self::Machine>, NotReady>;

    /// Dials an instance of unknown history and looks for containers that are not ours.
    async fn inspect(
        &self,
        instance: InstanceId,
        authorise: Arc<dyn Authorise>,
    ) -> Result<Occupation, NotReady>;
}

/// A ready instance with its warm connections.
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    /// True while the slot's own connection is up: a slot whose connection is down is not open.
    fn slot_is_up(&self, slot: u32) -> bool;
    /// Counts changes of any connection's state, so that the owner looks again.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Told by the provisioner: the cloud says the instance is gone, every wait on it ends now with this reason.
    fn gone(&self, reason: String);
    /// Whether Docker still answers over the warm control connection, within seconds: cheap enough to ask before a job.
    async fn ping(&self) -> Result<(), NotReady>;
    /// Closes every connection.
    async fn close(&self);
}

//! One group's provider as the manager calls it, whichever file runs at the moment.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::actor::Actor;
use super::grants::Limits;
use super::platform::PluginEntry;
use super::report::Digest;
use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceRef,
    Removal, Snapshot,
};

/// Dropping it ends its keeper, and its instances after the calls that are under way.
pub struct Provider {
    entry: watch::Receiver<PluginEntry>,
    /// Replaced by the group's keeper; a call that began on one ends on it.
    current: watch::Receiver<Current>,
    granted: watch::Receiver<u64>,
    /// The group's ID as it was told: another file must tell the same.
    opened: watch::Sender<Option<String>>,
}

/// The file that runs.
#[derive(Clone)]
pub struct Current {
    pub actor: Arc<Actor>,
    pub digest: Digest,
}

impl Provider {
    pub(super) fn new(
        entry: watch::Receiver<PluginEntry>,
        current: watch::Receiver<Current>,
        granted: watch::Receiver<u64>,
        opened: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            entry,
            current,
            granted,
            opened,
        }
    }

    /// The operator's name of the plugin.
    pub fn plugin(&self) -> String {
        self.entry.borrow().name.clone()
    }

    /// The file that runs, and what keeps another, or its grants, from it: as it changes.
    pub fn entry(&self) -> watch::Receiver<PluginEntry> {
        self.entry.clone()
    }

    /// Of the file that runs now.
    pub fn digest(&self) -> Digest {
        self.current.borrow().digest
    }

    /// Requests under way now.
    pub fn requests_in_flight(&self) -> usize {
        self.now().requests_in_flight()
    }

    /// What holds for the plugin now.
    pub fn limits(&self) -> Limits {
        self.now().limits()
    }

    fn now(&self) -> Arc<Actor> {
        self.current.borrow().actor.clone()
    }
}

#[async_trait]
impl InstanceGroup for Provider {
    async fn open(&self) -> Result<Group, CallFailure> {
        let opened = self.now().open().await?;
        self.opened.send_replace(Some(opened.id.clone()));
        Ok(opened)
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        self.now().update().await
    }

    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        self.now().increase(request).await
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        self.now().decrease(instances).await
    }

    async fn connect_info(&self, of: InstanceRef) -> Result<Connection, CallFailure> {
        self.now().connect_info(of).await
    }

    async fn heartbeat(&self, of: InstanceRef) -> Result<(), CallFailure> {
        self.now().heartbeat(of).await
    }

    async fn shutdown(&self, for_good: bool) -> Result<(), CallFailure> {
        self.now().shutdown(for_good).await
    }

    fn granted(&self) -> watch::Receiver<u64> {
        self.granted.clone()
    }
}

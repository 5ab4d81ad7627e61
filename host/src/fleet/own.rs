//! The manager's own Docker daemon as an instance group of one: what `executor = "docker"` scales.
//!
//! ```text
//! none ──increase──▶ one ("docker-1") ──decrease (it does not answer)──▶ none ──increase──▶ one ("docker-2") …
//! ```
//!
//! Invariant: an ID that was given up never comes back, so that what was said of it holds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceId,
    InstanceRef, InstanceState, Listed, Login, Removal, Snapshot,
};

/// What the identity of such a group begins with.
pub const PREFIX: &str = "docker/";

pub struct OwnDaemon {
    id: String,
    now: Mutex<Now>,
    /// Nothing is granted here; kept so that whoever listens waits for ever.
    granted: watch::Sender<u64>,
}

#[derive(Default)]
struct Now {
    number: u64,
    is_there: bool,
}

impl Now {
    fn instance(&self) -> Option<InstanceId> {
        self.is_there
            .then(|| InstanceId(format!("docker-{}", self.number)))
    }
}

impl OwnDaemon {
    /// `runner` is who uses the daemon: others may use it too, each as a group of its own.
    pub fn of(runner: &str) -> Self {
        Self {
            id: format!("{PREFIX}{runner}"),
            now: Mutex::default(),
            granted: watch::channel(0).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl InstanceGroup for OwnDaemon {
    async fn open(&self) -> Result<Group, CallFailure> {
        Ok(Group {
            id: self.id.clone(),
            max_size: Some(1),
            owner: None,
            notices: Vec::new(),
        })
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        let instance = self.lock().instance();
        let listed = |id| Listed {
            id,
            state: InstanceState::Running,
            created_at: None,
            pool: None,
            generation: None,
            interruption: None,
            reason: None,
            request: None,
            memo: String::new(),
            extras: Vec::new(),
        };
        Ok(Snapshot {
            instances: instance.into_iter().map(listed).collect(),
            max_size: Some(1),
            ..Snapshot::default()
        })
    }

    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        let mut now = self.lock();
        if now.is_there || request.count == 0 {
            return Ok(IncreaseOutcome::default());
        }
        now.number += 1;
        now.is_there = true;
        Ok(IncreaseOutcome {
            accepted: 1,
            ids: now.instance().into_iter().collect(),
            ..IncreaseOutcome::default()
        })
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        let mut now = self.lock();
        let removed = instances.iter().map(|instance| {
            if now.instance().as_ref() == Some(&instance.id) {
                now.is_there = false;
                Removal::Accepted
            } else {
                Removal::Gone
            }
        });
        Ok(removed.collect())
    }

    async fn connect_info(&self, _: InstanceRef) -> Result<Connection, CallFailure> {
        Ok(Connection {
            os: None,
            arch: None,
            protocol: None,
            username: None,
            login: Login::AsConfigured,
            addresses: Vec::new(),
            host_keys: Vec::new(),
            valid_until: None,
        })
    }

    async fn heartbeat(&self, _: InstanceRef) -> Result<(), CallFailure> {
        Ok(())
    }

    async fn shutdown(&self, _: bool) -> Result<(), CallFailure> {
        Ok(())
    }

    fn granted(&self) -> watch::Receiver<u64> {
        self.granted.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(count: u32) -> IncreaseRequest {
        IncreaseRequest {
            token: "t".into(),
            count,
            avoid_pools: vec![],
        }
    }

    async fn listed(group: &OwnDaemon) -> Vec<String> {
        let snapshot = group.update().await.expect("it always answers");
        snapshot.instances.into_iter().map(|i| i.id.0).collect()
    }

    #[tokio::test]
    async fn there_is_one_at_most_and_its_successor_has_another_name() {
        let group = OwnDaemon::of("r");
        assert!(listed(&group).await.is_empty());
        let outcome = group.increase(asked(5)).await.expect("it always answers");
        assert_eq!(outcome.accepted, 1);
        let outcome = group.increase(asked(1)).await.expect("it always answers");
        assert_eq!(outcome.accepted, 0);
        assert_eq!(listed(&group).await, ["docker-1"]);
        let of = |id: &str| InstanceRef {
            id: InstanceId(id.into()),
            memo: String::new(),
        };
        let removed = group.decrease(vec![of("docker-0"), of("docker-1"), of("docker-1")]);
        let expected = [Removal::Gone, Removal::Accepted, Removal::Gone];
        assert_eq!(removed.await, Ok(expected.to_vec()));
        assert!(listed(&group).await.is_empty());
        group.increase(asked(1)).await.expect("it always answers");
        assert_eq!(listed(&group).await, ["docker-2"]);
    }
}

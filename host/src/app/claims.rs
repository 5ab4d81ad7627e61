//! Which runner owns which instance group: the first to open it; two on one group would delete each other's instances.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceRef,
    Problem, ProblemKind, Removal, Snapshot,
};

/// Runner names by group ID, for the life of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    owners: Arc<Mutex<HashMap<String, Owner>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    /// Position among `[[runners]]`: names need not differ.
    index: usize,
    name: String,
}

impl Claims {
    /// `group` under the rule that only its first runner may open it.
    pub(super) fn guard(
        &self,
        group: Arc<dyn InstanceGroup>,
        index: usize,
        name: &str,
    ) -> Arc<dyn InstanceGroup> {
        let owner = Owner {
            index,
            name: name.to_owned(),
        };
        Arc::new(Claimed {
            group,
            claims: self.clone(),
            owner,
        })
    }

    fn claim(&self, group: &str, owner: &Owner) -> Result<(), Problem> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        match owners.entry(group.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(owner.clone());
                Ok(())
            }
            Entry::Occupied(taken) if taken.get() == owner => Ok(()),
            Entry::Occupied(taken) => Err(Problem {
                kind: ProblemKind::Conflict,
                message: format!(
                    "[[runners]] \"{}\" cannot have instance group {group}: it is already used by [[runners]] \"{}\"; \
                     next: give every runner a group of its own in plugin_config",
                    owner.name,
                    taken.get().name
                ),
                subject: None,
                code: None,
                retry_after: None,
            }),
        }
    }
}

struct Claimed {
    group: Arc<dyn InstanceGroup>,
    claims: Claims,
    owner: Owner,
}

#[async_trait]
impl InstanceGroup for Claimed {
    async fn open(&self) -> Result<Group, CallFailure> {
        let opened = self.group.open().await?;
        self.claims
            .claim(&opened.id, &self.owner)
            .map_err(CallFailure::Refused)?;
        Ok(opened)
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        self.group.update().await
    }

    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        self.group.increase(request).await
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        self.group.decrease(instances).await
    }

    async fn connect_info(&self, of: InstanceRef) -> Result<Connection, CallFailure> {
        self.group.connect_info(of).await
    }

    async fn heartbeat(&self, of: InstanceRef) -> Result<(), CallFailure> {
        self.group.heartbeat(of).await
    }

    async fn shutdown(&self, for_good: bool) -> Result<(), CallFailure> {
        self.group.shutdown(for_good).await
    }

    fn granted(&self) -> watch::Receiver<u64> {
        self.group.granted()
    }
}

#[cfg(test)]
mod tests {
    use super::{Claims, Owner};

    #[test]
    fn the_second_runner_on_a_group_is_refused_and_told_who_has_it() {
        let claims = Claims::default();
        let first = Owner {
            index: 0,
            name: "one".into(),
        };
        let second = Owner {
            index: 1,
            name: "two".into(),
        };
        assert!(claims.claim("aws/eu-west-1/asg", &first).is_ok());
        assert!(
            claims.claim("aws/eu-west-1/asg", &first).is_ok(),
            "opening again is no conflict"
        );
        assert!(claims.claim("aws/eu-west-1/other", &second).is_ok());
        let refused = claims
            .claim("aws/eu-west-1/asg", &second)
            .expect_err("it is taken");
        assert!(
            refused.message.contains("[[runners]] \"one\""),
            "{}",
            refused.message
        );
    }
}

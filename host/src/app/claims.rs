//! Which runner owns which instance group: the first to open it, until it has shut the group down. Two on one group would
//! delete each other's instances.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceRef,
    Problem, ProblemKind, Removal, Snapshot,
};

/// Owners by group ID.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    owners: Arc<Mutex<HashMap<String, Owner>>>,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    /// Names need not differ, and an entry that changed is another owner than it was.
    number: u64,
    name: String,
}

impl Claims {
    /// `group` under the rule that only its first runner may open it.
    pub(super) fn guard(
        &self,
        group: Arc<dyn InstanceGroup>,
        name: &str,
    ) -> Arc<dyn InstanceGroup> {
        let owner = Owner {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
        };
        Arc::new(Claimed {
            group,
            id: Mutex::new(None),
            claims: self.clone(),
            owner,
        })
    }

    fn release(&self, owner: &Owner) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, taken| taken != owner);
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
                message: refusal(group, owner, taken.get()),
                subject: None,
                code: None,
                retry_after: None,
            }),
        }
    }
}

fn refusal(group: &str, owner: &Owner, taken: &Owner) -> String {
    let Owner { name, .. } = owner;
    if *name == taken.name {
        return format!(
            "[[runners]] \"{name}\" waits for instance group {group} until the jobs of its earlier configuration have \
             ended; next: nothing, or give every runner a group of its own if two entries have this name"
        );
    }
    format!(
        "[[runners]] \"{name}\" cannot have instance group {group}: it is already used by [[runners]] \"{}\"; \
         next: give every runner a group of its own in plugin_config",
        taken.name
    )
}

struct Claimed {
    group: Arc<dyn InstanceGroup>,
    /// Its ID, once it was told: who waits for a group asks the cloud nothing.
    id: Mutex<Option<String>>,
    claims: Claims,
    owner: Owner,
}

impl Claimed {
    fn id(&self) -> MutexGuard<'_, Option<String>> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl InstanceGroup for Claimed {
    async fn open(&self) -> Result<Group, CallFailure> {
        let known = self.id().clone();
        let claim = |id: &str| {
            let claimed = self.claims.claim(id, &self.owner);
            claimed.map_err(CallFailure::Refused)
        };
        if let Some(id) = known {
            claim(&id)?;
        }
        let opened = self.group.open().await?;
        *self.id() = Some(opened.id.clone());
        claim(&opened.id)?;
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
        let closed = self.group.shutdown(for_good).await;
        self.claims.release(&self.owner);
        closed
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
            number: 0,
            name: "one".into(),
        };
        let second = Owner {
            number: 1,
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
        claims.release(&first);
        assert!(claims.claim("aws/eu-west-1/asg", &second).is_ok());
    }

    #[test]
    fn a_changed_entry_waits_for_what_it_was() {
        let claims = Claims::default();
        let [was, is] = [0, 1].map(|number| Owner {
            number,
            name: "one".into(),
        });
        assert!(claims.claim("aws/eu-west-1/asg", &was).is_ok());
        let refused = claims.claim("aws/eu-west-1/asg", &is).expect_err("taken");
        assert!(
            refused.message.contains("earlier configuration"),
            "{}",
            refused.message
        );
    }
}

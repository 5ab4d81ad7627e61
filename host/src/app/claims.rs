//! Which runner owns which instance group: the first to open it, until it has shut the group down. Two on one group would
//! delete each other's instances. One that carries another manager's mark is used, because the mark may be old, and that
//! is said.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceRef,
    Notice, Problem, ProblemKind, Removal, Snapshot,
};
use crate::fleet::own;

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
    /// `group` under the rule that only its first runner may open it. `mark` is what its provider knows us by.
    pub(super) fn guard(
        &self,
        group: Arc<dyn InstanceGroup>,
        name: &str,
        mark: String,
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
            mark,
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
    let next = if group.starts_with(own::PREFIX) {
        "give every entry with executor = \"docker\" a token of its own"
    } else {
        "give every runner a group of its own in plugin_config"
    };
    format!(
        "[[runners]] \"{name}\" cannot have instance group {group}: it is already used by [[runners]] \"{}\"; \
         next: {next}",
        taken.name
    )
}

/// What is said of a group with the mark `theirs`; nothing where it is ours or there is none.
fn marked_by_another(theirs: Option<&str>, ours: &str) -> Option<Notice> {
    let theirs = theirs.filter(|theirs| *theirs != ours)?;
    Some(Notice {
        subject: "owner".into(),
        message: format!(
            "the instance group is marked as owned by {theirs:?}, and this manager is {ours:?}; two managers on one group \
             remove each other's instances; next: stop the other one, or give each a group of its own, then set the \
             mark to this manager's name or remove it"
        ),
    })
}

struct Claimed {
    group: Arc<dyn InstanceGroup>,
    /// Its ID, once it was told: who waits for a group asks the cloud nothing.
    id: Mutex<Option<String>>,
    claims: Claims,
    owner: Owner,
    mark: String,
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
        let mut opened = self.group.open().await?;
        *self.id() = Some(opened.id.clone());
        claim(&opened.id)?;
        let marked = marked_by_another(opened.owner.as_deref(), &self.mark);
        opened.notices.extend(marked);
        Ok(opened)
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        let mut snapshot = self.group.update().await?;
        let marked = marked_by_another(snapshot.owner.as_deref(), &self.mark);
        snapshot.notices.extend(marked);
        Ok(snapshot)
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
    use super::{Claims, Owner, marked_by_another};

    #[test]
    fn complaint_4_the_second_runner_on_a_group_is_refused_and_told_who_has_it() {
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
    fn a_group_that_carries_another_mark_is_a_notice() {
        let said = |theirs| marked_by_another(theirs, "s_one/https://gitlab.example.com|7");
        assert_eq!(said(None), None);
        assert_eq!(said(Some("s_one/https://gitlab.example.com|7")), None);
        let notice = said(Some("s_two/https://gitlab.example.com|9")).expect("it is another's");
        assert_eq!(notice.subject, "owner");
        for part in ["\"s_two/", "\"s_one/", "next: stop the other one"] {
            assert!(notice.message.contains(part), "{}", notice.message);
        }
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

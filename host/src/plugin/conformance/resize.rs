//! More and fewer: `increase`, `decrease`, and that both may be said again.

use super::trial::{STANDING, alive, told};
use super::{Outcome, Trial, failed, inapplicable, not_checked};
use crate::fleet::group::{InstanceId, InstanceRef, Removal};

/// Room in a group that is filled up to its maximum for the sake of a check.
const MOST_ROOM: u32 = 8;
/// Asked for beyond the maximum.
const BEYOND: u32 = 2;

impl Trial<'_> {
    pub(super) async fn increase_adds(&mut self) -> Outcome {
        let before = self.snapshot().await?;
        let there = alive(&before)
            .len()
            .max(before.target.unwrap_or(0) as usize);
        if there > 0 {
            return Err(not_checked(format!(
                "the group has {there} instances, and only an empty one is changed; next: name a group of its own"
            )));
        }
        if before.max_size.is_some_and(|most| most < STANDING + 1) {
            return Err(not_checked(format!(
                "the group's maximum is below {}; next: raise it",
                STANDING + 1
            )));
        }
        let request = self.request(STANDING);
        let outcome = self.increase(&request).await?;
        if outcome.accepted != STANDING {
            return Err(failed(format!("asked for {STANDING}: {}", told(&outcome))));
        }
        let snapshot = self.settled(STANDING as usize).await?;
        self.standing.instances = alive(&snapshot);
        for id in &outcome.ids {
            if !self.standing.instances.iter().any(|one| one.id == *id) {
                return Err(failed(format!(
                    "it named {id}, which `update` does not list"
                )));
            }
        }
        self.standing.request = Some((request, outcome));
        Ok(())
    }

    pub(super) async fn increase_repeated(&mut self) -> Outcome {
        let Some((request, first)) = self.standing.request.clone() else {
            return Err(not_checked("nothing was made"));
        };
        let again = self.increase(&request).await?;
        if again.accepted != first.accepted {
            return Err(failed(format!(
                "the first answer was {} accepted, the second is {}; next: repeat the answer of a token served before",
                first.accepted,
                told(&again)
            )));
        }
        // Also in another instance of the plugin, as after a restart of the manager.
        self.seat = None;
        self.increase(&request).await?;
        let standing = self.standing.instances.len();
        let settled = self.settled(standing).await.map(drop);
        if settled.is_err() {
            self.restore().await?;
        }
        settled
    }

    pub(super) async fn increase_partial(&mut self) -> Outcome {
        let snapshot = self.snapshot().await?;
        let there = u32::try_from(alive(&snapshot).len()).unwrap_or(u32::MAX);
        let Some(most) = snapshot.max_size else {
            return Err(inapplicable("the group tells no maximum"));
        };
        let room = most.saturating_sub(there);
        if room > MOST_ROOM {
            return Err(not_checked(format!(
                "it would fill the group up to its maximum of {most}; next: name a group whose maximum is {} at most",
                there + MOST_ROOM
            )));
        }
        let request = self.request(room + BEYOND);
        let outcome = self.increase(&request).await?;
        let verdict = if outcome.accepted > room {
            Err(failed(format!(
                "{} accepted, where there is room for {room}",
                outcome.accepted
            )))
        } else if outcome.problems.is_empty() {
            Err(failed(format!(
                "{} of {} accepted, and no problem says why",
                outcome.accepted, request.count
            )))
        } else {
            self.settled((there + outcome.accepted) as usize)
                .await
                .map(drop)
        };
        self.restore().await?;
        verdict
    }

    pub(super) async fn decrease_nothing(&mut self) -> Outcome {
        let none = self.decrease(Vec::new()).await?;
        if !none.is_empty() {
            return Err(failed("it answers for instances nobody named"));
        }
        let unknown = self.unknown();
        let removals = self.decrease(vec![unknown]).await?;
        if let [Removal::Refused(problem)] = &removals[..] {
            return Err(failed(format!(
                "an unknown instance is refused ({problem}); next: answer `gone`"
            )));
        }
        let standing = self.standing.instances.len();
        self.settled(standing).await.map(drop)
    }

    pub(super) async fn decrease_twice(&mut self) -> Outcome {
        let one = self.add_one().await?;
        for time in ["first", "second"] {
            match &self.decrease(vec![one.clone()]).await?[..] {
                [Removal::Accepted] => {}
                [Removal::Gone] if time == "second" => {}
                other => {
                    return Err(failed(format!(
                        "the {time} answer for {} is {other:?}",
                        one.id
                    )));
                }
            }
        }
        let standing = self.standing.instances.len();
        let settled = self.settled(standing).await.map(drop);
        if settled.is_err() {
            self.refill().await?;
        }
        settled
    }

    /// Of no cloud, in the form of those that are known.
    pub(super) fn unknown(&self) -> InstanceRef {
        let like = self.standing.instances.first();
        let like = like.map_or_else(|| "none".to_owned(), |one| one.id.0.clone());
        // Digits become zeros: clouds refuse what is not even of their form, before they look for it.
        let id = like.chars().map(|c| match c {
            '1'..='9' | 'a'..='f' => '0',
            other => other,
        });
        let keep = like.find(['-', '/']).map_or(0, |at| at + 1);
        let unlike: String = id.skip(keep).collect();
        InstanceRef {
            id: InstanceId(format!("{}{unlike}", &like[..keep])),
            memo: String::new(),
        }
    }

    /// What stands from now on is what is there, filled up.
    async fn refill(&mut self) -> Outcome {
        self.standing.instances = alive(&self.snapshot().await?);
        let missing = STANDING
            .saturating_sub(u32::try_from(self.standing.instances.len()).unwrap_or(STANDING));
        if missing > 0 {
            let request = self.request(missing);
            self.increase(&request).await?;
            let snapshot = self.settled(STANDING as usize).await?;
            self.standing.instances = alive(&snapshot);
        }
        Ok(())
    }
}

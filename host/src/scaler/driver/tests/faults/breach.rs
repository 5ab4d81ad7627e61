//! Breaking one rule on purpose: a checker that does not object to these proves nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::watch;

use super::group::FaultyGroup;
use super::promises::Promise;
use super::world::World;
use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceId,
    InstanceRef, Problem, ProblemKind, Removal, Snapshot,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// Every increase is as large as the whole group may be.
    AsksForAll,
    /// An increase whose answer was lost is asked for once more, under a fresh token.
    AsksAgain,
    /// A decrease also hits an instance that runs a job.
    DeletesBusy,
    /// Each preparation after the first hands out the first one's machine.
    OneMachineForTwo,
    /// What was asked for is left out of the snapshot that first shows what was not.
    HidesOwn,
    /// Nothing is made any more once faults are over.
    MakesNothing,
    /// A machine that is gone tells no job.
    TellsNobody,
    /// A reservation that no job came for is never given back.
    KeepsReservations,
    /// A deletion is accepted, not done, and its instance not listed again.
    PretendsToDelete,
    /// No deletion is accepted once faults are over.
    DeletesNothing,
}

impl Breach {
    /// Each promise, and what breaks it.
    pub(super) const ALL: [(Promise, Self); 13] = [
        (Promise::MaxInstances, Self::AsksForAll),
        (Promise::NeverTwice, Self::AsksAgain),
        (Promise::Throttle, Self::AsksForAll),
        (Promise::BusyKept, Self::DeletesBusy),
        (Promise::SlotOnce, Self::OneMachineForTwo),
        (Promise::UseCount, Self::OneMachineForTwo),
        (Promise::SurplusUnused, Self::HidesOwn),
        (Promise::Served, Self::MakesNothing),
        (Promise::LostTold, Self::TellsNobody),
        (Promise::ReservationsEnd, Self::KeepsReservations),
        (Promise::IdleTarget, Self::DeletesNothing),
        (Promise::AtRest, Self::DeletesNothing),
        (Promise::NothingLeaked, Self::PretendsToDelete),
    ];
}

/// The faulty group, seen through a breach.
pub(super) struct Crooked {
    inner: FaultyGroup,
    world: Arc<World>,
    shown: Mutex<BTreeSet<InstanceId>>,
    hidden: Mutex<BTreeSet<InstanceId>>,
}

impl Crooked {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self {
            inner: FaultyGroup(Arc::clone(&world)),
            world,
            shown: Mutex::default(),
            hidden: Mutex::default(),
        }
    }

    fn is(&self, breach: Breach) -> bool {
        self.world.breach == Some(breach)
    }

    /// Once faults are over.
    fn is_now(&self, breach: Breach) -> bool {
        self.is(breach) && !self.world.is_stormy()
    }

    /// One that was shown before, if one is shown now that nobody asked for.
    fn to_hide(&self, snapshot: &Snapshot) -> Option<InstanceId> {
        let mut shown = self.shown.lock().unwrap();
        let state = self.world.state();
        let is_plain = |id: &InstanceId| state.cloud.standing[id].plain == Some(true);
        let mut ids = snapshot.instances.iter().map(|listed| &listed.id);
        let intruded = ids.clone().any(|id| is_plain(id) && !shown.contains(id));
        let own = ids.find(|id| shown.contains(*id) && !is_plain(id)).cloned();
        shown.extend(snapshot.instances.iter().map(|listed| listed.id.clone()));
        own.filter(|_| intruded && self.is(Breach::HidesOwn))
    }
}

fn refused() -> Problem {
    Problem {
        kind: ProblemKind::OutOfCapacity,
        message: "against the rules".into(),
        subject: None,
        code: None,
        retry_after: None,
    }
}

#[async_trait]
impl InstanceGroup for Crooked {
    async fn open(&self) -> Result<Group, CallFailure> {
        self.inner.open().await
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        let mut snapshot = self.inner.update().await?;
        let hide = self.to_hide(&snapshot);
        let hidden = self.hidden.lock().unwrap();
        snapshot
            .instances
            .retain(|listed| Some(&listed.id) != hide.as_ref() && !hidden.contains(&listed.id));
        Ok(snapshot)
    }

    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        if self.is_now(Breach::MakesNothing) {
            return Err(CallFailure::Refused(refused()));
        }
        let mut more = request.clone();
        if self.is(Breach::AsksForAll) {
            more.count = self.world.climate.max_instances();
        }
        let outcome = self.inner.increase(more).await;
        if self.is(Breach::AsksAgain) && matches!(outcome, Err(CallFailure::OutcomeUnknown(_))) {
            let token = format!("{}, again", request.token);
            let again = IncreaseRequest { token, ..request };
            return self.inner.increase(again).await;
        }
        outcome
    }

    async fn decrease(&self, mut instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        if self.is_now(Breach::DeletesNothing) {
            let refused = Removal::Refused(refused());
            self.world.state().cloud.mutations += 1;
            return Ok(vec![refused; instances.len()]);
        }
        if self.is(Breach::PretendsToDelete) {
            let count = instances.len();
            let ids = instances.into_iter().map(|of| of.id);
            self.hidden.lock().unwrap().extend(ids);
            return Ok(vec![Removal::Accepted; count]);
        }
        let count = instances.len();
        if self.is(Breach::DeletesBusy) {
            let state = self.world.state();
            let mut ids = state.cloud.standing.keys();
            let busy = ids.find(|id| state.promises.is_busy(id)).cloned();
            instances.extend(busy.map(|id| InstanceRef {
                id,
                memo: String::new(),
            }));
        }
        let mut removals = self.inner.decrease(instances).await?;
        removals.truncate(count);
        Ok(removals)
    }

    async fn connect_info(&self, of: InstanceRef) -> Result<Connection, CallFailure> {
        self.inner.connect_info(of).await
    }

    async fn heartbeat(&self, of: InstanceRef) -> Result<(), CallFailure> {
        self.inner.heartbeat(of).await
    }

    async fn shutdown(&self, for_good: bool) -> Result<(), CallFailure> {
        self.inner.shutdown(for_good).await
    }

    fn granted(&self) -> watch::Receiver<u64> {
        self.inner.granted()
    }
}

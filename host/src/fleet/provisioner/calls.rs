//! Calls under way: each in a task of its own, each with an answer, whatever becomes of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceId,
    InstanceRef, Removal, Snapshot,
};
use crate::fleet::ready::{Authorise, Machine, NotReady, Occupation, Preparation};

/// What a call answers.
pub(super) enum Answer<M> {
    Opened(Result<Group, CallFailure>),
    Updated(Result<Snapshot, CallFailure>),
    Increased(String, Result<IncreaseOutcome, CallFailure>),
    Decreased(Vec<InstanceId>, Result<Vec<Removal>, CallFailure>),
    Prepared(InstanceId, Result<Arc<M>, NotReady>),
    Inspected(InstanceId, Result<Occupation, NotReady>),
    Checked(InstanceId, Result<(), String>),
}

/// A call that panicked: a bug of ours, and its outcome as unknown as that of a trap.
struct Panicked;

const PANICKED: &str =
    "the manager's own code failed here; its log has the details, please report them";

impl From<Panicked> for CallFailure {
    fn from(_: Panicked) -> Self {
        Self::OutcomeUnknown(PANICKED.into())
    }
}

impl From<Panicked> for NotReady {
    fn from(_: Panicked) -> Self {
        Self::Failed(PANICKED.into())
    }
}

impl From<Panicked> for String {
    fn from(_: Panicked) -> Self {
        PANICKED.into()
    }
}

/// Without it a panic would end the task in silence, and whoever waits for its answer would wait for ever.
async fn answered<T, E: From<Panicked>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let caught = AssertUnwindSafe(call).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Panicked.into()))
}

/// Connection details as the provider gives them for the memo it last listed.
struct Asking {
    group: Arc<dyn InstanceGroup>,
    id: InstanceId,
    memo: watch::Receiver<String>,
}

#[async_trait]
impl Authorise for Asking {
    async fn connect_info(&self) -> Result<Connection, CallFailure> {
        let memo = self.memo.borrow().clone();
        let id = self.id.clone();
        self.group.connect_info(InstanceRef { id, memo }).await
    }
}

pub(super) struct Calls<P: Preparation> {
    group: Arc<dyn InstanceGroup>,
    preparation: Arc<P>,
    under_way: JoinSet<Answer<P::Machine>>,
}

impl<P: Preparation> Calls<P> {
    pub(super) fn new(group: Arc<dyn InstanceGroup>, preparation: Arc<P>) -> Self {
        Self {
            group,
            preparation,
            under_way: JoinSet::new(),
        }
    }

    pub(super) fn group(&self) -> &Arc<dyn InstanceGroup> {
        &self.group
    }

    /// Pends while no call is under way.
    pub(super) async fn next(&mut self) -> Answer<P::Machine> {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(answer)) => return answer,
                // Only an abort ends a task without an answer, and that is for whoever aborts.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn forget(&mut self) {
        self.under_way.abort_all();
    }

    pub(super) fn open(&mut self) {
        let group = Arc::clone(&self.group);
        self.under_way
            .spawn(async move { Answer::Opened(answered(group.open()).await) });
    }

    pub(super) fn update(&mut self) {
        let group = Arc::clone(&self.group);
        self.under_way
            .spawn(async move { Answer::Updated(answered(group.update()).await) });
    }

    pub(super) fn increase(&mut self, request: IncreaseRequest) {
        let group = Arc::clone(&self.group);
        let token = request.token.clone();
        self.under_way.spawn(async move {
            Answer::Increased(token, answered(group.increase(request)).await)
        });
    }

    pub(super) fn decrease(&mut self, instances: Vec<InstanceRef>) {
        let group = Arc::clone(&self.group);
        let ids = instances.iter().map(|one| one.id.clone()).collect();
        self.under_way.spawn(async move {
            Answer::Decreased(ids, answered(group.decrease(instances)).await)
        });
    }

    pub(super) fn prepare(&mut self, id: InstanceId, memo: watch::Receiver<String>, slots: u32) {
        let preparation = Arc::clone(&self.preparation);
        let asking = self.asking(&id, memo);
        self.under_way.spawn(async move {
            let made = answered(preparation.prepare(id.clone(), asking, slots)).await;
            Answer::Prepared(id, made)
        });
    }

    pub(super) fn inspect(&mut self, id: InstanceId, memo: watch::Receiver<String>) {
        let preparation = Arc::clone(&self.preparation);
        let asking = self.asking(&id, memo);
        self.under_way.spawn(async move {
            let found = answered(preparation.inspect(id.clone(), asking)).await;
            Answer::Inspected(id, found)
        });
    }

    /// Does the machine still answer? Only when it does not is the provider asked, for what it knows: a job may wait.
    pub(super) fn check(
        &mut self,
        id: InstanceId,
        memo: watch::Receiver<String>,
        machine: Arc<P::Machine>,
    ) {
        let group = Arc::clone(&self.group);
        self.under_way.spawn(async move {
            let memo = memo.borrow().clone();
            let of = InstanceRef {
                id: id.clone(),
                memo,
            };
            let alive = answered(async {
                let Err(why) = machine.ping().await else {
                    return Ok(());
                };
                Err(match group.heartbeat(of).await {
                    Ok(()) => why.to_string(),
                    Err(told) => format!("{why}; the provider says: {told}"),
                })
            });
            Answer::Checked(id, alive.await)
        });
    }

    fn asking(&self, id: &InstanceId, memo: watch::Receiver<String>) -> Arc<dyn Authorise> {
        Arc::new(Asking {
            group: Arc::clone(&self.group),
            id: id.clone(),
            memo,
        })
    }
}

//! A made-up group, preparation and machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::time::sleep;

use super::*;
use crate::fleet::group::{
    Connection, IncreaseOutcome, InstanceRef, InstanceState, Interruption, InterruptionKind,
    Listed, Removal, Snapshot,
};
use crate::fleet::ready::{Authorise, NotReady, Occupation};

/// A cloud with a target, like an Auto Scaling group: it replaces what is lost by itself.
#[derive(Default)]
pub(super) struct Cloud {
    pub(super) instances: BTreeMap<InstanceId, InstanceState>,
    pub(super) target: u32,
    pub(super) next: u32,
    pub(super) most: usize,
    pub(super) decreased: Vec<InstanceId>,
    pub(super) increases: Vec<u32>,
    /// When each was asked for, and what it was to avoid.
    pub(super) asked: Vec<(tokio::time::Instant, Vec<String>)>,
    /// Answers the next calls get instead.
    pub(super) open_fails: Option<Problem>,
    pub(super) increase_fails: Vec<CallFailure>,
    /// What every increase is refused with, for as long as it stands here.
    pub(super) refuses: Option<Problem>,
    /// Every increase is agreed to, and then none of it can be made, for this reason.
    pub(super) launches_fail: Option<Problem>,
    /// Where instances come from, the first that is not avoided; and which of these have none.
    pub(super) pools: Vec<&'static str>,
    pub(super) exhausted: BTreeSet<&'static str>,
    /// Instances that stand and are not listed.
    pub(super) hidden: BTreeSet<InstanceId>,
    /// Whose end is announced.
    pub(super) interrupted: BTreeMap<InstanceId, InterruptionKind>,
    /// Whether a failing increase takes effect all the same.
    pub(super) acts_anyway: bool,
    /// New instances are listed as creating and stay so.
    pub(super) stuck: bool,
    /// What new instances are made from, and what each was made from.
    pub(super) generation: Option<String>,
    pub(super) made_from: BTreeMap<InstanceId, String>,
    /// The next update panics.
    pub(super) update_panics: bool,
}

pub(super) struct FakeGroup {
    pub(super) cloud: Mutex<Cloud>,
    pub(super) granted: watch::Sender<u64>,
}

impl Cloud {
    pub(super) fn fill(&mut self) {
        let live = self
            .instances
            .values()
            .filter(|state| **state != InstanceState::Deleting)
            .count();
        for _ in live..self.target as usize {
            self.next += 1;
            let id = InstanceId(format!("i-{:04}", self.next));
            if let Some(generation) = &self.generation {
                self.made_from.insert(id.clone(), generation.clone());
            }
            let state = match (self.stuck, &self.launches_fail) {
                (true, _) => InstanceState::Creating,
                (false, None) => InstanceState::Running,
                (false, Some(_)) => InstanceState::Failed,
            };
            self.instances.insert(id, state);
        }
        self.most = self.most.max(self.instances.len());
    }

    /// What stands in the way of `request`, if anything.
    fn refusal(&self, request: &IncreaseRequest) -> Option<Problem> {
        let avoided = |pool: &&&str| !request.avoid_pools.iter().any(|avoided| avoided == **pool);
        let pool = self.pools.iter().find(avoided).or(self.pools.first());
        let exhausted = pool.filter(|pool| self.exhausted.contains(*pool));
        let no_capacity = exhausted.map(|pool| Problem {
            kind: ProblemKind::OutOfCapacity,
            message: "there is none left".into(),
            subject: Some((*pool).into()),
            code: None,
            retry_after: None,
        });
        self.refuses.clone().or(no_capacity)
    }
}

impl FakeGroup {
    pub(super) fn cloud(&self) -> std::sync::MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap()
    }
}

#[async_trait]
impl InstanceGroup for FakeGroup {
    async fn open(&self) -> Result<Group, CallFailure> {
        sleep(SECOND / 10).await;
        match self.cloud().open_fails.clone() {
            Some(problem) => Err(CallFailure::Refused(problem)),
            None => Ok(Group {
                id: "fake/one".into(),
                max_size: None,
                owner: None,
                notices: Vec::new(),
            }),
        }
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        sleep(SECOND / 10).await;
        if std::mem::take(&mut self.cloud().update_panics) {
            panic!("on purpose");
        }
        let mut cloud = self.cloud();
        let listed = |(id, state): (&InstanceId, &InstanceState)| Listed {
            id: id.clone(),
            state: *state,
            created_at: None,
            pool: None,
            generation: cloud.made_from.get(id).cloned(),
            interruption: cloud.interrupted.get(id).map(|kind| Interruption {
                kind: *kind,
                at: None,
            }),
            reason: cloud
                .launches_fail
                .clone()
                .filter(|_| *state == InstanceState::Failed),
            request: None,
            memo: String::new(),
            extras: Vec::new(),
        };
        let shown = |(id, _): &(&InstanceId, &InstanceState)| !cloud.hidden.contains(*id);
        let instances = cloud.instances.iter().filter(shown).map(listed).collect();
        // What was terminating is gone the next time.
        cloud
            .instances
            .retain(|_, state| *state != InstanceState::Deleting);
        cloud.fill();
        let target = Some(cloud.target);
        Ok(Snapshot {
            instances,
            target,
            generation: cloud.generation.clone(),
            ..Snapshot::default()
        })
    }

    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        sleep(SECOND / 2).await;
        let mut cloud = self.cloud();
        cloud.increases.push(request.count);
        let (now, avoided) = (tokio::time::Instant::now(), request.avoid_pools.clone());
        cloud.asked.push((now, avoided));
        if let Some(problem) = cloud.refusal(&request) {
            return Ok(IncreaseOutcome {
                problems: vec![problem],
                ..Default::default()
            });
        }
        let failure = cloud.increase_fails.pop();
        if failure.is_none() || cloud.acts_anyway {
            cloud.target += request.count;
            cloud.fill();
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(IncreaseOutcome {
                accepted: request.count,
                ..Default::default()
            }),
        }
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        assert!(instances.len() <= 50);
        sleep(SECOND / 2).await;
        let mut cloud = self.cloud();
        Ok(instances
            .into_iter()
            .map(|of| {
                match cloud
                    .instances
                    .insert(of.id.clone(), InstanceState::Deleting)
                {
                    Some(
                        InstanceState::Running | InstanceState::Creating | InstanceState::Failed,
                    ) => {
                        cloud.target -= 1;
                        cloud.decreased.push(of.id);
                        Removal::Accepted
                    }
                    _ => Removal::Gone,
                }
            })
            .collect())
    }

    async fn connect_info(&self, _: InstanceRef) -> Result<Connection, CallFailure> {
        Err(CallFailure::NotCalled("not needed here".into()))
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

pub(super) struct Fake {
    pub(super) up: AtomicBool,
    pub(super) gone: Mutex<Option<String>>,
    pub(super) changes: watch::Sender<u64>,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

#[async_trait]
impl Machine for Fake {
    fn slot_is_up(&self, _: u32) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn gone(&self, reason: String) {
        *self.gone.lock().unwrap() = Some(reason);
    }

    async fn ping(&self) -> Result<(), NotReady> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.silent.load(Ordering::SeqCst) {
            true => Err(NotReady::Failed("Docker did not answer".into())),
            false => Ok(()),
        }
    }

    async fn close(&self) {}
}

#[derive(Default)]
pub(super) struct Preparing {
    pub(super) foreign: AtomicBool,
    pub(super) broken: AtomicBool,
    /// Whether machines made from now on answer no heartbeat.
    pub(super) silent: Mutex<Arc<AtomicBool>>,
    /// Heartbeats of all machines.
    pub(super) asked: Arc<AtomicU32>,
}

#[async_trait]
impl Preparation for Preparing {
    type Machine = Fake;

    async fn prepare(
        &self,
        _: InstanceId,
        _: Arc<dyn Authorise>,
        _: u32,
    ) -> Result<Arc<Fake>, NotReady> {
        sleep(3 * SECOND).await;
        if self.broken.load(Ordering::SeqCst) {
            return Err(NotReady::Failed("the ready command exited with 1".into()));
        }
        Ok(Arc::new(Fake {
            up: AtomicBool::new(true),
            gone: Mutex::new(None),
            changes: watch::Sender::new(0),
            silent: self.silent.lock().unwrap().clone(),
            asked: self.asked.clone(),
        }))
    }

    async fn inspect(&self, _: InstanceId, _: Arc<dyn Authorise>) -> Result<Occupation, NotReady> {
        sleep(SECOND).await;
        Ok(match self.foreign.load(Ordering::SeqCst) {
            true => Occupation::Foreign(vec!["runner-x-build".into()]),
            false => Occupation::Idle,
        })
    }
}

//! One instance: `connect-info`, `heartbeat`, and that a stop of the manager leaves it alone.

use tokio::time::Instant;

use super::trial::alive;
use super::{Outcome, Trial, failed, inapplicable, not_checked};
use crate::fleet::group::{CallFailure, InstanceRef, InstanceState, Listed, ProblemKind, Snapshot};

impl Trial<'_> {
    pub(super) async fn connect_before_running(&mut self) -> Outcome {
        let snapshot = self.snapshot().await?;
        let Some(of) = first(&snapshot, InstanceState::Creating) else {
            // Nobody outside could have made them run since.
            if self.wire.asked().is_empty() {
                return Err(inapplicable("its instances run from the beginning"));
            }
            return Err(not_checked("no instance was seen before it ran"));
        };
        let id = of.id.clone();
        match self.seat().await?.connect_info(of).await {
            Err(CallFailure::Refused(problem)) if problem.kind == ProblemKind::NotReady => Ok(()),
            Err(CallFailure::Refused(problem)) => Err(failed(format!(
                "{id} is being created, and the answer is {problem}; next: say not-ready"
            ))),
            Ok(_) => {
                // It may have begun to run between the two calls.
                let now = self.snapshot().await?;
                if first(&now, InstanceState::Creating).is_some_and(|of| of.id == id) {
                    return Err(failed(format!(
                        "{id} is being created, and the answer is an address; next: say not-ready"
                    )));
                }
                Err(not_checked("the instance ran at that very moment"))
            }
            Err(failure) => self.answered("connect-info", Err(failure)),
        }
    }

    pub(super) async fn connect_running(&mut self) -> Outcome {
        let of = self.running().await?;
        let id = of.id.clone();
        let answer = self.seat().await?.connect_info(of).await;
        let connection = self.answered("connect-info", answer)?;
        let addresses = &connection.addresses;
        if addresses.is_empty() || addresses.iter().any(|one| one.host.trim().is_empty()) {
            return Err(failed(format!(
                "{id} runs, and has no address; next: say not-ready until it has one"
            )));
        }
        Ok(())
    }

    pub(super) async fn connect_unknown(&mut self) -> Outcome {
        let of = self.unknown();
        match self.seat().await?.connect_info(of).await {
            Err(CallFailure::Refused(problem)) if problem.kind == ProblemKind::NotFound => Ok(()),
            Err(CallFailure::Refused(problem)) => Err(failed(format!(
                "the answer is {problem}; next: say not-found"
            ))),
            Ok(_) => Err(failed("the answer is a connection; next: say not-found")),
            Err(failure) => self.answered("connect-info", Err(failure)),
        }
    }

    pub(super) async fn heartbeat_is_quick(&mut self) -> Outcome {
        let of = self.running().await?;
        self.wire.open();
        let began = Instant::now();
        let answer = self.seat().await?.heartbeat(of).await;
        let took = began.elapsed();
        self.answered("heartbeat", answer)?;
        if took > self.patience.heartbeat {
            return Err(failed(format!(
                "it took {took:.1?}; next: one cheap request, or none"
            )));
        }
        let asked = self.wire.asked().len();
        if asked > 1 {
            return Err(failed(format!(
                "it made {asked} requests; next: one cheap request, or none"
            )));
        }
        Ok(())
    }

    pub(super) async fn shutdown_keeps(&mut self) -> Outcome {
        let answer = self.seat().await?.shutdown(false).await;
        self.answered("shutdown", answer)?;
        self.seat = None;
        let standing = self.standing.instances.len();
        self.settled(standing).await.map(drop)
    }

    /// An instance that runs, waited for.
    pub(super) async fn running(&mut self) -> Result<InstanceRef, super::Stop> {
        let end = Instant::now() + self.patience.cloud;
        loop {
            let snapshot = self.snapshot().await?;
            if let Some(of) = first(&snapshot, InstanceState::Running) {
                return Ok(of);
            }
            if alive(&snapshot).is_empty() {
                return Err(failed("the instances that stood are gone"));
            }
            if Instant::now() > end {
                let waited = self.patience.cloud;
                return Err(not_checked(format!("no instance ran within {waited:?}")));
            }
            tokio::time::sleep(self.patience.pause).await;
        }
    }
}

fn first(snapshot: &Snapshot, state: InstanceState) -> Option<InstanceRef> {
    let is_it = |instance: &&Listed| instance.state == state;
    let found = snapshot.instances.iter().find(is_it)?;
    Some(InstanceRef {
        id: found.id.clone(),
        memo: found.memo.clone(),
    })
}

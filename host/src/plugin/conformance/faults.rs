//! Every call with every fault, from each of its requests on: the plugin answers, and what it answers is no lie.
//!
//! A call that fails may be refused with any problem but `not-found`, which would take something for gone; a snapshot is
//! whole or refused; what `increase` and `decrease` left open, their repetition settles.

use std::collections::BTreeSet;

use super::trial::{alive, told};
use super::wire::Fault;
use super::{Outcome, Stop, Trial, failed, inapplicable};
use crate::fleet::group::{
    CallFailure, IncreaseOutcome, IncreaseRequest, InstanceRef, ProblemKind, Removal,
};

/// Requests of one call that are tried; the rest of a long list is more of the same.
const POSITIONS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Read {
    Open,
    Update,
    ConnectInfo,
    Heartbeat,
}

impl Read {
    const ALL: [Self; 4] = [Self::Open, Self::Update, Self::ConnectInfo, Self::Heartbeat];

    fn call(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::ConnectInfo => "connect-info",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Where a fault was put, in words.
struct Place {
    call: &'static str,
    at: usize,
}

impl Place {
    fn failed(&self, why: impl std::fmt::Display) -> Stop {
        failed(format!(
            "`{}`, at its request {}: {why}",
            self.call,
            self.at + 1
        ))
    }
}

impl Trial<'_> {
    pub(super) async fn survives(&mut self, fault: Fault) -> Outcome {
        let of = match self.running().await {
            Ok(of) => of,
            // Calls about one that does not run yet are calls as well.
            Err(Stop::NotChecked(_)) => self
                .standing
                .instances
                .first()
                .cloned()
                .unwrap_or_else(|| self.unknown()),
            Err(stop) => return Err(stop),
        };
        let mut tried = 0;
        for read in Read::ALL {
            self.wire.open();
            self.read(read, &of, None).await?;
            let requests = self.wire.asked().len().min(POSITIONS);
            for at in 0..requests {
                tried += 1;
                self.wire.spoil(fault, at);
                let verdict = self.read(read, &of, Some((fault, at))).await;
                self.wire.open();
                verdict?;
            }
        }
        tried += self.changes_survive(fault).await?;
        if tried == 0 {
            return Err(inapplicable("no call makes a request"));
        }
        Ok(())
    }

    async fn read(
        &mut self,
        read: Read,
        of: &InstanceRef,
        spoilt: Option<(Fault, usize)>,
    ) -> Outcome {
        let seat = self.seat().await?;
        let answer: Result<Option<BTreeSet<String>>, CallFailure> = match read {
            Read::Open => seat.open().await.map(|_| None),
            Read::Update => seat
                .update()
                .await
                .map(|snapshot| Some(snapshot.instances.into_iter().map(|one| one.id.0).collect())),
            Read::ConnectInfo => seat.connect_info(of.clone()).await.map(|_| None),
            Read::Heartbeat => seat.heartbeat(of.clone()).await.map(|()| None),
        };
        let Some((fault, at)) = spoilt else {
            return match answer {
                // An instance that does not run yet is not ready, and that is an answer.
                Err(CallFailure::Refused(problem)) if problem.kind == ProblemKind::NotReady => {
                    Ok(())
                }
                answer => self.answered(read.call(), answer).map(drop),
            };
        };
        let place = Place {
            call: read.call(),
            at,
        };
        match answer {
            Ok(Some(listed)) => match self.missing(&listed) {
                0 => Ok(()),
                missing => Err(place.failed(format!(
                    "the snapshot lacks {missing} of {} instances, which then count as gone; next: refuse",
                    self.standing.instances.len()
                ))),
            },
            Ok(None) => Ok(()),
            Err(CallFailure::Refused(problem)) if fault == Fault::Slow => match problem.kind {
                ProblemKind::NotReady => Ok(()),
                _ => Err(place.failed(format!("a slow answer is refused: {problem}"))),
            },
            Err(CallFailure::Refused(problem)) => match problem.kind {
                ProblemKind::NotFound => Err(place.failed(format!(
                    "the answer is {problem}; next: say unavailable, because nothing is known to be gone"
                ))),
                _ => Ok(()),
            },
            Err(failure) => {
                self.seat = None;
                Err(place.failed(failure))
            }
        }
    }

    fn missing(&self, listed: &BTreeSet<String>) -> usize {
        let standing = self.standing.instances.iter();
        standing.filter(|one| !listed.contains(&one.id.0)).count()
    }

    /// One instance more and one less, with the fault at each request of either; how many were tried.
    async fn changes_survive(&mut self, fault: Fault) -> Result<usize, Stop> {
        let mut at = 0;
        loop {
            let more = self.increase_survives(fault, at).await;
            self.wire.open();
            let more = self.then_restore_unless_grown(more).await?;
            let less = self.decrease_survives(fault, at).await;
            self.wire.open();
            let restored = self.restore().await;
            let less = less?;
            restored?;
            if !more && !less || at + 1 == POSITIONS {
                return Ok(at);
            }
            at += 1;
        }
    }

    /// A failed check leaves the group as it was for the next one.
    async fn then_restore_unless_grown<T>(&mut self, outcome: Result<T, Stop>) -> Result<T, Stop> {
        if outcome.is_err() {
            // What was found first tells more than that it could not be mended.
            let _ = self.restore().await;
        }
        outcome
    }

    /// Grows by one, whatever the fault; true if the call came as far as that request.
    async fn increase_survives(&mut self, fault: Fault, at: usize) -> Result<bool, Stop> {
        let place = Place {
            call: "increase",
            at,
        };
        let request = self.request(1);
        self.wire.spoil(fault, at);
        let first = self.try_increase(&request).await;
        let is_tried = self.wire.asked().len() > at;
        self.wire.open();
        let first = first.map_err(|failure| place.failed(failure))?;
        if first.accepted > 1 {
            return Err(place.failed(format!("asked for one: {}", told(&first))));
        }
        if first.accepted == 0 {
            if fault == Fault::Slow {
                return Err(place.failed(format!("a slow answer is refused: {}", told(&first))));
            }
            if first.problems.is_empty() {
                return Err(place.failed("nothing is accepted, and no problem says why"));
            }
            let again = self.increase(&request).await?;
            if again.accepted != 1 {
                return Err(place.failed(format!(
                    "repeated without the fault: {}; next: finish what a token began",
                    told(&again)
                )));
            }
        }
        let expected = self.standing.instances.len() + 1;
        match self.settled(expected).await {
            Ok(_) => Ok(is_tried),
            Err(stop) => Err(place.failed(format!(
                "asked for one, and repeated with the same token: {}",
                stop.why()
            ))),
        }
    }

    async fn try_increase(
        &mut self,
        request: &IncreaseRequest,
    ) -> Result<IncreaseOutcome, CallFailure> {
        let Ok(seat) = self.seat().await else {
            return Err(CallFailure::NotCalled("it could not be started".to_owned()));
        };
        let outcome = seat.increase(request.clone()).await;
        if matches!(outcome, Err(CallFailure::OutcomeUnknown(_))) {
            self.seat = None;
        }
        outcome
    }

    /// Shrinks by the one that does not stand; true if the call came as far as that request.
    async fn decrease_survives(&mut self, fault: Fault, at: usize) -> Result<bool, Stop> {
        let place = Place {
            call: "decrease",
            at,
        };
        let snapshot = self.snapshot().await?;
        let others = self.others(&snapshot);
        self.wire.spoil(fault, at);
        let seat = self.seat().await?;
        let answer = seat.decrease(others.clone()).await;
        let is_tried = self.wire.asked().len() > at;
        self.wire.open();
        let removals = match answer {
            Ok(removals) => removals,
            // The contract has a refusal for each instance, and none for the call.
            Err(failure) => {
                self.seat = None;
                return Err(place.failed(failure));
            }
        };
        // Said again without the fault, by `restore`, the instance goes.
        let left = alive(&self.snapshot().await?);
        if left.len() < self.standing.instances.len() {
            return Err(place.failed("more instances went than were named"));
        }
        for (of, removal) in others.iter().zip(&removals) {
            match removal {
                Removal::Gone if left.iter().any(|there| there.id == of.id) => {
                    return Err(
                        place.failed("an instance that stands is called gone; next: refuse")
                    );
                }
                Removal::Refused(problem) if fault == Fault::Slow => {
                    return Err(place.failed(format!("a slow answer is refused: {problem}")));
                }
                _ => {}
            }
        }
        Ok(is_tried)
    }
}

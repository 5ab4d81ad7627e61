//! The group as the manager meets it: answers that are late, lost, refused, doubled, shuffled or half.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::dice::between;
use super::world::World;
use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceId,
    InstanceRef, InstanceState, Listed, Problem, ProblemKind, Removal, Snapshot,
};

pub(super) struct FaultyGroup(pub(super) Arc<World>);

fn problem(kind: ProblemKind, retry_after: Option<Duration>) -> Problem {
    Problem {
        kind,
        message: "drawn by the seed".into(),
        subject: None,
        code: None,
        retry_after,
    }
}

fn some_problem(draw: &mut StdRng) -> Problem {
    let kinds = [
        ProblemKind::Throttled,
        ProblemKind::Unavailable,
        ProblemKind::OutOfCapacity,
        ProblemKind::Quota,
        ProblemKind::Other,
    ];
    let kind = kinds[draw.random_range(0..kinds.len())];
    let after = draw.random_bool(0.3).then(|| between(draw, 0.0, 60.0));
    problem(kind, after)
}

fn unknown() -> CallFailure {
    CallFailure::OutcomeUnknown("the answer was lost".into())
}

/// How a call goes wrong.
#[derive(Clone, Debug)]
enum Fault {
    Refused(Problem),
    /// The answer is lost; whether the cloud acted all the same.
    Lost {
        acted: bool,
    },
    NotCalled,
    /// Not all of it, with or without a reason.
    Half {
        reason: bool,
    },
}

impl FaultyGroup {
    fn fault(&self, draw: &mut StdRng, rate: f64) -> Option<Fault> {
        if self.0.state().cloud.revoked {
            let problem = problem(ProblemKind::Unauthenticated, None);
            return Some(Fault::Refused(problem));
        }
        self.0
            .strikes(draw, rate)
            .then(|| match draw.random_range(0..8) {
                0..2 => Fault::Refused(some_problem(draw)),
                2..4 => Fault::Lost { acted: true },
                4..6 => Fault::Lost { acted: false },
                6 => Fault::NotCalled,
                _ => Fault::Half {
                    reason: draw.random_bool(0.7),
                },
            })
    }

    fn read_fails(&self, draw: &mut StdRng) -> Option<CallFailure> {
        Some(match self.fault(draw, self.0.climate.rates.update)? {
            Fault::Refused(problem) => CallFailure::Refused(problem),
            Fault::Lost { .. } | Fault::Half { .. } => unknown(),
            Fault::NotCalled => CallFailure::NotCalled("the plugin backs off".into()),
        })
    }
}

fn listed((id, state): (InstanceId, InstanceState)) -> Listed {
    Listed {
        id,
        state,
        created_at: None,
        pool: None,
        generation: None,
        interruption: None,
        reason: None,
        request: None,
        memo: String::new(),
        extras: Vec::new(),
    }
}

#[async_trait]
impl InstanceGroup for FaultyGroup {
    async fn open(&self) -> Result<Group, CallFailure> {
        let mut draw = self.0.draw("open");
        let failure = self.read_fails(&mut draw);
        sleep(self.0.delays(&mut draw)[0]).await;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Group {
                id: "fake/faulty".into(),
                max_size: None,
                owner: None,
                notices: Vec::new(),
            }),
        }
    }

    async fn update(&self) -> Result<Snapshot, CallFailure> {
        let begun = Instant::now();
        let mut draw = self.0.draw("update");
        let failure = self.read_fails(&mut draw);
        let [before, after] = self.0.delays(&mut draw);
        let hiccup = self.0.strikes(&mut draw, self.0.climate.rates.hiccup);
        let hiccup = hiccup.then(|| draw.random());
        sleep(before).await;
        let (mut shown, target) = {
            let mut state = self.0.state();
            let number = state.shown + 1;
            let hiccup = hiccup.filter(|_| failure.is_none());
            let shown = state.cloud.list(number, hiccup, Instant::now());
            (shown, state.cloud.target)
        };
        sleep(after).await;
        let mut state = self.0.state();
        if let Some(failure) = failure {
            state.promises.note(format_args!("update fails: {failure}"));
            return Err(failure);
        }
        shown.shuffle(&mut draw);
        let words: Vec<_> = shown.iter().map(|(id, s)| format!("{id} {s:?}")).collect();
        let words = words.join(", ");
        state
            .promises
            .note(format_args!("update: target {target:?}, {words}"));
        state.shown += 1;
        state.cloud.show(&shown, begun, Instant::now());
        if !shown.is_empty() && draw.random_bool(0.1) {
            shown.push(shown[0].clone());
        }
        Ok(Snapshot {
            instances: shown.into_iter().map(listed).collect(),
            target,
            ..Snapshot::default()
        })
    }

    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        let IncreaseRequest { token, count, .. } = request;
        let mut draw = self.0.draw("increase");
        let fault = self.fault(&mut draw, self.0.climate.rates.increase);
        let [before, after] = self.0.delays(&mut draw);
        self.0.state().increase(&token, count, Instant::now());
        sleep(before).await;
        let acted = match fault {
            None => Some(count),
            Some(Fault::Half { .. }) => Some(draw.random_range(0..count)),
            Some(Fault::Lost { acted: true }) => Some(draw.random_range(1..=count)),
            Some(Fault::Refused(_) | Fault::Lost { acted: false } | Fault::NotCalled) => None,
        };
        if let Some(acted) = acted {
            self.0.state().cloud.act(&token, acted, Instant::now());
        }
        sleep(after).await;
        let mut state = self.0.state();
        let words = format!("increase of {count} ends: {fault:?}, acted on {acted:?}");
        state.promises.note(words);
        let accepted = match fault {
            Some(Fault::Lost { .. }) => None,
            _ => Some(acted.unwrap_or(0)),
        };
        state
            .cloud
            .increase_ends(&token, count, accepted, Instant::now());
        let outcome = |accepted, problems| IncreaseOutcome {
            accepted,
            problems,
            ..IncreaseOutcome::default()
        };
        match fault {
            None => Ok(outcome(count, Vec::new())),
            Some(Fault::Half { reason }) => {
                let problems = reason.then(|| some_problem(&mut draw));
                Ok(outcome(acted.unwrap_or(0), problems.into_iter().collect()))
            }
            Some(Fault::Refused(problem)) if draw.random_bool(0.5) => Ok(outcome(0, vec![problem])),
            Some(Fault::Refused(problem)) => Err(CallFailure::Refused(problem)),
            Some(Fault::NotCalled) => Err(CallFailure::NotCalled("the plugin backs off".into())),
            Some(Fault::Lost { .. }) => Err(unknown()),
        }
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        assert!(instances.len() <= 50);
        let ids: Vec<_> = instances.into_iter().map(|of| of.id).collect();
        let mut draw = self.0.draw("decrease");
        let fault = self.fault(&mut draw, self.0.climate.rates.decrease);
        let [before, after] = self.0.delays(&mut draw);
        {
            let mut state = self.0.state();
            state.promises.decrease(&ids);
            state.cloud.decrease_begins(&ids);
        }
        sleep(before).await;
        let refused = |draw: &mut StdRng| match &fault {
            Some(Fault::Refused(_) | Fault::Lost { acted: false } | Fault::NotCalled) => true,
            Some(Fault::Half { reason: true }) => draw.random_bool(0.5),
            Some(Fault::Half { .. } | Fault::Lost { .. }) | None => false,
        };
        let mut answers = Vec::new();
        for id in &ids {
            if refused(&mut draw) {
                answers.push(Removal::Refused(some_problem(&mut draw)));
                continue;
            }
            let linger = between(&mut draw, 0.0, 40.0);
            let there = self.0.state().cloud.delete(id, linger, Instant::now());
            answers.push(if there {
                Removal::Accepted
            } else {
                Removal::Gone
            });
        }
        sleep(after).await;
        if let Some(Fault::Half { reason: false }) = fault {
            answers.truncate(draw.random_range(0..=answers.len()));
        }
        let accepted: Vec<_> = ids
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| matches!(answer, Removal::Accepted))
            .map(|(id, _)| id.clone())
            .collect();
        let mut state = self.0.state();
        state
            .promises
            .note(format_args!("decrease ends: {fault:?}, {answers:?}"));
        let lost = matches!(fault, Some(Fault::Lost { .. }));
        state.cloud.decrease_ends((!lost).then_some(&accepted));
        match fault {
            Some(Fault::Lost { .. }) => Err(unknown()),
            Some(Fault::NotCalled) => Err(CallFailure::NotCalled("the plugin backs off".into())),
            Some(Fault::Refused(problem)) if draw.random_bool(0.5) => {
                Err(CallFailure::Refused(problem))
            }
            _ => Ok(answers),
        }
    }

    async fn connect_info(&self, _: InstanceRef) -> Result<Connection, CallFailure> {
        Err(CallFailure::NotCalled("not needed here".into()))
    }

    async fn heartbeat(&self, of: InstanceRef) -> Result<(), CallFailure> {
        match self.0.state().is_lost(&of.id) {
            true => Err(CallFailure::Refused(problem(ProblemKind::NotFound, None))),
            false => Ok(()),
        }
    }

    async fn shutdown(&self, _: bool) -> Result<(), CallFailure> {
        Ok(())
    }

    fn granted(&self) -> watch::Receiver<u64> {
        self.0.granted.subscribe()
    }
}

//! Walks one job through its stages: acquires an instance, prepares beside fetching, runs, cleans up.
//!
//! ```text
//!   header ─ acquire ─┬─ ready_helper ─ prepare_script ─ get_sources ─┬─ step_* ─ after_script ─ cleanup stage ─ ended
//!                     └─ ready_build ─ closes prepare_executor ───────┘
//!   any time: cancel (ends the user's script alone, else the job), abort, timeout, shutdown (end everything)
//! ```
//!
//! Invariants: a job is a success only if every stage answered exit code 0; the executor is cleaned up on every way out
//! once it was acquired; `after_script` runs if and only if the user's steps were begun and nothing ended the whole job.

mod course;
mod interruption;
mod ownership;
mod preparation;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::flags::LOG_IMAGES;
use crate::config::usable::{self, Autoscaler};
use crate::coordinator::outcome::{FailureReason, Outcome, Signal};
use crate::docker::stage::{Addresses, Executor, Plan, StageFailure};

use super::log::{Gate, JobLog};
use super::plan::{self, Prepared, job_timeout};
use super::stage::failure_outcome;
use super::{Work, lines};
use course::Course;
use interruption::{Interruption, Watcher};

/// After so long a waiting job says what it waits for.
const SILENT_WAIT: Duration = Duration::from_secs(1);
const PREPARE: &str = "prepare_executor";

/// Why a job has nothing to run on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireProblem {
    /// No instance could be had; a sentence for the job log.
    #[error("{0}")]
    NoInstance(String),
    /// There is one, and what the job asks of Docker can be met on none.
    #[error(transparent)]
    Plan(#[from] StageFailure),
}

impl AcquireProblem {
    fn outcome(self) -> Outcome {
        match self {
            Self::NoInstance(message) => Outcome::Failed {
                reason: FailureReason::RunnerSystemFailure,
                exit_code: None,
                message,
            },
            Self::Plan(failure) => failure_outcome(None, failure),
        }
    }
}

/// What became of a job, and where it ran.
pub struct Ended<E> {
    pub outcome: Outcome,
    /// Still to be cleaned up: GitLab need not wait for that. `None` if the job never had one.
    pub executor: Option<E>,
}

/// Runs the job to its end. `acquire` is called once, with what the job asks of Docker; it is dropped if the job ends
/// before it answered, and must then give its slot back. Not cancel-safe: use `shutdown` to end it.
pub async fn run<E, A, F>(
    work: Work,
    log: Arc<dyn JobLog>,
    acquire: A,
    signals: watch::Receiver<Signal>,
    shutdown: CancellationToken,
) -> Ended<E>
where
    E: Executor,
    A: FnOnce(Plan) -> F,
    F: Future<Output = Result<E, AcquireProblem>>,
{
    let timeout = job_timeout(&work.payload);
    let watcher = Watcher::new(signals, shutdown, Instant::now() + timeout, timeout);
    let shown = Gate::open(&*log, work.payload.features.trace_sections);
    shown.line(lines::header(&work));
    let ended = walk(&work, &*log, &shown, acquire, watcher).await;
    shown.line(lines::ending(&ended.outcome));
    info!(job = work.payload.id, outcome = %ended.outcome, "job ended");
    ended
}

async fn walk<E, A, F>(
    work: &Work,
    log: &dyn JobLog,
    shown: &Gate,
    acquire: A,
    watcher: Watcher,
) -> Ended<E>
where
    E: Executor,
    A: FnOnce(Plan) -> F,
    F: Future<Output = Result<E, AcquireProblem>>,
{
    let nothing_used = |outcome| Ended {
        outcome,
        executor: None,
    };
    let prepared = match plan::prepare(work) {
        Ok(prepared) => prepared,
        Err(message) => {
            let reason = FailureReason::RunnerConfigurationError;
            return nothing_used(Outcome::Failed {
                reason,
                exit_code: None,
                message,
            });
        }
    };
    for warning in &prepared.warnings {
        shown.warning(warning);
    }
    if prepared.flags.is_on(LOG_IMAGES) {
        tell_images(work, &prepared);
    }
    let preparing = watcher.limited(work.runner.prepare_timeout, Interruption::PrepareTimedOut);
    let name = work.runner.executor.name();
    shown.section(PREPARE, &format!("Preparing the {name:?} executor"));
    let acquired = wait_for(acquire(prepared.plan.clone()), shown, &preparing).await;
    let executor = match acquired {
        Ok(executor) => executor,
        Err(outcome) => {
            shown.end_section(PREPARE);
            return nothing_used(outcome);
        }
    };
    info!(
        job = work.payload.id,
        instance = executor.instance(),
        "slot acquired"
    );
    if work.runner.executor == usable::Executor::DockerAutoscaler {
        shown.plain(&dialing(&work.runner.autoscaler, &executor));
        shown.plain(&format!("Instance {} connected", executor.instance()));
    }
    // More than the log takes is not worth holding.
    let limit = work.runner.output_limit;
    let held = Gate::closed(log, work.payload.features.trace_sections, limit);
    let course = Course {
        work,
        prepared: &prepared,
        log,
        shown,
        held,
        executor: &executor,
        watcher,
        preparing,
    };
    let outcome = course.walk().await;
    Ended {
        outcome,
        executor: Some(executor),
    }
}

/// `FF_LOG_IMAGES_CONFIGURED_FOR_JOB`: for the manager's log.
fn tell_images(work: &Work, prepared: &Prepared) {
    let services = work.payload.services.iter();
    let services: Vec<_> = services
        .map(|service| prepared.variables.expand(&service.name))
        .collect();
    info!(
        job = work.payload.id,
        image = prepared.plan.image.name,
        services = services.join(", "),
        "images of the job"
    );
}

/// GitLab Runner's line, with the addresses the operator wants in every job's log.
fn dialing(autoscaler: &Autoscaler, executor: &impl Executor) -> String {
    let Addresses { internal, external } = executor.addresses();
    let internal = internal.filter(|_| autoscaler.log_internal_ip);
    let external = external.filter(|_| autoscaler.log_external_ip);
    let parts: Vec<_> = [Some(executor.instance()), internal, external]
        .into_iter()
        .flatten()
        .collect();
    format!("Dialing instance {}...", parts.join(", "))
}

/// Waits for the instance; a wait that is not over at once is told to the user.
async fn wait_for<E>(
    acquire: impl Future<Output = Result<E, AcquireProblem>>,
    shown: &Gate,
    watcher: &Watcher,
) -> Result<E, Outcome> {
    let told = async {
        tokio::time::sleep(SILENT_WAIT).await;
        shown.plain("Waiting for an instance...");
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        acquired = acquire => acquired.map_err(AcquireProblem::outcome),
        why = watcher.interrupted(Signal::Cancel) => Err(why.outcome()),
        never = told => match never {},
    }
}

#[cfg(test)]
mod tests;

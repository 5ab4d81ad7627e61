//! One job from GitLab's payload to its accepted end: record, commit, trace, run, release, final update.
//!
//! ```text
//! payload ─► sealed record ─► PUT running ─► job::run (acquire, stages) ─► slot released ─► trace drains ─► record removed
//!                 │                 └─ refused: forgotten
//!                 └─ a crash from here on is reported by the next start
//! ```
//!
//! Invariant: the slot is given back before GitLab has accepted the end, so a slow GitLab never holds a paid instance.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::runner::{Permits, Serving};
use crate::coordinator::commit::{Commitment, commit};
use crate::coordinator::mask::Masks;
use crate::coordinator::outcome::{FailureReason, Outcome};
use crate::coordinator::payload::Job;
use crate::coordinator::pending::{JobRecord, PendingJob};
use crate::coordinator::trace::{Log, Report, Trace, TraceOptions};
use crate::docker::executor::DockerExecutor;
use crate::docker::readiness::Readiness;
use crate::docker::stage::{Output, Plan};
use crate::job::{self, AcquireProblem, Ended, JobLog, Work};
use crate::scaler::{Acquisition, Health, Reservation};

/// Removed by the sealed record's next start only: GitLab could not be told within the retry limit.
const SHUTDOWN_TEXT: &str = "the manager was stopped while this job ran";

/// Runs a job that GitLab just offered; returns when GitLab knows its end.
pub(super) async fn run(
    serving: Arc<Serving>,
    payload: Job,
    reservation: Reservation,
    permits: Permits,
) {
    let id = payload.id;
    info!(
        job = id,
        runner = serving.runner.name,
        project = payload.job_info.project_id,
        "job received"
    );
    let timestamps = serving.runner.feature_flags.get("FF_TIMESTAMPS").copied().unwrap_or(true);
    let record = JobRecord::new(
        &serving.runner.url,
        &serving.short_token,
        payload.clone(),
        timestamps,
    );
    let api = Arc::new(serving.client.clone());
    let (pending, canceled) = match commit(&*api, &serving.process.store, record).await {
        Commitment::Ours(pending) => (pending, false),
        Commitment::Canceled(pending) => (pending, true),
        Commitment::NotOurs(why) => {
            warn!(job = id, why, "job was not taken");
            return;
        }
    };
    let number = serving.numbers.take(());
    let project_number = serving.project_numbers.take(payload.job_info.project_id);
    let work = Work {
        payload: Arc::new(payload),
        runner: serving.runner.clone(),
        manager: serving.process.identity.clone(),
        short_token: serving.short_token.clone(),
        concurrent_id: number.value(),
        project_concurrent_id: project_number.value(),
    };
    let trace = match open_trace(&serving, &work, api, timestamps) {
        Ok(trace) => trace,
        Err(problem) => {
            error!(job = id, %problem, "job has no log and is failed");
            // Without its log no job is worth running; the record makes the next start tell GitLab again.
            return fail_without_log(&serving, &work, pending).await;
        }
    };
    let outcome = if canceled {
        drop((reservation, permits));
        Outcome::Failed {
            reason: FailureReason::JobCanceled,
            exit_code: None,
            message: "canceled before it began".to_owned(),
        }
    } else {
        carry_out(&serving, work, &trace, &pending, reservation, permits).await
    };
    drop((number, project_number));
    end(trace, pending, outcome).await;
}

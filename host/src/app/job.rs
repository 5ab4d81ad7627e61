//! One job from GitLab's payload to its accepted end: record, commit, trace, run, release, final update.
//!
//! ```text
//! payload ─► sealed record ─► PUT running ─► job::run (acquire, stages) ─► slot released ─► trace drains ─► record removed
//!                 │                 └─ refused: forgotten
//!                 └─ a crash from here on is reported by the next start
//! ```
//!
//! Invariant: the slot is given back before GitLab has accepted the end, so a slow GitLab never holds a paid instance.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Instrument as _, debug_span, error, info, warn};

use super::runner::{Permits, Serving};
use crate::config::flags;
use crate::config::usable;
use crate::coordinator::api::{JobApi, JobKey, Update, Updated};
use crate::coordinator::client::Client;
use crate::coordinator::commit::{Commitment, commit};
use crate::coordinator::mask::Masks;
use crate::coordinator::outcome::{FailureReason, Outcome};
use crate::coordinator::payload::Job;
use crate::coordinator::pending::{JobRecord, PendingJob};
use crate::coordinator::trace::{Report, Trace, TraceOptions, TraceProblem};
use crate::docker::executor::DockerExecutor;
use crate::docker::readiness::Readiness;
use crate::docker::stage::{Executor as _, Plan};
use crate::job::flags::Flags;
use crate::job::{self, AcquireProblem, Ended, Work, plan};
use crate::scaler::{Acquisition, Health, Reservation};

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
    let monitor = serving.process.monitor.clone();
    let queued = payload.job_info.time_in_queue_seconds;
    monitor.job_received(&serving, id, queued);
    let (flags, _) = Flags::read(&serving.runner, &payload.variables);
    let timestamps = flags.is_on(flags::TIMESTAMPS);
    let record = JobRecord::new(
        &serving.runner.url,
        &serving.short_token,
        payload.clone(),
        timestamps,
    );
    let api = Arc::new(serving.client.clone());
    let committing = commit(&*api, &serving.process.store, record);
    let committed = committing.instrument(debug_span!("step", step = "commit"));
    let (pending, canceled) = match committed.await {
        Commitment::Ours(pending) => (pending, false),
        Commitment::Canceled(pending) => (pending, true),
        Commitment::NotOurs(why) => {
            warn!(job = id, why, "job was not taken");
            monitor.job_not_taken(&serving, id, &why);
            return;
        }
        Commitment::Unheard(pending, why) => {
            drop((reservation, permits));
            warn!(
                job = id,
                why, "GitLab may believe that the job runs here; it is told that it failed"
            );
            pending.unheard(api).await;
            return;
        }
    };
    let number = serving.numbers.take(());
    let project_number = serving.project_numbers.take(payload.job_info.project_id);
    let work = Work {
        payload: Arc::new(payload),
        runner: serving.runner.clone(),
        manager: serving.process.identity.clone(),
        server_files: Arc::new(serving.client.server_files()),
        short_token: serving.short_token.clone(),
        concurrent_id: number.value(),
        project_concurrent_id: project_number.value(),
    };
    let trace = match open_trace(&serving, &work, api, &flags) {
        Ok(trace) => trace,
        Err(problem) => {
            error!(job = id, %problem, "job has no log and is failed");
            // Without its log no job is worth running; the record makes the next start tell GitLab again.
            return fail_without_log(serving, pending).await;
        }
    };
    monitor.job_started(&serving, id, queued);
    let started = Instant::now();
    let (outcome, place) = if canceled {
        drop(reservation);
        let outcome = Outcome::Failed {
            reason: FailureReason::JobCanceled,
            exit_code: None,
            message: "canceled before it began".to_owned(),
        };
        (outcome, None)
    } else {
        carry_out(serving.clone(), work, &trace, reservation).await
    };
    monitor.job_ended(&serving, id, started.elapsed(), &outcome);
    // GitLab hears of the end while the containers are removed; neither waits for the other.
    let leave = async {
        if let Some(place) = place {
            let leaving = place.leave(&serving, id);
            leaving
                .instrument(debug_span!("step", step = "cleanup"))
                .await;
        }
        drop((number, project_number, permits));
    };
    let end = end(trace, pending, outcome).instrument(debug_span!("step", step = "end"));
    tokio::join!(leave, end);
}

/// A slot, and what the job left on it.
struct Place {
    acquisition: Acquisition<Readiness>,
    executor: Option<DockerExecutor>,
}

impl Place {
    /// Cleans up and gives the slot back.
    async fn leave(self, serving: &Serving, job: u64) {
        let cleaned = match &self.executor {
            Some(executor) => executor.cleanup().await,
            None => Ok(()),
        };
        let instance = self.acquisition.instance().clone();
        let retired = cleaned.err().and_then(|left| {
            if serving.runner.executor == usable::Executor::Docker {
                // There is no other daemon to go to.
                warn!(
                    job,
                    left, "cleanup failed; next: remove by hand what is left in Docker"
                );
                return None;
            }
            warn!(job, %instance, left, "cleanup failed; the instance is not used again");
            Some(format!("cleanup after job {job} failed: {left}"))
        });
        let monitor = &serving.process.monitor;
        monitor.job_released(serving, job, &instance, retired.as_deref());
        self.acquisition
            .release(retired.map_or(Health::Good, Health::Retire));
    }
}

/// From waiting for a slot to the last stage's end.
async fn carry_out(
    serving: Arc<Serving>,
    work: Work,
    trace: &Trace,
    reservation: Reservation,
) -> (Outcome, Option<Place>) {
    let (hold, mut held) = oneshot::channel();
    let (waiting, id) = (serving.clone(), work.payload.id);
    let acquire = move |plan: Plan| async move {
        let acquiring = acquire(&waiting, id, reservation);
        let acquisition = acquiring
            .instrument(debug_span!("step", step = "acquire"))
            .await?;
        let (machine, slot) = (acquisition.machine().clone(), acquisition.slot());
        // Nobody to take it means that the job has ended: then the slot goes back at once.
        let _ = hold.send(acquisition);
        Ok(DockerExecutor::new(
            machine,
            slot,
            plan,
            waiting.runner.docker.clone(),
        )?)
    };
    let stopping = serving.process.shutdown.stopping().clone();
    let Ended { outcome, executor } =
        job::run(work, trace.log(), acquire, trace.signals(), stopping).await;
    let place = held.try_recv().ok().map(|acquisition| Place {
        acquisition,
        executor,
    });
    (outcome, place)
}

/// Waits for a slot, for `instance_acquire_timeout` at most.
async fn acquire(
    serving: &Serving,
    job: u64,
    reservation: Reservation,
) -> Result<Acquisition<Readiness>, AcquireProblem> {
    let limit = serving.runner.autoscaler.instance_acquire_timeout;
    let began = Instant::now();
    let acquired = match timeout(limit, serving.scaler.acquire(reservation)).await {
        Ok(acquired) => acquired.map_err(|problem| problem.to_string()),
        Err(_) => Err(format!(
            "no instance could be had within instance_acquire_timeout ({limit:?}): {}",
            why_none(serving)
        )),
    };
    let (monitor, waited) = (&serving.process.monitor, began.elapsed());
    match &acquired {
        Ok(acquisition) => monitor.job_acquired(serving, job, acquisition, waited),
        Err(why) => monitor.job_not_served(serving, job, why, waited),
    }
    acquired.map_err(AcquireProblem::NoInstance)
}

/// The fleet's own last word on why there is no slot.
fn why_none(serving: &Serving) -> String {
    let status = serving.scaler.status();
    let status = status.borrow();
    let problem = status
        .problem
        .clone()
        .or_else(|| status.last_decision.clone());
    problem.unwrap_or_else(|| "no decision was taken yet".to_owned())
}

/// Tells GitLab, and the record that it is told.
async fn end(trace: Trace, mut pending: PendingJob, outcome: Outcome) {
    let id = pending.record().job.id;
    let sent = trace.bytes_sent();
    let (report, written) =
        tokio::join!(trace.finish(outcome.clone()), pending.ended(&outcome, sent));
    if let Err(problem) = written {
        warn!(job = id, %problem, "end of the job was not written");
    }
    match report {
        Report::Accepted => info!(job = id, "end of the job accepted by GitLab"),
        Report::NoLongerWanted => info!(job = id, "GitLab had ended the job itself"),
        Report::GaveUp(why) => {
            error!(
                job = id,
                why, "GitLab was not told how the job ended; the next start tells it"
            );
            return;
        }
    }
    if let Err(problem) = pending.done().await {
        warn!(job = id, %problem, "record of an ended job was kept");
    }
}

/// A log that cannot be kept: the one update says so.
async fn fail_without_log(serving: Arc<Serving>, pending: PendingJob) {
    let key = JobKey::from(&pending.record().job);
    let update = Update::system_failure();
    match serving.client.update(&key, &update).await.verdict {
        Updated::Failed(why) | Updated::Unreached(why) => {
            warn!(
                job = key.id,
                why, "failure was not told; the next start tells it"
            );
        }
        _ => {
            if let Err(problem) = pending.done().await {
                warn!(job = key.id, %problem, "record of an ended job was kept");
            }
        }
    }
}

fn open_trace(
    serving: &Serving,
    work: &Work,
    api: Arc<Client>,
    flags: &Flags,
) -> Result<Trace, TraceProblem> {
    let payload = &work.payload;
    let prepared = plan::prepare(work).ok();
    // A refused payload may still quote a value in its refusal.
    let mut phrases = match &prepared {
        Some(prepared) => prepared.variables.masked(&payload.services),
        None => masked_as_sent(payload),
    };
    phrases.extend(work.server_files.secret_lines());
    let mut prefixes = payload.features.token_mask_prefixes.clone();
    if flags.is_on(flags::MASK_ALL_DEFAULT_TOKENS) {
        prefixes.extend(Masks::all_default_prefixes());
    }
    let masks = Masks {
        phrases,
        prefixes,
        grow: serving.runner.proxy_exec,
    };
    let options = TraceOptions {
        spool_dir: serving.process.spool_dir.clone(),
        limit_bytes: serving.runner.output_limit,
        timestamps: flags.is_on(flags::TIMESTAMPS),
        debug_trace: prepared.is_some_and(|p| p.settings.debug_trace || p.settings.debug_services),
        retry_limit: serving.runner.job_status_final_update_retry_limit,
    };
    Trace::open(api, payload, &masks, options)
}

fn masked_as_sent(payload: &Job) -> Vec<String> {
    let of_services = payload.services.iter().flat_map(|own| &own.variables);
    let all = payload.variables.iter().chain(of_services);
    let masked = all.filter(|variable| variable.masked);
    let values = masked.map(|variable| variable.value.clone());
    values.chain([payload.token.0.clone()]).collect()
}

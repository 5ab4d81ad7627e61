//! One job's log and end, as GitLab gets to know them.
//!
//! ```text
//! output(n) ─→ mask → encode → timestamps ─┐                  ┌─ PATCH every interval, PUT running after 30 s silence
//! output(m) ─→ mask → encode → timestamps ─┴→ spool ─→ Drain ─┤
//! finish(outcome) ─────────────────────────────────────→┘     └─ the rest, then PUT state until GitLab has it
//!                                 signals ←─ Job-Status ──┘
//! ```
//!
//! Invariants: the job's writer never waits for the network; `Drain` alone talks to GitLab and owns `sent`; the state
//! is sent only after all of the log was; a signal only ever moves forward.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::api::{Answer, Appended, JobApi, JobKey, LogProof, Update, Updated};
use super::log::Log;
use super::mask::Masks;
use super::outcome::{FailureReason, Outcome, Signal};
use super::output::Output;
use super::payload::Job;
use super::spool;
use super::update::{backoff, final_update};

pub use super::spool::clear;

/// GitLab changes it with `X-GitLab-Trace-Update-Interval`.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long the first output after a pause waits for more.
const COALESCE: Duration = Duration::from_millis(150);
/// GitLab takes a job for dead that it has not heard of for long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CHUNK: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// Made if missing.
    pub spool_dir: PathBuf,
    /// `output_limit` in bytes.
    pub limit_bytes: usize,
    /// `FF_TIMESTAMPS`.
    pub timestamps: bool,
    /// `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES`: GitLab then hides the log from those who may not see variables.
    pub debug_trace: bool,
    /// `job_status_final_update_retry_limit`.
    pub retry_limit: u32,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "job log cannot be kept in {dir}: {cause}; next: see that the manager's user may write there and the disk has room"
)]
pub struct TraceProblem {
    dir: String,
    cause: std::io::Error,
}

/// What became of the final update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    Accepted,
    /// GitLab had ended the job itself.
    NoLongerWanted,
    /// GitLab could not be told; the text says why the last try failed.
    GaveUp(String),
}

/// A job's log while the job runs. Dropped without `finish`, the job ends as a system failure.
pub struct Trace {
    log: Arc<Log>,
    signals: watch::Receiver<Signal>,
    sent: watch::Receiver<u64>,
    ending: oneshot::Sender<Outcome>,
    task: JoinHandle<Report>,
}

impl Trace {
    /// Makes the spool and begins to drain it.
    pub fn open(
        api: Arc<dyn JobApi>,
        job: &Job,
        masks: &Masks,
        options: TraceOptions,
    ) -> Result<Self, TraceProblem> {
        let (writer, reader) =
            spool::open(&options.spool_dir, options.limit_bytes).map_err(|cause| TraceProblem {
                dir: options.spool_dir.display().to_string(),
                cause,
            })?;
        let (signal, signals) = watch::channel(Signal::Run);
        let (sent, bytes_sent) = watch::channel(0);
        let (ending, ended) = oneshot::channel();
        let drain = Drain {
            api,
            key: job.into(),
            failure_reasons: job.features.failure_reasons.clone(),
            spool: reader,
            signal,
            debug: options.debug_trace,
            retry_limit: options.retry_limit,
            sent,
            interval: INTERVAL,
        };
        Ok(Self {
            log: Arc::new(Log::new(masks, options.timestamps, writer)),
            signals,
            sent: bytes_sent,
            ending,
            task: tokio::spawn(drain.run(ended)),
        })
    }

    /// See [`Log::output`].
    pub fn output(&self, number: u8) -> Arc<dyn Output> {
        self.log.output(number)
    }

    /// The writing side, for whoever runs the job.
    pub fn log(&self) -> Arc<Log> {
        self.log.clone()
    }

    pub fn signals(&self) -> watch::Receiver<Signal> {
        self.signals.clone()
    }

    /// Bytes of log that GitLab has.
    pub fn bytes_sent(&self) -> u64 {
        *self.sent.borrow()
    }

    /// Closes the log at once; the future is done when GitLab has been told or was given up. Dropping the future does
    /// not stop the telling.
    pub fn finish(self, outcome: Outcome) -> impl Future<Output = Report> + Send + 'static {
        self.log.close();
        let Self { ending, task, .. } = self;
        // The task outlives every sender, or it panicked, and then the join says so.
        let _ = ending.send(outcome);
        async {
            task.await
                .unwrap_or_else(|e| Report::GaveUp(format!("the log's task ended early: {e}")))
        }
    }
}

/// What one round of sending came to.
enum Sent {
    All,
    /// 404
    NotFound,
    /// 403
    Refused,
    Failed(String),
}

/// The one task that tells GitLab.
struct Drain {
    api: Arc<dyn JobApi>,
    key: JobKey,
    failure_reasons: Vec<String>,
    spool: spool::Reader,
    signal: watch::Sender<Signal>,
    debug: bool,
    retry_limit: u32,
    /// Bytes GitLab has, as far as it said.
    sent: watch::Sender<u64>,
    interval: Duration,
}

impl Drain {
    async fn run(mut self, mut ended: oneshot::Receiver<Outcome>) -> Report {
        let mut output_seen = Instant::now();
        let mut last_patch: Option<Instant> = None;
        let mut keep_alive = Instant::now() + KEEP_ALIVE;
        loop {
            let behind = self.spool.extent().length > self.sent();
            let coalesced = output_seen + COALESCE;
            let patch = last_patch.map_or(coalesced, |last| coalesced.max(last + self.interval));
            tokio::select! {
                biased;
                outcome = &mut ended => {
                    let outcome = outcome.unwrap_or_else(|_| lost());
                    return self.settle(&outcome).await;
                }
                () = self.spool.grown(), if !behind => output_seen = Instant::now(),
                () = tokio::time::sleep_until(patch), if behind => {
                    let sent = self.send_rest().await;
                    last_patch = Some(Instant::now());
                    if let Sent::All = sent {
                        keep_alive = Instant::now() + KEEP_ALIVE;
                    }
                }
                () = tokio::time::sleep_until(keep_alive) => {
                    self.say_running().await;
                    keep_alive = Instant::now() + KEEP_ALIVE;
                }
            }
        }
    }

    async fn say_running(&mut self) {
        let update = Update::running(Some(self.proof()));
        let answer = self.api.update(&self.key, &update).await;
        self.heed(&answer);
    }

    /// Sends what the log has now, in chunks.
    async fn send_rest(&mut self) -> Sent {
        let mut resynced = 0;
        while self.sent() < self.spool.extent().length {
            let bytes = match self.spool.read(self.sent(), CHUNK) {
                Ok(bytes) => bytes,
                Err(e) => return Sent::Failed(format!("job log cannot be read: {e}")),
            };
            let length = bytes.len() as u64;
            let answer = self
                .api
                .append(&self.key, self.sent(), bytes, self.debug)
                .await;
            self.heed(&answer);
            match answer.verdict {
                Appended::Accepted => self.sent.send_modify(|sent| *sent += length),
                Appended::Resync(has) => {
                    tracing::debug!(
                        job = self.key.id,
                        sent = self.sent(),
                        has,
                        "log offset corrected"
                    );
                    self.sent.send_replace(has.min(self.spool.extent().length));
                    resynced += 1;
                    if resynced > 2 {
                        return Sent::Failed(
                            "GitLab keeps asking for another part of the log".into(),
                        );
                    }
                }
                Appended::NotFound => return Sent::NotFound,
                Appended::Refused => return Sent::Refused,
                Appended::Failed(text) => {
                    tracing::debug!(job = self.key.id, error = text, "log not sent");
                    return Sent::Failed(text);
                }
            }
        }
        Sent::All
    }

    /// Sends the rest of the log, then the state, until GitLab has both.
    async fn settle(mut self, outcome: &Outcome) -> Report {
        if final_update(outcome, &self.failure_reasons, None).is_none() {
            return Report::NoLongerWanted;
        }
        let mut failures = 0;
        let mut log_gone = false;
        loop {
            let failure = match self.try_to_settle(outcome, &mut log_gone).await {
                Settled::Report(report) => return report,
                Settled::Pending(wait) => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Settled::LogInvalid => {
                    self.sent.send_replace(0);
                    "GitLab's copy of the log differs".to_owned()
                }
                Settled::Failed(text) => text,
            };
            failures += 1;
            if failures >= self.retry_limit.max(1) {
                tracing::warn!(
                    job = self.key.id,
                    attempts = failures,
                    error = failure,
                    "final update given up"
                );
                return Report::GaveUp(failure);
            }
            tracing::debug!(
                job = self.key.id,
                attempts = failures,
                error = failure,
                "final update failed"
            );
            tokio::time::sleep(backoff(failures)).await;
        }
    }

    async fn try_to_settle(&mut self, outcome: &Outcome, log_gone: &mut bool) -> Settled {
        if !*log_gone {
            match self.send_rest().await {
                Sent::All => {}
                Sent::NotFound => *log_gone = true,
                Sent::Refused => return Settled::Report(Report::NoLongerWanted),
                Sent::Failed(text) => return Settled::Failed(text),
            }
        }
        let Some(update) = final_update(outcome, &self.failure_reasons, Some(self.proof())) else {
            return Settled::Report(Report::NoLongerWanted);
        };
        let answer = self.api.update(&self.key, &update).await;
        self.heed(&answer);
        match answer.verdict {
            Updated::Succeeded => Settled::Report(Report::Accepted),
            // How often the log may be sent is another matter.
            Updated::Pending => Settled::Pending(answer.interval.unwrap_or(INTERVAL)),
            Updated::LogInvalid => Settled::LogInvalid,
            Updated::Gone(_) => Settled::Report(Report::NoLongerWanted),
            Updated::Conflict(text) | Updated::Unreached(text) | Updated::Failed(text) => {
                Settled::Failed(text)
            }
        }
    }

    fn sent(&self) -> u64 {
        *self.sent.borrow()
    }

    fn proof(&self) -> LogProof {
        let extent = self.spool.extent();
        LogProof {
            checksum: extent.checksum,
            bytes: extent.length,
        }
    }

    fn heed<V>(&mut self, answer: &Answer<V>) {
        if let Some(interval) = answer.interval {
            self.interval = interval;
        }
        let moved = self.signal.send_if_modified(|signal| {
            let forward = answer.signal > *signal;
            *signal = answer.signal.max(*signal);
            forward
        });
        if moved {
            tracing::info!(job = self.key.id, signal = ?answer.signal, "job ended by GitLab");
        }
    }
}

/// One try to settle.
enum Settled {
    Report(Report),
    /// To be asked again after so long.
    Pending(Duration),
    LogInvalid,
    Failed(String),
}

/// Whoever ran the job is gone without a word.
fn lost() -> Outcome {
    Outcome::Failed {
        reason: FailureReason::RunnerSystemFailure,
        exit_code: None,
        message: "the job's task ended without an outcome".into(),
    }
}

#[cfg(test)]
mod tests;

//! The second half of taking a job: GitLab offered it, we wrote it down, and GitLab confirms that it is ours.

use std::time::Duration;

use super::api::{JobApi, JobKey, Update, Updated};
use super::outcome::Signal;
use super::pending::{JobRecord, PendingJob};
use super::update::backoff;
use crate::store::Store;

/// GitLab gives an unconfirmed job to another runner after two minutes; nothing is confirmed close to that.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whose the job is now.
pub enum Commitment {
    /// Ours: run it.
    Ours(PendingJob),
    /// Ours, and its user has cancelled it: to be ended as `job_canceled`, without running.
    Canceled(PendingJob),
    /// Not ours: GitLab took it back, or nothing of us could be written or reach it. Nothing is left to do or to tell.
    NotOurs(String),
    /// GitLab may have taken "running", and did not say in time. Not to be run: by then it may give the job to another
    /// runner. Still to be told as a failure, which it refuses if the job is not ours.
    Unheard(PendingJob, String),
}

/// Writes the sealed record, then tells GitLab "running".
///
/// A job whose record cannot be written is not taken: a restart would lose it.
pub async fn commit(api: &dyn JobApi, store: &Store, record: JobRecord) -> Commitment {
    let key = JobKey::from(&record.job);
    let mut pending = match PendingJob::begin(store.clone(), record).await {
        Ok(pending) => pending,
        Err(problem) => return Commitment::NotOurs(problem.to_string()),
    };
    let started = tokio::time::Instant::now();
    let (mut attempt, mut reached) = (0, false);
    let refusal = loop {
        let answer = api.update(&key, &Update::running(None)).await;
        reached |= matches!(answer.verdict, Updated::Failed(_));
        match answer.verdict {
            Updated::Succeeded | Updated::Pending => {
                if let Err(problem) = pending.confirm().await {
                    // It runs all the same; after a crash GitLab would hear of it by its own timeout only.
                    tracing::warn!(job = key.id, %problem, "confirmation was not written");
                }
                return match answer.signal {
                    Signal::Cancel => Commitment::Canceled(pending),
                    _ => Commitment::Ours(pending),
                };
            }
            Updated::Gone(text) | Updated::Conflict(text) => break text,
            Updated::LogInvalid => break "GitLab has a log of this job already".to_owned(),
            Updated::Failed(text) | Updated::Unreached(text) => {
                attempt += 1;
                let wait = backoff(attempt);
                if started.elapsed() + wait > PATIENCE {
                    if reached {
                        return Commitment::Unheard(pending, text);
                    }
                    break text;
                }
                tokio::time::sleep(wait).await;
            }
        }
    };
    if let Err(problem) = pending.done().await {
        tracing::warn!(job = key.id, %problem, "record of a job not taken was kept");
    }
    Commitment::NotOurs(refusal)
}

#[cfg(test)]
mod tests;

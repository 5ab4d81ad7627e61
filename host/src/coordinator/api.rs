//! What the life of a job's log and state asks of GitLab, and what GitLab may answer; HTTP is not seen from here.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::outcome::{FailureReason, Signal};
use super::payload::{Job, JobToken};

/// What GitLab knows a job by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobKey {
    pub id: u64,
    pub token: JobToken,
}

impl From<&Job> for JobKey {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            token: job.token.clone(),
        }
    }
}

/// An answer about a running job. Any of them may say that the job is no longer wanted, or how often to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<V> {
    pub verdict: V,
    /// From `Job-Status`.
    pub signal: Signal,
    /// From `X-GitLab-Trace-Update-Interval`.
    pub interval: Option<Duration>,
}

/// What became of a piece of log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// 202
    Accepted,
    /// 416: GitLab has this many bytes.
    Resync(u64),
    /// 404: not fatal while the job runs.
    NotFound,
    /// 403: the job is over for GitLab.
    Refused,
    /// Anything else, or no answer; worth another try.
    Failed(String),
}

/// What became of a job's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Updated {
    /// 200
    Succeeded,
    /// 202: taken, but GitLab has not finished with the log; ask again.
    Pending,
    /// 412: GitLab's log differs from checksum or size; send it anew.
    LogInvalid,
    /// 403, 404, or `Job-Status: canceled` or `failed`: GitLab no longer wants to hear of it.
    Gone(String),
    /// 400, 409: the job is not in a state that allows this one.
    Conflict(String),
    /// No connection, so GitLab cannot have acted on it; worth another try.
    Unreached(String),
    /// Anything else, or no answer: whether GitLab acted on it is unknown; worth another try.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Success,
    Failed,
}

/// The whole log, for GitLab to check its own by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// CRC-32 (IEEE).
    pub checksum: u32,
    pub bytes: u64,
}

/// One `PUT jobs/:id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub state: JobState,
    /// As GitLab supports it already: see [`super::update`].
    pub failure_reason: Option<FailureReason>,
    pub exit_code: Option<i32>,
    pub log: Option<LogProof>,
}

impl Update {
    pub fn running(log: Option<LogProof>) -> Self {
        Self {
            state: JobState::Running,
            failure_reason: None,
            exit_code: None,
            log,
        }
    }

    /// The end of a job that never got as far as a log; every GitLab supports the reason.
    pub fn system_failure() -> Self {
        Self {
            state: JobState::Failed,
            failure_reason: Some(FailureReason::RunnerSystemFailure),
            ..Self::running(None)
        }
    }
}

/// GitLab, as one job sees it. Every call answers: what went wrong is in the verdict.
#[async_trait]
pub trait JobApi: Send + Sync + 'static {
    /// `PATCH jobs/:id/trace` with the bytes from `start` on; never called with none.
    async fn append(&self, job: &JobKey, start: u64, bytes: Bytes, debug: bool)
    -> Answer<Appended>;
    /// `PUT jobs/:id`.
    async fn update(&self, job: &JobKey, update: &Update) -> Answer<Updated>;
}

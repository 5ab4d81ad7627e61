//! GitLab's side of every job: states, logs, and the rules by which they change. Pure; HTTP is `api`'s.

use std::fmt;
use std::time::{Duration, Instant};

use super::JobId;
use super::job::{Job, Setting};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Queued,
    /// With the manager, which has not confirmed it: GitLab calls it pending and "waiting for runner ack".
    Given,
    Running,
    Canceling,
    Success,
    Failed,
    Canceled,
}

impl JobState {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Canceled)
    }

    /// `Ci::AuthJobFinder`: only then does GitLab listen to a job's runner.
    fn is_processing(self) -> bool {
        matches!(self, Self::Given | Self::Running | Self::Canceling)
    }
}

/// As GitLab's `Job-Status` header says it.
impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued | Self::Given => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        })
    }
}

/// One `PUT /jobs/:id` as received.
#[derive(Clone, Debug)]
pub struct Update {
    pub at: Instant,
    pub state: String,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
    pub checksum: Option<String>,
    pub bytesize: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct JobRecord {
    pub id: JobId,
    pub name: String,
    pub state: JobState,
    pub token: String,
    pub queued_at: Instant,
    pub given_at: Option<Instant>,
    pub confirmed_at: Option<Instant>,
    pub ended_at: Option<Instant>,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
    pub updates: Vec<Update>,
    pub log_bytes: Vec<u8>,
    /// When the log reached which length.
    pub growth: Vec<(Instant, usize)>,
    pub fetches: usize,
    gracefully: bool,
    final_put_seen: bool,
    job: Job,
}

impl JobRecord {
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log_bytes).into_owned()
    }

    /// When `text` had arrived whole.
    pub fn shown_at(&self, text: &str) -> Option<Instant> {
        let at = self
            .log_bytes
            .windows(text.len())
            .position(|window| window == text.as_bytes())?;
        let end = at + text.len();
        let (when, _) = self.growth.iter().find(|(_, length)| *length >= end)?;
        Some(*when)
    }

    /// The instance the log names, as GitLab Runner's does ("Dialing instance i-…").
    pub fn instance(&self) -> Option<String> {
        let log = self.log();
        let ids = log.match_indices("i-").map(|(at, _)| &log[at..]);
        ids.filter_map(|from| from.get(..19))
            .find(|id| id[2..].bytes().all(|byte| byte.is_ascii_hexdigit()))
            .map(str::to_owned)
    }
}

pub(super) struct Ledger {
    pub(super) runner_token: String,
    pub(super) runner_id: u64,
    jobs: Vec<JobRecord>,
    /// The runner queue's version: changes when a job is queued.
    pub(super) queue_version: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            runner_token: format!("glrt-{:020x}", rand::random::<u64>()),
            runner_id: 42,
            jobs: Vec::new(),
            queue_version: 1,
        }
    }
}

/// How an append or update went; the status is GitLab's.
pub(super) struct Verdict {
    pub(super) status: u16,
    pub(super) violation: Option<String>,
}

impl Verdict {
    fn plain(status: u16) -> Self {
        Self {
            status,
            violation: None,
        }
    }
}

impl Ledger {
    pub(super) fn queue(&mut self, job: Job) -> JobId {
        let id = JobId(1001 + self.jobs.len() as u64);
        self.queue_version += 1;
        self.jobs.push(JobRecord {
            id,
            name: job.name.clone(),
            state: JobState::Queued,
            token: format!("glcbt-64_{:016x}", rand::random::<u64>()),
            queued_at: Instant::now(),
            given_at: None,
            confirmed_at: None,
            ended_at: None,
            failure_reason: None,
            exit_code: None,
            updates: Vec::new(),
            log_bytes: Vec::new(),
            growth: Vec::new(),
            fetches: 0,
            gracefully: false,
            final_put_seen: false,
            job,
        });
        id
    }

    pub(super) fn jobs(&self) -> &[JobRecord] {
        &self.jobs
    }

    pub(super) fn job_mut(&mut self, id: JobId) -> Option<&mut JobRecord> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// `Ci::RegisterJobService`: the oldest pending job, given to a runner; with two-phase commit it stays pending.
    pub(super) fn give(
        &mut self,
        server: &str,
        project: &str,
        sha: &str,
        features: &serde_json::Value,
    ) -> Option<(JobId, serde_json::Value)> {
        let has = |name: &str| features[name].as_bool().unwrap_or(false);
        let job = self
            .jobs
            .iter_mut()
            .find(|job| job.state == JobState::Queued)?;
        let now = Instant::now();
        job.state = if has("two_phase_job_commit") {
            JobState::Given
        } else {
            JobState::Running
        };
        job.gracefully = has("cancel_gracefully");
        job.given_at = Some(now);
        let payload = job.job.payload(&Setting {
            id: job.id.0,
            token: &job.token,
            server,
            project,
            pipeline: super::git::PIPELINE,
            sha,
            queued_for: now - job.queued_at,
        });
        Some((job.id, payload))
    }

    /// `lib/api/ci/helpers/runner.rb`, `authenticate_job!`: no job and a wrong token are the same 403.
    pub(super) fn authenticate(
        &mut self,
        id: u64,
        token: &str,
    ) -> Result<&mut JobRecord, (&'static str, Option<JobState>)> {
        let Some(job) = self.job_mut(JobId(id)) else {
            return Err(("403 Forbidden", None));
        };
        if job.token != token {
            return Err(("403 Forbidden", None));
        }
        if !job.state.is_processing() {
            let state = job.state;
            return Err((
                "403 Forbidden - Job is not processing on runner",
                Some(state),
            ));
        }
        Ok(job)
    }

    pub(super) fn cancel(&mut self, id: JobId) -> Option<JobState> {
        let job = self.job_mut(id)?;
        match job.state {
            JobState::Running if job.gracefully => {
                job.state = JobState::Canceling;
                None
            }
            state if state.is_final() => None,
            _ => Some(job.end(JobState::Canceled)),
        }
    }

    pub(super) fn abort(&mut self, id: JobId) -> Option<JobState> {
        let job = self.job_mut(id)?;
        (!job.state.is_final()).then(|| job.end(JobState::Canceled))
    }
}

impl JobRecord {
    fn end(&mut self, state: JobState) -> JobState {
        self.state = state;
        self.ended_at = Some(Instant::now());
        state
    }

    /// `app/services/ci/append_build_trace_service.rb` over `Gitlab::Ci::Trace#append`: a part that does not begin where
    /// the log ends changes nothing and is answered 416 with the log's length.
    pub(super) fn append(&mut self, start: usize, end: Option<usize>, part: &[u8]) -> Verdict {
        if start != self.log_bytes.len() {
            return Verdict::plain(416);
        }
        self.log_bytes.extend_from_slice(part);
        self.growth.push((Instant::now(), self.log_bytes.len()));
        let violation = if part.is_empty() {
            Some("an empty part of the log was sent".to_owned())
        } else {
            // GitLab ignores the second number; GitLab Runner sends the last byte's index.
            (end != Some(start + part.len() - 1)).then(|| {
                format!(
                    "Content-Range ends at {end:?}, but the part's last byte is {}",
                    start + part.len() - 1
                )
            })
        };
        Verdict {
            status: 202,
            violation,
        }
    }

    /// `app/services/ci/update_build_state_service.rb`.
    pub(super) fn update(&mut self, update: Update) -> Verdict {
        let state = update.state.clone();
        self.updates.push(update.clone());
        if self.state == JobState::Given {
            // `handle_runner_ack_workflow`
            match state.as_str() {
                "pending" => return Verdict::plain(200),
                "running" => {
                    self.state = JobState::Running;
                    self.confirmed_at = Some(Instant::now());
                }
                _ => {
                    return Verdict {
                        status: 400,
                        violation: Some(format!("state {state:?} before the job was confirmed")),
                    };
                }
            }
        }
        match state.as_str() {
            "running" => Verdict::plain(200),
            "success" | "failed" => self.finish(&update),
            // `update_build_state!`, last branch
            _ => Verdict {
                status: 400,
                violation: Some(format!("unknown state {state:?}")),
            },
        }
    }

    fn finish(&mut self, update: &Update) -> Verdict {
        // `accept_build_state!`: parts of the log that are still in Redis are moved first; the runner asks again.
        if update.checksum.is_some() && !self.final_put_seen && !self.log_bytes.is_empty() {
            self.final_put_seen = true;
            return Verdict::plain(202);
        }
        let violation = self.judge(update);
        self.failure_reason = match (update.state.as_str(), &update.failure_reason) {
            ("failed", Some(reason)) if super::FAILURE_REASONS.contains(&reason.as_str()) => {
                Some(reason.clone())
            }
            // `failure_reason`: what GitLab does not know becomes this
            ("failed", _) => Some("unknown_failure".to_owned()),
            _ => None,
        };
        self.exit_code = update.exit_code;
        self.end(match (self.state, update.state.as_str()) {
            (JobState::Canceling, _) => JobState::Canceled,
            (_, "success") => JobState::Success,
            _ => JobState::Failed,
        });
        Verdict {
            status: 200,
            violation,
        }
    }

    /// `validate_build_trace!` only logs what is wrong here; a story fails on it.
    fn judge(&self, update: &Update) -> Option<String> {
        let checksum = format!("crc32:{:08x}", crc32fast::hash(&self.log_bytes));
        let length = self.log_bytes.len() as u64;
        // GitLab compares only what it is told: a manager that found the job in its records has no log to sum up.
        if update
            .checksum
            .as_deref()
            .is_some_and(|told| told != checksum)
        {
            return Some(format!(
                "final checksum of job {} is {:?}, the log's is {checksum}",
                self.id, update.checksum
            ));
        }
        if update.bytesize.is_some_and(|told| told != length) {
            return Some(format!(
                "final size of job {} is {:?}, the log's is {length}",
                self.id, update.bytesize
            ));
        }
        match (&update.failure_reason, update.state.as_str()) {
            (Some(reason), "failed") if !super::FAILURE_REASONS.contains(&reason.as_str()) => {
                Some(format!("failure reason {reason:?} is not one of GitLab's"))
            }
            (None, "failed") => Some("a failed job without a failure reason".to_owned()),
            (Some(reason), "success") => Some(format!("a successful job with reason {reason:?}")),
            _ => None,
        }
    }

    /// Time between being queued and being given.
    pub fn waited(&self) -> Option<Duration> {
        Some(self.given_at? - self.queued_at)
    }
}

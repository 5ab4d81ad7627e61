//! Jobs that a restart must still answer for: sealed records, written before GitLab hears "running".
//!
//! ```text
//! begin ─→ unconfirmed ─ confirm ─→ confirmed ─→ ended ─→ done (removed)
//!     start    │ silence                 │ start             │ start
//!      ┌───────┴───────┐                 ▼                   ▼
//!      ▼               ▼        runner_system_failure    how it ended     to GitLab, then removed
//!  forgotten       unheard: runner_system_failure, if GitLab took it after all
//! ```
//!
//! An unconfirmed job is GitLab's still: it gives it to another runner. So it does with an unheard one, unless it took
//! the confirmation whose answer was lost: of such a job it is told the end alone, and its refusal settles it. A record is removed only when GitLab has
//! answered, so that a start that cannot reach GitLab leaves the telling to the next one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::api::{Appended, JobApi, JobKey, Updated};
use super::outcome::{FailureReason, Outcome};
use super::output::Stream;
use super::payload::Job;
use super::timestamps::Timestamps;
use super::trace::Report;
use super::update::{backoff, final_update};
use crate::config::server_url::ServerUrl;
use crate::store::{Store, StoreProblem};

const KIND: &str = "job";
const MESSAGE: &str = "the manager stopped while this job ran";
const UNHEARD: &str = "GitLab did not answer when this job was to begin; it did not run";
const LOG_CUT: &str = "the manager stopped before it had sent the end of this log";
/// Hours, with the waits of a final update.
const ATTEMPTS: u32 = 14;
/// GitLab is to hear within 10 seconds of a start, and may itself be starting.
const FIRST_WAITS: Duration = Duration::from_secs(2);

/// All that a later start needs. Sealed: it holds the job's token and variables.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    /// GitLab's address.
    pub url: String,
    /// Short token of the runner that took it.
    pub runner: String,
    pub job: Job,
    /// `PUT state=running` was answered with yes.
    pub confirmed: bool,
    /// Bytes of log that GitLab had at the last change of this record; GitLab corrects it.
    #[serde(default)]
    pub bytes_sent: u64,
    /// The log's lines carry timestamps.
    #[serde(default)]
    pub timestamps: bool,
    /// How the job ended, once it had: it is not to run again because GitLab was not told in time.
    #[serde(default)]
    pub ended: Option<Outcome>,
    /// Whether GitLab took the confirmation is unknown; the job never ran.
    #[serde(default)]
    pub unheard: bool,
}

impl JobRecord {
    pub fn new(url: &ServerUrl, runner: &str, job: Job, timestamps: bool) -> Self {
        Self {
            url: url.with_login().to_string(),
            runner: runner.to_owned(),
            job,
            confirmed: false,
            bytes_sent: 0,
            timestamps,
            ended: None,
            unheard: false,
        }
    }

    /// GitLab's address as it may be shown.
    fn shown_url(&self) -> String {
        let url = self.url.parse::<ServerUrl>();
        url.map_or_else(|_| "an unreadable address".into(), |url| url.to_string())
    }

    /// Whether GitLab believes the job to run here, or may.
    fn is_gitlabs_to_hear(&self) -> bool {
        self.confirmed || self.unheard
    }

    fn name(&self) -> String {
        // Job IDs are one GitLab's own.
        let url = self.shown_url();
        let address = url.split_once("://").map_or("", |(_, rest)| rest);
        let host: String = address
            .trim_end_matches('/')
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        format!("{}-{host}", self.job.id)
    }
}

/// A job's record while the job lives.
pub struct PendingJob {
    store: Store,
    record: JobRecord,
}

impl PendingJob {
    /// Durable when it returns.
    pub async fn begin(store: Store, record: JobRecord) -> Result<Self, StoreProblem> {
        let pending = Self { store, record };
        pending.write().await?;
        Ok(pending)
    }

    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    pub async fn confirm(&mut self) -> Result<(), StoreProblem> {
        self.record.confirmed = true;
        self.write().await
    }

    /// GitLab may have taken "running", and did not say. Answers once it has been told, or was given up.
    pub async fn unheard(mut self, api: Arc<dyn JobApi>) -> Report {
        self.record.unheard = true;
        if let Err(problem) = self.write().await {
            tracing::warn!(job = self.record.job.id, %problem, "a job GitLab may believe to run here was not written down");
        }
        let name = self.record.name();
        tell(self.store, name, self.record, api).await
    }

    /// To be written beside the final update, not before it.
    pub async fn ended(&mut self, outcome: &Outcome, bytes_sent: u64) -> Result<(), StoreProblem> {
        self.record.ended = Some(outcome.clone());
        self.record.bytes_sent = bytes_sent;
        self.write().await
    }

    /// GitLab knows how the job ended, or never will want to.
    pub async fn done(self) -> Result<(), StoreProblem> {
        let name = self.record.name();
        blocking(move || self.store.remove(KIND, &name)).await
    }

    async fn write(&self) -> Result<(), StoreProblem> {
        let (store, name) = (self.store.clone(), self.record.name());
        let bytes = serde_json::to_vec(&self.record).map_err(|e| {
            StoreProblem(format!(
                "record of job {} not encoded: {e}",
                self.record.job.id
            ))
        })?;
        blocking(move || store.write_sealed(KIND, &name, &bytes)).await
    }
}

/// The store waits for the disk, which no async task may do.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreProblem> + Send + 'static,
) -> Result<T, StoreProblem> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(StoreProblem(format!("state was not kept: {e}"))))
}

/// A confirmed job that the last process left behind. Its containers are the caller's to remove.
pub struct Left {
    pub record: JobRecord,
    /// What GitLab said; it is being told already.
    pub report: JoinHandle<Report>,
}

/// IDs of the jobs that GitLab believes to run here and does not know the end of.
pub fn untold(store: &Store) -> Vec<u64> {
    let names = store.list(KIND).unwrap_or_default();
    let records = names.iter().filter_map(|name| read(store, name).ok()?);
    let mut ids: Vec<u64> = records
        .filter(JobRecord::is_gitlabs_to_hear)
        .map(|record| record.job.id)
        .collect();
    ids.sort_unstable();
    ids
}

/// Reads what the last process left, forgets what was never confirmed, and begins to tell GitLab of the rest. Problems
/// are records that cannot be read, each with what to do next. `api` gives the client for a record's GitLab.
pub fn recover(
    store: &Store,
    api: impl Fn(&JobRecord) -> Result<Arc<dyn JobApi>, String>,
) -> (Vec<Left>, Vec<StoreProblem>) {
    let (mut left, mut problems) = (Vec::new(), Vec::new());
    let names = store.list(KIND).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    for name in names {
        match read(store, &name) {
            Ok(None) => {}
            Ok(Some(record)) if !record.is_gitlabs_to_hear() => {
                tracing::info!(job = record.job.id, "unconfirmed job forgotten");
                problems.extend(store.remove(KIND, &name).err());
            }
            Ok(Some(record)) => match api(&record) {
                Ok(api) => {
                    tracing::info!(job = record.job.id, "job left by the last process found");
                    let report = tokio::spawn(tell(store.clone(), name, record.clone(), api));
                    left.push(Left { record, report });
                }
                Err(text) => problems.push(StoreProblem(format!(
                    "GitLab at {} cannot be told of job {}: {text}",
                    record.shown_url(),
                    record.job.id
                ))),
            },
            Err(problem) => problems.push(problem),
        }
    }
    (left, problems)
}

fn read(store: &Store, name: &str) -> Result<Option<JobRecord>, StoreProblem> {
    let Some(bytes) = store.read_sealed(KIND, name)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        StoreProblem(format!(
            "record {KIND}/{name} cannot be read (line {} column {}); next: start the version that wrote it, or remove \
             the file to leave its job to GitLab's own timeout",
            e.line(),
            e.column()
        ))
    })
}

async fn tell(store: Store, name: String, record: JobRecord, api: Arc<dyn JobApi>) -> Report {
    let report = insist(&store, &name, &record, &*api).await;
    match &report {
        Report::Accepted | Report::NoLongerWanted => {
            tracing::info!(job = record.job.id, ?report, "left job settled");
        }
        Report::GaveUp(why) => {
            tracing::error!(
                job = record.job.id,
                why,
                "GitLab was not told of a left job; the next start tells it"
            );
        }
    }
    if matches!(report, Report::Accepted | Report::NoLongerWanted)
        && !given_again(&store, &name, &record).await
        && let Err(problem) = blocking(move || store.remove(KIND, &name)).await
    {
        tracing::warn!(job = record.job.id, %problem, "record of a settled job was kept");
    }
    report
}

/// Whether GitLab gave an unheard job to this manager once more: its record is the new job's now, and the old one must
/// not be told to have failed.
async fn given_again(store: &Store, name: &str, record: &JobRecord) -> bool {
    if !record.unheard {
        return false;
    }
    let (store, name) = (store.clone(), name.to_owned());
    let now = blocking(move || read(&store, &name)).await;
    matches!(now, Ok(Some(now)) if !now.unheard)
}

async fn insist(store: &Store, name: &str, record: &JobRecord, api: &dyn JobApi) -> Report {
    let key = JobKey::from(&record.job);
    let outcome = record.ended.clone().unwrap_or_else(|| Outcome::Failed {
        reason: FailureReason::RunnerSystemFailure,
        exit_code: None,
        message: if record.unheard { UNHEARD } else { MESSAGE }.into(),
    });
    // No proof of the log: what GitLab has of it is all there is.
    let Some(update) = final_update(&outcome, &record.job.features.failure_reasons, None) else {
        return Report::NoLongerWanted;
    };
    // The log of an unheard job may be another runner's by now.
    let mut line_due = !record.unheard;
    let mut failures = 0;
    loop {
        if given_again(store, name, record).await {
            return Report::NoLongerWanted;
        }
        if line_due {
            line_due = !add_line(record, &key, api).await;
        }
        let failure = match api.update(&key, &update).await.verdict {
            Updated::Succeeded | Updated::Pending => return Report::Accepted,
            Updated::Gone(_) => return Report::NoLongerWanted,
            // It had not taken the confirmation.
            Updated::Conflict(_) if record.unheard => return Report::NoLongerWanted,
            Updated::LogInvalid => "GitLab refused the log".to_owned(),
            Updated::Conflict(text) | Updated::Unreached(text) | Updated::Failed(text) => text,
        };
        failures += 1;
        if failures == ATTEMPTS {
            return Report::GaveUp(failure);
        }
        let wait = backoff(failures);
        tokio::time::sleep(if failures <= 5 {
            wait.min(FIRST_WAITS)
        } else {
            wait
        })
        .await;
    }
}

/// Appends why the job ended, at the place GitLab says its log ends. True when there is no use in another try.
async fn add_line(record: &JobRecord, key: &JobKey, api: &dyn JobApi) -> bool {
    let line = line(record);
    let mut start = record.bytes_sent;
    for _ in 0..3 {
        match api.append(key, start, line.clone(), false).await.verdict {
            Appended::Resync(has) => start = has,
            Appended::Accepted | Appended::NotFound | Appended::Refused => return true,
            Appended::Failed(_) => return false,
        }
    }
    false
}

/// On a line of its own: the log may end within one.
fn line(record: &JobRecord) -> Bytes {
    let text = match record.ended {
        None => format!("\x1b[31;1mERROR: Job failed (system failure): {MESSAGE}\x1b[0;m\n"),
        Some(_) => format!("\x1b[0;33mWARNING: {LOG_CUT}\x1b[0;m\n"),
    };
    let mut out = b"\n".to_vec();
    if record.timestamps {
        Timestamps::new(0, Stream::Out).write(SystemTime::now(), text.as_bytes(), &mut out);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.into()
}

#[cfg(test)]
mod tests;

//! A strict GitLab on a real socket: the job API, git over HTTP, faults on order, and a record of everything received.
//!
//! ```text
//! queued ──request──► given ──PUT running──► running ──PUT success|failed──► success | failed
//!                       │                       │ cancel ──► canceling ──PUT failed|success──► canceled
//!                       └────────abort──────────┴──abort──► canceled
//! ```
//!
//! Refusals are GitLab's own; each names the file that refuses. What GitLab would silently bear but no correct runner
//! does (a log whose checksum is wrong, a request after the end) is recorded as a [`Fact::Violation`], which fails a story.

mod api;
mod fault;
mod front;
mod git;
pub mod job;
mod ledger;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

pub use fault::{Endpoint, Fault};
pub use front::Certificates;
pub use ledger::{JobRecord, JobState, Update};

use crate::journal::{Fact, Journal};
use front::Front;
use job::Job;
use ledger::Ledger;

/// `Enums::Ci::CommitStatus.failure_reasons`: those a runner may send.
pub(crate) const FAILURE_REASONS: &[&str] = &[
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "runner_unsupported",
    "image_pull_failure",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_interrupted",
    "job_canceled",
];

/// GitLab's are 3 while somebody watches the log and 60 otherwise.
const TRACE_INTERVAL: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// How GitLab is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Plain,
    /// With TLS, and only to those who show a certificate of the lab's own authority.
    Secured,
}

/// The server; it stops when this is dropped.
pub struct Coordinator {
    shared: Arc<Shared>,
    certificates: Option<Certificates>,
    server: tokio::task::JoinHandle<()>,
}

/// What every request sees.
struct Shared {
    ledger: Mutex<Ledger>,
    /// Seconds between two parts of a log, as every answer says.
    trace_interval: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    journal: Journal,
    url: String,
    repository: git::Repository,
}

impl Shared {
    /// Held for the length of one request's bookkeeping, never across an await.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn violation(&self, text: impl Into<String>) {
        self.journal.record(Fact::Violation(text.into()));
    }
}

impl Coordinator {
    /// Listens on a free port of `address`; keeps its git repository in `dir`.
    pub async fn start(
        address: IpAddr,
        dir: &Path,
        journal: Journal,
        speech: Speech,
    ) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(SocketAddr::new(address, 0))
            .await
            .with_context(|| format!("the lab's GitLab cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let (certificates, url) = match speech {
            Speech::Plain => (None, format!("http://{address}")),
            Speech::Secured => {
                let made = Certificates::make(dir.join("gitlab-tls"), &address).await?;
                (Some(made), format!("https://{address}"))
            }
        };
        let shared = Arc::new(Shared {
            ledger: Mutex::default(),
            trace_interval: AtomicU64::new(TRACE_INTERVAL),
            faults: Mutex::default(),
            repository: git::Repository::create(dir)?,
            journal,
            url,
        });
        let router = api::router(Arc::clone(&shared));
        // Each ends only with its task: a listener that was bound does not fail for good.
        let server = match &certificates {
            None => tokio::spawn(async { drop(axum::serve(listener, router).await) }),
            Some(certificates) => {
                let front = Front::before(listener, certificates)?;
                tokio::spawn(async { drop(axum::serve(front, router).await) })
            }
        };
        Ok(Self {
            shared,
            certificates,
            server,
        })
    }

    /// Of one that is secured.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// What the runner must present; see `Ci::Runner.find_by_token`.
    pub fn runner_token(&self) -> String {
        self.shared.ledger().runner_token.clone()
    }

    /// The runner is deleted on GitLab's side: its token is refused from now on.
    pub fn forget_runner(&self) {
        self.shared.ledger().runner_token = "glrt-deleted-and-made-anew".to_owned();
    }

    /// From now on parts of logs are to come so far apart.
    pub fn trace_interval(&self, seconds: u64) {
        let interval = &self.shared.trace_interval;
        interval.store(seconds, Ordering::Relaxed);
    }

    /// A user pushes a file of `bytes` that do not compress; jobs queued from now on are for that commit. Answers it.
    pub fn push(&self, name: &str, bytes: usize) -> Result<String> {
        self.shared.repository.push(name, bytes)
    }

    /// The repository's url with a deploy token in it, for whoever fetches without a job.
    pub fn deploy_url(&self) -> String {
        let repository = &self.shared.repository;
        let login = format!("://{}@", repository.deploy_login);
        let url = self.shared.url.replacen("://", &login, 1);
        format!("{url}/{}.git", git::PROJECT)
    }

    pub fn queue(&self, job: Job) -> JobId {
        let name = job.name.clone();
        let id = self.shared.ledger().queue(job);
        self.shared.journal.record(Fact::JobQueued(id, name));
        id
    }

    /// All jobs in the order they were queued.
    pub fn jobs(&self) -> Vec<JobRecord> {
        self.shared.ledger().jobs().to_vec()
    }

    /// # Panics
    /// When no such job was queued.
    pub fn job(&self, id: JobId) -> JobRecord {
        let ledger = self.shared.ledger();
        let found = ledger.jobs().iter().find(|job| job.id == id).cloned();
        found.unwrap_or_else(|| panic!("job {id} was never queued"))
    }

    /// A user presses "cancel": GitLab waits for the runner if the runner can cancel gracefully.
    pub fn cancel(&self, id: JobId) {
        self.end(id, Ledger::cancel);
    }

    /// The job is cancelled for good: GitLab no longer listens to its runner.
    pub fn abort(&self, id: JobId) {
        self.end(id, Ledger::abort);
    }

    fn end(&self, id: JobId, how: fn(&mut Ledger, JobId) -> Option<JobState>) {
        let ended = how(&mut self.shared.ledger(), id);
        if let Some(state) = ended {
            self.shared
                .journal
                .record(Fact::JobEnded(id, state.to_string()));
        }
    }

    /// From now on answers as the fault says, until it is used up.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults().push(fault);
    }

    /// As if no fault had been ordered; what hangs already goes on hanging.
    pub fn recover(&self) {
        self.shared.faults().clear();
    }

    /// Everything no correct runner does; empty at the end of a good story.
    pub fn violations(&self) -> Vec<String> {
        let entries = self.shared.journal.entries();
        entries
            .into_iter()
            .filter_map(|entry| match entry.fact {
                Fact::Violation(text) => Some(text),
                _ => None,
            })
            .collect()
    }

    /// Waits until all these jobs ended; the error shows the log of one that did not.
    pub async fn ended(&self, ids: &[JobId], within: Duration) -> Result<Vec<JobRecord>> {
        // Asked at every step of the journal: a log of 100 MB is copied only once.
        let over = |id: &JobId| {
            let ledger = self.shared.ledger();
            let job = ledger.jobs().iter().find(|job| job.id == *id);
            job.is_some_and(|job| job.state.is_final())
        };
        let all = || {
            let ended = ids.iter().all(over);
            ended.then(|| ids.iter().map(|id| self.job(*id)).collect())
        };
        self.shared
            .journal
            .until("every job's end", within, all)
            .await
            .with_context(|| {
                let open = ids
                    .iter()
                    .map(|id| self.job(*id))
                    .find(|j| !j.state.is_final());
                open.map(|job| {
                    format!(
                        "job {} ({}) is {}; its log:\n{}",
                        job.id,
                        job.name,
                        job.state,
                        job.log()
                    )
                })
                .unwrap_or_default()
            })
    }

    /// Waits until a job's log contains `text`.
    pub async fn shows(&self, id: JobId, text: &str, within: Duration) -> Result<()> {
        let shown = || self.job(id).log().contains(text).then_some(());
        self.shared
            .journal
            .until(&format!("{text:?} in the log of job {id}"), within, shown)
            .await
            .with_context(|| format!("its log:\n{}", self.job(id).log()))
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

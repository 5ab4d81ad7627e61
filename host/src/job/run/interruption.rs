//! What can end a stage before its time: three wishes of others, and two clocks.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::scalars::GoDuration;
use crate::coordinator::outcome::{FailureReason, Outcome, Signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// The user's wish; `after_script` still runs if the user's steps were begun.
    Canceled,
    /// GitLab does not know the job any more.
    Aborted,
    /// The job took longer than this.
    TimedOut(Duration),
    /// `prepare_timeout`.
    PrepareTimedOut(Duration),
    /// `get_sources_timeout`.
    SourcesTimedOut(Duration),
    /// A limit of the user's own on the stage; the job goes on to `after_script`.
    StageTimedOut(Duration),
    Shutdown,
}

impl Interruption {
    pub(super) fn outcome(self) -> Outcome {
        // GitLab Runner's words, which people search for.
        let overdue = |limit: Duration, whose: &str| {
            let limit = GoDuration::from(limit);
            let message = format!("execution took longer than {limit} seconds{whose}");
            (FailureReason::JobExecutionTimeout, message)
        };
        let (reason, message) = match self {
            Self::Aborted => return Outcome::Abandoned,
            Self::Canceled => (FailureReason::JobCanceled, "canceled".into()),
            Self::TimedOut(limit) | Self::StageTimedOut(limit) => overdue(limit, ""),
            Self::PrepareTimedOut(limit) => overdue(limit, " (prepare_timeout of this runner)"),
            Self::SourcesTimedOut(limit) => overdue(limit, " (get_sources_timeout of this runner)"),
            Self::Shutdown => (
                FailureReason::RunnerSystemFailure,
                "the manager was stopped while this job ran".into(),
            ),
        };
        Outcome::Failed {
            reason,
            exit_code: None,
            message,
        }
    }

    /// Whether no further stage runs.
    pub(super) fn ends_everything(self) -> bool {
        !matches!(self, Self::Canceled | Self::StageTimedOut(_))
    }
}

#[derive(Clone)]
pub(super) struct Watcher {
    signals: watch::Receiver<Signal>,
    shutdown: CancellationToken,
    deadline: Instant,
    /// What comes of the deadline.
    overdue: Interruption,
}

impl Watcher {
    pub(super) fn new(
        signals: watch::Receiver<Signal>,
        shutdown: CancellationToken,
        deadline: Instant,
        timeout: Duration,
    ) -> Self {
        Self {
            signals,
            shutdown,
            deadline,
            overdue: Interruption::TimedOut(timeout),
        }
    }

    /// The same with a deadline of its own from now on, unless the one it has comes first.
    pub(super) fn limited(
        &self,
        limit: Option<Duration>,
        overdue: fn(Duration) -> Interruption,
    ) -> Self {
        let mut limited = self.clone();
        if let Some(limit) = limit {
            let deadline = Instant::now() + limit;
            if deadline < self.deadline {
                (limited.deadline, limited.overdue) = (deadline, overdue(limit));
            }
        }
        limited
    }

    /// Waits for an interruption; of signals only `least` and graver ones count. Cancel-safe.
    pub(super) async fn interrupted(&self, least: Signal) -> Interruption {
        let mut signals = self.signals.clone();
        let signalled = async move {
            match signals
                .wait_for(|signal| *signal >= least)
                .await
                .map(|signal| *signal)
            {
                Ok(Signal::Abort) => Interruption::Aborted,
                Ok(_) => Interruption::Canceled,
                // Nobody is left who could signal.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = signalled => why,
            () = self.shutdown.cancelled() => Interruption::Shutdown,
            () = sleep_until(self.deadline) => self.overdue,
        }
    }
}

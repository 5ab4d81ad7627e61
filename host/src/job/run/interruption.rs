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
    /// A limit of the user's own on the stage; the job goes on to `after_script`.
    StageTimedOut(Duration),
    Shutdown,
}

impl Interruption {
    pub(super) fn outcome(self) -> Outcome {
        let (reason, message) = match self {
            Self::Aborted => return Outcome::Abandoned,
            Self::Canceled => (FailureReason::JobCanceled, "canceled".into()),
            Self::TimedOut(limit) | Self::StageTimedOut(limit) => (
                FailureReason::JobExecutionTimeout,
                // GitLab Runner's words, which people search for.
                format!(
                    "execution took longer than {} seconds",
                    GoDuration::from(limit)
                ),
            ),
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
        matches!(self, Self::Aborted | Self::TimedOut(_) | Self::Shutdown)
    }
}

#[derive(Clone)]
pub(super) struct Watcher {
    signals: watch::Receiver<Signal>,
    shutdown: CancellationToken,
    deadline: Instant,
    timeout: Duration,
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
            timeout,
        }
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
            () = sleep_until(self.deadline) => Interruption::TimedOut(self.timeout),
        }
    }
}

//! Until a job's own script can run: containers made ready, sources fetched beside it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{Instrument as _, debug_span};

use super::PREPARE;
use super::course::{Bounds, Course, Stop};
use super::interruption::Interruption;
use crate::config::flags::EXPONENTIAL_BACKOFF;
use crate::coordinator::outcome::Signal;
use crate::docker::stage::{Executor, Place, StageFailure};
use crate::job::log::Gate;
use crate::job::script::{sources, steps};
use crate::job::stage::{Stage, failure_outcome};

const PREPARE_TRIES: u32 = 3;
const PREPARE_PAUSE: Duration = Duration::from_secs(3);
/// Between tries to fetch the sources: the first pause, which doubles, and the longest.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// The same without `FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY`.
const SHORT_RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

impl<E: Executor> Course<'_, E> {
    /// Readies B while H fetches the sources, and shows it as one after the other.
    pub(super) async fn prepare(&self) -> Result<(), Stop> {
        let build_notes = Gate::closed(self.log, false, self.work.runner.output_limit);
        let (helper_is_ready, helper_ready) = oneshot::channel();
        let build = async {
            let built = self.ready(&build_notes, Place::Build).await;
            if helper_ready.await.is_err() {
                // The helper failed, and its failure is the one to tell.
                std::future::pending::<()>().await;
            }
            built
        };
        let helper = async {
            self.ready(self.shown, Place::Helper).await?;
            build_notes.release();
            // Whoever does not listen any more has ended before.
            let _ = helper_is_ready.send(());
            match self.sources().await {
                Err(Stop::Outcome(outcome)) => Err(Stop::SourcesFailed(outcome)),
                ended => ended,
            }
        };
        tokio::pin!(build, helper);
        let (built, fetched) = tokio::select! {
            built = &mut build => (Some(built), None),
            fetched = &mut helper => (None, Some(fetched)),
        };
        let built = match (&fetched, built) {
            (_, Some(built)) => built,
            (Some(Ok(())), None) => build.await,
            // Nothing is worth pulling for any more.
            (_, None) => Ok(()),
        };
        self.shown.end_section(PREPARE);
        // A failed preparation is the end of the log: what the helper printed meanwhile stays unseen.
        built?;
        self.held.release();
        match fetched {
            Some(fetched) => fetched,
            None => helper.await,
        }
    }

    /// Up to three tries, for failures that a new try may help.
    async fn ready(&self, gate: &Gate, place: Place) -> Result<(), Stop> {
        for left in (0..PREPARE_TRIES).rev() {
            let attempt = match place {
                Place::Helper => self.executor.ready_helper(gate.notes()),
                Place::Build => self.executor.ready_build(gate.notes(), gate.services()),
            };
            let failure = tokio::select! {
                biased;
                why = self.preparing.interrupted(Signal::Cancel) => return Err(Stop::Interrupted(why)),
                readied = attempt.instrument(debug_span!("step", stage = PREPARE, step = ?place)) => match readied {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                },
            };
            let again = matches!(failure, StageFailure::Failed { retry: true, .. }) && left > 0;
            if !again {
                return Err(Stop::Outcome(failure_outcome(None, failure)));
            }
            gate.error(&format!("Preparation failed: {failure}"));
            gate.info(&format!(
                "Will be retried in {}s ...",
                PREPARE_PAUSE.as_secs()
            ));
            tokio::select! {
                why = self.preparing.interrupted(Signal::Cancel) => return Err(Stop::Interrupted(why)),
                () = sleep(PREPARE_PAUSE) => {}
            }
        }
        Err(Stop::Outcome(failure_outcome(None, StageFailure::Stopped)))
    }

    async fn sources(&self) -> Result<(), Stop> {
        let prepared = self.prepared;
        let body = steps::prepare(&prepared.variables, &self.work.manager.hostname);
        let bounds = self.bounds(Signal::Cancel);
        self.stage(&Stage::PrepareScript, &body, &self.held, &bounds)
            .await?;
        let limit = self.work.runner.get_sources_timeout;
        let bounds = Bounds {
            least: Signal::Cancel,
            watcher: self.watcher.limited(limit, Interruption::SourcesTimedOut),
        };
        let (mut pause, longest) = match prepared.flags.is_on(EXPONENTIAL_BACKOFF) {
            true => RETRY_PAUSES,
            false => SHORT_RETRY_PAUSES,
        };
        for left in (0..prepared.settings.get_sources_attempts).rev() {
            let body = sources::get_sources(self.work, prepared);
            match self
                .stage(&Stage::GetSources, &body, &self.held, &bounds)
                .await
            {
                Err(Stop::Outcome(_)) if left > 0 => {}
                ended => return ended,
            }
            tokio::select! {
                why = bounds.watcher.interrupted(Signal::Cancel) => return Err(Stop::Interrupted(why)),
                () = sleep(pause) => pause = (pause * 2).min(longest),
            }
            let body = sources::clear_worktree(&prepared.directories);
            let cleared = self
                .stage(&Stage::ClearWorktree, &body, &self.held, &bounds)
                .await;
            // A work tree that could not be cleared is for the next try to judge.
            if let Err(stop @ Stop::Interrupted(_)) = cleared {
                return Err(stop);
            }
        }
        Ok(())
    }
}

//! One job's way through its stages on an acquired executor.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::PREPARE;
use super::interruption::{Interruption, Watcher};
use crate::coordinator::outcome::{Outcome, Signal};
use crate::coordinator::payload::Step;
use crate::docker::stage::{Executor, Place, StageFailure, StageScript};
use crate::job::Work;
use crate::job::log::{Gate, JobLog};
use crate::job::plan::Prepared;
use crate::job::script::{Body, sources, steps};
use crate::job::stage::{JobStatus, Stage, exit_outcome, failure_outcome};
use crate::job::variables::Variables;

const PREPARE_TRIES: u32 = 3;
const PREPARE_PAUSE: Duration = Duration::from_secs(3);
/// How long a stopped stage may take to end before the job goes on without it.
const STOP_WAIT: Duration = Duration::from_secs(300);
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const RETRY_PAUSE_MOST: Duration = Duration::from_secs(300);

pub(super) struct Course<'a, E> {
    pub(super) work: &'a Work,
    pub(super) prepared: &'a Prepared,
    pub(super) log: &'a dyn JobLog,
    pub(super) shown: &'a Gate,
    /// The helper's stages while the build container is being prepared.
    pub(super) held: Gate,
    pub(super) executor: &'a E,
    pub(super) watcher: Watcher,
}

/// Why a stage is not followed by the next.
enum Stop {
    Outcome(Outcome),
    SourcesFailed(Outcome),
    Interrupted(Interruption),
}

impl Stop {
    fn outcome(self) -> Outcome {
        match self {
            Self::Outcome(outcome) | Self::SourcesFailed(outcome) => outcome,
            Self::Interrupted(why) => why.outcome(),
        }
    }
}

/// How a stage is to be run.
struct Bounds {
    /// Of signals, which one ends it.
    least: Signal,
    /// When the stage's own limit is over, and what that limit is.
    limit: Option<(Instant, Duration)>,
}

impl<E: Executor> Course<'_, E> {
    pub(super) async fn walk(&self) -> Outcome {
        match self.prepare().await {
            Ok(()) => {}
            Err(Stop::SourcesFailed(outcome)) => {
                let variables = &self.prepared.variables;
                return self.clean_up(variables, Signal::Cancel, outcome).await;
            }
            Err(stop) => return stop.outcome(),
        }
        let (mut outcome, mut least) = (Outcome::Success, Signal::Cancel);
        if let Err(stop) = self.user_script().await {
            match stop {
                Stop::Interrupted(why) if why.ends_everything() => return why.outcome(),
                Stop::Interrupted(why) => self.tell(why),
                _ => {}
            }
            if matches!(stop, Stop::Interrupted(Interruption::Canceled)) {
                least = Signal::Abort;
            }
            outcome = stop.outcome();
        }
        let mut variables = self.prepared.variables.clone();
        variables.set("CI_JOB_STATUS", JobStatus::of(&outcome).as_str());
        match self.after_script(&variables).await {
            Err(Stop::Interrupted(why)) if why.ends_everything() => return why.outcome(),
            Err(stop)
                if outcome == Outcome::Success
                    && !self.prepared.settings.after_script_ignore_errors =>
            {
                outcome = stop.outcome();
            }
            _ => {}
        }
        self.clean_up(&variables, least, outcome).await
    }

    /// The last stage changes an outcome only where GitLab does not want it any more.
    async fn clean_up(&self, variables: &Variables, least: Signal, outcome: Outcome) -> Outcome {
        let stage = Stage::CleanupFileVariables;
        let bounds = Bounds { least, limit: None };
        match self
            .stage(&stage, &steps::cleanup(variables), self.shown, &bounds)
            .await
        {
            Err(Stop::Interrupted(why @ Interruption::Aborted)) => why.outcome(),
            Err(stop) => {
                debug!(job = self.work.payload.id, ended = ?stop.outcome(), "cleanup stage failed");
                outcome
            }
            Ok(()) => outcome,
        }
    }

    /// Readies B while H fetches the sources, and shows it as one after the other.
    async fn prepare(&self) -> Result<(), Stop> {
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
                why = self.watcher.interrupted(Signal::Cancel) => return Err(Stop::Interrupted(why)),
                readied = attempt => match readied {
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
                why = self.watcher.interrupted(Signal::Cancel) => return Err(Stop::Interrupted(why)),
                () = sleep(PREPARE_PAUSE) => {}
            }
        }
        Err(Stop::Outcome(failure_outcome(None, StageFailure::Stopped)))
    }

    async fn sources(&self) -> Result<(), Stop> {
        let prepared = self.prepared;
        let bounds = Bounds {
            least: Signal::Cancel,
            limit: None,
        };
        let body = steps::prepare(&prepared.variables, &self.work.manager.hostname);
        self.stage(&Stage::PrepareScript, &body, &self.held, &bounds)
            .await?;
        let mut pause = RETRY_PAUSE;
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
                why = self.watcher.interrupted(Signal::Cancel) => return Err(Stop::Interrupted(why)),
                () = sleep(pause) => pause = (pause * 2).min(RETRY_PAUSE_MOST),
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

    async fn user_script(&self) -> Result<(), Stop> {
        let prepared = self.prepared;
        let timeout = prepared.settings.script_timeout;
        let limit = timeout.map(|timeout| (Instant::now() + timeout, timeout));
        let bounds = Bounds {
            least: Signal::Cancel,
            limit,
        };
        for step in self
            .work
            .payload
            .steps
            .iter()
            .filter(|step| step.name != "after_script")
        {
            let project = &prepared.directories.project;
            let body = steps::step(step, &prepared.variables, project, &self.work.runner);
            if let Some(body) = body {
                let stage = Stage::Step(step.name.clone());
                self.with_new_containers(&stage, &body, &bounds).await?;
            }
        }
        Ok(())
    }

    async fn after_script(&self, variables: &Variables) -> Result<(), Stop> {
        let is_after = |step: &&Step| step.name == "after_script";
        let Some(step) = self.work.payload.steps.iter().find(is_after) else {
            return Ok(());
        };
        let body = steps::after_script(step, variables, &self.prepared.directories.project);
        let Some(body) = body else {
            return Ok(());
        };
        let timeout = self.prepared.settings.after_script_timeout;
        let limit = Some((Instant::now() + timeout, timeout));
        let bounds = Bounds {
            least: Signal::Abort,
            limit,
        };
        let ended = self
            .with_new_containers(&Stage::AfterScript, &body, &bounds)
            .await;
        if let Err(Stop::Interrupted(why @ Interruption::StageTimedOut(_))) = &ended {
            self.tell(*why);
        }
        ended
    }

    /// Runs a stage in B, again if its container vanished under it and the job allows it.
    async fn with_new_containers(
        &self,
        stage: &Stage,
        body: &Body,
        bounds: &Bounds,
    ) -> Result<(), Stop> {
        let attempts = self.prepared.settings.section_attempts;
        for left in (0..attempts).rev() {
            self.shown.section(&stage.name(), &stage.title());
            let ran = self.script(stage, body, self.shown, bounds).await;
            self.shown.end_section(&stage.name());
            match ran {
                Ok(code) => return judged(stage, code),
                Err(Broken::Interrupted(why)) => return Err(Stop::Interrupted(why)),
                Err(Broken::Failed(StageFailure::ContainerVanished(id))) if left > 0 => {
                    let line = format!("Container {id:?} not found or removed. Will retry...");
                    self.shown.warning(&line);
                    self.shown.info(&format!("Retrying {}", stage.name()));
                }
                Err(Broken::Failed(failure)) => {
                    if attempts > 1 {
                        self.shown.error("Execution attempts exceeded");
                    }
                    return Err(Stop::Outcome(failure_outcome(Some(stage), failure)));
                }
            }
        }
        Ok(())
    }

    async fn stage(
        &self,
        stage: &Stage,
        body: &Body,
        gate: &Gate,
        bounds: &Bounds,
    ) -> Result<(), Stop> {
        gate.section(&stage.name(), &stage.title());
        let ran = self.script(stage, body, gate, bounds).await;
        gate.end_section(&stage.name());
        match ran {
            Ok(code) => judged(stage, code),
            Err(Broken::Interrupted(why)) => Err(Stop::Interrupted(why)),
            Err(Broken::Failed(failure)) => {
                Err(Stop::Outcome(failure_outcome(Some(stage), failure)))
            }
        }
    }

    async fn script(
        &self,
        stage: &Stage,
        body: &Body,
        gate: &Gate,
        bounds: &Bounds,
    ) -> Result<i32, Broken> {
        let begin_mark = format!("fleetling-begin-{:032x}", rand::random::<u128>());
        let text = body.script(&begin_mark, self.prepared.settings.debug_trace);
        let script = StageScript {
            name: stage.name(),
            place: stage.place(),
            text,
            begin_mark,
        };
        let stop = CancellationToken::new();
        let running = self.executor.run(script, gate.scripts(), stop.clone());
        tokio::pin!(running);
        let limit = async {
            match bounds.limit {
                None => std::future::pending().await,
                Some((at, limit)) => {
                    sleep_until(at).await;
                    Interruption::StageTimedOut(limit)
                }
            }
        };
        let why = tokio::select! {
            biased;
            ran = &mut running => return ran.map_err(Broken::Failed),
            why = self.watcher.interrupted(bounds.least) => why,
            why = limit => why,
        };
        stop.cancel();
        // Where nothing runs behind it, the cleanup ends what is left.
        if why.ends_everything() {
            return Err(Broken::Interrupted(why));
        }
        let graver = tokio::select! {
            biased;
            why = self.watcher.interrupted(Signal::Abort) => Some(why),
            _ = timeout(STOP_WAIT, running) => None,
        };
        Err(Broken::Interrupted(graver.unwrap_or(why)))
    }

    fn tell(&self, why: Interruption) {
        match why {
            Interruption::Canceled => self.shown.warning("script canceled externally (UI, API)"),
            Interruption::StageTimedOut(_) => self.shown.warning(
                "the stage could not run to completion because its timeout was exceeded; \
                 RUNNER_SCRIPT_TIMEOUT and RUNNER_AFTER_SCRIPT_TIMEOUT set it",
            ),
            _ => {}
        }
    }
}

enum Broken {
    Interrupted(Interruption),
    Failed(StageFailure),
}

fn judged(stage: &Stage, code: i32) -> Result<(), Stop> {
    match exit_outcome(stage, code) {
        Outcome::Success => Ok(()),
        outcome => Err(Stop::Outcome(outcome)),
    }
}

//! One job's way through its stages on an acquired executor.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span};

use super::interruption::{Interruption, Watcher};
use crate::coordinator::outcome::{Outcome, Signal};
use crate::coordinator::payload::Step;
use crate::docker::stage::{Executor, Output, StageFailure, StageScript};
use crate::job::Work;
use crate::job::lines;
use crate::job::log::{Gate, JobLog};
use crate::job::plan::Prepared;
use crate::job::script::{Body, Style, steps};
use crate::job::stage::{JobStatus, Stage, exit_outcome, failure_outcome};
use crate::job::variables::Variables;

/// How long a stopped stage may take to end before the job goes on without it.
const STOP_WAIT: Duration = Duration::from_secs(300);

pub(super) struct Course<'a, E> {
    pub(super) work: &'a Work,
    pub(super) prepared: &'a Prepared,
    pub(super) log: &'a dyn JobLog,
    pub(super) shown: &'a Gate,
    /// The helper's stages while the build container is being prepared.
    pub(super) held: Gate,
    pub(super) executor: &'a E,
    pub(super) watcher: Watcher,
    /// Until the containers are ready.
    pub(super) preparing: Watcher,
}

/// Why a stage is not followed by the next.
pub(super) enum Stop {
    Outcome(Outcome),
    SourcesFailed(Outcome),
    Interrupted(Interruption),
}

impl Stop {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Outcome(outcome) | Self::SourcesFailed(outcome) => outcome,
            Self::Interrupted(why) => why.outcome(),
        }
    }
}

/// What ends a stage before its time.
pub(super) struct Bounds {
    /// Of signals, which one.
    pub(super) least: Signal,
    /// With the stage's own limit, where it has one.
    pub(super) watcher: Watcher,
}

impl<E: Executor> Course<'_, E> {
    pub(super) async fn walk(&self) -> Outcome {
        let readied = match self.prepare().await {
            Ok(()) => self.hand_over().await,
            stopped => stopped,
        };
        match readied {
            Ok(()) => {}
            Err(Stop::SourcesFailed(outcome)) => {
                return self.clean_up(Signal::Cancel, outcome).await;
            }
            Err(stop) => return stop.outcome(),
        }
        let (mut outcome, mut least) = (Outcome::Success, Signal::Cancel);
        if let Err(stop) = self.user_script().await {
            match stop {
                Stop::Interrupted(why) if why.ends_everything() => return why.outcome(),
                Stop::Interrupted(why) => self.tell("script", why),
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
            Ok(()) => {}
            Err(Stop::Interrupted(why)) if why.ends_everything() => return why.outcome(),
            Err(stop) if self.prepared.settings.after_script_ignore_errors => {
                self.shown.warning(&format!(
                    "after_script failed, but job will continue unaffected: {}",
                    message(&stop.outcome())
                ));
            }
            Err(stop) if outcome == Outcome::Success => outcome = stop.outcome(),
            Err(_) => {}
        }
        self.clean_up(least, outcome).await
    }

    /// The last stage changes an outcome only where GitLab does not want it any more.
    async fn clean_up(&self, least: Signal, outcome: Outcome) -> Outcome {
        let stage = Stage::CleanupFileVariables;
        let bounds = self.bounds(least);
        let body = steps::cleanup(self.work, self.prepared);
        match self.stage(&stage, &body, self.shown, &bounds).await {
            Err(Stop::Interrupted(why @ Interruption::Aborted)) => why.outcome(),
            Err(stop) => {
                debug!(job = self.work.payload.id, ended = ?stop.outcome(), "cleanup stage failed");
                outcome
            }
            Ok(()) => outcome,
        }
    }

    async fn user_script(&self) -> Result<(), Stop> {
        if let Some(options) = &self.work.payload.policy_options {
            self.shown.line(lines::policy(options));
        }
        let limit = self.prepared.settings.script_timeout;
        let bounds = Bounds {
            least: Signal::Cancel,
            watcher: self.watcher.limited(limit, Interruption::StageTimedOut),
        };
        for step in self
            .work
            .payload
            .steps
            .iter()
            .filter(|step| step.name != "after_script")
        {
            if let Some(body) = steps::step(step, self.work, self.prepared) {
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
        let Some(body) = steps::after_script(step, self.work, self.prepared, variables) else {
            return Ok(());
        };
        let limit = Some(self.prepared.settings.after_script_timeout);
        let bounds = Bounds {
            least: Signal::Abort,
            watcher: self.watcher.limited(limit, Interruption::StageTimedOut),
        };
        let ended = self
            .with_new_containers(&Stage::AfterScript, &body, &bounds)
            .await;
        if let Err(Stop::Interrupted(why @ Interruption::StageTimedOut(_))) = &ended {
            self.tell("after_script", *why);
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

    pub(super) fn bounds(&self, least: Signal) -> Bounds {
        Bounds {
            least,
            watcher: self.watcher.clone(),
        }
    }

    pub(super) async fn stage(
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
        let style = Style::of(self.work, self.prepared);
        let script = StageScript::new(stage.name(), stage.place(), |mark| body.script(mark, style));
        let span = debug_span!("step", stage = script.name);
        let running = self.run(script, gate.scripts(), bounds);
        running.instrument(span).await
    }

    /// Answers the exit code.
    pub(super) async fn run(
        &self,
        script: StageScript,
        output: Arc<dyn Output>,
        bounds: &Bounds,
    ) -> Result<i32, Broken> {
        let stop = CancellationToken::new();
        let running = self.executor.run(script, output, stop.clone());
        tokio::pin!(running);
        let why = tokio::select! {
            biased;
            ran = &mut running => return ran.map_err(Broken::Failed),
            why = bounds.watcher.interrupted(bounds.least) => why,
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

    fn tell(&self, what: &str, why: Interruption) {
        match why {
            Interruption::Canceled => self.shown.warning("script canceled externally (UI, API)"),
            Interruption::StageTimedOut(_) => self.shown.warning(&format!(
                "{what} could not run to completion because the timeout was exceeded; \
                 RUNNER_SCRIPT_TIMEOUT and RUNNER_AFTER_SCRIPT_TIMEOUT set it"
            )),
            _ => {}
        }
    }
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { message, .. } => message,
        _ => "",
    }
}

pub(super) enum Broken {
    Interrupted(Interruption),
    Failed(StageFailure),
}

fn judged(stage: &Stage, code: i32) -> Result<(), Stop> {
    match exit_outcome(stage, code) {
        Outcome::Success => Ok(()),
        outcome => Err(Stop::Outcome(outcome)),
    }
}

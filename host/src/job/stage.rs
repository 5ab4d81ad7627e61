//! GitLab's stages: their names, titles, places, and which reasons their failures have.

use crate::coordinator::outcome::{FailureReason, Outcome};
use crate::docker::stage::{Place, StageFailure};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    PrepareScript,
    GetSources,
    /// Before the second and each further try of `GetSources`.
    ClearWorktree,
    /// A step of the payload by its lower-case name: `script`, `release`.
    Step(String),
    AfterScript,
    CleanupFileVariables,
}

impl Stage {
    /// As GitLab knows it, and as sections are called.
    pub fn name(&self) -> String {
        match self {
            Self::PrepareScript => "prepare_script".into(),
            Self::GetSources => "get_sources".into(),
            Self::ClearWorktree => "clear_worktree".into(),
            Self::Step(name) => format!("step_{}", name.to_lowercase()),
            Self::AfterScript => "after_script".into(),
            Self::CleanupFileVariables => "cleanup_file_variables".into(),
        }
    }

    /// The section's first line.
    pub fn title(&self) -> String {
        match self {
            Self::PrepareScript => "Preparing environment".into(),
            Self::GetSources => "Getting source from Git repository".into(),
            Self::ClearWorktree => {
                "Deleting all tracked and untracked files due to source fetch failure".into()
            }
            Self::Step(_) => format!("Executing \"{}\" stage of the job script", self.name()),
            Self::AfterScript => "Running after_script".into(),
            Self::CleanupFileVariables => {
                "Cleaning up project directory and file based variables".into()
            }
        }
    }

    pub fn place(&self) -> Place {
        match self {
            Self::Step(_) | Self::AfterScript => Place::Build,
            _ => Place::Helper,
        }
    }
}

/// `CI_JOB_STATUS` in `after_script`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    Success,
    Failed,
    Canceled,
    TimedOut,
}

impl JobStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedout",
        }
    }

    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Abandoned => Self::Canceled,
            Outcome::Failed { reason, .. } => match reason {
                FailureReason::JobCanceled => Self::Canceled,
                FailureReason::JobExecutionTimeout => Self::TimedOut,
                _ => Self::Failed,
            },
        }
    }
}

/// What a stage's exit code means for the job.
pub fn exit_outcome(stage: &Stage, code: i32) -> Outcome {
    match (code, stage) {
        (0, _) => Outcome::Success,
        // A helper that cannot even say where it runs is ours to mend, not the user's.
        (code, Stage::PrepareScript) => Outcome::Failed {
            reason: FailureReason::RunnerSystemFailure,
            exit_code: None,
            message: format!("prepare environment: exit code {code}"),
        },
        (code, _) => Outcome::Failed {
            reason: FailureReason::ScriptFailure,
            exit_code: Some(code),
            message: format!("exit code {code}"),
        },
    }
}

/// What a stage that could not be carried through means for the job.
pub fn failure_outcome(stage: Option<&Stage>, failure: StageFailure) -> Outcome {
    let (reason, message) = match failure {
        StageFailure::Failed {
            reason, message, ..
        } => (reason, message),
        vanished @ StageFailure::ContainerVanished(_) => {
            (FailureReason::RunnerSystemFailure, vanished.to_string())
        }
        StageFailure::Stopped => (
            FailureReason::RunnerSystemFailure,
            "the stage was stopped".into(),
        ),
    };
    let message = match stage {
        Some(Stage::PrepareScript) => format!("prepare environment: {message}"),
        _ => message,
    };
    Outcome::Failed {
        reason,
        exit_code: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_are_gitlab_s() {
        let step = Stage::Step("Script".into());
        assert_eq!(step.name(), "step_script");
        assert_eq!(
            step.title(),
            "Executing \"step_script\" stage of the job script"
        );
        assert_eq!(step.place(), Place::Build);
        assert_eq!(Stage::AfterScript.place(), Place::Build);
        assert_eq!(Stage::GetSources.place(), Place::Helper);
    }

    #[test]
    fn an_exit_code_is_the_script_s_failure_but_preparing_is_the_runner_s() {
        let script = exit_outcome(&Stage::Step("script".into()), 42);
        let expected = Outcome::Failed {
            reason: FailureReason::ScriptFailure,
            exit_code: Some(42),
            message: "exit code 42".into(),
        };
        assert_eq!(script, expected);
        assert_eq!(JobStatus::of(&script), JobStatus::Failed);
        let prepare = exit_outcome(&Stage::PrepareScript, 1);
        assert!(
            matches!(prepare, Outcome::Failed { reason: FailureReason::RunnerSystemFailure,
            exit_code: None, message } if message == "prepare environment: exit code 1")
        );
    }
}

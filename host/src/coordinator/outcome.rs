//! How a job ends, in GitLab's words, and what GitLab asks of a running one.

use std::fmt;

/// Why a job failed; see `gitlab-runner`'s `JobFailureReason` for the wire names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    ScriptFailure,
    RunnerSystemFailure,
    JobExecutionTimeout,
    ImagePullFailure,
    RunnerConfigurationError,
    RunnerExternalDependencyFailure,
    RunnerInterrupted,
    JobCanceled,
    UnknownFailure,
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScriptFailure => "script_failure",
            Self::RunnerSystemFailure => "runner_system_failure",
            Self::JobExecutionTimeout => "job_execution_timeout",
            Self::ImagePullFailure => "image_pull_failure",
            Self::RunnerConfigurationError => "runner_configuration_error",
            Self::RunnerExternalDependencyFailure => "runner_external_dependency_failure",
            Self::RunnerInterrupted => "runner_interrupted",
            Self::JobCanceled => "job_canceled",
            Self::UnknownFailure => "unknown_failure",
        })
    }
}

/// How a job ended. The reason is mapped to what GitLab supports when it is sent, not here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Failed {
        reason: FailureReason,
        exit_code: Option<i32>,
        message: String,
    },
    /// GitLab no longer wants to hear of it (403, 404, `Job-Status: canceled`).
    Abandoned,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failed {
                reason, message, ..
            } => write!(f, "failed ({reason}): {message}"),
            Self::Abandoned => f.write_str("abandoned, GitLab ended it"),
        }
    }
}

/// What GitLab wants of a running job; only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    Run,
    /// End the user's script, then let `after_script` run.
    Cancel,
    /// End everything.
    Abort,
}

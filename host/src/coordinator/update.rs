//! From how a job ended to what GitLab is told, and how long to insist. Pure.

use std::time::Duration;

use super::api::{JobState, LogProof, Update};
use super::outcome::{FailureReason, Outcome};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The final update; `None` when GitLab no longer wants one. `supported` is the payload's `features.failure_reasons`.
pub(super) fn final_update(
    outcome: &Outcome,
    supported: &[String],
    log: Option<LogProof>,
) -> Option<Update> {
    match outcome {
        Outcome::Abandoned => None,
        Outcome::Success => Some(Update {
            state: JobState::Success,
            failure_reason: None,
            exit_code: None,
            log,
        }),
        Outcome::Failed {
            reason, exit_code, ..
        } => Some(Update {
            state: JobState::Failed,
            failure_reason: Some(known(*reason, supported)),
            exit_code: *exit_code,
            log,
        }),
    }
}

/// The reason itself where this GitLab knows it, else the nearest that every GitLab knows.
fn known(reason: FailureReason, supported: &[String]) -> FailureReason {
    use FailureReason as R;
    if supported.contains(&reason.to_string()) {
        return reason;
    }
    match reason {
        R::ScriptFailure | R::RunnerSystemFailure | R::JobExecutionTimeout => reason,
        R::ImagePullFailure | R::RunnerExternalDependencyFailure => R::RunnerSystemFailure,
        R::RunnerConfigurationError => R::ScriptFailure,
        R::RunnerInterrupted | R::JobCanceled | R::UnknownFailure => R::UnknownFailure,
    }
}

/// How long to wait after the `n`th failed final update, from 1.
pub(super) fn backoff(n: u32) -> Duration {
    FIRST_WAIT
        .saturating_mul(1u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_by_table() {
        use FailureReason as R;
        for (reason, plain) in [
            (R::ScriptFailure, R::ScriptFailure),
            (R::RunnerSystemFailure, R::RunnerSystemFailure),
            (R::JobExecutionTimeout, R::JobExecutionTimeout),
            (R::ImagePullFailure, R::RunnerSystemFailure),
            (R::RunnerExternalDependencyFailure, R::RunnerSystemFailure),
            (R::RunnerConfigurationError, R::ScriptFailure),
            (R::RunnerInterrupted, R::UnknownFailure),
            (R::JobCanceled, R::UnknownFailure),
            (R::UnknownFailure, R::UnknownFailure),
        ] {
            assert_eq!(known(reason, &[]), plain, "{reason}");
            assert_eq!(known(reason, &[reason.to_string()]), reason);
        }
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        let seconds: Vec<u64> = (1..=14).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds[..5], [1, 2, 4, 8, 16]);
        assert_eq!(seconds[11..], [2048, 3600, 3600]);
        assert_eq!(backoff(u32::MAX).as_secs(), 3600);
    }
}

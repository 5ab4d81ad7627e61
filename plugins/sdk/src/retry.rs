//! Trying a read again. Never for anything that changes the cloud: whether that is safe only its caller knows.

use std::time::Duration;

use crate::{Host, Level, Problem, ProblemKind};

/// Tries in all: one hiccup and one busy moment are ridden out here, more is the host's back-off.
const TRIES: u32 = 3;
/// The first wait; each further one doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A cloud that asks for more is left to the host, which can wait without holding a call open.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Calls `read` until it succeeds, fails for a reason that waiting does not mend, or three tries are used up.
///
/// Waits as long as the problem's `retry_after_ms` says; if that is more than 2 s, returns at once.
pub fn read<T>(
    host: &dyn Host,
    mut read: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let mut wait = FIRST_WAIT;
    let mut attempt = 1;
    loop {
        let problem = match read() {
            Ok(value) => return Ok(value),
            Err(problem) => problem,
        };
        let passing = matches!(
            problem.kind,
            ProblemKind::Throttled | ProblemKind::Unavailable
        );
        let pause = problem.retry_after_ms.map_or(wait, Duration::from_millis);
        if !passing || attempt == TRIES || pause > LONGEST_WAIT {
            return Err(problem);
        }
        host.log(
            Level::Debug,
            "read failed, trying again",
            &[
                ("problem", problem.message),
                ("attempt", attempt.to_string()),
                ("wait_ms", pause.as_millis().to_string()),
            ],
        );
        host.sleep(pause);
        wait *= 2;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    fn failing_with(problem: Problem) -> (u32, Vec<Duration>) {
        let host = Script::default();
        let mut calls = 0;
        let outcome: Result<(), _> = read(&host, || {
            calls += 1;
            Err(problem.clone())
        });
        assert_eq!(outcome, Err(problem));
        (calls, host.slept())
    }

    #[test]
    fn a_passing_problem_is_tried_three_times_with_growing_waits() {
        let (calls, slept) = failing_with(Problem::new(ProblemKind::Unavailable, "503"));
        assert_eq!(calls, 3);
        assert_eq!(
            slept,
            [Duration::from_millis(200), Duration::from_millis(400)]
        );
    }

    #[test]
    fn what_waiting_does_not_mend_is_returned_at_once() {
        let (calls, slept) = failing_with(Problem::new(ProblemKind::Unauthenticated, "no"));
        assert_eq!((calls, slept.len()), (1, 0));
    }

    #[test]
    fn the_clouds_own_wait_is_kept_or_left_to_the_host() {
        let soon = Problem::new(ProblemKind::Throttled, "slow down")
            .retry_after(Some(Duration::from_secs(1)));
        assert_eq!(failing_with(soon).1, [Duration::from_secs(1); 2]);
        let late = Problem::new(ProblemKind::Throttled, "slow down")
            .retry_after(Some(Duration::from_secs(30)));
        assert_eq!(failing_with(late).0, 1);
    }
}

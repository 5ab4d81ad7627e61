//! What slows or stops requests after a problem of the provider, each kind in its own way; pure.
//!
//! | kind | increases | reservations |
//! |---|---|---|
//! | unauthenticated, forbidden | stop until a grant changes, or for long | refused: GitLab is not asked |
//! | throttled | wait as long as the cloud says | go on |
//! | quota, out-of-capacity | wait longer each time | go on |
//! | out-of-capacity in a pool that was not avoided yet | wait a second, then avoid it | go on |
//! | anything else | wait, doubling, up to a minute | go on |
//!
//! However long that is, whoever waits for a slot sees more than one try: no wait of our own is longer than a quarter of
//! what a job is ready to wait.

use std::time::{Duration, Instant};

use crate::fleet::backoff::Backoff;
use crate::fleet::group::{CallFailure, Problem, ProblemKind};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(300);
/// Also what a `retry_after` is capped at, so that an absurd one does not stop a group for ever.
const LONGEST: Duration = Duration::from_secs(900);

#[derive(Clone, Debug)]
pub struct Brake {
    until: Option<Instant>,
    /// Why nothing works until the operator acts.
    refusing: Option<String>,
    last: Option<String>,
    /// The longest wait of our own.
    longest: Duration,
    shortage: Backoff,
    other: Backoff,
}

impl Brake {
    /// For jobs that wait as long as `patience`.
    pub fn new(patience: Duration) -> Self {
        let longest = LONG.min(patience / 4).max(SECOND);
        Self {
            until: None,
            refusing: None,
            last: None,
            longest,
            shortage: Backoff::new(longest.min(10 * SECOND), longest),
            other: Backoff::new(SECOND, longest.min(60 * SECOND)),
        }
    }

    /// Whether increases must wait at `now`.
    pub fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Why GitLab must not be asked, if so.
    pub fn refusing(&self) -> Option<&str> {
        self.refusing.as_deref()
    }

    /// The last problem, until a call succeeds.
    pub fn problem(&self) -> Option<&str> {
        self.last.as_deref()
    }

    pub fn refused(&mut self, problem: &Problem, now: Instant) {
        let kind = problem.kind;
        let own = match kind {
            ProblemKind::Unauthenticated | ProblemKind::Forbidden => self.longest,
            ProblemKind::Quota | ProblemKind::OutOfCapacity => self.shortage.failed(),
            _ => self.other.failed(),
        };
        let wait = problem.retry_after.unwrap_or(own).min(LONGEST);
        self.until = Some(now + wait);
        self.last = Some(problem.to_string());
        self.refusing = needs_the_operator(kind).then(|| problem.to_string());
    }

    /// One pool has nothing to give; others were not tried without it yet.
    pub fn refused_in_a_pool(&mut self, problem: &Problem, now: Instant) {
        self.until = self.until.max(Some(now + SECOND));
        self.last = Some(problem.to_string());
    }

    pub fn failed(&mut self, failure: &CallFailure, now: Instant) {
        match failure {
            CallFailure::Refused(problem) => self.refused(problem, now),
            CallFailure::OutcomeUnknown(why) | CallFailure::NotCalled(why) => {
                self.until = Some(now + self.other.failed());
                self.last = Some(why.clone());
            }
        }
    }

    /// More was agreed to. Waits go on growing until something of it comes: some clouds agree first and fail later.
    pub fn accepted(&mut self) {
        self.until = None;
        self.refusing = None;
        self.last = None;
    }

    /// What was asked for came.
    pub fn arrived(&mut self) {
        self.shortage.succeeded();
        self.other.succeeded();
    }

    /// Answers the problem that this ends.
    pub fn succeeded(&mut self) -> Option<String> {
        self.until = None;
        self.refusing = None;
        self.shortage.succeeded();
        self.other.succeeded();
        self.last.take()
    }

    /// What was granted changed: whatever an operator had to mend may be mended.
    pub fn granted(&mut self) {
        if self.refusing.is_some() {
            self.succeeded();
        }
    }
}

/// Problems that only a person can end.
pub fn needs_the_operator(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Unauthenticated | ProblemKind::Forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn problem(kind: ProblemKind, retry_after: Option<Duration>) -> Problem {
        Problem {
            kind,
            message: "no".into(),
            subject: None,
            code: None,
            retry_after,
        }
    }

    #[test]
    fn credentials_stop_everything_until_a_grant_changes() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        brake.refused(&problem(ProblemKind::Unauthenticated, None), now);
        assert!(brake.holds(now + 299 * SECOND));
        assert_eq!(brake.refusing(), Some("unauthenticated: no"));
        brake.granted();
        assert!(!brake.holds(now));
        assert_eq!(brake.refusing(), None);
    }

    #[test]
    fn a_throttled_call_waits_as_told() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        brake.refused(&problem(ProblemKind::Throttled, Some(7 * SECOND)), now);
        assert_eq!(brake.until(), Some(now + 7 * SECOND));
        assert_eq!(brake.refusing(), None);
    }

    #[test]
    fn shortage_waits_longer_each_time_and_gitlab_is_still_asked() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            brake.refused(&problem(ProblemKind::OutOfCapacity, None), now);
            assert_eq!(brake.until(), Some(now + wait * SECOND));
        }
        assert_eq!(brake.refusing(), None);
    }

    #[test]
    fn a_shortage_lasts_until_something_comes() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        let wait = |brake: &mut Brake| {
            brake.refused(&problem(ProblemKind::OutOfCapacity, None), now);
            brake.until().map(|until| until - now)
        };
        assert_eq!(wait(&mut brake), Some(10 * SECOND));
        brake.accepted();
        assert!(!brake.holds(now));
        assert_eq!(brake.problem(), None);
        assert_eq!(wait(&mut brake), Some(20 * SECOND));
        brake.accepted();
        brake.arrived();
        assert_eq!(wait(&mut brake), Some(10 * SECOND));
    }

    #[test]
    fn launches_that_fail_for_any_reason_are_asked_for_less_and_less_often() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        for wait in [1, 2, 4, 8] {
            brake.refused(&problem(ProblemKind::InvalidConfig, None), now);
            assert_eq!(brake.until(), Some(now + wait * SECOND));
            brake.accepted();
        }
        brake.arrived();
        brake.refused(&problem(ProblemKind::InvalidConfig, None), now);
        assert_eq!(brake.until(), Some(now + SECOND));
    }

    #[test]
    fn a_success_ends_the_last_problem_and_names_it_once() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        assert_eq!(brake.succeeded(), None);
        brake.failed(&CallFailure::OutcomeUnknown("no answer".into()), now);
        brake.failed(&CallFailure::NotCalled("refused".into()), now);
        assert_eq!(brake.succeeded().as_deref(), Some("refused"));
        assert!(!brake.holds(now));
        assert_eq!(brake.succeeded(), None);
    }

    #[test]
    fn a_grant_does_not_end_a_shortage() {
        let (mut brake, now) = (Brake::new(HOUR), Instant::now());
        brake.refused(&problem(ProblemKind::Quota, None), now);
        brake.granted();
        assert!(brake.holds(now));
    }
    #[test]
    fn who_waits_for_little_is_not_kept_waiting_by_one_long_wait() {
        let (mut brake, now) = (Brake::new(40 * SECOND), Instant::now());
        for kind in [
            ProblemKind::Forbidden,
            ProblemKind::Quota,
            ProblemKind::Other,
        ] {
            for _ in 0..9 {
                brake.refused(&problem(kind, None), now);
            }
            assert_eq!(brake.until(), Some(now + 10 * SECOND));
        }
    }
}

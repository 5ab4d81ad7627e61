//! What slows or stops requests after a problem of the provider, each kind in its own way; pure.
//!
//! | kind | increases | reservations |
//! |---|---|---|
//! | unauthenticated, forbidden | stop until a grant changes, or for long | refused: GitLab is not asked |
//! | throttled | wait as long as the cloud says | go on |
//! | quota, out-of-capacity | wait longer each time | go on |
//! | anything else | wait, doubling, up to a minute | go on |

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
    shortage: Backoff,
    other: Backoff,
}

impl Default for Brake {
    fn default() -> Self {
        Self {
            until: None,
            refusing: None,
            last: None,
            shortage: Backoff::new(10 * SECOND, LONG),
            other: Backoff::new(SECOND, 60 * SECOND),
        }
    }
}

impl Brake {
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
            ProblemKind::Unauthenticated | ProblemKind::Forbidden => LONG,
            ProblemKind::Quota | ProblemKind::OutOfCapacity => self.shortage.failed(),
            _ => self.other.failed(),
        };
        let wait = problem.retry_after.unwrap_or(own).min(LONGEST);
        self.until = Some(now + wait);
        self.last = Some(problem.to_string());
        self.refusing = needs_the_operator(kind).then(|| problem.to_string());
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

    pub fn succeeded(&mut self) {
        *self = Self::default();
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
        let (mut brake, now) = (Brake::default(), Instant::now());
        brake.refused(&problem(ProblemKind::Unauthenticated, None), now);
        assert!(brake.holds(now + 299 * SECOND));
        assert_eq!(brake.refusing(), Some("unauthenticated: no"));
        brake.granted();
        assert!(!brake.holds(now));
        assert_eq!(brake.refusing(), None);
    }

    #[test]
    fn a_throttled_call_waits_as_told() {
        let (mut brake, now) = (Brake::default(), Instant::now());
        brake.refused(&problem(ProblemKind::Throttled, Some(7 * SECOND)), now);
        assert_eq!(brake.until(), Some(now + 7 * SECOND));
        assert_eq!(brake.refusing(), None);
    }

    #[test]
    fn shortage_waits_longer_each_time_and_gitlab_is_still_asked() {
        let (mut brake, now) = (Brake::default(), Instant::now());
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            brake.refused(&problem(ProblemKind::OutOfCapacity, None), now);
            assert_eq!(brake.until(), Some(now + wait * SECOND));
        }
        assert_eq!(brake.refusing(), None);
    }

    #[test]
    fn a_grant_does_not_end_a_shortage() {
        let (mut brake, now) = (Brake::default(), Instant::now());
        brake.refused(&problem(ProblemKind::Quota, None), now);
        brake.granted();
        assert!(brake.holds(now));
    }
}

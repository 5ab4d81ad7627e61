//! Short ways to say what went wrong.

use std::time::Duration;

use crate::http::{Response, StatusCode};
use crate::{KvProblem, Problem, ProblemKind, SecretProblem, http, json};

/// Characters of what a cloud says that are worth repeating.
const SAID: usize = 500;

impl Problem {
    /// `message` says what, where and what next; never a secret.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            subject: None,
            code: None,
            retry_after_ms: None,
            extras: Vec::new(),
        }
    }

    /// The operator's configuration cannot work; `key` as they wrote it.
    pub fn invalid_config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::InvalidConfig, message).about(key)
    }

    /// The cloud has no machine to give in this pool right now.
    pub fn out_of_capacity(pool: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::OutOfCapacity, message).about(pool)
    }

    /// A limit that somebody set stands in the way; `quota` is its name.
    pub fn quota(quota: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Quota, message).about(quota)
    }

    /// There is no such instance, or no such group.
    pub fn not_found(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, message).about(id)
    }

    /// The instance exists and does not run yet.
    pub fn not_ready(id: impl Into<String>) -> Self {
        let id = id.into();
        Self::new(ProblemKind::NotReady, format!("{id} does not run yet")).about(id)
    }

    /// What the status of an answer means where an API says no more; `what` is the call's name. What the body says in
    /// words is kept.
    pub fn of_answer(response: &Response, what: &str, wait: Option<Duration>) -> Self {
        let status = response.status();
        let kind = match status {
            StatusCode::UNAUTHORIZED => ProblemKind::Unauthenticated,
            StatusCode::FORBIDDEN => ProblemKind::Forbidden,
            StatusCode::NOT_FOUND | StatusCode::GONE => ProblemKind::NotFound,
            StatusCode::CONFLICT | StatusCode::LOCKED => ProblemKind::Conflict,
            StatusCode::TOO_MANY_REQUESTS => ProblemKind::Throttled,
            StatusCode::NOT_IMPLEMENTED => ProblemKind::Unsupported,
            status if status.is_server_error() => ProblemKind::Unavailable,
            _ => ProblemKind::Other,
        };
        let (code, said) = json::refusal(response.body());
        let said: String = said
            .chars()
            .filter(|c| !c.is_control())
            .take(SAID)
            .collect();
        let colon = if said.is_empty() { "" } else { ": " };
        let problem = Self::new(kind, format!("{what} was answered {status}{colon}{said}"));
        let problem = problem.about(what).retry_after(wait);
        if code.is_empty() {
            problem
        } else {
            problem.with_code(code)
        }
    }

    /// Names the action, key, pool or quota concerned.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Keeps the cloud's own code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// How long the cloud asked to be left alone, if it did.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// A secret that was not granted needs the operator; so does one that cannot be read.
impl From<SecretProblem> for Problem {
    fn from(problem: SecretProblem) -> Self {
        match problem {
            SecretProblem::NotGranted(said) => Self::new(ProblemKind::Forbidden, said),
            SecretProblem::Unreadable(said) => Self::new(ProblemKind::Unauthenticated, said),
        }
    }
}

impl From<KvProblem> for Problem {
    fn from(problem: KvProblem) -> Self {
        match problem {
            KvProblem::TooLarge => Self::quota("kv", "what this plugin keeps would exceed 64 KiB"),
            KvProblem::Unavailable(said) => Self::new(ProblemKind::Unavailable, said),
        }
    }
}

/// What a call without an answer comes to, by the address that was called.
pub(crate) fn unanswered(error: http::Error, uri: &http::Uri) -> Problem {
    error.into_problem(&http::origin(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_a_kind_and_the_words_are_kept() {
        for (status, kind) in [
            (401, ProblemKind::Unauthenticated),
            (403, ProblemKind::Forbidden),
            (404, ProblemKind::NotFound),
            (409, ProblemKind::Conflict),
            (422, ProblemKind::Other),
            (429, ProblemKind::Throttled),
            (503, ProblemKind::Unavailable),
        ] {
            let mut response =
                Response::new(b"{\"code\":\"c\",\"message\":\"no\\u001b[2J\"}".to_vec());
            *response.status_mut() = StatusCode::from_u16(status).expect("it exists");
            let problem = Problem::of_answer(&response, "GET /x", None);
            assert_eq!(problem.kind, kind, "{status}");
            assert!(problem.message.ends_with(": no[2J"), "{}", problem.message);
            assert_eq!(problem.code.as_deref(), Some("c"));
        }
    }
}

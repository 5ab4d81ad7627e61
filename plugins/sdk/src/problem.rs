//! Short ways to say what went wrong, and what an author leaves out.

use std::time::Duration;

use crate::{IncreaseOutcome, Problem, ProblemKind};

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

impl IncreaseOutcome {
    /// Nothing was accepted, for this reason.
    pub fn refused(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }
}

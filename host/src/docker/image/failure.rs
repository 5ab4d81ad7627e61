//! Why an image could not be had: the class of a pull's error, and what follows from it.
//!
//! The daemon hands on a registry's words, and has one status, 500, for its own troubles and for a registry's. So the
//! words decide; the phrases are those of Docker 20.10 to 29, of registries, and of Go's network library.

use bollard::errors::Error;

use crate::config::pull_policy::{PullPolicy, listed};
use crate::coordinator::outcome::FailureReason;
use crate::docker::site;
use crate::docker::stage::StageFailure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The registry was not reached, or not to the end.
    Unreachable,
    /// It wants fewer requests.
    Throttled,
    /// It is in trouble itself.
    Server,
    /// It knows no such image.
    NotFound,
    /// It wants another login, or one at all.
    Unauthorised,
}

/// In the order in which they are looked for: a registry that was not reached has said nothing else.
const PHRASES: [(Class, &[&str]); 5] = [
    (
        Class::Unreachable,
        &[
            "dial tcp",
            "connection refused",
            "no such host",
            "i/o timeout",
            "tls handshake",
            "client.timeout exceeded",
            "context deadline exceeded",
            "request canceled",
            "connection reset",
            "network is unreachable",
            "unexpected eof",
        ],
    ),
    (
        Class::Throttled,
        &["toomanyrequests", "too many requests", "rate limit"],
    ),
    (
        Class::Server,
        &[
            "500 internal server error",
            "502 bad gateway",
            "503 service unavailable",
            "504 gateway time",
        ],
    ),
    (
        Class::Unauthorised,
        &[
            "pull access denied",
            "repository does not exist or may require",
            "no basic auth credentials",
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
        ],
    ),
    (
        Class::NotFound,
        &["not found", "manifest unknown", "no such image"],
    ),
];

impl Class {
    /// `None`: nobody's words are known in it.
    pub(super) fn of(error: &str) -> Option<Self> {
        let error = error.to_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| error.contains(phrase));
        let found = PHRASES.iter().find(|(_, phrases)| says(phrases));
        found.map(|(class, _)| *class)
    }

    /// Whether another try in a moment may go better.
    pub(super) fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Throttled | Self::Server)
    }

    /// As GitLab Runner has it: what whoever wrote the job or the configuration can mend is a configuration error.
    fn reason(self) -> FailureReason {
        match self {
            Self::Unreachable | Self::Throttled | Self::Server => {
                FailureReason::RunnerExternalDependencyFailure
            }
            Self::NotFound | Self::Unauthorised => FailureReason::RunnerConfigurationError,
        }
    }
}

/// What remains when every policy was refused: the error that counts, and the policy that met it.
pub(super) fn of_image(
    image: &str,
    policies: &[PullPolicy],
    policy: PullPolicy,
    error: &Error,
) -> StageFailure {
    let text = error.to_string();
    let class = Class::of(&text);
    let reason = match class {
        // Nobody was asked for it, and another instance may have it: GitLab may try the job again.
        Some(Class::NotFound) if policy == PullPolicy::Never => FailureReason::RunnerSystemFailure,
        Some(class) => class.reason(),
        None => FailureReason::ImagePullFailure,
    };
    StageFailure::Failed {
        reason,
        message: format!(
            "failed to pull image {image:?} with specified policies {}: {text}",
            listed(policies)
        ),
        // A registry's trouble has had its tries; the daemon's own has not.
        retry: class.is_none() && site::may_pass(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.into(),
        }
    }

    fn judged(policy: PullPolicy, error: &Error) -> (FailureReason, bool) {
        match of_image("a", &[policy], policy, error) {
            StageFailure::Failed { reason, retry, .. } => (reason, retry),
            other => panic!("{other:?}"),
        }
    }

    /// Errors as daemons of 20.10 and 26.1 answer them.
    #[test]
    fn a_pull_error_s_words_give_its_class_reason_and_tries() {
        use Class::*;
        let outside = FailureReason::RunnerExternalDependencyFailure;
        let wrong = FailureReason::RunnerConfigurationError;
        let pull = FailureReason::ImagePullFailure;
        for (status, words, class, reason, again) in [
            (
                404,
                "manifest for nope:latest not found: manifest unknown: manifest unknown",
                Some(NotFound),
                wrong,
                false,
            ),
            (
                404,
                "No such image: nope:latest",
                Some(NotFound),
                wrong,
                false,
            ),
            (
                404,
                "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested \
                 access to the resource is denied",
                Some(Unauthorised),
                wrong,
                false,
            ),
            (
                500,
                "Head \"https://r/v2/a/manifests/1\": no basic auth credentials",
                Some(Unauthorised),
                wrong,
                false,
            ),
            (
                500,
                "Head \"https://r/v2/a/manifests/1\": unauthorized: access denied",
                Some(Unauthorised),
                wrong,
                false,
            ),
            (
                500,
                "denied: requested access to the resource is denied",
                Some(Unauthorised),
                wrong,
                false,
            ),
            (
                500,
                "unauthorized: authentication required",
                Some(Unauthorised),
                wrong,
                false,
            ),
            (
                500,
                "Get \"https://r/v2/\": dial tcp: lookup r on 127.0.0.1:53: no such host",
                Some(Unreachable),
                outside,
                false,
            ),
            (
                500,
                "Get \"http://r:5000/v2/\": context deadline exceeded",
                Some(Unreachable),
                outside,
                false,
            ),
            (
                500,
                "Get \"https://r/v2/\": dial tcp 10.0.0.1:443: i/o timeout",
                Some(Unreachable),
                outside,
                false,
            ),
            (
                500,
                "Get \"https://r/v2/\": read tcp 10.0.0.2:40000->10.0.0.1:443: read: connection reset by peer",
                Some(Unreachable),
                outside,
                false,
            ),
            (
                500,
                "Get \"https://r/v2/\": net/http: TLS handshake timeout",
                Some(Unreachable),
                outside,
                false,
            ),
            (
                500,
                "Get \"https://r/v2/\": net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
                Some(Unreachable),
                outside,
                false,
            ),
            (
                500,
                "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
                Some(Throttled),
                outside,
                false,
            ),
            (
                500,
                "error pulling image configuration: received unexpected HTTP status: 503 Service Unavailable",
                Some(Server),
                outside,
                false,
            ),
            (500, "layer store is busy", None, pull, true),
            (400, "invalid reference format", None, pull, false),
        ] {
            assert_eq!(Class::of(words), class, "{words}");
            let error = answered(status, words);
            let found = judged(PullPolicy::Always, &error);
            assert_eq!(found, (reason, again), "{words}");
        }
    }

    #[test]
    fn an_image_that_nobody_was_to_be_asked_for_is_the_instance_s_trouble() {
        let absent = answered(404, "No such image: a:latest");
        let found = |policy| judged(policy, &absent);
        let system = FailureReason::RunnerSystemFailure;
        assert_eq!(found(PullPolicy::Never), (system, false));
        let wrong = FailureReason::RunnerConfigurationError;
        assert_eq!(found(PullPolicy::IfNotPresent), (wrong, false));
    }

    #[test]
    fn a_download_that_broke_off_may_pass() {
        let error = Error::DockerStreamError {
            error: "unexpected EOF".into(),
        };
        assert_eq!(Class::of(&error.to_string()), Some(Class::Unreachable));
    }
}

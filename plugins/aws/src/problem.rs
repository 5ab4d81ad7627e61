//! From AWS's error codes to what the host can act on and the operator can read.

use std::time::{Duration, SystemTime};

use fleetling_plugin_sdk::http::{self, Response};
use fleetling_plugin_sdk::{Problem, ProblemKind};

use crate::credentials::Identity;

/// A call that failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) problem: Box<Problem>,
    /// AWS may have acted all the same: it did not answer, or answered with a fault of its own.
    pub(crate) outcome_unknown: bool,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        *failure.problem
    }
}

/// What AWS answered instead of a result. Both texts are empty where the body told nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
    /// The time by AWS's clock.
    pub(crate) date: Option<SystemTime>,
}

impl Refusal {
    /// The keys themselves are the fault, and others may be to be had.
    pub(crate) fn is_of_the_keys(&self) -> bool {
        kind(&self.code, self.status) == ProblemKind::Unauthenticated && !self.is_skew()
    }

    /// The time in the signature is the fault. The Query protocol has no code of its own for it.
    pub(crate) fn is_skew(&self) -> bool {
        let begins = |with: &str| self.message.starts_with(with);
        matches!(&*self.code, "RequestExpired" | "RequestTimeTooSkewed")
            || begins("Signature expired")
            || begins("Signature not yet current")
    }

    /// `action` as IAM policies name it: `autoscaling:SetDesiredCapacity`.
    pub(crate) fn into_failure(self, identity: &Identity, action: &str) -> Failure {
        let kind = kind(&self.code, self.status);
        let told = self.told();
        let Identity { whose, mend, .. } = identity;
        let message = match kind {
            ProblemKind::Unauthenticated if self.is_skew() => format!(
                "AWS takes the request of {whose} for too old or too new: {told}; next: set this machine's clock"
            ),
            ProblemKind::Unauthenticated => {
                format!("AWS refused the credentials of {whose}: {told}; next: {mend}")
            }
            ProblemKind::Forbidden => format!(
                "{whose} may not do {action}: {told}; next: allow that action in its IAM policy"
            ),
            _ => format!("{action} was refused: {told}"),
        };
        let mut problem = Problem::new(kind, message)
            .about(action)
            .retry_after(self.retry_after);
        problem.code = Some(self.code).filter(|code| !code.is_empty());
        Failure {
            problem: Box::new(problem),
            outcome_unknown: self.status >= 500,
        }
    }

    /// AWS's sentence, short: some answers repeat the whole signed request, session token included.
    fn told(&self) -> String {
        const LONGEST: usize = 300;
        let line = self.message.lines().next().unwrap_or_default();
        let line = line
            .split("The Canonical String")
            .next()
            .unwrap_or_default();
        let line = line.trim().trim_end_matches('.');
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None if line.is_empty() && self.code.is_empty() => {
                format!("status {} without an explanation", self.status)
            }
            None if line.is_empty() => self.code.clone(),
            None => line.to_owned(),
        }
    }
}

/// A refusal of a service that has no codes of its own. What it wrote is not repeated: it may be a credential.
pub(crate) fn from_status(response: &Response, who: &str, next: &str) -> Problem {
    let status = response.status().as_u16();
    let kind = match status {
        429 => ProblemKind::Throttled,
        500.. => ProblemKind::Unavailable,
        _ => ProblemKind::Unauthenticated,
    };
    let next = match kind {
        ProblemKind::Unauthenticated => next.to_owned(),
        _ => format!("none at first, it is asked again; if this goes on, {next}"),
    };
    Problem::new(
        kind,
        format!("{who} answered with status {status}; next: {next}"),
    )
    .retry_after(http::retry_after(response))
}

/// The meaning of a code; where a code says nothing, of the status.
fn kind(code: &str, status: u16) -> ProblemKind {
    // The JSON protocol adds a namespace before and a suffix after the names of the Query protocol.
    let code = code.rsplit('#').next().unwrap_or(code);
    match code.strip_suffix("Exception").unwrap_or(code) {
        "AuthFailure"
        | "SignatureDoesNotMatch"
        | "InvalidSignature"
        | "InvalidClientTokenId"
        | "UnrecognizedClient"
        | "InvalidAccessKeyId"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "InvalidToken" => ProblemKind::Unauthenticated,
        "AccessDenied"
        | "UnauthorizedOperation"
        | "OptInRequired"
        | "Auth"
        | "Blocked"
        | "PendingVerification" => ProblemKind::Forbidden,
        "RequestLimitExceeded" | "TooManyRequests" | "SlowDown" | "RequestThrottled" => {
            ProblemKind::Throttled
        }
        "ScalingActivityInProgress" | "ResourceContention" | "ResourceInUse" => {
            ProblemKind::Conflict
        }
        "EC2InstanceStateInvalid" | "EC2InstanceUnavailable" | "IncorrectInstanceState" => {
            ProblemKind::NotReady
        }
        "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed" | "EC2InstanceNotFound" => {
            ProblemKind::NotFound
        }
        "EC2InstanceTypeInvalid" | "UnsupportedOperation" => ProblemKind::Unsupported,
        "UnfulfillableCapacity" | "SpotMaxPriceTooLow" => ProblemKind::OutOfCapacity,
        "MaxSpotInstanceCountExceeded" => ProblemKind::Quota,
        code if code.starts_with("Throttl") => ProblemKind::Throttled,
        code if code.starts_with("Insufficient") && code.contains("Capacity") => {
            ProblemKind::OutOfCapacity
        }
        code if code.ends_with("LimitExceeded") => ProblemKind::Quota,
        _ => match status {
            401 => ProblemKind::Unauthenticated,
            403 => ProblemKind::Forbidden,
            429 => ProblemKind::Throttled,
            500.. => ProblemKind::Unavailable,
            _ => ProblemKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::identity;

    #[test]
    fn codes_mean_what_the_host_can_act_on() {
        use ProblemKind::*;
        for (code, status, expected) in [
            ("AuthFailure", 401, Unauthenticated),
            ("SignatureDoesNotMatch", 403, Unauthenticated),
            ("InvalidClientTokenId", 403, Unauthenticated),
            ("UnrecognizedClientException", 400, Unauthenticated),
            ("ExpiredToken", 403, Unauthenticated),
            ("com.amazon#ExpiredTokenException", 400, Unauthenticated),
            ("RequestExpired", 400, Unauthenticated),
            ("IncompleteSignature", 400, Unauthenticated),
            ("AccessDenied", 403, Forbidden),
            ("UnauthorizedOperation", 403, Forbidden),
            ("AuthException", 403, Forbidden),
            ("Throttling", 400, Throttled),
            ("ThrottlingException", 400, Throttled),
            ("RequestLimitExceeded", 503, Throttled),
            ("ScalingActivityInProgress", 400, Conflict),
            ("ResourceContention", 500, Conflict),
            ("InsufficientInstanceCapacity", 500, OutOfCapacity),
            ("InstanceLimitExceeded", 400, Quota),
            ("VcpuLimitExceeded", 400, Quota),
            ("InvalidInstanceID.NotFound", 400, NotFound),
            ("EC2InstanceStateInvalidException", 400, NotReady),
            ("InternalFailure", 500, Unavailable),
            ("", 502, Unavailable),
            ("", 403, Forbidden),
            ("ValidationError", 400, Other),
        ] {
            assert_eq!(kind(code, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn refused_credentials_name_profile_and_file_and_repeat_no_request() {
        let refusal = Refusal {
            status: 403,
            code: "SignatureDoesNotMatch".into(),
            message: "The request signature we calculated does not match. Check your key.\n\n\
                      The Canonical String for this request should have been\nx-amz-security-token:tok"
                .into(),
            ..Refusal::default()
        };
        let failure = refusal.into_failure(&identity(), "ec2:DescribeInstances");
        assert!(!failure.outcome_unknown);
        assert_eq!(
            failure.problem.message,
            "AWS refused the credentials of profile `default` from /home/user/.aws/credentials: The request \
             signature we calculated does not match. Check your key; next: correct the keys in that file"
        );
        assert_eq!(
            failure.problem.code.as_deref(),
            Some("SignatureDoesNotMatch")
        );
    }

    #[test]
    fn a_server_fault_leaves_the_outcome_unknown_and_keeps_retry_after() {
        let refusal = Refusal {
            status: 503,
            retry_after: Some(Duration::from_secs(3)),
            ..Refusal::default()
        };
        let failure = refusal.into_failure(&identity(), "autoscaling:SetDesiredCapacity");
        assert!(failure.outcome_unknown);
        assert_eq!(failure.problem.retry_after_ms, Some(3000));
        assert!(failure.problem.message.contains("status 503 without"));
    }

    #[test]
    fn a_wrong_clock_is_told_from_wrong_keys() {
        for (code, message, is_skew) in [
            ("RequestExpired", "Request has expired.", true),
            (
                "SignatureDoesNotMatch",
                "Signature expired: 20260102T030405Z is now earlier than 20260102T031500Z",
                true,
            ),
            (
                "InvalidSignatureException",
                "Signature not yet current: 20260102T030405Z is still later than 20260102T021500Z",
                true,
            ),
            (
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match",
                false,
            ),
        ] {
            let refusal = Refusal {
                status: 403,
                code: code.into(),
                message: message.into(),
                ..Refusal::default()
            };
            assert_eq!(refusal.is_skew(), is_skew, "{message}");
            assert_eq!(refusal.is_of_the_keys(), !is_skew, "{message}");
            let failure = refusal.into_failure(&identity(), "ec2:DescribeInstances");
            let says = failure.problem.message.contains("set this machine's clock");
            assert_eq!(says, is_skew, "{failure:?}");
        }
    }
}

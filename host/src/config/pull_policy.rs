//! When an image is pulled, and which of the wished-for ways the operator allows. GitLab Runner's words and rules.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        })
    }
}

/// No pull policy has this name.
#[derive(Debug, PartialEq, Eq)]
pub struct NoPolicy;

impl FromStr for PullPolicy {
    type Err = NoPolicy;

    fn from_str(text: &str) -> Result<Self, NoPolicy> {
        [Self::Always, Self::IfNotPresent, Self::Never]
            .into_iter()
            .find(|policy| policy.to_string() == text)
            .ok_or(NoPolicy)
    }
}

/// The policies to try for `image`, in order: the job's where it names some, else the configuration's; of these, what
/// the operator allows. A policy named twice is tried twice.
pub fn effective(
    image: &str,
    of_job: &[PullPolicy],
    configured: &[PullPolicy],
    allowed: &[PullPolicy],
) -> Result<Vec<PullPolicy>, String> {
    let (source, wanted) = match of_job {
        [] => ("Runner config", configured),
        some => ("GitLab pipeline config", some),
    };
    let allowed = if allowed.is_empty() {
        configured
    } else {
        allowed
    };
    let left: Vec<_> = wanted
        .iter()
        .copied()
        .filter(|policy| allowed.contains(policy))
        .collect();
    if left.is_empty() {
        return Err(format!(
            "invalid pull policy for image {image:?}: pull_policy ({}) defined in {source} is not one of the \
             allowed_pull_policies ({})",
            listed(wanted),
            listed(allowed)
        ));
    }
    Ok(left)
}

/// As GitLab Runner lists them: `[always if-not-present]`.
pub fn listed(policies: &[PullPolicy]) -> String {
    let names: Vec<_> = policies.iter().map(PullPolicy::to_string).collect();
    format!("[{}]", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::PullPolicy::{Always, IfNotPresent, Never};
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for policy in [Always, IfNotPresent, Never] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("sometimes".parse::<PullPolicy>(), Err(NoPolicy));
    }

    #[test]
    fn what_is_allowed_is_kept_in_its_order() {
        let both = [Always, IfNotPresent];
        for (of_job, configured, allowed, left) in [
            (&[][..], &[Always][..], &[][..], &[Always][..]),
            (&[], &[Always, Always], &[Always], &[Always, Always]),
            (&[], &both, &[IfNotPresent], &[IfNotPresent]),
            (&[Never, IfNotPresent], &[Always], &both, &[IfNotPresent]),
            (&[IfNotPresent, Always], &both, &[], &[IfNotPresent, Always]),
        ] {
            let found = effective("a", of_job, configured, allowed);
            assert_eq!(found.as_deref(), Ok(left));
        }
    }

    #[test]
    fn nothing_left_is_said_in_gitlab_runner_s_words() {
        assert_eq!(
            effective("ruby:3", &[Never], &[Always, IfNotPresent], &[]),
            Err(
                "invalid pull policy for image \"ruby:3\": pull_policy ([never]) defined in GitLab pipeline config is \
                 not one of the allowed_pull_policies ([always if-not-present])"
                    .into()
            )
        );
        let of_runner = effective("a", &[], &[Always], &[Never]);
        assert!(
            of_runner.is_err_and(|text| text.contains("([always]) defined in Runner config is")),
        );
    }
}

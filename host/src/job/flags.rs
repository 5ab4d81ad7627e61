//! A job's feature flags: the operator's word, else the job's variable, else the entry's environment, else the default.

use std::collections::BTreeMap;

use super::settings::go_bool;
use crate::config::flags::ALL;
use crate::config::usable::Runner;
use crate::coordinator::payload::Variable;

/// Every flag of GitLab Runner with the value that holds for one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<&'static str, bool>,
}

impl Flags {
    /// The flags, and a sentence for every value that could not be understood and was left at its default.
    pub fn read(runner: &Runner, variables: &[Variable]) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let mut values = BTreeMap::new();
        for flag in ALL {
            let of_job = variables.iter().rev().find(|v| v.key == flag.name);
            let of_job = of_job.map(|variable| &variable.value);
            let of_entry = runner.environment.iter().rev();
            let of_entry = of_entry
                .filter(|(key, _)| key == flag.name)
                .map(|(_, value)| value);
            let text = of_job.into_iter().chain(of_entry).next();
            let value = match (runner.feature_flags.get(flag.name), text) {
                (Some(value), _) => *value,
                (None, None) => flag.default,
                (None, Some(text)) => go_bool(text).unwrap_or_else(|| {
                    warnings.push(format!(
                        "{}: {text:?} is neither true nor false, using the default ({})",
                        flag.name, flag.default
                    ));
                    flag.default
                }),
            };
            values.insert(flag.name, value);
        }
        (Self { values }, warnings)
    }

    /// `name` is one of [`crate::config::flags`].
    pub fn is_on(&self, name: &str) -> bool {
        self.values.get(name).copied().unwrap_or_default()
    }

    pub fn all(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.values.iter().map(|(name, on)| (*name, *on))
    }

    /// Those that differ from GitLab Runner's defaults.
    pub fn unusual(&self) -> impl Iterator<Item = (&'static str, bool)> {
        ALL.iter()
            .map(|flag| (flag.name, self.is_on(flag.name), flag.default))
            .filter(|(_, on, default)| on != default)
            .map(|(name, on, _)| (name, on))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::config::flags;
    use crate::job::tests::runner;

    fn variable(key: &str, value: &str) -> Variable {
        serde_json::from_value(json!({ "key": key, "value": value })).unwrap()
    }

    #[test]
    fn the_operator_s_word_comes_before_the_job_s_and_the_entry_s_environment() {
        let name = flags::SCRIPT_SECTIONS;
        let read = |operator: Option<bool>, job: &[&str], entry: &[&str]| {
            let mut runner = runner();
            runner.feature_flags = operator
                .map(|on| (name.to_owned(), on))
                .into_iter()
                .collect();
            let entry = entry
                .iter()
                .map(|value| (name.to_owned(), (*value).to_owned()));
            runner.environment = entry.collect();
            let job: Vec<_> = job.iter().map(|value| variable(name, value)).collect();
            let (flags, warnings) = Flags::read(&runner, &job);
            (flags.is_on(name), warnings.len())
        };
        for (operator, job, entry, expected) in [
            (None, &[][..], &[][..], (false, 0)),
            (None, &["true"], &[], (true, 0)),
            (None, &["true", "0"], &[], (false, 0)),
            (None, &[], &["1"], (true, 0)),
            (None, &["false"], &["1"], (false, 0)),
            (Some(true), &["false"], &[], (true, 0)),
            (Some(false), &["perhaps"], &["true"], (false, 0)),
            (None, &["perhaps"], &["true"], (false, 1)),
        ] {
            assert_eq!(
                read(operator, job, entry),
                expected,
                "{operator:?} {job:?} {entry:?}"
            );
        }
    }

    #[test]
    fn defaults_are_not_worth_a_line_in_the_log() {
        let mut runner = runner();
        runner.feature_flags.insert(flags::TIMESTAMPS.into(), true);
        let variables = [
            variable(flags::INIT, "true"),
            variable(flags::GIT_BUNDLE_URIS, "f"),
        ];
        let (flags, _) = Flags::read(&runner, &variables);
        let unusual: Vec<_> = flags.unusual().collect();
        assert_eq!(
            unusual,
            [
                ("FF_USE_GIT_BUNDLE_URIS", false),
                ("FF_USE_INIT_WITH_DOCKER_EXECUTOR", true)
            ]
        );
    }
}

//! Labels by which containers and volumes are told apart, on instances and by those who look there. GitLab Runner's.

use std::collections::HashMap;

pub(super) const MANAGED: &str = "com.gitlab.gitlab-runner.managed";
/// The manager that made it.
pub(super) const SYSTEM_ID: &str = "com.gitlab.gitlab-runner.runner.system_id";
/// The short token of the runner whose job it was.
pub(super) const RUNNER_ID: &str = "com.gitlab.gitlab-runner.runner.id";
/// `build`, `predefined`, `cache`.
pub(super) const TYPE: &str = "com.gitlab.gitlab-runner.type";
/// Of a volume: whether a later job may find it again.
pub(super) const REUSABLE: &str = "com.gitlab.gitlab-runner.reusable";

/// A filter that all of these labels pass.
pub(super) fn filter(labels: &[(&str, &str)]) -> HashMap<&'static str, Vec<String>> {
    let wanted = labels.iter().map(|(key, value)| format!("{key}={value}"));
    HashMap::from([("label", wanted.collect())])
}

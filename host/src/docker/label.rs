//! Labels by which containers and volumes are told apart, on instances and by those who look there. GitLab Runner's.

use std::collections::HashMap;

pub(super) const PREFIX: &str = "com.gitlab.gitlab-runner.";
pub(super) const MANAGED: &str = "com.gitlab.gitlab-runner.managed";
/// The manager that made it.
pub(super) const SYSTEM_ID: &str = "com.gitlab.gitlab-runner.runner.system_id";
/// The short token of the runner whose job it was.
pub(super) const RUNNER_ID: &str = "com.gitlab.gitlab-runner.runner.id";
/// `build`, `predefined`, `service`, `wait`, `cache`.
pub(super) const TYPE: &str = "com.gitlab.gitlab-runner.type";
/// A service's registry and path, and its tag.
pub(super) const SERVICE: &str = "com.gitlab.gitlab-runner.service";
pub(super) const SERVICE_VERSION: &str = "com.gitlab.gitlab-runner.service.version";
/// Of a wait container: the service it waits for.
pub(super) const WAIT: &str = "com.gitlab.gitlab-runner.wait";
/// Of a volume: whether a later job may find it again.
pub(super) const REUSABLE: &str = "com.gitlab.gitlab-runner.reusable";
/// Of a volume: where it is mounted.
pub(super) const DESTINATION: &str = "com.gitlab.gitlab-runner.destination";
/// Of a volume: whether jobs of protected branches use it.
pub(super) const PROTECTED: &str = "com.gitlab.gitlab-runner.protected";

/// A filter that all of these labels pass.
pub(super) fn filter(labels: &[(&str, &str)]) -> HashMap<&'static str, Vec<String>> {
    let wanted = labels.iter().map(|(key, value)| format!("{key}={value}"));
    HashMap::from([("label", wanted.collect())])
}

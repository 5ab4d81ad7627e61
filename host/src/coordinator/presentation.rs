//! The `info` object: what the manager tells GitLab of itself. GitLab gives a runner only jobs that its features cover.

use serde::Serialize;

/// The release of GitLab Runner whose protocol this is. GitLab compares `version` with GitLab Runner's own releases
/// (upgrade hints, gates of old), so a number of ours would read as a runner ten years old; ours is the revision.
pub(super) const PROTOCOL_VERSION: &str = "19.4.0";
const NAME: &str = "fleetling";

#[derive(Clone, Debug, Serialize)]
pub(super) struct Presentation {
    name: &'static str,
    version: &'static str,
    revision: &'static str,
    platform: &'static str,
    architecture: &'static str,
    executor: &'static str,
    shell: String,
    features: Features,
    config: Configured,
}

/// Of the runner's configuration, what GitLab shows.
#[derive(Clone, Debug, Serialize)]
struct Configured {
    #[serde(skip_serializing_if = "String::is_empty")]
    gpus: String,
}

impl Presentation {
    /// All as configured, such as `docker-autoscaler`, `sh` and `all`; without GPUs the last is empty.
    pub(super) fn new(executor: &'static str, shell: &str, gpus: &str) -> Self {
        Self {
            name: NAME,
            version: PROTOCOL_VERSION,
            revision: env!("CARGO_PKG_VERSION"),
            platform: std::env::consts::OS,
            architecture: architecture(),
            executor,
            shell: shell.to_owned(),
            features: Features::TODAY,
            config: Configured {
                gpus: gpus.to_owned(),
            },
        }
    }
}

/// `gitlab-runner …` first, as a browser's name begins with its ancestors': proxies and GitLab look for it.
pub(super) fn user_agent() -> String {
    format!(
        "gitlab-runner {PROTOCOL_VERSION} ({NAME} {}; {}/{})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        architecture(),
    )
}

/// Go's names.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[derive(Clone, Debug, Serialize)]
struct Features {
    variables: bool,
    image: bool,
    services: bool,
    artifacts: bool,
    cache: bool,
    fallback_cache_keys: bool,
    shared: bool,
    upload_multiple_artifacts: bool,
    upload_raw_artifacts: bool,
    session: bool,
    terminal: bool,
    refspecs: bool,
    masking: bool,
    proxy: bool,
    raw_variables: bool,
    artifacts_exclude: bool,
    multi_build_steps: bool,
    trace_reset: bool,
    trace_checksum: bool,
    trace_size: bool,
    vault_secrets: bool,
    cancelable: bool,
    return_exit_code: bool,
    service_variables: bool,
    service_multiple_aliases: bool,
    image_executor_opts: bool,
    service_executor_opts: bool,
    cancel_gracefully: bool,
    native_steps_integration: bool,
    two_phase_job_commit: bool,
    job_inputs: bool,
}

impl Features {
    /// Only what works. All are always sent: GitLab keeps what it heard last.
    const TODAY: Self = Self {
        variables: true,
        image: true,
        refspecs: true,
        masking: true,
        raw_variables: true,
        multi_build_steps: true,
        trace_reset: true,
        trace_checksum: true,
        trace_size: true,
        cancelable: true,
        return_exit_code: true,
        image_executor_opts: true,
        cancel_gracefully: true,
        two_phase_job_commit: true,
        services: true,
        service_variables: true,
        service_multiple_aliases: true,
        service_executor_opts: true,
        artifacts: false,
        cache: false,
        fallback_cache_keys: false,
        shared: false,
        upload_multiple_artifacts: false,
        upload_raw_artifacts: false,
        session: false,
        terminal: false,
        proxy: false,
        artifacts_exclude: false,
        vault_secrets: false,
        native_steps_integration: false,
        job_inputs: false,
    };
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn without_gpus_nothing_is_said_of_them() {
        let presentation = Presentation::new("docker", "sh", "");
        let told = serde_json::to_value(presentation).unwrap();
        assert_eq!(told["config"], serde_json::json!({}));
    }
}

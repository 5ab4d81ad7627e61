//! What a job asks of Docker: names, labels and directories, from payload and configuration; its images are `image`'s.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::config::flags::{DISABLE_UMASK, INIT, NATIVE_CONTAINER_STOP};
use crate::config::scalars::GoDuration;
use crate::config::volume::{Volume, clean, covers};
use crate::coordinator::payload::Job;
use crate::docker::stage::{Network, Plan, Services};

use super::flags::Flags;
use super::settings::{self, Settings, Strategy};
use super::variables::{self, Variables};
use super::{Work, image, refuse, services};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(7200);
const LABEL_PREFIX: &str = "com.gitlab.gitlab-runner.";

/// Everything that is known of a job before an instance is.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub plan: Plan,
    pub directories: Directories,
    pub variables: Variables,
    pub flags: Flags,
    pub settings: Settings,
    /// Sentences for the job log, in yellow.
    pub warnings: Vec<String>,
}

/// Where a job lives inside its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    pub builds: String,
    pub cache: String,
    pub project: String,
    /// Beside the project: file variables, git's extra configuration.
    pub tmp: String,
}

/// How long the whole job may take.
pub fn job_timeout(job: &Job) -> Duration {
    match u64::try_from(job.runner_info.timeout) {
        // Beyond a year a deadline may be none that can be counted to.
        Ok(seconds @ 1..) => Duration::from_secs(seconds.min(365 * 24 * 3600)),
        _ => DEFAULT_TIMEOUT,
    }
}

/// Judges the payload and lays everything out; an error is the sentence that fails the job.
pub fn prepare(work: &Work) -> Result<Prepared, String> {
    if let Some(refusal) = refuse::refusal(&work.payload) {
        return Err(refusal);
    }
    let (flags, flag_problems) = Flags::read(&work.runner, &work.payload.variables);
    let mut directories = Directories::of_project(work, None);
    let mut variables = variables::compose(work, &directories, &flags);
    let wanted = variables.get("GIT_STRATEGY");
    let clone_path = variables
        .get("GIT_CLONE_PATH")
        .filter(|path| !path.is_empty());
    if let Some(path) = clone_path {
        directories = Directories::at(work, &path)?;
        variables = variables::compose(work, &directories, &flags);
    } else if wanted.as_deref() == Some("empty") {
        directories = Directories::of_project(work, Some("-empty"));
        variables = variables::compose(work, &directories, &flags);
    }
    let (settings, problems) = settings::read(&variables, work)?;
    let mut warnings = refuse::warnings(&work.payload);
    warnings.extend(flag_problems);
    warnings.extend(problems);
    let network = services::network(work, &flags);
    if let Network::PerBuild { name, .. } = &network {
        variables.set("CI_BUILD_NETWORK_NAME", name);
    }
    let services = services::services(work, &variables, &settings)?;
    let plan = Plan {
        network,
        services,
        keep_builds: settings.strategy == Strategy::Fetch,
        ..plan(work, &directories, &variables, &flags, &mut warnings)?
    };
    Ok(Prepared {
        plan,
        directories,
        variables,
        flags,
        settings,
        warnings,
    })
}

impl Directories {
    fn of_project(work: &Work, suffix: Option<&str>) -> Self {
        let slug = project_slug(&work.payload);
        let suffix = suffix.unwrap_or_default();
        let builds = &work.runner.builds_dir;
        let project = if shares_builds(work) {
            let (token, concurrent) = (&work.short_token, work.project_concurrent_id);
            format!("{builds}/{token}/{concurrent}/{slug}{suffix}")
        } else {
            format!("{builds}/{slug}{suffix}")
        };
        Self::with(work, project)
    }

    /// `GIT_CLONE_PATH`: allowed by the operator, and below the builds directory.
    fn at(work: &Work, path: &str) -> Result<Self, String> {
        if !work.runner.custom_build_dir_enabled {
            return Err(
                "GIT_CLONE_PATH is set, but custom_build_dir.enabled is false in config.toml"
                    .into(),
            );
        }
        let builds = format!("{}/", work.runner.builds_dir.trim_end_matches('/'));
        let path = clean(path);
        if !path.starts_with(&builds) {
            return Err(format!(
                "GIT_CLONE_PATH {path:?} is not below the builds directory {:?}",
                work.runner.builds_dir
            ));
        }
        Ok(Self::with(work, path))
    }

    fn with(work: &Work, project: String) -> Self {
        Self {
            builds: work.runner.builds_dir.clone(),
            cache: format!("{}/{}", work.runner.cache_dir, project_slug(&work.payload)),
            tmp: format!("{project}.tmp"),
            project,
        }
    }
}

/// Whether the builds directory lies on a folder of the instance, where jobs must not meet.
fn shares_builds(work: &Work) -> bool {
    let builds = clean(&work.runner.builds_dir);
    let mut volumes = work.runner.docker.volumes.iter();
    volumes.any(|volume| volume.source.is_some() && covers(&clean(&volume.destination), &builds))
}

/// `group/project` of the repository's URL, or `project-<id>`.
fn project_slug(job: &Job) -> String {
    let fallback = || format!("project-{}", job.job_info.project_id);
    let Ok(url) = url::Url::parse(&job.git_info.repo_url) else {
        return fallback();
    };
    let path = url.path().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || parts.iter().any(|part| matches!(*part, "." | "..")) {
        return fallback();
    }
    parts.join("/")
}

fn plan(
    work: &Work,
    directories: &Directories,
    variables: &Variables,
    flags: &Flags,
    warnings: &mut Vec<String>,
) -> Result<Plan, String> {
    let job = &work.payload;
    let project_id = job.job_info.project_id;
    let unique = format!(
        "runner-{}-project-{project_id}-concurrent-{}",
        work.short_token, work.project_concurrent_id
    );
    let digest = Sha256::digest(format!(
        "{}-{}-{project_id}-{}",
        work.runner.token.expose_secret(),
        work.manager.system_id,
        work.project_concurrent_id
    ));
    let hex: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let builds_dir = clean(&directories.builds);
    if !directories.builds.starts_with('/') || builds_dir == "/" {
        return Err(format!(
            "builds_dir {:?} must be an absolute path and not the root",
            directories.builds
        ));
    }
    Ok(Plan {
        job_id: job.id,
        project_id,
        container_base: rfc1123(&unique),
        volume_base: format!("runner-{hex}"),
        labels: labels(work, variables),
        container_labels: container_labels(work, variables),
        image: image::build(work, variables, warnings)?,
        helper_image: image::helper(work, variables)?,
        environment: variables.environment(),
        init: flags.is_on(INIT),
        builds_dir,
        // Known with the settings.
        keep_builds: false,
        volumes: volumes(work, variables),
        protected: is_protected(job),
        credentials: image::credentials(work, variables, warnings),
        network: Network::Given(None),
        services: Services::default(),
        helper_umask: if flags.is_on(DISABLE_UMASK) { 0o022 } else { 0 },
        native_stop: flags.is_on(NATIVE_CONTAINER_STOP),
    })
}

/// A name that no other running job has.
pub(super) fn short_name(work: &Work) -> String {
    rfc1123(&format!(
        "runner-{}-{}-{}-{}",
        work.short_token,
        work.payload.job_info.project_id,
        work.project_concurrent_id,
        work.payload.id
    ))
}

/// A DNS label: what it may not hold is deleted.
fn rfc1123(name: &str) -> String {
    let kept: String = name
        .to_ascii_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .collect();
    kept.trim_start_matches('-').chars().take(63).collect()
}

fn labels(work: &Work, variables: &Variables) -> Vec<(String, String)> {
    let job = &work.payload;
    let pipeline = job.job_info.pipeline_id.map(|id| id.to_string());
    let pipeline = pipeline
        .or_else(|| variables.get("CI_PIPELINE_ID"))
        .unwrap_or_default();
    let facts = [
        ("job.id", job.id.to_string()),
        ("job.url", variables.get("CI_JOB_URL").unwrap_or_default()),
        ("job.sha", job.git_info.sha.clone()),
        ("job.before_sha", job.git_info.before_sha.clone()),
        ("job.ref", job.git_info.reference.clone()),
        (
            "job.timeout",
            GoDuration::from(job_timeout(job)).to_string(),
        ),
        ("project.id", job.job_info.project_id.to_string()),
        ("project.runner_id", work.project_concurrent_id.to_string()),
        ("pipeline.id", pipeline),
        ("runner.id", work.short_token.clone()),
        ("runner.local_id", work.concurrent_id.to_string()),
        ("runner.system_id", work.manager.system_id.clone()),
        ("managed", "true".into()),
    ];
    facts
        .into_iter()
        .map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value))
        .collect()
}

fn container_labels(work: &Work, variables: &Variables) -> Vec<(String, String)> {
    let configured = work.runner.docker.container_labels.iter();
    configured
        .map(|(key, value)| (key.clone(), variables.expand(value)))
        .collect()
}

fn volumes(work: &Work, variables: &Variables) -> Vec<Volume> {
    let configured = work.runner.docker.volumes.iter();
    let expanded = configured.map(|volume| Volume {
        destination: variables.expand(&volume.destination),
        ..volume.clone()
    });
    expanded.collect()
}

/// As GitLab says it, else by the first definition of its variable, which a job cannot take the place of; or by a cache
/// key that GitLab made for protected branches.
fn is_protected(job: &Job) -> bool {
    let variable = || {
        let mut variables = job.variables.iter();
        let first = variables.find(|variable| variable.key == "CI_COMMIT_REF_PROTECTED");
        first.and_then(|variable| settings::go_bool(&variable.value))
    };
    let of_cache = |cache: &serde_json::Value| {
        let key = cache.get("key").and_then(serde_json::Value::as_str);
        key.is_some_and(|key| key.ends_with("-protected") && !key.ends_with("-non_protected"))
    };
    job.git_info.protected.or_else(variable).unwrap_or(false) || job.cache.iter().any(of_cache)
}

/// Whether the sources come by git at all.
pub fn fetches(settings: &Settings) -> bool {
    matches!(settings.strategy, Strategy::Clone | Strategy::Fetch)
}

#[cfg(test)]
mod tests;

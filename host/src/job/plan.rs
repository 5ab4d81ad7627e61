//! What a job asks of Docker: names, labels, directories, image and credentials, from payload and configuration.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::config::flags::{DISABLE_UMASK, INIT, NATIVE_CONTAINER_STOP};
use crate::config::pull_policy::{self, NoPolicy, PullPolicy};
use crate::config::scalars::GoDuration;
use crate::coordinator::payload::Job;
use crate::docker::stage::{BuildImage, Plan, RegistryCredential};

use super::flags::Flags;
use super::settings::{self, Settings, Strategy};
use super::variables::{self, Variables};
use super::{Work, refuse};

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
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
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
    let plan = plan(work, &directories, &variables, &flags)?;
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
        let mut below = project_slug(&work.payload);
        if shares_builds(work) {
            // Jobs side by side would meet in one directory of the instance.
            below = format!(
                "{}/{}/{below}",
                work.short_token, work.project_concurrent_id
            );
        }
        let project = format!(
            "{}/{below}{}",
            work.runner.builds_dir,
            suffix.unwrap_or_default()
        );
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
        let path = clean_path(path);
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

/// Whether a directory of the instance is mounted over the builds directory, or above it.
fn shares_builds(work: &Work) -> bool {
    let builds = clean_path(&work.runner.builds_dir);
    work.runner.docker.volumes.iter().any(|volume| {
        let mut parts = volume.split(':');
        let (source, target) = (parts.next().unwrap_or_default(), parts.next());
        let Some(target) = target.filter(|_| source.starts_with('/')) else {
            return false;
        };
        let target = clean_path(target);
        builds == target || builds.starts_with(&format!("{}/", target.trim_end_matches('/')))
    })
}

/// Without `.`, `..` and doubled slashes; always absolute.
fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
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
    let builds_dir = clean_path(&directories.builds);
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
        image: build_image(work, variables)?,
        environment: variables.environment(),
        builds_dir,
        cache_dir: directories.cache.clone(),
        credentials: credentials(work, variables),
        helper_umask: if flags.is_on(DISABLE_UMASK) { 0o022 } else { 0 },
        init: flags.is_on(INIT),
        native_stop: flags.is_on(NATIVE_CONTAINER_STOP),
    })
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
    let mut labels: Vec<_> = facts
        .into_iter()
        .map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value))
        .collect();
    let configured = work.runner.docker.container_labels.iter();
    labels.extend(configured.map(|(key, value)| (key.clone(), variables.expand(value))));
    labels
}

fn build_image(work: &Work, variables: &Variables) -> Result<BuildImage, String> {
    let docker = &work.runner.docker;
    let of_job = work
        .payload
        .image
        .as_ref()
        .filter(|image| !image.name.is_empty());
    let name = of_job
        .map(|image| image.name.clone())
        .or_else(|| docker.image.clone());
    let name = variables.expand(&name.unwrap_or_default());
    if name.is_empty() {
        return Err("the job names no image, and [runners.docker] has none as a default".into());
    }
    let option = |key: &str| {
        let options = of_job?.executor_opts.as_ref()?.get("docker")?.get(key)?;
        let text = options
            .as_str()
            .map(String::from)
            .unwrap_or_else(|| options.to_string());
        Some(variables.expand(&text)).filter(|text| !text.is_empty())
    };
    let entrypoint = of_job
        .and_then(|image| image.entrypoint.clone())
        .filter(|_| !docker.disable_entrypoint_overwrite);
    Ok(BuildImage {
        is_default: of_job.is_none(),
        entrypoint,
        user: docker
            .user
            .as_deref()
            .map(|user| variables.expand(user))
            .or_else(|| option("user")),
        platform: option("platform"),
        pull_policies: pull_policies(work, &name)?,
        name,
    })
}

/// What the operator allows of the job's own policies where it has some, else of the configured ones.
fn pull_policies(work: &Work, image: &str) -> Result<Vec<PullPolicy>, String> {
    let docker = &work.runner.docker;
    let wanted = work
        .payload
        .image
        .as_ref()
        .and_then(|image| image.pull_policy.as_deref())
        .unwrap_or_default();
    let of_job: Vec<PullPolicy> = wanted
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|NoPolicy| format!("unknown pull_policy {text:?} in the job's image"))
        })
        .collect::<Result<_, _>>()?;
    pull_policy::effective(
        image,
        &of_job,
        &docker.pull_policies,
        &docker.allowed_pull_policies,
    )
}

/// The payload's registry logins, then those of `DOCKER_AUTH_CONFIG`.
fn credentials(work: &Work, variables: &Variables) -> Vec<RegistryCredential> {
    let mut credentials: Vec<_> = work
        .payload
        .credentials
        .iter()
        .filter(|credential| credential.kind == "registry")
        .map(|credential| RegistryCredential {
            registry: credential.url.clone(),
            username: credential.username.clone(),
            password: SecretString::from(credential.password.clone()),
        })
        .collect();
    let auths = variables
        .get("DOCKER_AUTH_CONFIG")
        .and_then(|text| docker_auths(&text));
    credentials.extend(auths.unwrap_or_default());
    credentials
}

fn docker_auths(text: &str) -> Option<Vec<RegistryCredential>> {
    use base64::Engine as _;
    let config: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut found = Vec::new();
    for (registry, entry) in config.get("auths")?.as_object()? {
        let field = |key: &str| entry.get(key).and_then(|v| v.as_str()).map(String::from);
        let pair = field("auth")
            .and_then(|auth| base64::engine::general_purpose::STANDARD.decode(auth).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.split_once(':').map(|(u, p)| (u.into(), p.into())))
            .or_else(|| Some((field("username")?, field("password")?)));
        if let Some((username, password)) = pair {
            let password = SecretString::from(password);
            found.push(RegistryCredential {
                registry: registry.clone(),
                username,
                password,
            });
        }
    }
    Some(found)
}

/// Whether the sources come by git at all.
pub fn fetches(settings: &Settings) -> bool {
    matches!(settings.strategy, Strategy::Clone | Strategy::Fetch)
}

#[cfg(test)]
mod tests;

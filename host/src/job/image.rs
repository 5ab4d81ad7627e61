//! What of payload and configuration becomes which image: names, policies, platform, registry logins; pure.

use crate::config::pull_policy::{self, NoPolicy, PullPolicy};
use crate::config::usable::Docker;
use crate::docker::credentials::{DockerConfig, Login, RegistryCredential, Source};
use crate::docker::platform::Platform;
use crate::docker::stage::{BuildImage, HelperImage};

use super::Work;
use super::variables::Variables;

const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// The image of B: the job's, else the operator's default. An error is the sentence that fails the job.
pub(super) fn build(
    work: &Work,
    variables: &Variables,
    warnings: &mut Vec<String>,
) -> Result<BuildImage, String> {
    let docker = &work.runner.docker;
    let of_job = work.payload.image.as_ref();
    let of_job = of_job.filter(|image| !image.name.is_empty());
    let name = match (of_job, &docker.image) {
        // Twice, as GitLab Runner does: a variable of the name may name another.
        (Some(image), _) => variables.expand(&variables.expand(&image.name)),
        (None, Some(default)) => variables.expand(default),
        (None, None) => String::new(),
    };
    if name.is_empty() {
        return Err("the job names no image, and [runners.docker] has none as a default".into());
    }
    let option =
        |key| of_job.and_then(|image| docker_option(image.executor_opts.as_ref(), key, variables));
    let entrypoint = of_job.and_then(|image| image.entrypoint.clone());
    let entrypoint = entrypoint.filter(|words| !words.is_empty());
    if entrypoint.is_some() && docker.disable_entrypoint_overwrite {
        warnings.push("Entrypoint override disabled".to_owned());
    }
    let wanted = work.payload.image.as_ref();
    let wanted = wanted.and_then(|image| image.pull_policy.as_deref());
    Ok(BuildImage {
        is_default: of_job.is_none(),
        configured: docker.image.as_deref().map(|name| variables.expand(name)),
        entrypoint: entrypoint.filter(|_| !docker.disable_entrypoint_overwrite),
        // The operator's is taken as it stands, as allowed_users is.
        user: docker.user.clone().or_else(|| option("user")),
        platform: option("platform").map(|text| platform(text, warnings)),
        pull_policies: pull_policies(&name, wanted.unwrap_or_default(), docker)?,
        name,
    })
}

/// `helper_image`, where it is set and not empty once it is expanded.
pub(super) fn helper(work: &Work, variables: &Variables) -> Result<Option<HelperImage>, String> {
    let docker = &work.runner.docker;
    let name = docker.helper_image.as_deref();
    let name = name.map(|name| variables.expand(name)).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let pull_policies = pull_policies(&name, &[], docker)?;
    Ok(Some(HelperImage {
        name,
        pull_policies,
    }))
}

/// `docker: <key>` among the options of an image or a service, expanded; `None` where it is empty.
pub(super) fn docker_option(
    options: Option<&serde_json::Value>,
    key: &str,
    variables: &Variables,
) -> Option<String> {
    let option = options?.get("docker")?.get(key)?;
    let text = option.as_str().map(String::from);
    let text = text.unwrap_or_else(|| option.to_string());
    Some(variables.expand(&text)).filter(|text| !text.is_empty())
}

/// What the operator allows of the job's own policies where it has some, else of the configured ones.
pub(super) fn pull_policies(
    image: &str,
    of_job: &[String],
    docker: &Docker,
) -> Result<Vec<PullPolicy>, String> {
    let of_job: Vec<PullPolicy> = of_job
        .iter()
        .map(|text| {
            text.parse().map_err(|NoPolicy| {
                format!(
                    "invalid pull policy for image {image:?}: unsupported pull_policy {text:?} in the job; write always, \
                     if-not-present or never"
                )
            })
        })
        .collect::<Result<_, _>>()?;
    let (configured, allowed) = (&docker.pull_policies, &docker.allowed_pull_policies);
    pull_policy::effective(image, &of_job, configured, allowed)
}

/// As the daemon is to be told. Containers run on Linux or Windows; a job that was written on a Mac may say otherwise.
pub(super) fn platform(text: String, warnings: &mut Vec<String>) -> String {
    let Some(mut platform) = Platform::parse(&text) else {
        // The daemon says what is wrong with it.
        return text;
    };
    if !["linux", "windows"].contains(&platform.os.as_str()) {
        warnings.push(format!(
            "platform {text:?}: there are no containers for {}, using linux",
            platform.os
        ));
        platform.os = "linux".to_owned();
    }
    platform.to_string()
}

/// Where the job's registry logins come from, in the order in which they win.
pub(super) fn credentials(
    work: &Work,
    variables: &Variables,
    warnings: &mut Vec<String>,
) -> Vec<Source> {
    let variable = variable(work, variables, warnings).map(Source::Variable);
    let registries = work.payload.credentials.iter();
    let registries = registries.filter(|credential| credential.kind == "registry");
    let of_payload = registries.map(|credential| RegistryCredential {
        registry: credential.url.clone(),
        login: Login::Password {
            username: credential.username.clone(),
            password: credential.password.clone().into(),
        },
    });
    let mut sources: Vec<_> = variable.into_iter().collect();
    sources.push(Source::Home);
    sources.push(Source::Payload(of_payload.collect()));
    sources
}

/// `DOCKER_AUTH_CONFIG`: the job's, else the operator's. Its helpers stay only if every word of it is the operator's.
fn variable(
    work: &Work,
    variables: &Variables,
    warnings: &mut Vec<String>,
) -> Option<DockerConfig> {
    let text = variables.content(AUTH_CONFIG)?;
    if text.trim().is_empty() {
        return None;
    }
    let mut config: DockerConfig = match text.parse() {
        Ok(config) => config,
        Err(malformed) => {
            warnings.push(format!(
                "{AUTH_CONFIG} is of no use, no credentials are taken from it: {malformed}"
            ));
            return None;
        }
    };
    let written = work.runner.environment.iter().rev();
    let of_operator = written.into_iter().find(|(key, _)| key == AUTH_CONFIG);
    let is_of_job = work.payload.variables.iter().any(|v| v.key == AUTH_CONFIG);
    // What a job's variable was expanded into is a job's too.
    if is_of_job || of_operator.is_none_or(|(_, written)| *written != text) {
        for helper in config.take_helpers() {
            let named: String = helper
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect();
            warnings.push(format!(
                "{AUTH_CONFIG} names the credential helper {named:?}, which is not run: helpers run only from the \
                 manager's own configuration"
            ));
        }
    }
    Some(config)
}

#[cfg(test)]
mod tests;

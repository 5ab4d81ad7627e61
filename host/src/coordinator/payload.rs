//! The job as GitLab sends it: the fields that are used, lenient on the rest.

use serde::{Deserialize, Deserializer, Serialize};

/// One job; `POST /api/v4/jobs/request` answers 201 with it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Job {
    pub id: u64,
    pub token: JobToken,
    #[serde(default, deserialize_with = "null_is_default")]
    pub allow_git_fetch: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub job_info: JobFacts,
    #[serde(default, deserialize_with = "null_is_default")]
    pub git_info: Git,
    #[serde(default, deserialize_with = "null_is_default")]
    pub runner_info: RunnerFacts,
    #[serde(default, deserialize_with = "null_is_default")]
    pub variables: Vec<Variable>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub image: Option<Image>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub services: Vec<Image>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub artifacts: Vec<serde_json::Value>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub cache: Vec<serde_json::Value>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub credentials: Vec<Credential>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub dependencies: Vec<Dependency>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub features: Features,
    #[serde(default)]
    pub secrets: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub hooks: Vec<Hook>,
    #[serde(default)]
    pub run: Option<String>,
    #[serde(default)]
    pub policy_options: Option<PolicyOptions>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub inputs: Vec<Input>,
}

/// Most of a job may hold a secret: addresses, variables, secrets' logins.
impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("job_info", &self.job_info)
            .finish_non_exhaustive()
    }
}

/// The job's own token; GitLab knows the job by it. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobToken(pub String);

impl std::fmt::Debug for JobToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobToken(…)")
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JobFacts {
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub stage: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub project_id: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub project_name: String,
    #[serde(default)]
    pub pipeline_id: Option<u64>,
    /// Seconds.
    #[serde(default)]
    pub time_in_queue_seconds: Option<f64>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Git {
    /// Carries the job token.
    #[serde(default, deserialize_with = "null_is_default")]
    pub repo_url: String,
    #[serde(default)]
    pub repo_object_format: Option<String>,
    #[serde(default, deserialize_with = "null_is_default", rename = "ref")]
    pub reference: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub sha: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub before_sha: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub ref_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub refspecs: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub depth: u32,
    #[serde(default)]
    pub protected: Option<bool>,
}

impl std::fmt::Debug for Git {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Git")
            .field("reference", &self.reference)
            .field("sha", &self.sha)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunnerFacts {
    /// Seconds the whole job may take; 0 or less means 7200.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timeout: i64,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub key: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub value: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub public: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub file: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub masked: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub raw: bool,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable")
            .field("key", &self.key)
            .field("masked", &self.masked)
            .finish_non_exhaustive()
    }
}

/// `script`, `after_script`, `release` and others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub script: Vec<String>,
    /// Seconds.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timeout: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub when: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub allow_failure: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    #[serde(default)]
    pub alias: Option<String>,
    #[serde(default)]
    pub command: Option<Vec<String>>,
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub pull_policy: Option<Vec<String>>,
    #[serde(default)]
    pub executor_opts: Option<serde_json::Value>,
    /// A service's own.
    #[serde(default, deserialize_with = "null_is_default")]
    pub variables: Vec<Variable>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Credential {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("kind", &self.kind)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dependency {
    pub id: u64,
    pub name: String,
    #[serde(default)]
    pub artifacts_file: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Features {
    #[serde(default, deserialize_with = "null_is_default")]
    pub trace_sections: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub token_mask_prefixes: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub failure_reasons: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hook {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub script: Vec<String>,
}

/// Of a job that a pipeline execution policy made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PolicyOptions {
    #[serde(default, deserialize_with = "null_is_default")]
    pub execution_policy_job: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub policy_name: String,
    /// `None`: the policy's variables win over others of the same name.
    #[serde(default)]
    pub policy_variables_override_allowed: Option<bool>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub policy_variables_override_exceptions: Vec<String>,
}

/// A job input, of which no more than the name is needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    #[serde(default, deserialize_with = "null_is_default")]
    pub key: String,
}

/// GitLab sends `null` for what it has nothing to say about.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;

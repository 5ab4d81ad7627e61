//! A job as a test writes it, and the payload GitLab would make of it.
//!
//! The payload's shape is `lib/api/entities/ci/job_request/response.rb` and its neighbours.

use std::time::Duration;

use serde_json::{Value, json};

/// What a `.gitlab-ci.yml` entry would say.
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) name: String,
    script: Vec<String>,
    after_script: Vec<String>,
    variables: Vec<Value>,
    image: Option<Value>,
    timeout: Duration,
    /// Top-level parts of the payload that a test sets to something else.
    parts: Vec<(String, Value)>,
}

/// What the coordinator knows and the payload repeats.
pub(super) struct Setting<'a> {
    pub(super) id: u64,
    pub(super) token: &'a str,
    pub(super) server: &'a str,
    pub(super) project: &'a str,
    pub(super) pipeline: u64,
    pub(super) sha: &'a str,
    pub(super) queued_for: Duration,
}

impl Job {
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            script: vec!["true".to_owned()],
            after_script: Vec::new(),
            variables: Vec::new(),
            image: None,
            timeout: Duration::from_secs(3600),
            parts: Vec::new(),
        }
    }

    pub fn script<const N: usize>(mut self, lines: [&str; N]) -> Self {
        self.script = lines.map(str::to_owned).to_vec();
        self
    }

    pub fn after_script<const N: usize>(mut self, lines: [&str; N]) -> Self {
        self.after_script = lines.map(str::to_owned).to_vec();
        self
    }

    pub fn variable(self, key: &str, value: &str) -> Self {
        self.with(json!({"key": key, "value": value, "public": true}))
    }

    pub fn masked(self, key: &str, value: &str) -> Self {
        self.with(json!({"key": key, "value": value, "public": false, "masked": true}))
    }

    pub fn file(self, key: &str, content: &str) -> Self {
        self.with(json!({"key": key, "value": content, "public": false, "file": true}))
    }

    fn with(mut self, variable: Value) -> Self {
        self.variables.push(variable);
        self
    }

    /// GitLab sends the sources' place with every job; most stories have no use for them.
    pub fn without_sources(self) -> Self {
        self.variable("GIT_STRATEGY", "none")
    }

    pub fn image(mut self, name: &str) -> Self {
        self.image = Some(json!({"name": name, "ports": []}));
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets a top-level part of the payload, such as `services`.
    pub fn part(mut self, name: &str, value: Value) -> Self {
        self.parts.push((name.to_owned(), value));
        self
    }

    pub(super) fn payload(&self, of: &Setting<'_>) -> Value {
        let repo = format!("{}/{}.git", of.server, of.project);
        let with_login = repo.replacen("://", &format!("://gitlab-ci-token:{}@", of.token), 1);
        let mut variables: Vec<Value> = [
            ("CI", "true"),
            ("GITLAB_CI", "true"),
            ("CI_SERVER_URL", of.server),
            ("CI_PROJECT_PATH", of.project),
            ("CI_PROJECT_ID", "1"),
            ("CI_PROJECT_NAME", "project"),
            ("CI_PROJECT_URL", &format!("{}/{}", of.server, of.project)),
            ("CI_PIPELINE_ID", &of.pipeline.to_string()),
            ("CI_JOB_ID", &of.id.to_string()),
            ("CI_JOB_NAME", &self.name),
            ("CI_JOB_STAGE", "test"),
            ("CI_COMMIT_SHA", of.sha),
            ("CI_COMMIT_REF_NAME", "main"),
        ]
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value, "public": true, "masked": false}))
        .collect();
        variables.extend([
            json!({"key": "CI_JOB_TOKEN", "value": of.token, "public": false, "masked": true}),
            json!({"key": "CI_REPOSITORY_URL", "value": with_login, "public": false, "masked": false}),
        ]);
        variables.extend(self.variables.iter().cloned());

        let seconds = self.timeout.as_secs();
        let mut steps = vec![
            json!({"name": "script", "script": self.script, "timeout": seconds,
            "when": "on_success", "allow_failure": false}),
        ];
        if !self.after_script.is_empty() {
            steps.push(
                json!({"name": "after_script", "script": self.after_script, "timeout": seconds,
                "when": "always", "allow_failure": true}),
            );
        }

        let mut payload = json!({
            "id": of.id,
            "token": of.token,
            "allow_git_fetch": true,
            "job_info": {
                "id": of.id, "name": self.name, "stage": "test", "project_id": 1,
                "project_name": "project", "project_full_path": of.project, "namespace_id": 2,
                "root_namespace_id": 2, "organization_id": 1, "pipeline_id": of.pipeline,
                "instance_id": "lab", "user_id": 1, "time_in_queue_seconds": of.queued_for.as_secs_f64(),
                "project_jobs_running_on_instance_runners_count": "0", "queue_size": 1, "queue_depth": 1,
            },
            "git_info": {
                "repo_url": with_login, "repo_object_format": "sha1", "ref": "main", "sha": of.sha,
                "before_sha": "0000000000000000000000000000000000000000", "ref_type": "branch",
                "refspecs": [
                    format!("+refs/pipelines/{0}:refs/pipelines/{0}", of.pipeline),
                    "+refs/heads/main:refs/remotes/origin/main",
                ],
                "depth": 20, "protected": false,
            },
            "runner_info": {"timeout": seconds, "runner_session_url": null},
            "inputs": [],
            "variables": variables,
            "steps": steps,
            "hooks": [],
            "image": self.image,
            "services": [],
            "artifacts": null,
            "cache": [],
            "credentials": [],
            "dependencies": [],
            "features": {
                "trace_sections": true, "token_mask_prefixes": ["glpat-"],
                "failure_reasons": super::FAILURE_REASONS,
            },
            "policy_options": {"execution_job": false, "policy_name": null},
        });
        for (name, value) in &self.parts {
            payload[name] = value.clone();
        }
        payload
    }
}

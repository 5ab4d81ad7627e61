//! Decoding a job as a GitLab of today sends it, with every `null` it likes to send.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const FULL: &str = r#"{
  "id": 8812, "token": "glcbt-64_secret", "allow_git_fetch": true,
  "job_info": { "id": 8812, "name": "build", "stage": "test", "pipeline_id": 99, "project_id": 12,
    "project_name": "app", "project_full_path": "group/app", "namespace_id": 4, "root_namespace_id": 4,
    "organization_id": 1, "instance_id": "x", "user_id": 3, "scoped_user_id": null,
    "time_in_queue_seconds": 1.25, "project_jobs_running_on_instance_runners_count": "+Inf",
    "queue_size": 1, "queue_depth": 2 },
  "git_info": { "repo_url": "https://gitlab-ci-token:glcbt-64_secret@gitlab.example/group/app.git",
    "repo_object_format": "sha1", "ref": "main", "sha": "91956efe32fb7bef54f378d90c9bd74c19025872",
    "before_sha": "0000000000000000000000000000000000000000", "ref_type": "branch",
    "refspecs": ["+refs/pipelines/99:refs/pipelines/99", "+refs/heads/main:refs/remotes/origin/main"],
    "depth": 20, "protected": true },
  "runner_info": { "timeout": 3600, "runner_session_url": null, "uuid": "u" },
  "inputs": [{ "key": "k", "value": { "type": "string", "content": "c", "sensitive": false } }],
  "variables": [
    { "key": "CI_JOB_ID", "value": "8812", "public": true, "masked": false },
    { "key": "PASSWORD", "value": "hunter2", "public": false, "file": false, "masked": true, "raw": true } ],
  "steps": [
    { "name": "script", "script": ["make", "make test"], "timeout": 3600, "when": "on_success", "allow_failure": false },
    { "name": "after_script", "script": ["echo done"], "timeout": 3600, "when": "always", "allow_failure": true } ],
  "hooks": [{ "name": "pre_get_sources_script", "script": ["true"] }],
  "image": { "name": "alpine:3.20", "alias": null, "command": null, "entrypoint": ["/bin/sh", "-c"], "ports": [],
    "executor_opts": { "docker": { "platform": "linux/amd64", "user": 1000 } }, "variables": null,
    "pull_policy": ["if-not-present"] },
  "services": [{ "name": "redis:7", "alias": "cache", "ports": [], "command": ["redis-server"], "entrypoint": null }],
  "artifacts": [{ "name": "a", "paths": ["out/"], "when": "always", "expire_in": "1 week" }],
  "cache": [{ "key": "default", "paths": ["vendor/"], "policy": "pull-push", "when": "on_success", "fallback_keys": [] }],
  "credentials": [{ "type": "registry", "url": "registry.example", "username": "u", "password": "credential-secret" }],
  "dependencies": [{ "id": 8811, "name": "prepare", "token": "t", "artifacts_file": { "filename": "a.zip", "size": 9 } }],
  "features": { "trace_sections": true, "token_mask_prefixes": ["own-"],
    "failure_reasons": ["script_failure", "image_pull_failure"], "tracing": null },
  "secrets": { "DB": { "vault": { "path": "p" } } },
  "policy_options": { "execution_policy_job": false, "policy_name": "" },
  "a_field_of_tomorrow": { "x": [1, 2, 3] }
}"#;

#[test]
fn a_whole_job_is_read() {
    let job: Job = serde_json::from_str(FULL).unwrap();
    assert_eq!((job.id, job.allow_git_fetch), (8812, true));
    assert_eq!(
        (job.job_info.project_id, job.job_info.pipeline_id),
        (12, Some(99))
    );
    assert_eq!(job.git_info.reference, "main");
    assert_eq!((job.git_info.depth, job.git_info.refspecs.len()), (20, 2));
    assert_eq!(job.runner_info.timeout, 3600);
    assert!(job.variables[1].masked && job.variables[1].raw && !job.variables[0].file);
    assert_eq!(job.steps[1].script, ["echo done"]);
    let image = job.image.as_ref().unwrap();
    assert_eq!(image.entrypoint.as_deref().unwrap(), ["/bin/sh", "-c"]);
    assert_eq!(image.pull_policy.as_deref().unwrap(), ["if-not-present"]);
    assert_eq!(
        (job.services.len(), job.artifacts.len(), job.cache.len()),
        (1, 1, 1)
    );
    assert_eq!(job.credentials[0].kind, "registry");
    assert_eq!(job.dependencies[0].id, 8811);
    assert_eq!(job.features.token_mask_prefixes, ["own-"]);
    assert!(job.features.trace_sections && job.secrets.is_some());
    assert_eq!(job.hooks[0].name, "pre_get_sources_script");
}

#[test]
fn it_comes_back_whole_from_a_record() {
    let job: Job = serde_json::from_str(FULL).unwrap();
    let again: Job = serde_json::from_slice(&serde_json::to_vec(&job).unwrap()).unwrap();
    assert_eq!(
        serde_json::to_value(&job).unwrap(),
        serde_json::to_value(&again).unwrap()
    );
}

#[test]
fn null_means_nothing_wherever_gitlab_may_send_it() {
    let mut full: serde_json::Value = serde_json::from_str(FULL).unwrap();
    let fields: Vec<String> = full.as_object().unwrap().keys().cloned().collect();
    for field in fields
        .iter()
        .filter(|field| !["id", "token"].contains(&field.as_str()))
    {
        let kept = full[field].take();
        let read = serde_json::from_value::<Job>(full.clone());
        assert!(read.is_ok(), "{field}: {:?}", read.err());
        full[field] = kept;
    }
    for group in ["job_info", "git_info", "runner_info", "features"] {
        let fields: Vec<String> = full[group].as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let kept = full[group][&field].take();
            let read = serde_json::from_value::<Job>(full.clone());
            assert!(read.is_ok(), "{group}.{field}: {:?}", read.err());
            full[group][&field] = kept;
        }
    }
}

#[test]
fn the_least_job_is_read_and_one_without_identity_is_not() {
    let job: Job = serde_json::from_str(r#"{"id": 1, "token": "t"}"#).unwrap();
    assert!(job.steps.is_empty() && job.image.is_none() && job.run.is_none());
    assert!(serde_json::from_str::<Job>(r#"{"id": 1}"#).is_err());
    assert!(serde_json::from_str::<Job>(r#"{"id": 1, "token": "t", "steps": 7}"#).is_err());
}

#[test]
fn nothing_secret_shows() {
    let job: Job = serde_json::from_str(FULL).unwrap();
    let shown = format!("{:?} {:?} {:?}", job.token, job.variables, job.credentials);
    for secret in ["glcbt", "hunter2", "credential-secret"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let shown = format!("{job:?}");
    assert!(!shown.contains("glcbt-64_secret"), "{shown}");
}

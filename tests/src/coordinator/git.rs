//! The project's git repository, served by git itself over HTTP to whoever holds the token of a running job.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use rand::Rng as _;
use tokio::io::AsyncWriteExt;

use super::Shared;
use super::ledger::JobState;

pub(super) const PROJECT: &str = "group/project";
pub(super) const PIPELINE: u64 = 7001;

pub(super) struct Repository {
    root: PathBuf,
    work: PathBuf,
    bare: PathBuf,
    /// The commit every job is for.
    head: Mutex<String>,
    /// `user:token` of a deploy token.
    pub(super) deploy_login: String,
}

impl Repository {
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let root = dir.join("git");
        let work = dir.join("git-work");
        let bare = root.join(format!("{PROJECT}.git"));
        std::fs::create_dir_all(&work)?;
        std::fs::create_dir_all(&bare)?;
        git(&work, &["init", "--quiet", "--initial-branch=main"])?;
        std::fs::write(work.join("README.md"), "The lab's project.\n")?;
        std::fs::create_dir_all(work.join("bin"))?;
        let greet = work.join("bin/greet");
        std::fs::write(&greet, "#!/bin/sh\necho \"greetings from the sources\"\n")?;
        std::fs::set_permissions(&greet, std::fs::Permissions::from_mode(0o755))?;
        git(&work, &["add", "."])?;
        git(&work, &["commit", "--quiet", "-m", "Begin"])?;
        std::fs::write(work.join("CHANGES"), "second\n")?;
        git(
            &bare,
            &["init", "--quiet", "--bare", "--initial-branch=main"],
        )?;
        let repository = Self {
            root,
            work,
            bare,
            head: Mutex::default(),
            deploy_login: format!("gitlab+deploy-token-1:gldt-{:016x}", rand::random::<u64>()),
        };
        repository.publish("Go on")?;
        Ok(repository)
    }

    pub(super) fn head(&self) -> String {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        head.clone()
    }

    /// A new file of random bytes; answers its commit.
    pub(super) fn push(&self, name: &str, bytes: usize) -> Result<String> {
        let mut content = vec![0; bytes];
        rand::rng().fill(content.as_mut_slice());
        std::fs::write(self.work.join(name), content)?;
        self.publish(&format!("Add {name}"))
    }

    /// Commits what lies in the work tree, as the branch's and the pipeline's head.
    fn publish(&self, message: &str) -> Result<String> {
        git(&self.work, &["add", "."])?;
        git(&self.work, &["commit", "--quiet", "-m", message])?;
        let made = git(&self.work, &["rev-parse", "HEAD"])?;
        let target = self.bare.to_string_lossy();
        let to_pipeline = format!("HEAD:refs/pipelines/{PIPELINE}");
        let push = [
            "push",
            "--quiet",
            &target,
            "HEAD:refs/heads/main",
            &to_pipeline,
        ];
        git(&self.work, &push)?;
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        head.clone_from(&made);
        Ok(made)
    }
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=Lab",
            "-c",
            "user.email=lab@example.invalid",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .context("git cannot be run; `make setup` installs it")?;
    if !output.status.success() {
        bail!(
            "git {}: {}",
            arguments[0],
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Everything that is not the job API: git's three requests, and 404 for the rest.
pub(super) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if !path.starts_with(&format!("/{PROJECT}.git/")) {
        if path.starts_with("/api/") {
            shared.violation(format!("{} {path} is no part of the job API", parts.method));
        }
        return (StatusCode::NOT_FOUND, "404 Not Found").into_response();
    }
    // `Gitlab::Auth`, `build_access_token_check` and `deploy_token_check`: of jobs' tokens, that of a running one.
    if !may_fetch(&shared, &parts.headers) {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"GitLab\"")];
        return (StatusCode::UNAUTHORIZED, ask, "HTTP Basic: Access denied\n").into_response();
    }
    let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match http_backend(&shared.repository.root, &parts, &body).await {
        Ok(response) => response,
        Err(problem) => {
            shared.violation(format!("the lab's git failed: {problem:#}"));
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn may_fetch(shared: &Shared, headers: &HeaderMap) -> bool {
    let login = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(|encoded| {
            base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .ok()
        })
        .and_then(|login| String::from_utf8(login).ok());
    if login.as_ref() == Some(&shared.repository.deploy_login) {
        return true;
    }
    let Some(token) = login
        .as_deref()
        .and_then(|l| l.strip_prefix("gitlab-ci-token:"))
    else {
        return false;
    };
    let mut ledger = shared.ledger();
    let id = ledger
        .jobs()
        .iter()
        .find(|job| job.token == token && job.state == JobState::Running)
        .map(|job| job.id);
    match id.and_then(|id| ledger.job_mut(id)) {
        Some(job) => {
            job.fetches += 1;
            true
        }
        None => false,
    }
}

/// `git http-backend`, by the rules of CGI.
async fn http_backend(
    root: &Path,
    parts: &axum::http::request::Parts,
    body: &Bytes,
) -> Result<Response> {
    let text = |name: header::HeaderName| {
        let value = parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
        .env(
            "GIT_PROTOCOL",
            text(header::HeaderName::from_static("git-protocol")),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("git http-backend cannot be run")?;
    let mut input = child.stdin.take().context("it has no input")?;
    let body = body.clone();
    // Beside reading its output: a pipe holds 64 KiB.
    let feed = tokio::spawn(async move { input.write_all(&body).await });
    let output = child.wait_with_output().await?;
    feed.await??;

    let split = output
        .stdout
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("it sent no header")?;
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output.stdout[..split]).lines() {
        let (name, value) = line.split_once(": ").context("a header without a value")?;
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or("500")),
            _ => response.header(name, value),
        };
    }
    Ok(response.body(Body::from(output.stdout[split + 4..].to_vec()))?)
}

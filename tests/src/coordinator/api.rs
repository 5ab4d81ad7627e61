//! The job API over HTTP. Where GitLab refuses, this does, with GitLab's status, headers and words.
//!
//! Source of the rules: gitlabhq/gitlabhq, `lib/api/ci/runner.rb` and `lib/api/ci/helpers/runner.rb`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, patch, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::ledger::{JobState, Update};
use super::{Endpoint, JobId, Shared, fault, git};
use crate::journal::Fact;

type Gitlab = State<Arc<Shared>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v4/runners/verify", post(verify))
        .route("/api/v4/jobs/request", post(request_job))
        .route("/api/v4/jobs/{id}", put(update_job))
        .route("/api/v4/jobs/{id}/trace", patch(append_trace))
        .fallback(any(git::serve))
        .layer(from_fn_with_state(Arc::clone(&shared), attend))
        .with_state(shared)
}

/// Around every request: the script of faults and the journal.
async fn attend(State(shared): Gitlab, request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let endpoint = Endpoint::of(request.method(), &path);
    let plan = fault::plan(&mut shared.faults(), endpoint);
    if let Some(delay) = plan.before {
        tokio::time::sleep(delay).await;
    }
    let response = match plan.instead {
        Some(0) => std::future::pending().await,
        Some(status) => refusal(status, "a fault on order"),
        None => next.run(request).await,
    };
    let response = match plan.after {
        Some(status) => refusal(status, "the answer was lost on order"),
        None => response,
    };
    shared.journal.record(Fact::Asked {
        method,
        path,
        status: response.status().as_u16(),
    });
    response
}

fn refusal(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({"message": message}))).into_response()
}

/// `authenticate_runner!`: an unknown token is 403, whatever else is in the body.
fn authenticate_runner(shared: &Shared, body: &Bytes) -> Result<Value, Box<Response>> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_| Box::new(refusal(400, "400 Bad request - the body is not JSON")))?;
    let Some(token) = body["token"].as_str() else {
        return Err(Box::new(refusal(400, "token is missing")));
    };
    if token != shared.ledger().runner_token {
        return Err(Box::new(refusal(403, "403 Forbidden")));
    }
    Ok(body)
}

/// `POST /runners/verify`.
async fn verify(State(shared): Gitlab, body: Bytes) -> Response {
    match authenticate_runner(&shared, &body) {
        Err(refused) => *refused,
        Ok(_) => {
            let ledger = shared.ledger();
            Json(json!({"id": ledger.runner_id, "token": ledger.runner_token, "token_expires_at": null}))
                .into_response()
        }
    }
}

/// `POST /jobs/request`.
async fn request_job(State(shared): Gitlab, headers: HeaderMap, body: Bytes) -> Response {
    let body = match authenticate_runner(&shared, &body) {
        Err(refused) => return *refused,
        Ok(body) => body,
    };
    for wrong in request_faults(&headers, &body) {
        shared.violation(wrong);
    }
    let version = shared.ledger().queue_version.to_string();
    let features = &body["info"]["features"];
    let given = if body["last_update"].as_str() == Some(&version)
        && shared
            .ledger()
            .jobs()
            .iter()
            .all(|job| job.state != JobState::Queued)
    {
        // `runner_queue_value_latest?`: GitLab does not even look.
        None
    } else {
        shared.ledger().give(
            &shared.url,
            git::PROJECT,
            &shared.repository.head(),
            features,
        )
    };
    let Some((id, payload)) = given else {
        return (StatusCode::NO_CONTENT, [("X-GitLab-Last-Update", version)]).into_response();
    };
    shared.journal.record(Fact::JobGiven(id));
    (StatusCode::CREATED, Json(payload)).into_response()
}

/// What GitLab bears from a runner that asks for jobs, and a correct one does not do.
fn request_faults(headers: &HeaderMap, body: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| !value.as_bytes().starts_with(b"application/json")) {
        wrong.push(format!("jobs/request with Content-Type {content_type:?}"));
    }
    // `Ci::RunnerManager`: validates :system_xid, length up to 64; GitLab Runner's form is s_ or r_ and 12 more.
    let system_id = body["system_id"].as_str().unwrap_or_default();
    let tail = system_id
        .strip_prefix("s_")
        .or(system_id.strip_prefix("r_"));
    if tail.is_none_or(|tail| tail.len() != 12 || !tail.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        wrong.push(format!(
            "system_id {system_id:?} has not the form s_ or r_ and 12 letters or digits"
        ));
    }
    for key in ["name", "version", "platform", "architecture", "executor"] {
        if body["info"][key].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("jobs/request without info.{key}"));
        }
    }
    // `Ci::Build#supported_runner?`: jobs that need more than the runner has are dropped as runner_unsupported.
    for feature in [
        "refspecs",
        "variables",
        "image",
        "trace_checksum",
        "trace_size",
    ] {
        if body["info"]["features"][feature].as_bool() != Some(true) {
            wrong.push(format!(
                "info.features.{feature} is not true, so GitLab would give it fewer jobs"
            ));
        }
    }
    wrong
}

fn job_token(headers: &HeaderMap) -> String {
    let token = headers.get("JOB-TOKEN");
    token
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// A job's refusal, with the header by which its runner learns why (`job_forbidden!`).
fn job_forbidden((message, state): (&'static str, Option<JobState>)) -> Response {
    let mut response = refusal(403, message);
    if let Some(value) = state.and_then(|state| state.to_string().parse().ok()) {
        response.headers_mut().insert("Job-Status", value);
    }
    response
}

/// `PATCH /jobs/:id/trace`.
async fn append_trace(
    State(shared): Gitlab,
    Path(id): Path<u64>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut ledger = shared.ledger();
    let job = match ledger.authenticate(id, &job_token(&headers)) {
        Err(refused) => return job_forbidden(refused),
        Ok(job) => job,
    };
    let Some(range) = headers
        .get(header::CONTENT_RANGE)
        .and_then(|v| v.to_str().ok())
    else {
        return refusal(400, "400 Missing header Content-Range");
    };
    let mut numbers = range.split('-');
    // Ruby's `to_i`: what is no number is 0.
    let start = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let end = numbers.next().and_then(|n| n.parse().ok());
    let verdict = job.append(start, end, &body);
    let length = job.log_bytes.len();
    let state = job.state;
    drop(ledger);
    if let Some(wrong) = verdict.violation {
        shared.violation(format!("PATCH of the log of #{id}: {wrong}"));
    }
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| !value.as_bytes().starts_with(b"text/plain")) {
        shared.violation(format!(
            "PATCH of the log of #{id} with Content-Type {content_type:?}"
        ));
    }
    let range = format!("0-{length}");
    if verdict.status == 416 {
        let mut response = refusal(416, "416 Range Not Satisfiable");
        if let Ok(value) = range.parse() {
            response.headers_mut().insert(header::RANGE, value);
        }
        return response;
    }
    shared.journal.record(Fact::LogGrew(JobId(id), length));
    Response::builder()
        .status(verdict.status)
        .header("Job-Status", state.to_string())
        .header(header::RANGE, range)
        .header(
            "X-GitLab-Trace-Update-Interval",
            shared.trace_interval.load(Ordering::Relaxed),
        )
        .body(Body::empty())
        .unwrap_or_default()
}

/// `PUT /jobs/:id`.
async fn update_job(
    State(shared): Gitlab,
    Path(id): Path<u64>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return refusal(400, "400 Bad request - the body is not JSON");
    };
    // `job_token`: the parameter, else the header.
    let token = match body["token"].as_str() {
        Some(token) => token.to_owned(),
        None => job_token(&headers),
    };
    let mut ledger = shared.ledger();
    let job = match ledger.authenticate(id, &token) {
        Err(refused) => return job_forbidden(refused),
        Ok(job) => job,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let was = job.state;
    let verdict = job.update(Update {
        at: Instant::now(),
        state: text(&body["state"]).unwrap_or_default(),
        failure_reason: text(&body["failure_reason"]),
        exit_code: body["exit_code"].as_i64(),
        checksum: text(&body["output"]["checksum"]).or(text(&body["checksum"])),
        bytesize: body["output"]["bytesize"].as_u64(),
    });
    let state = job.state;
    drop(ledger);
    if let Some(wrong) = verdict.violation {
        shared.violation(format!("PUT of job #{id}: {wrong}"));
    }
    if was == JobState::Given && state == JobState::Running {
        shared.journal.record(Fact::JobConfirmed(JobId(id)));
    }
    if state.is_final() {
        shared
            .journal
            .record(Fact::JobEnded(JobId(id), state.to_string()));
    }
    let mut response = Response::builder()
        .status(verdict.status)
        .header(header::CONTENT_TYPE, "application/json")
        .header("Job-Status", state.to_string());
    if verdict.status == 202 {
        // `Gitlab::Ci::Runner::Backoff`: a second at first.
        response = response.header("X-GitLab-Trace-Update-Interval", "1");
    }
    response
        .body(Body::from(verdict.status.to_string()))
        .unwrap_or_default()
}

//! The HTTP client for one `[[runners]]` entry: `<url>/api/v4/…`.
//!
//! Redirects are not followed: a token would go where the operator did not send it. When an entry's words change, those
//! who hold an older client of it dial as the newest does.

mod refusal;
mod trust;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::api::{Answer, Appended, JobApi, JobKey, JobState, Update, Updated};
use super::identity::SystemId;
use super::outcome::{FailureReason, Signal};
use super::payload::{Job, JobToken};
use super::presentation::{Presentation, user_agent};
use super::retry::{Persisted, persist};
use super::server_files::ServerFiles;
use crate::config::server_tls::ServerTls;
use crate::config::server_url::ServerUrl;
use wire::Wire;

/// GitLab holds a request for jobs for 50 seconds while it has none.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// An update is small; one that is not answered by then is sent again, and asked for again before GitLab gives an
/// unconfirmed job away.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(20);
const JOB_TIMEOUT: Duration = Duration::from_secs(120);
const LONGEST_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// A client that could not be built; such a runner is unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum ClientProblem {
    #[error(
        "url {url} is neither http nor https; next: write the address of GitLab as `https://…` in config.toml"
    )]
    Scheme { url: String },
    #[error("no HTTP client for {url}: {cause}")]
    Build { url: String, cause: String },
}

/// What identifies a runner to GitLab.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As configured.
    pub url: ServerUrl,
    pub server_tls: ServerTls,
    pub token: SecretString,
    pub system_id: SystemId,
    /// As configured, such as `docker-autoscaler`.
    pub executor: &'static str,
    /// `sh` or `bash`.
    pub shell: String,
    /// `[runners.docker] gpus` as configured; empty without.
    pub gpus: String,
}

/// What GitLab said when asked for a job.
#[derive(Debug)]
pub enum Asked {
    Job(Box<Job>),
    /// 204
    Nothing,
    /// 403; the only answer that counts as unhealthy.
    Refused(String),
    /// A job came that cannot be read; it is to be failed by its key.
    Unreadable {
        key: JobKey,
        problem: String,
    },
    /// Anything else, or no answer.
    Failed(String),
}

/// A request for a job: its answer, and whether GitLab asked for less on the way.
#[derive(Debug)]
pub struct Request {
    pub asked: Asked,
    pub retried: bool,
}

/// Whether GitLab knows the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    Valid {
        id: Option<u64>,
    },
    /// 403
    Refused(String),
    /// GitLab could not say; the runner counts as alive.
    Unknown(String),
}

/// Cheap to clone; shows no token.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    /// Shared with the clients before and after this one.
    wire: Arc<Mutex<Wire>>,
    /// As the operator wrote it but for a login, for messages.
    url: String,
    api: String,
    token: SecretString,
    system_id: SystemId,
    presentation: Presentation,
    /// `X-GitLab-Last-Update`, sent back with the next request for a job: GitLab then holds it until there is news.
    last_update: Mutex<Option<String>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.shared.url)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(settings: Settings) -> Result<Self, ClientProblem> {
        let wire = wire(&settings)?;
        Ok(Self::on(Arc::new(Mutex::new(wire)), settings))
    }

    /// The client of the same GitLab under other words. This one, and what was cloned of it, dials as the new one does:
    /// a job outlives the certificates that it began with.
    pub fn under(&self, settings: Settings) -> Result<Self, ClientProblem> {
        let wire = wire(&settings)?;
        *self.lock() = wire;
        Ok(Self::on(self.shared.wire.clone(), settings))
    }

    fn on(wire: Arc<Mutex<Wire>>, settings: Settings) -> Self {
        let base = settings.url.with_login().as_str().trim_end_matches('/');
        let base = base.strip_suffix("/ci").unwrap_or(base);
        Self {
            shared: Arc::new(Shared {
                wire,
                api: format!("{base}/api/v4/"),
                url: shown(&settings.url),
                token: settings.token,
                system_id: settings.system_id,
                presentation: Presentation::new(settings.executor, &settings.shell, &settings.gpus),
                last_update: Mutex::default(),
            }),
        }
    }

    /// For a job that GitLab just gave.
    pub fn server_files(&self) -> ServerFiles {
        self.wire().server_files()
    }

    fn wire(&self) -> Wire {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        let wire = self.shared.wire.lock();
        wire.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a job; may wait as long as GitLab holds the request.
    ///
    /// Dropping it may orphan a job just assigned: GitLab gives it to another runner when no confirmation comes.
    pub async fn request_job(&self) -> Request {
        let body = RunnerCall {
            info: &self.shared.presentation,
            token: self.shared.token.expose_secret(),
            system_id: &self.shared.system_id,
            last_update: self.last_update(),
        };
        match self.runner_call("jobs/request", &body).await {
            Ok(Persisted { response, retried }) => Request {
                asked: self.asked(&response),
                retried,
            },
            Err(none) => Request {
                asked: Asked::Failed(none.text),
                retried: false,
            },
        }
    }

    /// Tells GitLab the runner's features and learns its ID. Without it GitLab goes on with what it heard last.
    pub async fn verify(&self) -> Verified {
        let body = RunnerCall {
            info: &self.shared.presentation,
            token: self.shared.token.expose_secret(),
            system_id: &self.shared.system_id,
            last_update: None,
        };
        let response = match self.runner_call("runners/verify", &body).await {
            Ok(persisted) => persisted.response,
            Err(none) => return Verified::Unknown(none.text),
        };
        match response.status() {
            StatusCode::OK => Verified::Valid {
                id: serde_json::from_slice::<VerifiedBody>(response.body())
                    .ok()
                    .map(|body| body.id),
            },
            StatusCode::FORBIDDEN => Verified::Refused(self.token_refused()),
            _ => Verified::Unknown(self.unexpected(&response)),
        }
    }

    async fn runner_call(&self, path: &str, body: &RunnerCall<'_>) -> Result<Persisted, NoAnswer> {
        let body = encode(body);
        let persisted = persist(|| {
            let request = self
                .request(Method::POST, path, REQUEST_TIMEOUT)
                .header("RUNNER-TOKEN", self.shared.token.expose_secret())
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json")
                .body(body.clone());
            self.send(request)
        })
        .await?;
        self.keep_last_update(persisted.response.headers());
        Ok(persisted)
    }

    fn asked(&self, response: &Response<Bytes>) -> Asked {
        match response.status() {
            StatusCode::CREATED => self.read_job(response),
            StatusCode::NO_CONTENT => Asked::Nothing,
            StatusCode::FORBIDDEN => Asked::Refused(self.token_refused()),
            _ => Asked::Failed(self.unexpected(response)),
        }
    }

    fn read_job(&self, response: &Response<Bytes>) -> Asked {
        if !is_json(response.headers()) {
            return Asked::Failed(format!(
                "GitLab at {} answered a request for a job with something other than JSON; next: check that url names \
                 GitLab itself and not a page before it",
                self.shared.url
            ));
        }
        let problem = match serde_json::from_slice::<Job>(response.body()) {
            Ok(job) => return Asked::Job(Box::new(job)),
            // The place alone: a message of serde's may quote a value, and values may be secret.
            Err(e) => format!(
                "job from {} cannot be read ({:?} error at line {} column {}); next: report it with GitLab's version",
                self.shared.url,
                e.classify(),
                e.line(),
                e.column()
            ),
        };
        match serde_json::from_slice::<Identity>(response.body()) {
            Ok(Identity { id, token }) => Asked::Unreadable {
                key: JobKey { id, token },
                problem,
            },
            Err(_) => Asked::Failed(problem),
        }
    }

    fn request(&self, method: Method, path: &str, timeout: Duration) -> reqwest::RequestBuilder {
        self.wire()
            .http
            .request(method, format!("{}{path}", self.shared.api))
            .timeout(timeout)
            .header("X-Request-Id", format!("{:032x}", rand::random::<u128>()))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response<Bytes>, NoAnswer> {
        let url = &self.shared.url;
        let unreachable = |e: reqwest::Error| {
            NoAnswer {
            connected: !e.is_connect(),
            text: refusal::told(&e, url, &self.wire().tls).unwrap_or_else(|| {
                format!(
                    "cannot reach GitLab at {url}: {}; next: check url in config.toml, and that this machine gets \
                     there",
                    causes(&e.without_url())
                )
            }),
        }
        };
        let response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut whole = Response::new(response.bytes().await.map_err(unreachable)?);
        *whole.status_mut() = status;
        *whole.headers_mut() = headers;
        Ok(whole)
    }

    fn token_refused(&self) -> String {
        format!(
            "the runner token was refused by {} (403); next: check token in config.toml, and that the runner was not removed \
             in GitLab",
            self.shared.url
        )
    }

    fn unexpected(&self, response: &Response<Bytes>) -> String {
        let url = &self.shared.url;
        let status = response.status();
        if status.is_redirection() {
            let to = response
                .headers()
                .get(header::LOCATION)
                .and_then(|to| to.to_str().ok())
                .unwrap_or("elsewhere");
            return format!(
                "GitLab at {url} redirects to {to}; next: write the final address as url in config.toml"
            );
        }
        match serde_json::from_slice::<ErrorBody>(response.body()) {
            Ok(body) => format!("GitLab at {url} answered {status}: {}", body.message),
            Err(_) => format!("GitLab at {url} answered {status}"),
        }
    }

    fn last_update(&self) -> Option<String> {
        self.shared
            .last_update
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn keep_last_update(&self, headers: &HeaderMap) {
        if let Some(text) = text(headers, "X-GitLab-Last-Update").filter(|text| !text.is_empty()) {
            *self
                .shared
                .last_update
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
        }
    }
}

#[async_trait]
impl JobApi for Client {
    async fn append(
        &self,
        job: &JobKey,
        start: u64,
        bytes: Bytes,
        debug: bool,
    ) -> Answer<Appended> {
        let path = format!("jobs/{}/trace?debug_trace={debug}", job.id);
        let last = start + bytes.len() as u64 - 1;
        let sent = persist(|| {
            let request = self
                .request(Method::PATCH, &path, JOB_TIMEOUT)
                .header("JOB-TOKEN", &job.token.0)
                .header(header::CONTENT_TYPE, "text/plain")
                .header(header::CONTENT_RANGE, format!("{start}-{last}"))
                .body(bytes.clone());
            self.send(request)
        })
        .await;
        let response = match sent {
            Ok(persisted) => persisted.response,
            Err(none) => return silence(Appended::Failed(none.text)),
        };
        let verdict = match response.status() {
            StatusCode::ACCEPTED => Appended::Accepted,
            StatusCode::RANGE_NOT_SATISFIABLE => Appended::Resync(resync(response.headers())),
            StatusCode::NOT_FOUND => Appended::NotFound,
            StatusCode::FORBIDDEN => Appended::Refused,
            _ => Appended::Failed(self.unexpected(&response)),
        };
        let mut answer = answer(verdict, response.headers());
        if answer.verdict == Appended::Refused {
            answer.signal = Signal::Abort;
        }
        answer
    }

    async fn update(&self, job: &JobKey, update: &Update) -> Answer<Updated> {
        let proof = update.log.map(|log| OutputBody {
            checksum: format!("crc32:{:08x}", log.checksum),
            bytesize: log.bytes,
        });
        let body = encode(&UpdateBody {
            info: &self.shared.presentation,
            token: &job.token,
            state: update.state,
            failure_reason: update.failure_reason,
            checksum: proof.as_ref().map(|proof| proof.checksum.clone()),
            output: proof,
            exit_code: update.exit_code.filter(|code| *code != 0),
        });
        let path = format!("jobs/{}", job.id);
        let mut tries = 0;
        let sent = persist(|| {
            tries += 1;
            let request = self
                .request(Method::PUT, &path, UPDATE_TIMEOUT)
                .header("JOB-TOKEN", &job.token.0)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json")
                .body(body.clone());
            self.send(request)
        })
        .await;
        let response = match sent {
            Ok(persisted) => persisted.response,
            // An attempt before the last may have got there.
            Err(none) if none.connected || tries > 1 => {
                return silence(Updated::Failed(none.text));
            }
            Err(none) => return silence(Updated::Unreached(none.text)),
        };
        let verdict = match response.status() {
            StatusCode::OK => Updated::Succeeded,
            StatusCode::ACCEPTED => Updated::Pending,
            StatusCode::PRECONDITION_FAILED => Updated::LogInvalid,
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Updated::Gone(self.unexpected(&response))
            }
            StatusCode::CONFLICT | StatusCode::BAD_REQUEST => {
                Updated::Conflict(self.unexpected(&response))
            }
            _ => Updated::Failed(self.unexpected(&response)),
        };
        let mut answer = answer(verdict, response.headers());
        if matches!(answer.verdict, Updated::Gone(_)) {
            answer.signal = Signal::Abort;
        } else if update.state != JobState::Running {
            // The status is the one just told, not GitLab's wish.
            answer.signal = Signal::Run;
        } else if answer.signal == Signal::Abort {
            let status = text(response.headers(), "Job-Status").unwrap_or_default();
            answer.verdict = Updated::Gone(format!("the job is {status} in GitLab"));
        }
        answer
    }
}

fn wire(settings: &Settings) -> Result<Wire, ClientProblem> {
    let url = shown(&settings.url);
    if !matches!(settings.url.with_login().scheme(), "http" | "https") {
        return Err(ClientProblem::Scheme { url });
    }
    let variable = |name: &str| std::env::var(name).ok();
    Wire::new(&settings.url, settings.server_tls.clone(), &variable)
        .map_err(|cause| ClientProblem::Build { url, cause })
}

fn shown(url: &ServerUrl) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

/// A request without an answer.
struct NoAnswer {
    text: String,
    /// There was a connection, so GitLab may have acted on the request.
    connected: bool,
}

#[derive(Serialize)]
struct RunnerCall<'a> {
    info: &'a Presentation,
    token: &'a str,
    system_id: &'a SystemId,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<String>,
}

#[derive(Serialize)]
struct UpdateBody<'a> {
    info: &'a Presentation,
    token: &'a JobToken,
    state: JobState,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<FailureReason>,
    /// GitLab before 13.6 knows no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<OutputBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

#[derive(Serialize)]
struct OutputBody {
    checksum: String,
    bytesize: u64,
}

#[derive(Deserialize)]
struct VerifiedBody {
    id: u64,
}

#[derive(Deserialize)]
struct Identity {
    id: u64,
    token: JobToken,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: serde_json::Value,
}

fn encode(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .expect("plain structures of strings and numbers encode, because no map with odd keys is among them")
        .into()
}

fn silence<V>(verdict: V) -> Answer<V> {
    Answer {
        verdict,
        signal: Signal::Run,
        interval: None,
    }
}

fn answer<V>(verdict: V, headers: &HeaderMap) -> Answer<V> {
    let signal = match text(headers, "Job-Status") {
        Some("canceled" | "failed") => Signal::Abort,
        Some("canceling") => Signal::Cancel,
        _ => Signal::Run,
    };
    let interval = text(headers, "X-GitLab-Trace-Update-Interval")
        .and_then(|text| text.trim().parse().ok())
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_INTERVAL));
    Answer {
        verdict,
        signal,
        interval,
    }
}

/// `Range: 0-<N>`: N is how many bytes GitLab has, not the last one's place. What is malformed means none.
fn resync(headers: &HeaderMap) -> u64 {
    text(headers, "Range")
        .and_then(|range| range.split_once('-'))
        .and_then(|(_, end)| end.trim().parse().ok())
        .unwrap_or(0)
}

fn is_json(headers: &HeaderMap) -> bool {
    text(headers, "Content-Type")
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An error and what lies under it: `reqwest` alone says only "error sending request".
fn causes(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut under = e.source();
    while let Some(e) = under {
        text = format!("{text}: {e}");
        under = e.source();
    }
    text
}

#[cfg(test)]
mod tests;

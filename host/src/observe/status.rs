//! What the manager answers over HTTP: metrics for Prometheus, a status page for people and scripts, and its health.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/`, `/status` | the newest [`StatusPage`] as JSON |
//! | `/healthz` | 200 while the manager takes jobs, 503 before and after |

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics::{CONTENT_TYPE, Metrics};

/// GitLab Runner's port for its metrics.
pub const DEFAULT_PORT: u16 = 9252;

/// Where the process stands; GitLab Runner's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    #[default]
    Starting,
    Running,
    GracefulShutdown,
    ForcefulShutdown,
}

/// All that operators see at a glance. Holds no secret: it is served to whoever asks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusPage {
    pub version: String,
    pub state: ProcessState,
    pub started_at: Timestamp,
    pub runners: Vec<RunnerStatus>,
    /// One a runner.
    pub plugins: Vec<PluginStatus>,
    pub groups: Vec<GroupStatus>,
    pub instances: Vec<InstanceStatus>,
    pub jobs: Vec<JobStatus>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct RunnerStatus {
    pub name: String,
    pub url: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    pub runner: String,
    /// The operator's name of it.
    pub name: String,
    /// loaded; waiting: the runner takes no jobs until it can be loaded.
    pub state: &'static str,
    /// What runs, or what was not loaded; absent where it is not known.
    pub version: Option<String>,
    pub digest: Option<String>,
    pub file: Option<String>,
    /// Why it is not loaded, or what keeps another file, or its grants, from it: a report of several lines.
    pub last_error: Option<String>,
    pub last_error_since: Option<Timestamp>,
    /// Of the row, which its writer knows it by.
    #[serde(skip)]
    pub number: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupStatus {
    /// The provider's identity for it, such as `aws/eu-west-1/my-asg`.
    pub id: String,
    pub runner: String,
    pub plugin: String,
    /// What the plugin may use, by the limit's key in `plugins.toml`.
    pub limits: BTreeMap<&'static str, String>,
    /// Slots: with a job, waited for, promised, free, and wanted free.
    pub in_use: u32,
    pub waiting: u32,
    pub reserved: u32,
    pub available: u32,
    pub idle_target: u32,
    /// Instances: what the formula asks for, what was asked for and is not listed, accepted increases less decreases.
    pub requested: u32,
    pub coming: u32,
    pub wanted: u32,
    pub max_instances: Option<u32>,
    pub draining: bool,
    /// Why the scaler did last what it did.
    pub last_decision: Option<String>,
    pub last_error: Option<String>,
    pub last_error_since: Option<Timestamp>,
    /// What the provider remarks on the group now.
    pub notices: Vec<String>,
    /// The last effective ones, the oldest first.
    pub decisions: Vec<DecisionStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DecisionStatus {
    pub at: Timestamp,
    /// When it was taken last, if more than once.
    pub until: Option<Timestamp>,
    pub times: u64,
    /// increase, remove, refuse, hold.
    pub decision: &'static str,
    pub reason: &'static str,
    /// The whole of it as a sentence.
    pub text: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct InstanceStatus {
    pub id: String,
    pub runner: String,
    /// starting, preparing, ready, set aside, removing; in use is one that has jobs.
    pub state: &'static str,
    pub listed_at: Timestamp,
    pub uses: u32,
    pub jobs: Vec<u64>,
    pub removed_because: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct JobStatus {
    pub id: u64,
    pub runner: String,
    pub since: Timestamp,
    /// Absent while it waits for one.
    pub instance: Option<String>,
}

/// The address names no place to listen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("listen_address {0:?} is no address; write it like \"127.0.0.1:9252\" or \":9252\"")]
pub struct BadAddress(String);

/// Host and port of `[host][:port]`; without a host every address of the machine, without a port 9252.
///
/// # Errors
/// If the port is none.
pub fn listen_at(address: &str) -> Result<(String, u16), BadAddress> {
    let bad = || BadAddress(address.to_owned());
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            (
                host,
                rest.strip_prefix(':')
                    .or_else(|| rest.is_empty().then_some("")),
            )
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, Some("")),
        },
    };
    let port = match port.ok_or_else(bad)? {
        "" => DEFAULT_PORT,
        port => port.parse().map_err(|_| bad())?,
    };
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok((host.to_owned(), port))
}

#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    page: watch::Receiver<StatusPage>,
}

/// Serves until `stop` is done; then answers what was asked before.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    page: watch::Receiver<StatusPage>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(metrics, page))
        .with_graceful_shutdown(stop)
        .await
}

fn router(metrics: Arc<Metrics>, page: watch::Receiver<StatusPage>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/", get(status))
        .route("/status", get(status))
        .route("/healthz", get(health))
        .with_state(Served { metrics, page })
}

async fn metrics_text(State(served): State<Served>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        served.metrics.render(),
    )
}

async fn status(State(served): State<Served>) -> Json<StatusPage> {
    let page = served.page.borrow().clone();
    Json(page)
}

async fn health(State(served): State<Served>) -> impl IntoResponse {
    match served.page.borrow().state {
        ProcessState::Running => (StatusCode::OK, "running\n"),
        ProcessState::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        ProcessState::GracefulShutdown => (StatusCode::SERVICE_UNAVAILABLE, "graceful-shutdown\n"),
        ProcessState::ForcefulShutdown => (StatusCode::SERVICE_UNAVAILABLE, "forceful-shutdown\n"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;

    use super::*;

    async fn asked(router: &mut Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.call(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_path_answers_from_the_newest_page() {
        let (publish, page) = watch::channel(StatusPage::default());
        let mut router = router(Arc::new(Metrics::new("1.2.3")), page);
        assert_eq!(
            asked(&mut router, "/healthz").await,
            (503, "starting\n".into())
        );

        publish.send_modify(|page| {
            page.state = ProcessState::Running;
            page.groups.push(GroupStatus {
                id: "aws/eu-west-1/asg".into(),
                last_error: Some("not granted".into()),
                ..GroupStatus::default()
            });
        });
        assert_eq!(
            asked(&mut router, "/healthz").await,
            (200, "running\n".into())
        );
        for path in ["/", "/status"] {
            let (status, body) = asked(&mut router, path).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["state"]), (200, &"running".into()));
            assert_eq!(body["groups"][0]["last_error"], "not granted");
        }
        let (status, body) = asked(&mut router, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("gitlab_runner_version_info"), "{body}");
        assert_eq!(asked(&mut router, "/nothing").await.0, 404);
    }

    #[test]
    fn addresses_have_gitlab_runners_defaults() {
        let at = |address| listen_at(address).map_err(|e| e.to_string());
        for (address, host, port) in [
            ("localhost:1234", "localhost", 1234),
            (":9252", "0.0.0.0", 9252),
            ("10.0.0.1", "10.0.0.1", 9252),
            ("[::1]:80", "::1", 80),
            ("[::1]", "::1", 9252),
        ] {
            assert_eq!(at(address), Ok((host.to_owned(), port)), "{address}");
        }
        for address in ["a:b", "[::1", "[::1]80", "h:99999"] {
            assert_eq!(
                at(address),
                Err(format!(
                    "listen_address {address:?} is no address; write it like \"127.0.0.1:9252\" or \":9252\""
                ))
            );
        }
    }
}

//! Pull policies against a daemon that answers as it is told to: what it is asked, and what the job log says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use bollard::BollardRequest;
use serde_json::json;

use super::*;
use crate::coordinator::outcome::FailureReason;

const ID: &str = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const AT_ONCE: Range<u64> = 0..1;

#[derive(Default)]
struct Read(Mutex<Vec<String>>);

impl Notes for Read {
    fn info(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn warn(&self, line: &str) {
        self.info(&format!("WARNING: {line}"));
    }
}

type Script = Arc<Mutex<(VecDeque<(u16, String)>, Vec<String>)>>;

/// A daemon on loopback with its answers in order; it keeps what it was asked.
struct Daemon {
    docker: Docker,
    script: Script,
}

impl Daemon {
    async fn answering(answers: Vec<(u16, String)>) -> Self {
        let script: Script = Arc::new(Mutex::new((answers.into(), Vec::new())));
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        let docker = Docker::connect_with_http(&address, 30, bollard::API_DEFAULT_VERSION).unwrap();
        Self { docker, script }
    }

    /// What it was asked, in order: `pull busybox:latest`, `look busybox:latest`.
    fn asked(&self) -> Vec<String> {
        let script = self.script.lock().unwrap();
        assert!(script.0.is_empty(), "not asked for: {:?}", script.0);
        script.1.clone()
    }
}

async fn answer(State(script): State<Script>, uri: Uri) -> (StatusCode, String) {
    let mut script = script.lock().unwrap();
    let pull = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(key, _)| key == "fromImage");
    let looked = uri.path().split_once("/images/");
    let asked = match (pull, looked) {
        (Some((_, image)), _) => format!("pull {image}"),
        (None, Some((_, rest))) => format!("look {}", rest.trim_end_matches("/json")),
        (None, None) => uri.to_string(),
    };
    script.1.push(asked);
    let (status, body) = script.0.pop_front().expect("one answer too few");
    (StatusCode::from_u16(status).unwrap(), body)
}

fn image(architecture: &str) -> (u16, String) {
    let digest = "busybox@sha256:00";
    let image =
        json!({ "Id": ID, "RepoDigests": [digest], "Os": "linux", "Architecture": architecture });
    (200, image.to_string())
}

fn pulled() -> (u16, String) {
    (
        200,
        "{\"status\":\"Status: Downloaded newer image\"}\n".into(),
    )
}

fn error(status: u16, message: &str) -> (u16, String) {
    (status, json!({ "message": message }).to_string())
}

struct Told {
    result: Result<Present, StageFailure>,
    log: String,
}

async fn told(
    daemon: &Daemon,
    name: &str,
    platform: Option<&str>,
    policies: &[PullPolicy],
) -> Told {
    let read = Arc::new(Read::default());
    let notes: Arc<dyn Notes> = read.clone();
    let credentials = [];
    let wanted = Wanted {
        name,
        platform,
        policies,
        credentials: &credentials,
    };
    let result = obtain_pausing(&daemon.docker, &wanted, &notes, AT_ONCE).await;
    let log = read.0.lock().unwrap().join("\n");
    Told { result, log }
}

#[tokio::test]
async fn always_pulls_and_looks_once() {
    let daemon = Daemon::answering(vec![pulled(), image("amd64")]).await;
    let told = told(&daemon, "busybox", None, &[PullPolicy::Always]).await;
    assert_eq!(told.result.unwrap().usable_name, "busybox@sha256:00");
    assert_eq!(
        daemon.asked(),
        ["pull busybox:latest", "look busybox:latest"]
    );
    insta::assert_snapshot!(told.log, @r"
    Using effective pull policy of [always] for container busybox
    Pulling docker image busybox ...
    Using docker image sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0 for busybox with digest busybox@sha256:00 ...
    ");
}

#[tokio::test]
async fn an_image_that_is_there_is_looked_for_once() {
    let daemon = Daemon::answering(vec![image("amd64")]).await;
    let told = told(&daemon, "busybox:1", None, &[PullPolicy::IfNotPresent]).await;
    assert!(told.result.is_ok());
    assert_eq!(daemon.asked(), ["look busybox:1"]);
    insta::assert_snapshot!(told.log, @r#"
    Using effective pull policy of [if-not-present] for container busybox:1
    Using locally found image version due to "if-not-present" pull policy
    Using docker image sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0 for busybox:1 with digest busybox@sha256:00 ...
    "#);
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_three_times_and_then_the_next_policy_is_tried() {
    let away = || {
        error(
            500,
            "Get \"http://r/v2/\": dial tcp 10.0.0.2:5000: connect: connection refused",
        )
    };
    let daemon = Daemon::answering(vec![away(), away(), away(), image("amd64")]).await;
    let both = [PullPolicy::Always, PullPolicy::IfNotPresent];
    let told = told(&daemon, "r/a", None, &both).await;
    assert!(told.result.is_ok());
    assert_eq!(
        daemon.asked(),
        [
            "pull r/a:latest",
            "pull r/a:latest",
            "pull r/a:latest",
            "look r/a:latest"
        ]
    );
    insta::assert_snapshot!(told.log, @r#"
    Using effective pull policy of [always if-not-present] for container r/a
    Pulling docker image r/a ...
    WARNING: Failed to pull image "r/a" (attempt #1), retrying: Docker responded with status code 500: Get "http://r/v2/": dial tcp 10.0.0.2:5000: connect: connection refused
    WARNING: Failed to pull image "r/a" (attempt #2), retrying: Docker responded with status code 500: Get "http://r/v2/": dial tcp 10.0.0.2:5000: connect: connection refused
    WARNING: Failed to pull image with policy "always": Docker responded with status code 500: Get "http://r/v2/": dial tcp 10.0.0.2:5000: connect: connection refused
    Attempt #2: Trying "if-not-present" pull policy
    Using locally found image version due to "if-not-present" pull policy
    Using docker image sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0 for r/a with digest busybox@sha256:00 ...
    "#);
}

#[tokio::test]
async fn a_registry_that_comes_back_between_two_tries_gives_the_image() {
    let troubled = error(
        500,
        "received unexpected HTTP status: 503 Service Unavailable",
    );
    let daemon = Daemon::answering(vec![troubled, pulled(), image("amd64")]).await;
    let told = told(&daemon, "r/a", None, &[PullPolicy::Always]).await;
    assert_eq!(told.result.unwrap().usable_name, "busybox@sha256:00");
    assert_eq!(
        daemon.asked(),
        ["pull r/a:latest", "pull r/a:latest", "look r/a:latest"]
    );
    insta::assert_snapshot!(told.log, @r#"
    Using effective pull policy of [always] for container r/a
    Pulling docker image r/a ...
    WARNING: Failed to pull image "r/a" (attempt #1), retrying: Docker responded with status code 500: received unexpected HTTP status: 503 Service Unavailable
    Using docker image sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0 for r/a with digest busybox@sha256:00 ...
    "#);
}

#[tokio::test]
async fn what_no_other_try_mends_is_tried_once_and_the_pull_gives_the_reason() {
    let denied = error(
        404,
        "pull access denied for a, repository does not exist or may require 'docker login'",
    );
    let missing = error(404, "No such image: a:latest");
    let daemon = Daemon::answering(vec![denied, missing]).await;
    let told = told(&daemon, "a", None, &[PullPolicy::Always, PullPolicy::Never]).await;
    assert_eq!(daemon.asked(), ["pull a:latest", "look a:latest"]);
    let Err(StageFailure::Failed {
        reason,
        message,
        retry,
    }) = told.result
    else {
        panic!("{}", told.log);
    };
    let wrong = FailureReason::RunnerConfigurationError;
    assert_eq!((reason, retry), (wrong, false));
    insta::assert_snapshot!(message, @r#"failed to pull image "a" with specified policies [always never]: Docker responded with status code 404: pull access denied for a, repository does not exist or may require 'docker login'"#);
}

#[tokio::test]
async fn never_and_an_id_ask_no_registry() {
    let daemon = Daemon::answering(vec![error(404, "No such image: a:latest")]).await;
    let missing = told(&daemon, "a", None, &[PullPolicy::Never]).await;
    assert!(matches!(
        missing.result,
        Err(StageFailure::Failed {
            reason: FailureReason::RunnerSystemFailure,
            retry: false,
            ..
        })
    ));
    assert_eq!(daemon.asked(), ["look a:latest"]);
    let daemon = Daemon::answering(vec![image("amd64")]).await;
    let by_id = told(&daemon, ID, None, &[PullPolicy::Always]).await;
    assert!(by_id.result.is_ok());
    assert_eq!(daemon.asked(), [format!("look {ID}")]);
    assert!(!by_id.log.contains("Using docker image"), "{}", by_id.log);
}

#[tokio::test]
async fn a_local_image_of_another_platform_is_not_the_one_that_is_wanted() {
    let daemon = Daemon::answering(vec![image("amd64"), pulled(), image("arm64")]).await;
    let told = told(&daemon, "a", Some("arm64"), &[PullPolicy::IfNotPresent]).await;
    assert_eq!(
        told.result.unwrap().platform.as_deref(),
        Some("linux/arm64")
    );
    assert_eq!(
        daemon.asked(),
        ["look a:latest", "pull a:latest", "look a:latest"]
    );
    assert!(
        told.log
            .contains("Pulling docker image a for platform arm64 ..."),
        "{}",
        told.log
    );
}

#[tokio::test]
async fn an_image_that_the_job_has_is_not_asked_for_again() {
    let daemon = Daemon::answering(vec![pulled(), image("amd64")]).await;
    let (used, read) = (Used::default(), Arc::new(Read::default()));
    let notes: Arc<dyn Notes> = read.clone();
    let wanted = Wanted {
        name: "busybox",
        platform: None,
        policies: &[PullPolicy::Always],
        credentials: &[],
    };
    for _ in 0..2 {
        let found = used.obtain(&daemon.docker, &wanted, &notes).await;
        assert_eq!(found.unwrap().usable_name, "busybox@sha256:00");
    }
    assert_eq!(
        daemon.asked(),
        ["pull busybox:latest", "look busybox:latest"]
    );
    let told = read.0.lock().unwrap().join("\n");
    assert_eq!(told.matches("Using docker image").count(), 2, "{told}");
}

#[tokio::test]
async fn a_connection_lost_while_pulling_is_no_pull_failure_and_may_pass() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let docker = Docker::connect_with_custom_transport(
        move |_: BollardRequest| {
            counted.fetch_add(1, Ordering::SeqCst);
            async {
                Err(Error::IOError {
                    err: std::io::ErrorKind::BrokenPipe.into(),
                })
            }
        },
        Some("http://docker"),
        10,
        bollard::API_DEFAULT_VERSION,
    )
    .unwrap();
    let notes: Arc<dyn Notes> = Arc::new(Read::default());
    let wanted = Wanted {
        name: "busybox",
        platform: None,
        policies: &[PullPolicy::Always, PullPolicy::IfNotPresent],
        credentials: &[],
    };
    let failure = obtain(&docker, &wanted, &notes).await.unwrap_err();
    assert!(
        matches!(&failure, StageFailure::Failed { reason: FailureReason::RunnerSystemFailure, retry: true, message }
            if message.contains("connection was lost") && message.contains("busybox")),
        "{failure:?}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1, "another policy was tried");
}

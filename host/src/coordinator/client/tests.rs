//! The client against a GitLab on a loopback socket that answers what the test says and notes what it got.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dialled;
mod secured;

use std::collections::VecDeque;

use axum::body::Body;
use axum::extract::Request as Incoming;
use serde_json::{Value, json};

use super::*;

struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn said(status: u16) -> Said {
    Said {
        status,
        headers: vec![],
        body: String::new(),
    }
}

impl Said {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self.with("Content-Type", "application/json; charset=utf-8")
    }
}

#[derive(Debug)]
struct Got {
    line: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        text(&self.headers, name).unwrap_or("")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

struct Gitlab {
    client: Client,
    got: Arc<Mutex<Vec<Got>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Gitlab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Gitlab {
    async fn saying(answers: impl IntoIterator<Item = Said>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let got = Arc::new(Mutex::new(Vec::new()));
        let notes = got.clone();
        let app = axum::Router::new().fallback(move |request: Incoming| {
            let (answers, notes) = (answers.clone(), notes.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                notes.lock().unwrap().push(Got {
                    line: format!("{} {}", parts.method, parts.uri),
                    headers: parts.headers,
                    body,
                });
                let said = answers.lock().unwrap().pop_front().unwrap();
                let mut response = Response::builder().status(said.status);
                for (name, value) in said.headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(said.body)).unwrap()
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/ci", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            client: client(&url),
            got,
            server,
        }
    }

    fn take(&self) -> Got {
        self.got.lock().unwrap().remove(0)
    }
}

fn client(url: &str) -> Client {
    Client::new(settings(url)).unwrap()
}

fn settings(url: &str) -> Settings {
    Settings {
        url: url.parse().unwrap(),
        server_tls: ServerTls::default(),
        token: "glrt-runner-secret".to_owned().into(),
        system_id: SystemId::parse("s_0123456789ab").unwrap(),
        executor: "docker-autoscaler",
        shell: "sh".into(),
        gpus: "count=2".into(),
    }
}

fn key() -> JobKey {
    JobKey {
        id: 7,
        token: JobToken("job-secret".into()),
    }
}

#[tokio::test]
async fn a_request_says_who_asks_and_repeats_gitlabs_last_word() {
    let job = said(201).json(&json!({ "id": 7, "token": "job-secret", "steps": null }));
    let gitlab = Gitlab::saying([said(204).with("X-GitLab-Last-Update", "abc"), job]).await;
    let Request { asked, retried } = gitlab.client.request_job().await;
    assert!(matches!(asked, Asked::Nothing) && !retried);
    let got = gitlab.take();
    assert_eq!(got.line, "POST /base/api/v4/jobs/request");
    assert_eq!(got.header("RUNNER-TOKEN"), "glrt-runner-secret");
    assert_eq!(got.header("X-Request-Id").len(), 32);
    assert!(got.header("User-Agent").starts_with("gitlab-runner 19."));
    let body = got.json();
    assert_eq!(
        (&body["token"], &body["system_id"]),
        (&json!("glrt-runner-secret"), &json!("s_0123456789ab"))
    );
    assert_eq!(body.get("last_update"), None);
    assert_eq!(body["info"]["executor"], "docker-autoscaler");
    assert_eq!(body["info"]["features"]["two_phase_job_commit"], true);
    assert_eq!(body["info"]["features"]["services"], true);
    assert_eq!(body["info"]["features"]["artifacts"], false);
    assert_eq!(body["info"]["features"].as_object().unwrap().len(), 31);
    assert_eq!(body["info"]["config"], json!({ "gpus": "count=2" }));

    let Request { asked, .. } = gitlab.client.request_job().await;
    assert!(matches!(asked, Asked::Job(job) if job.id == 7));
    assert_eq!(gitlab.take().json()["last_update"], "abc");
}

#[tokio::test]
async fn answers_to_a_request_by_table() {
    let url = |status: u16| said(status).with("Retry-After", "0");
    for (answers, expected, retried) in [
        (vec![said(204)], "Nothing", false),
        (
            vec![said(403)],
            "Refused(\"the runner token was refused by http://",
            false,
        ),
        (vec![said(401)], "Failed(\"GitLab at http://", false),
        (vec![said(409)], "Failed(\"GitLab at http://", false),
        (vec![url(503), url(204)], "Nothing", true),
        (
            (0..5).map(|_| url(503)).collect(),
            "Failed(\"GitLab at http://",
            true,
        ),
        (
            (0..5).map(|_| url(429)).collect(),
            "Failed(\"GitLab at http://",
            true,
        ),
        (vec![said(201)], "Failed(\"GitLab at http://", false),
        (
            vec![said(302).with("Location", "https://else.where/")],
            "Failed(\"GitLab at http://",
            false,
        ),
    ] {
        let gitlab = Gitlab::saying(answers).await;
        let request = gitlab.client.request_job().await;
        let shown = format!("{:?}", request.asked);
        assert!(shown.starts_with(expected), "{shown}, expected {expected}");
        assert_eq!(request.retried, retried, "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_known_by_its_key() {
    let bad = json!({ "id": 7, "token": "job-secret", "steps": "hunter2" });
    let gitlab = Gitlab::saying([said(201).json(&bad)]).await;
    match gitlab.client.request_job().await.asked {
        Asked::Unreadable {
            key: found,
            problem,
        } => {
            assert_eq!(found, key());
            assert!(
                problem.contains("cannot be read") && !problem.contains("hunter2"),
                "{problem}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unreachable_gitlab_is_named_with_the_cause() {
    // A port that was free a moment ago, and nobody listens.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let Asked::Failed(text) = client(&url).request_job().await.asked else {
        panic!("nobody listens");
    };
    assert!(
        text.contains(&format!("cannot reach GitLab at {url}: ")),
        "{text}"
    );
    assert!(text.contains("refused") && text.contains("next:"), "{text}");
}

#[tokio::test]
async fn verification_by_table() {
    for (answer, expected) in [
        (
            said(200).json(&json!({ "id": 42, "token": "t" })),
            Verified::Valid { id: Some(42) },
        ),
        (said(200), Verified::Valid { id: None }),
    ] {
        let gitlab = Gitlab::saying([answer]).await;
        assert_eq!(gitlab.client.verify().await, expected);
        let got = gitlab.take();
        assert_eq!(got.line, "POST /base/api/v4/runners/verify");
        assert_eq!(got.json()["info"]["features"]["cancel_gracefully"], true);
    }
    let gitlab = Gitlab::saying([said(403), said(404)]).await;
    assert!(matches!(gitlab.client.verify().await, Verified::Refused(_)));
    assert!(matches!(gitlab.client.verify().await, Verified::Unknown(_)));
}

#[tokio::test]
async fn appends_by_table() {
    use Appended as A;
    use Signal as S;
    for (answer, verdict, signal, seconds) in [
        (said(202), A::Accepted, S::Run, None),
        (
            said(202).with("Job-Status", "running"),
            A::Accepted,
            S::Run,
            None,
        ),
        (
            said(202).with("Job-Status", "canceling"),
            A::Accepted,
            S::Cancel,
            None,
        ),
        (
            said(202).with("Job-Status", "canceled"),
            A::Accepted,
            S::Abort,
            None,
        ),
        (
            said(202).with("Job-Status", "failed"),
            A::Accepted,
            S::Abort,
            None,
        ),
        (
            said(202).with("X-GitLab-Trace-Update-Interval", "30"),
            A::Accepted,
            S::Run,
            Some(30),
        ),
        (
            said(202).with("X-GitLab-Trace-Update-Interval", "9999"),
            A::Accepted,
            S::Run,
            Some(900),
        ),
        (
            said(202).with("X-GitLab-Trace-Update-Interval", "0"),
            A::Accepted,
            S::Run,
            None,
        ),
        (
            said(202).with("X-GitLab-Trace-Update-Interval", "x"),
            A::Accepted,
            S::Run,
            None,
        ),
        (said(416).with("Range", "0-12"), A::Resync(12), S::Run, None),
        (said(416).with("Range", "odd"), A::Resync(0), S::Run, None),
        (said(416), A::Resync(0), S::Run, None),
        (said(404), A::NotFound, S::Run, None),
        (said(403), A::Refused, S::Abort, None),
    ] {
        let gitlab = Gitlab::saying([answer]).await;
        let found = gitlab
            .client
            .append(&key(), 5, Bytes::from_static(b"hello"), true)
            .await;
        let expected = Answer {
            verdict,
            signal,
            interval: seconds.map(Duration::from_secs),
        };
        assert_eq!(found, expected);
        let got = gitlab.take();
        assert_eq!(got.line, "PATCH /base/api/v4/jobs/7/trace?debug_trace=true");
        assert_eq!(
            (got.header("JOB-TOKEN"), got.header("Content-Range")),
            ("job-secret", "5-9")
        );
        assert_eq!(
            (got.header("Content-Type"), &got.body[..]),
            ("text/plain", &b"hello"[..])
        );
    }
    let gitlab = Gitlab::saying([said(400)]).await;
    let found = gitlab
        .client
        .append(&key(), 0, Bytes::from_static(b"x"), false)
        .await;
    assert!(matches!(found.verdict, A::Failed(_)));
}

#[tokio::test]
async fn updates_by_table() {
    for (answer, expected, signal) in [
        (said(200), "Succeeded", Signal::Run),
        (said(202), "Pending", Signal::Run),
        (said(412), "LogInvalid", Signal::Run),
        (said(403), "Gone", Signal::Abort),
        (said(404), "Gone", Signal::Abort),
        (said(409), "Conflict", Signal::Run),
        (said(400), "Conflict", Signal::Run),
        (said(401), "Failed", Signal::Run),
        (
            said(200).with("Job-Status", "canceling"),
            "Succeeded",
            Signal::Cancel,
        ),
        (
            said(200).with("Job-Status", "canceled"),
            "Gone",
            Signal::Abort,
        ),
        (
            said(200).with("Job-Status", "failed"),
            "Gone",
            Signal::Abort,
        ),
    ] {
        let gitlab = Gitlab::saying([answer]).await;
        let found = gitlab.client.update(&key(), &Update::running(None)).await;
        let shown = format!("{:?}", found.verdict);
        assert!(shown.starts_with(expected), "{shown}, expected {expected}");
        assert_eq!(found.signal, signal, "{expected}");
    }
    // After the final update the status is what was just told.
    let gitlab = Gitlab::saying([said(200).with("Job-Status", "failed")]).await;
    let last = Update {
        state: JobState::Failed,
        ..Update::running(None)
    };
    let found = gitlab.client.update(&key(), &last).await;
    assert_eq!(
        (found.verdict, found.signal),
        (Updated::Succeeded, Signal::Run)
    );
}

#[tokio::test]
async fn an_update_carries_state_reason_and_proof() {
    let gitlab = Gitlab::saying([said(200), said(200)]).await;
    let update = Update {
        state: JobState::Failed,
        failure_reason: Some(FailureReason::ScriptFailure),
        exit_code: Some(3),
        log: Some(super::super::api::LogProof {
            checksum: 0xab,
            bytes: 9,
        }),
    };
    gitlab.client.update(&key(), &update).await;
    let got = gitlab.take();
    assert_eq!(
        (got.line.as_str(), got.header("JOB-TOKEN")),
        ("PUT /base/api/v4/jobs/7", "job-secret")
    );
    let mut body = got.json();
    assert!(body["info"].take().is_object());
    let expected = json!({ "info": null, "token": "job-secret", "state": "failed", "failure_reason": "script_failure",
        "checksum": "crc32:000000ab", "output": { "checksum": "crc32:000000ab", "bytesize": 9 }, "exit_code": 3 });
    assert_eq!(body, expected);

    gitlab
        .client
        .update(
            &key(),
            &Update {
                exit_code: Some(0),
                ..Update::running(None)
            },
        )
        .await;
    let mut body = gitlab.take().json();
    body["info"].take();
    assert_eq!(
        body,
        json!({ "info": null, "token": "job-secret", "state": "running" })
    );
}

#[tokio::test]
async fn what_gitlab_cannot_have_seen_is_told_from_what_it_did_not_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = client(&format!("http://user:hunter2@{address}/"));
    let hanging_up = tokio::spawn(async move { drop(listener.accept().await) });
    let failed = client.update(&key(), &Update::running(None)).await.verdict;
    assert!(
        matches!(&failed, Updated::Failed(text) if !text.contains("hunter2")),
        "{failed:?}"
    );
    // The listener went with its task.
    hanging_up.await.unwrap();
    let unreached = client.update(&key(), &Update::running(None)).await.verdict;
    assert!(
        matches!(&unreached, Updated::Unreached(text) if text.contains("http://127.0.0.1") && !text.contains("hunter2")),
        "{unreached:?}"
    );
}

#[test]
fn a_client_shows_no_secret_and_wants_http() {
    let shown = format!("{:?}", client("https://user:secret@gitlab.example/"));
    assert!(
        shown.contains("https://gitlab.example") && !shown.contains("secret"),
        "{shown}"
    );
    let problem = Client::new(settings("ftp://gitlab.example"));
    assert!(
        problem
            .err()
            .unwrap()
            .to_string()
            .contains("neither http nor https")
    );
}

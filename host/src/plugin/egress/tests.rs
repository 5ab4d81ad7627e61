//! Real listeners on the loopback: a denied request must leave no connection behind.

mod counted;
mod ended;
mod proxied;
mod secured;
mod shared;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{Empty, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::plugin::grants::{Grants, GrantsFile};

/// Answers each connection's first request with `response` and counts connections.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(response: impl Into<Vec<u8>>) -> Self {
        let response: Arc<Vec<u8>> = Arc::new(response.into());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let response = response.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 64 << 10];
                    let read = stream.read(&mut request).await.unwrap_or(0);
                    if read > 0 && !response.is_empty() {
                        drop(stream.write_all(&response).await);
                    }
                    // Holds the connection open: only the client's clocks end it.
                    drop(stream.read(&mut request).await);
                });
            }
        });
        Self { port, connections }
    }

    fn seen(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\nhi";

fn grants(toml: &str) -> Grants {
    let file = GrantsFile::parse(&format!("[p]\n{toml}")).expect("the test's grants parse");
    file.plugins["p"].clone()
}

/// Without an environment.
fn policy(toml: &str) -> Policy {
    policy_in(toml, &|_| None)
}

fn policy_in(toml: &str, variable: &dyn Fn(&str) -> Option<String>) -> Policy {
    let grants = grants(toml);
    let tls = grants.tls.iter();
    let tls = tls.map(|(host, written)| (host.clone(), tls::client_config(written)));
    Policy::new(&grants, &Value::Null, tls.collect(), variable)
}

type Names = &'static [(&'static str, &'static str)];

/// Names lead where the table says; a name that is not in it leads nowhere.
fn egress(toml: &str, names: Names) -> Egress {
    Egress::new(options(names), policy(toml))
}

fn options(names: Names) -> EgressOptions {
    let resolver: Resolver = Arc::new(move |name| {
        let found = names.iter().filter(|(known, _)| *known == name);
        let found = found
            .map(|(_, ip)| ip.parse().expect("an address"))
            .collect();
        Box::pin(async move { Ok(found) })
    });
    EgressOptions {
        plugin: "p".into(),
        group: "g".into(),
        grants_file: "plugins.toml".into(),
        no_built_in: None,
        resolver,
        observer: Arc::new(|_| {}),
        all: Arc::new(Semaphore::new(REQUESTS_IN_ALL)),
        tap: None,
    }
}

impl Egress {
    /// As a guest has it: the body is carried while it is read.
    async fn answer(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<http::Response<WasiBody>, Error> {
        let (response, carrier) = self.send(request, options, WayOut::Open).await?;
        tokio::spawn(carrier.run());
        Ok(response)
    }
}

fn get(url: &str) -> http::Request<WasiBody> {
    let body = Empty::new().map_err(Error::from).boxed_unsync();
    http::Request::get(url).body(body).expect("a request")
}

async fn text(response: http::Response<WasiBody>) -> Result<Vec<u8>, Error> {
    let collected = response.into_body().collect().await?;
    Ok(collected.to_bytes().to_vec())
}

/// No patience with silence in a body; all else may take the time that a busy machine needs.
fn impatient() -> RequestOptions {
    RequestOptions {
        between_bytes_timeout: Some(Duration::from_millis(100)),
        ..RequestOptions::default()
    }
}

fn is_denied<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::HttpRequestDenied))
}

#[tokio::test]
async fn rule_9_a_granted_request_arrives_with_its_body_and_the_host_that_was_checked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let toml = format!("http = [\"http://127.0.0.1:{port}\"]\nplaintext = true\nloopback = true");
    let egress = egress(&toml, &[]);
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut seen = String::new();
        while !seen.ends_with("Action=x") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).await.expect("it is open");
            assert!(read > 0, "cut after {seen}");
            seen.push_str(std::str::from_utf8(&piece[..read]).expect("text"));
        }
        stream.write_all(OK.as_bytes()).await.expect("it is open");
        seen
    };
    let body = Full::new(Bytes::from("Action=x"));
    let request = http::Request::post(format!("http://127.0.0.1:{port}/q?a=b"))
        .header("host", "forged.example")
        .body(body.map_err(Error::from).boxed_unsync())
        .expect("a request");
    let (seen, response) = tokio::join!(server, egress.answer(request, RequestOptions::default()));
    assert!(seen.starts_with("POST /q?a=b HTTP/1.1\r\n"), "{seen}");
    assert!(
        seen.contains(&format!("host: 127.0.0.1:{port}\r\n")),
        "{seen}"
    );
    assert!(!seen.contains("forged"), "{seen}");
    let response = response.expect("it is granted");
    assert_eq!(response.headers()["x-a"], "b");
    assert_eq!(text(response).await.expect("it is whole"), b"hi");
}

#[tokio::test]
async fn rule_8_and_9_what_is_not_granted_is_refused_before_a_packet_leaves() {
    let server = Server::start(OK).await;
    let port = server.port;
    let names = &[
        ("rebind.example", "127.0.0.1"),
        ("metadata.example", "169.254.169.254"),
        ("mapped.example", "::ffff:10.0.0.1"),
        ("inner.corp.example", "10.0.0.1"),
    ];
    let toml = format!(
        "http = [\"http://*.example:{port}\", \"http://*.corp.example:{port}\"]\nplaintext = true\n\
         loopback = true\nprivate_addresses = \"listed-names\""
    );
    let egress = egress(&toml, names);
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0x7f.1",
        "rebind.example",
        "metadata.example",
        "mapped.example",
        "inner.corp.example",
        "other.org",
        "user@rebind.example",
    ] {
        let request = get(&format!("http://{host}:{port}/"));
        let outcome = egress.answer(request, RequestOptions::default()).await;
        assert!(is_denied(&outcome), "{host}: {:?}", outcome.err());
    }
    let https = egress.answer(
        get(&format!("https://rebind.example:{port}/")),
        RequestOptions::default(),
    );
    assert!(is_denied(&https.await));
    assert_eq!(server.seen(), 0);
}

#[tokio::test]
async fn adding_the_grant_heals_and_a_denial_is_news_once() {
    let server = Server::start(OK).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let egress = egress("", &[]);
    for _ in 0..3 {
        assert!(is_denied(
            &egress.answer(get(&url), RequestOptions::default()).await
        ));
    }
    let asked = Target::parse(&url).expect("a target");
    let reach = grants("").reach(&json!({}));
    let denial = reach.admits(&asked).expect_err("nothing is granted");
    let told = |egress: &Egress| lock(&egress.hosts)[&url].told.clone();
    assert_eq!(told(&egress), denial.to_string());
    let grant = denial.grant().expect("it can be granted");
    assert_eq!(server.seen(), 0);
    egress.adopt(policy(&grant), None);
    assert_eq!(told(&egress), "");
    let response = egress.answer(get(&url), RequestOptions::default()).await;
    assert_eq!(
        text(response.expect("it is granted")).await.expect("whole"),
        b"hi"
    );
    assert_eq!(server.seen(), 1);
    let granted = egress.policy();
    egress.adopt(policy(""), None);
    assert!(is_denied(
        &egress.answer(get(&url), RequestOptions::default()).await
    ));
    // What was read for grants that are withdrawn comes too late.
    egress.adopt(policy(&grant), Some(&granted));
    assert!(is_denied(
        &egress.answer(get(&url), RequestOptions::default()).await
    ));
}

#[tokio::test]
async fn rule_9_a_redirect_is_handed_to_the_guest_and_not_followed() {
    let target = Server::start(OK).await;
    let location = format!("location: http://127.0.0.1:{}/", target.port);
    let redirect = format!("HTTP/1.1 302 Found\r\n{location}\r\ncontent-length: 0\r\n\r\n");
    let server = Server::start(redirect).await;
    let (a, b) = (server.port, target.port);
    let toml = format!(
        "http = [\"http://127.0.0.1:{a}\", \"http://127.0.0.1:{b}\"]\nplaintext = true\nloopback = true"
    );
    let response = egress(&toml, &[])
        .answer(
            get(&format!("http://127.0.0.1:{a}/")),
            RequestOptions::default(),
        )
        .await
        .expect("it is granted");
    assert_eq!(response.status(), 302);
    assert_eq!(target.seen(), 0);
}

async fn ask(response: impl Into<Vec<u8>>, options: RequestOptions) -> Result<Vec<u8>, Error> {
    let server = Server::start(response).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let toml = format!("http = [\"{url}\"]\nplaintext = true\nloopback = true");
    let egress = egress(&toml, &[]);
    let response = egress.answer(get(&url), options).await?;
    assert_eq!(egress.in_flight(), 1);
    let body = text(response).await;
    assert_eq!(egress.in_flight(), 0);
    body
}

#[tokio::test]
async fn each_phase_has_its_own_clock_and_each_size_its_limit() {
    let to_headers = RequestOptions {
        connect_timeout: Some(Duration::from_millis(100)),
        first_byte_timeout: Some(Duration::from_millis(100)),
        ..RequestOptions::default()
    };
    let silent = ask("", to_headers).await;
    assert!(matches!(silent, Err(Error::HttpResponseTimeout)));
    let patient = RequestOptions::default;
    let dripping = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx";
    assert!(matches!(
        ask(dripping, impatient()).await,
        Err(Error::ConnectionReadTimeout)
    ));
    let announced = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        Limits::default().body + 1
    );
    assert!(matches!(
        ask(announced, patient()).await,
        Err(Error::HttpResponseBodySize(_))
    ));
    let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    endless.resize(endless.len() + Limits::default().body + 1, b'x');
    assert!(matches!(
        ask(endless, patient()).await,
        Err(Error::HttpResponseBodySize(_))
    ));
    let long = "x".repeat(Limits::default().headers);
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {long}\r\ncontent-length: 0\r\n\r\n");
    assert!(matches!(
        ask(long, patient()).await,
        Err(Error::HttpResponseHeaderSectionSize(_))
    ));
    assert_eq!(ask(OK, patient()).await.expect("it is small"), b"hi");
}

#[tokio::test]
async fn a_closed_port_and_a_lost_name_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let toml = format!(
        "http = [\"http://127.0.0.1:{port}\", \"http://lost.example\"]\nplaintext = true\nloopback = true"
    );
    let egress = egress(&toml, &[]);
    let closed = egress
        .answer(
            get(&format!("http://127.0.0.1:{port}")),
            RequestOptions::default(),
        )
        .await;
    assert!(
        matches!(closed, Err(Error::ConnectionRefused)),
        "{closed:?}"
    );
    let lost = egress
        .answer(get("http://lost.example"), RequestOptions::default())
        .await;
    assert!(matches!(lost, Err(Error::DnsError { .. })), "{lost:?}");
}

#[tokio::test]
async fn eight_requests_at_once_are_a_plugins_share() {
    let server = Server::start("").await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let toml = format!("http = [\"{url}\"]\nplaintext = true\nloopback = true");
    let egress = Arc::new(egress(&toml, &[]));
    let patient = RequestOptions::default();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (egress, request) = (egress.clone(), get(&url));
            tokio::spawn(async move { egress.answer(request, patient).await.is_ok() })
        })
        .collect();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while server.seen() < Limits::default().concurrent_requests {
        assert!(
            tokio::time::Instant::now() < deadline,
            "only {}",
            server.seen()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(egress.in_flight(), Limits::default().concurrent_requests);
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn a_plugin_that_asks_without_end_is_slowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let toml = format!("http = [\"{url}\"]\nplaintext = true\nloopback = true");
    let egress = egress(&toml, &[]);
    let began = std::time::Instant::now();
    for _ in 0..70 {
        let refused = egress.answer(get(&url), RequestOptions::default()).await;
        assert!(matches!(refused, Err(Error::ConnectionRefused)));
    }
    // 70 turns of 20 ms, less the second that is free.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(380), "{took:?}");
}

/// Waits until no request is under way, for at most ten seconds.
async fn until_idle(egress: &Egress) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while egress.in_flight() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it never ends");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// More than a connection and a guest's buffer hold, so that the server cannot be done with it.
fn large() -> Vec<u8> {
    let length = Limits::default().body / 2;
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

#[tokio::test]
async fn a_body_that_nobody_reads_gives_its_place_back_and_does_not_look_whole() {
    let server = Server::start(large()).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let toml = format!("http = [\"{url}\"]\nplaintext = true\nloopback = true");
    let egress = egress(&toml, &[]);
    let unread = egress
        .answer(get(&url), impatient())
        .await
        .expect("an answer");
    assert_eq!(egress.in_flight(), 1);
    until_idle(&egress).await;
    let read = text(unread).await;
    assert!(matches!(read, Err(Error::ConnectionTerminated)), "{read:?}");

    let dropped = egress.answer(get(&url), RequestOptions::default()).await;
    drop(dropped.expect("an answer"));
    until_idle(&egress).await;
    let read = egress.answer(get(&url), RequestOptions::default()).await;
    let read = text(read.expect("an answer")).await.expect("it is whole");
    assert_eq!(read.len(), Limits::default().body / 2);
}

/// Notes what passes and what does not, and answers for the cloud where it is told to.
#[derive(Default)]
struct Listening {
    answer: Option<Answer>,
    passed: Mutex<Vec<String>>,
    denied: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Tap for Listening {
    async fn exchange(&self, asked: Asked, upstream: tap::Upstream<'_>) -> Result<Answer, Error> {
        lock(&self.passed).push(format!("{} {}", asked.method, asked.url));
        match &self.answer {
            Some(answer) => Ok(answer.clone()),
            None => upstream.await,
        }
    }

    fn denied(&self, denial: &Denial) {
        lock(&self.denied).push(denial.to_string());
    }
}

fn tapped(port: u16, answer: Option<Answer>) -> (Egress, Arc<Listening>) {
    let toml = format!("http = [\"http://127.0.0.1:{port}\"]\nplaintext = true\nloopback = true");
    let listening = Arc::new(Listening {
        answer,
        ..Listening::default()
    });
    let mut egress = egress(&toml, &[]);
    egress.tap = Some(listening.clone());
    (egress, listening)
}

#[tokio::test]
async fn a_tap_listens_to_what_is_granted_and_hears_of_what_is_not() {
    let server = Server::start(OK).await;
    let (egress, listening) = tapped(server.port, None);
    let url = format!("http://127.0.0.1:{}/a", server.port);
    let answer = egress
        .answer(get(&url), RequestOptions::default())
        .await
        .expect("granted");
    assert_eq!(answer.headers()["x-a"], "b");
    assert_eq!(text(answer).await.expect("whole"), b"hi");
    assert!(is_denied(
        &egress
            .answer(get("http://127.0.0.1:1/"), RequestOptions::default())
            .await
    ));
    assert_eq!(*lock(&listening.passed), [format!("GET {url}")]);
    let denied = lock(&listening.denied).join("; ");
    assert_eq!(denied, "http://127.0.0.1:1 is not granted");
}

#[tokio::test]
async fn a_tap_answers_without_a_connection_and_ends_a_body_as_it_likes() {
    use tap::Ending;
    let body = "x".repeat(100);
    for (ending, expected) in [
        (Ending::Whole, Some(100)),
        (Ending::Dripping(Duration::from_millis(1)), Some(100)),
        (Ending::Cut, None),
    ] {
        let server = Server::start(OK).await;
        let mut made = Answer::new(http::StatusCode::TOO_MANY_REQUESTS, body.clone());
        made.ending = ending;
        let (egress, _) = tapped(server.port, Some(made));
        let url = format!("http://127.0.0.1:{}/", server.port);
        let answer = egress
            .answer(get(&url), RequestOptions::default())
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 429);
        let read = text(answer).await.ok().map(|bytes| bytes.len());
        assert_eq!(read, expected, "{ending:?}");
        assert_eq!(server.seen(), 0);
    }
}

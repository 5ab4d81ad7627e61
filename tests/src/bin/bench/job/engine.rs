//! Docker's API over a socket: as much of it as a container needs that is made, attached to, started and removed.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode, Upgraded};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What Debian 12's Docker speaks.
const API: &str = "http://docker/v1.41";

pub(super) struct Engine {
    http: reqwest::Client,
}

/// What a container printed, and when it was read.
pub(super) type Printed = Vec<(Instant, Vec<u8>)>;

impl Engine {
    pub(super) fn at(socket: PathBuf) -> Result<Self> {
        let http = reqwest::Client::builder().unix_socket(socket).build()?;
        Ok(Self { http })
    }

    /// The answer's JSON; null where it is none.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let mut request = self.http.request(method, format!("{API}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(
            !status.is_client_error() && !status.is_server_error(),
            "docker answers {path} with {status}: {text}"
        );
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str) -> Result<Value> {
        self.ask(Method::POST, path, None).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        self.ask(Method::DELETE, path, None).await.map(drop)
    }

    /// Answers the container's id.
    pub(super) async fn create(&self, specification: &Value) -> Result<String> {
        let made = self
            .ask(Method::POST, "/containers/create", Some(specification))
            .await?;
        let id = made["Id"].as_str().map(str::to_owned);
        id.with_context(|| format!("docker created something without an id: {made}"))
    }

    pub(super) async fn start(&self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/start"))
            .await
            .map(drop)
    }

    /// Its exit code.
    pub(super) async fn wait(&self, id: &str) -> Result<i64> {
        let path = format!("/containers/{id}/wait?condition=not-running");
        let ended = self.post(&path).await?;
        ended["StatusCode"].as_i64().context("no exit code")
    }

    async fn attach(&self, id: &str) -> Result<Upgraded> {
        let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let request = self
            .http
            .post(format!("{API}{path}"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp");
        let response = request.send().await?;
        ensure!(
            response.status() == StatusCode::SWITCHING_PROTOCOLS,
            "docker does not attach: {}",
            response.status()
        );
        Ok(response.upgrade().await?)
    }

    /// Starts a container, gives its shell a script, reads what it prints, and waits until it has ended.
    pub(super) async fn stage(&self, id: &str, script: &str) -> Result<Printed> {
        let mut stream = self.attach(id).await?;
        self.start(id).await?;
        stream.write_all(script.as_bytes()).await?;
        stream.shutdown().await?;
        let mut printed = Printed::new();
        let mut header = [0; 8];
        loop {
            match stream.read_exact(&mut header).await {
                Ok(_) => {}
                Err(end) if end.kind() == ErrorKind::UnexpectedEof => break,
                Err(problem) => return Err(problem.into()),
            }
            let [_, _, _, _, length @ ..] = header;
            let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut bytes).await?;
            printed.push((Instant::now(), bytes));
        }
        let stop = format!("/containers/{id}/stop");
        let (code, stopped) = tokio::join!(self.wait(id), self.post(&stop));
        stopped?;
        let code = code?;
        ensure!(code == 0, "a stage ended with exit code {code}");
        Ok(printed)
    }

    /// Starts a container and throws away what it prints. From the first to the last byte.
    pub(super) async fn reads(&self, id: &str) -> Result<Duration> {
        let mut stream = self.attach(id).await?;
        self.start(id).await?;
        let mut buffer = vec![0; 64 * 1024];
        let (mut first, mut last) = (None, Instant::now());
        while stream.read(&mut buffer).await? > 0 {
            last = Instant::now();
            first.get_or_insert(last);
        }
        Ok(last - first.context("the container printed nothing")?)
    }
}

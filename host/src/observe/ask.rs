//! Asks a running manager for its status page.

use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::status::{BadAddress, listen_at};

/// For an answer of the same machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// A page of thousands of instances is smaller.
const MOST_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AskProblem {
    #[error(transparent)]
    Address(#[from] BadAddress),
    #[error(
        "no manager answers at {at}: {why}; next: see that `fleetling run` runs with this configuration, or name \
         another address with --address"
    )]
    Unreachable { at: String, why: String },
    #[error(
        "what answers at {at} is no manager: {why}; next: compare listen_address with the address that the manager \
         logged at its start"
    )]
    Strange { at: String, why: String },
}

/// The page of the manager that listens at `address`, as it was sent.
///
/// # Errors
/// If the address is none, nobody answers there, or somebody else.
pub async fn ask(address: &str) -> Result<serde_json::Value, AskProblem> {
    let (host, port) = listen_at(address)?;
    // Listening everywhere is listening here.
    let host = match host.as_str() {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "::1".to_owned(),
        _ => host,
    };
    let at = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let answer = tokio::time::timeout(PATIENCE, get(&host, port, &at)).await;
    answer.unwrap_or_else(|_| {
        Err(AskProblem::Unreachable {
            why: format!("no answer within {PATIENCE:?}"),
            at,
        })
    })
}

async fn get(host: &str, port: u16, at: &str) -> Result<serde_json::Value, AskProblem> {
    let unreachable = |why: &dyn std::fmt::Display| AskProblem::Unreachable {
        at: at.to_owned(),
        why: why.to_string(),
    };
    let strange = |why: &dyn std::fmt::Display| AskProblem::Strange {
        at: at.to_owned(),
        why: why.to_string(),
    };
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| unreachable(&e))?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(&e))?;
    // It ends with the answer; what went wrong there shows in it.
    tokio::spawn(connection);
    let request = Request::get("/status")
        .header(header::HOST, at)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| unreachable(&e))?;
    let response = send.send_request(request).await.map_err(|e| strange(&e))?;
    if response.status() != StatusCode::OK {
        return Err(strange(&response.status()));
    }
    let body = Limited::new(response.into_body(), MOST_BYTES)
        .collect()
        .await;
    let body = body.map_err(|e| strange(&e))?.to_bytes();
    let page: serde_json::Value = serde_json::from_slice(&body).map_err(|e| strange(&e))?;
    if page.get("groups").is_none() {
        return Err(strange(&"it tells of no instance groups"));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::observe::status::{StatusPage, serve};

    #[tokio::test]
    async fn a_page_comes_over_a_real_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (publish, page) = watch::channel(StatusPage::default());
        let metrics = Arc::new(Metrics::new("1.2.3"));
        tokio::spawn(serve(listener, metrics, page, std::future::pending()));
        publish.send_modify(|page| page.version = "1.2.3".into());
        assert_eq!(ask(&address).await.unwrap()["version"], "1.2.3");
    }

    #[tokio::test]
    async fn nobody_and_somebody_else_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = axum::Router::new().route("/status", axum::routing::get(|| async { "hello" }));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let strange = ask(&address).await.unwrap_err().to_string();
        assert!(
            strange.starts_with(&format!("what answers at {address} is no manager")),
            "{strange}"
        );
        serving.abort();
        let _ = serving.await;
        let nobody = ask(&address).await.unwrap_err().to_string();
        assert!(
            nobody.starts_with(&format!("no manager answers at {address}")),
            "{nobody}"
        );
    }
}

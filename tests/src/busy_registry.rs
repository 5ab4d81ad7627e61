//! A registry that is too busy at first: as many requests for a manifest as the story says are answered with 503, all
//! others are handed on to the registry itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

/// It ends with this struct.
pub struct BusyRegistry {
    /// `host:port`.
    pub address: String,
    serving: tokio::task::JoinHandle<()>,
}

struct Behind {
    /// `host:port` of the registry.
    registry: String,
    refusals_left: AtomicUsize,
    client: reqwest::Client,
}

impl BusyRegistry {
    pub(crate) async fn start(host: IpAddr, registry: &str, refusals: usize) -> Result<Self> {
        let behind = Arc::new(Behind {
            registry: registry.to_owned(),
            refusals_left: AtomicUsize::new(refusals),
            client: reqwest::Client::new(),
        });
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let app = Router::new().fallback(answer).with_state(behind);
        let serving = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, serving })
    }
}

impl Drop for BusyRegistry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(behind): State<Arc<Behind>>, request: Request) -> Response {
    let take = |left: usize| left.checked_sub(1);
    let left = &behind.refusals_left;
    if request.uri().path().contains("/manifests/")
        && left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
    {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match behind.hand_on(request).await {
        Ok(response) => response,
        Err(problem) => (StatusCode::BAD_GATEWAY, problem.to_string()).into_response(),
    }
}

impl Behind {
    /// Reads only: no body goes to the registry.
    async fn hand_on(&self, request: Request) -> Result<Response> {
        let url = format!("http://{}{}", self.registry, request.uri());
        let asked = self.client.request(request.method().clone(), url);
        let answered = asked.headers(request.headers().clone()).send().await?;
        let (status, headers) = (answered.status(), answered.headers().clone());
        let mut response = Response::new(Body::from(answered.bytes().await?));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

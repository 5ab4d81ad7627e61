//! The place between a request that was admitted and the network, where somebody may listen or answer instead.
//!
//! ```text
//! guest ─► grants ─► Tap::exchange(asked, upstream) ─► upstream: dial, send, whole answer
//!            └ denied ─► Tap::denied                └► or an answer of the tap's own, or none
//! ```
//! A manager has no tap. `plugin call --trace` listens, `plugin trust` notes what was denied, `plugin check` puts faults in
//! the way. Invariant: what no grant admits reaches no tap as an exchange, and a tap cannot widen a grant.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use wasmtime_wasi_http::Error;

use crate::plugin::grants::Denial;

/// A request as it is about to be dialled.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: http::Method,
    pub url: url::Url,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

/// An answer with its whole body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: http::StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub ending: Ending,
}

/// How the body reaches the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The connection is lost after the body so far, which is not all of it.
    Cut,
    /// In small pieces, with this pause between them.
    Dripping(Duration),
}

/// The real exchange; nothing is sent before it is awaited.
pub type Upstream<'a> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send + 'a>>;

#[async_trait]
pub trait Tap: Send + Sync + 'static {
    /// What the guest gets. The guest's own clocks run meanwhile.
    async fn exchange(&self, asked: Asked, upstream: Upstream<'_>) -> Result<Answer, Error> {
        let _ = asked;
        upstream.await
    }

    /// A request that no grant admits; it was not sent.
    fn denied(&self, _denial: &Denial) {}

    /// A secret that was asked for and is not granted.
    fn secret_denied(&self, _name: &str) {}
}

impl Asked {
    pub(super) fn of(request: &reqwest::Request) -> Self {
        let body = request.body().and_then(reqwest::Body::as_bytes);
        Self {
            method: request.method().clone(),
            url: request.url().clone(),
            headers: request.headers().clone(),
            body: body.map(Bytes::copy_from_slice).unwrap_or_default(),
        }
    }
}

impl Answer {
    pub fn new(status: http::StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: http::HeaderMap::new(),
            body: body.into(),
            ending: Ending::Whole,
        }
    }

    /// Reads the whole body, as large as a guest may read.
    pub(super) async fn collect(
        mut response: reqwest::Response,
        most: usize,
    ) -> Result<Self, Error> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let ending = loop {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break Ending::Whole,
                Err(_) => break Ending::Cut,
            }
            if body.len() > most {
                return Err(Error::HttpResponseBodySize(Some(most as u64)));
            }
        };
        Ok(Self {
            status,
            headers,
            body: body.into(),
            ending,
        })
    }

    pub(super) fn into_response(self) -> reqwest::Response {
        let mut response = http::Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        // The body is as long as it is now, whatever its head said before somebody changed it; a cut one lacks something.
        let said = response.headers_mut().remove(http::header::CONTENT_LENGTH);
        if self.ending == Ending::Cut
            && let Some(said) = said
        {
            response
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, said);
        }
        let body = match self.ending {
            Ending::Whole => reqwest::Body::from(self.body),
            Ending::Cut => {
                let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                reqwest::Body::wrap_stream(stream::iter([Ok(self.body), Err(lost)]))
            }
            Ending::Dripping(pause) => dripping(self.body, pause),
        };
        response.map(|()| body).into()
    }
}

/// Pieces of a body that drips.
const PIECES: usize = 16;

fn dripping(body: Bytes, pause: Duration) -> reqwest::Body {
    let size = body.len().div_ceil(PIECES).max(1);
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let piece = rest.split_to(size.min(rest.len()));
        Some((Ok::<_, std::io::Error>(piece), rest))
    });
    reqwest::Body::wrap_stream(pieces)
}

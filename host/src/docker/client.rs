//! A Docker client over one link, or to one's own daemon: idle HTTP connections are kept for the next request.
//!
//! The client library sends URLs without a version, so a daemon answers with its newest API; 20.10 and later are fine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::{BollardRequest, ClientVersion, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::daemon::Daemon;
use crate::fleet::connector::{Link, Target};

/// Seconds until a response's head must have come; bodies and streams are not bound by it.
const HEAD_TIMEOUT: u64 = 120;
const POOLED: usize = 8;
const POOLED_FOR: Duration = Duration::from_secs(30);

/// Docker behind this link. Makes no request.
pub fn over_link(link: &Link, target: &Target) -> Result<Docker, bollard::errors::Error> {
    over(Dial::Link {
        link: link.clone(),
        target: target.clone(),
    })
}

/// The manager's own Docker. Makes no request.
pub(super) fn over_own(daemon: &Arc<Daemon>) -> Result<Docker, bollard::errors::Error> {
    over(Dial::Own(Arc::clone(daemon)))
}

fn over(dial: Dial) -> Result<Docker, bollard::errors::Error> {
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(POOLED)
        .pool_idle_timeout(POOLED_FOR)
        .build(dial);
    Docker::connect_with_custom_transport(
        move |request: BollardRequest| {
            let client = client.clone();
            async move {
                client
                    .request(request)
                    .await
                    .map_err(bollard::errors::Error::from)
            }
        },
        Some("http://docker"),
        HEAD_TIMEOUT,
        &ClientVersion {
            major_version: 1,
            minor_version: 41,
        },
    )
}

#[derive(Clone)]
enum Dial {
    Link { link: Link, target: Target },
    Own(Arc<Daemon>),
}

impl tower_service::Service<http::Uri> for Dial {
    type Response = Pipe;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Pipe, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            match dial {
                Self::Link { link, target } => {
                    let tunnel = link.open(&target).await.map_err(std::io::Error::other)?;
                    Ok(Pipe::new(tunnel))
                }
                Self::Own(daemon) => daemon.connect().await,
            }
        })
    }
}

/// Bytes both ways, whatever carries them.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection in the HTTP client's terms.
pub(super) struct Pipe(TokioIo<Box<dyn Duplex>>);

impl Pipe {
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(TokioIo::new(Box::new(stream)))
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

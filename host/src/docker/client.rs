//! A Docker client over one link, or to one's own daemon: idle HTTP connections are kept for the next request.
//!
//! The client library sends URLs without a version, so a daemon answers with its newest API; 20.10 and later are fine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::{BollardRequest, ClientVersion, Docker};
use http::{HeaderMap, HeaderValue};
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
        move |mut request: BollardRequest| {
            let client = client.clone();
            make_login_readable(request.headers_mut());
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

/// The daemon reads URL-safe base64 alone and takes anything else for no login at all; the client library writes the
/// standard alphabet, which differs where a password has `~`, `?` or `>`.
fn make_login_readable(headers: &mut HeaderMap) {
    let Some(login) = headers.get_mut("x-registry-auth") else {
        return;
    };
    let readable: Vec<u8> = login
        .as_bytes()
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    if let Ok(mut value) = HeaderValue::from_bytes(&readable) {
        value.set_sensitive(true);
        *login = value;
    }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    #[test]
    fn a_login_is_written_as_the_daemon_reads_it() {
        for password in ["~~~~", "?>?>?>", "a?b~c>d", "plain"] {
            let login = format!(r#"{{"username":"someone","password":"{password}"}}"#);
            let mut headers = HeaderMap::new();
            let written = HeaderValue::from_str(&STANDARD.encode(&login)).unwrap();
            headers.insert("X-Registry-Auth", written);
            make_login_readable(&mut headers);
            let header = headers["x-registry-auth"].as_bytes();
            assert_eq!(URL_SAFE.decode(header).unwrap(), login.as_bytes());
            assert!(!format!("{headers:?}").contains(&STANDARD.encode(&login)));
        }
    }
}

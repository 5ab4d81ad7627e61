//! One SSH connection: streams to the Docker daemon, commands, and word of its loss.
//!
//! Invariant: whoever opens a tunnel reads it without pause. One unread stream stalls the whole connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{ChannelMsg, ChannelStream, Disconnect};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::Guard;

/// What of a command's output is kept.
const OUTPUT_LIMIT: usize = 64 * 1024;
const NOTING: Duration = Duration::from_secs(5);

/// Where the Docker daemon listens, seen from the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Unix { path: String },
    Tcp { host: String, port: u16 },
}

impl Target {
    /// From `[runners.docker].host`; absent means the usual socket.
    pub fn from_docker_host(host: Option<&str>) -> Result<Self, String> {
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Ok(Self::Unix {
                path: "/var/run/docker.sock".into(),
            });
        };
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Self::Unix { path: path.into() });
        }
        let address = host
            .strip_prefix("tcp://")
            .or_else(|| host.strip_prefix("http://"))
            .map(|rest| rest.trim_end_matches('/'));
        if let Some((name, port)) = address.and_then(|address| address.rsplit_once(':'))
            && let Ok(port) = port.parse()
        {
            return Ok(Self::Tcp {
                host: name.into(),
                port,
            });
        }
        Err(format!(
            "docker host {host:?} is neither unix:///path nor tcp://host:port"
        ))
    }

    /// The Docker command that joins its input and output to the daemon.
    fn dial_stdio(&self) -> String {
        match self {
            Self::Unix { path } if path == "/var/run/docker.sock" => {
                "docker system dial-stdio".into()
            }
            _ => format!("docker -H {} system dial-stdio", quoted(&self.to_string())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => write!(f, "unix://{path}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkFailure {
    #[error("the SSH connection failed: {0}")]
    Ssh(String),
    #[error("no answer in time")]
    TimedOut,
}

/// How a command ended; at most the first 64 KiB of what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Absent when a signal ended it.
    pub status: Option<u32>,
    pub output: String,
}

/// The process that serves a connection on the instance, and when it began: enough never to hit another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSession {
    process: u32,
    began: u64,
}

impl RemoteSession {
    fn parse(output: &str) -> Option<Self> {
        let mut words = output.split_whitespace();
        Some(Self {
            process: words.next()?.parse().ok()?,
            began: words.next()?.parse().ok()?,
        })
    }
}

/// One SSH connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    handle: Arc<Handle<Guard>>,
    lost: watch::Receiver<Option<String>>,
    session: Option<RemoteSession>,
}

impl Link {
    pub(super) fn new(handle: Handle<Guard>, lost: watch::Receiver<Option<String>>) -> Self {
        Self {
            handle: Arc::new(handle),
            lost,
            session: None,
        }
    }

    /// Remembers the process that serves this connection. Not knowing it is no failure: then a stale one is waited out.
    pub(super) async fn note_session(&mut self) {
        let asked = self.run("echo $PPID; cut -d' ' -f22 /proc/$PPID/stat", NOTING);
        if let Ok(finished) = asked.await {
            self.session = RemoteSession::parse(&finished.output);
        }
    }

    pub fn session(&self) -> Option<&RemoteSession> {
        self.session.as_ref()
    }

    /// Ends the process of an earlier, lost connection, so that streams it still holds let go. True when it is gone.
    pub async fn end_session(&self, old: &RemoteSession) -> bool {
        let RemoteSession { process, began } = old;
        let command = format!(
            "same() {{ [ \"$(cut -d' ' -f22 /proc/{process}/stat 2>/dev/null)\" = {began} ]; }}; same || exit 0; \
             kill {process}; n=0; while same; do n=$((n+1)); [ $n -gt 20 ] && kill -9 {process}; \
             [ $n -gt 40 ] && exit 1; sleep 0.1; done; exit 0"
        );
        matches!(
            self.run(&command, Duration::from_secs(10)).await,
            Ok(Finished {
                status: Some(0),
                ..
            })
        )
    }

    pub fn is_up(&self) -> bool {
        self.lost.borrow().is_none() && !self.handle.is_closed()
    }

    /// Waits until the connection is lost; says why. Safe to drop.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the connection ended".into(),
        }
    }

    /// A stream to the daemon: forwarded by sshd, or through the Docker command where forwarding is refused.
    pub async fn open(&self, target: &Target) -> Result<Tunnel, LinkFailure> {
        let direct = match target {
            Target::Unix { path } => {
                self.handle
                    .channel_open_direct_streamlocal(path.clone())
                    .await
            }
            Target::Tcp { host, port } => {
                self.handle
                    .channel_open_direct_tcpip(host.clone(), u32::from(*port), "127.0.0.1", 0)
                    .await
            }
        };
        let channel = match direct {
            Ok(channel) => channel,
            Err(russh::Error::ChannelOpenFailure(_)) => {
                let channel = self.handle.channel_open_session().await.map_err(ssh)?;
                channel
                    .exec(false, target.dial_stdio())
                    .await
                    .map_err(ssh)?;
                channel
            }
            Err(error) => return Err(ssh(error)),
        };
        Ok(Tunnel(channel.into_stream()))
    }

    /// Runs a command in the login user's shell.
    pub async fn run(&self, command: &str, within: Duration) -> Result<Finished, LinkFailure> {
        let running = async {
            let mut channel = self.handle.channel_open_session().await.map_err(ssh)?;
            channel.exec(true, command).await.map_err(ssh)?;
            let (mut status, mut output) = (None, Vec::new());
            let mut ended = false;
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                        let room = OUTPUT_LIMIT.saturating_sub(output.len());
                        output.extend_from_slice(&data[..data.len().min(room)]);
                    }
                    ChannelMsg::ExitStatus { exit_status } => {
                        status = Some(exit_status);
                        ended = true;
                    }
                    ChannelMsg::ExitSignal { .. } => ended = true,
                    _ => {}
                }
            }
            if !ended {
                return Err(LinkFailure::Ssh("the connection ended first".into()));
            }
            Ok(Finished {
                status,
                output: String::from_utf8_lossy(&output).into_owned(),
            })
        };
        tokio::time::timeout(within, running)
            .await
            .unwrap_or(Err(LinkFailure::TimedOut))
    }

    pub async fn close(&self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "en");
        // A dead connection takes no goodbye.
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

fn ssh(error: russh::Error) -> LinkFailure {
    LinkFailure::Ssh(error.to_string())
}

/// A stream through a link. Its end may mean that the link was lost: never take it for an answer.
pub struct Tunnel(ChannelStream<Msg>);

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The library takes an empty buffer for an error.
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hosts_name_a_target() {
        let unix = |path: &str| Ok(Target::Unix { path: path.into() });
        assert_eq!(Target::from_docker_host(None), unix("/var/run/docker.sock"));
        assert_eq!(
            Target::from_docker_host(Some("unix:///run/user/1000/docker.sock")),
            unix("/run/user/1000/docker.sock")
        );
        assert_eq!(
            Target::from_docker_host(Some("tcp://127.0.0.1:2375")),
            Ok(Target::Tcp {
                host: "127.0.0.1".into(),
                port: 2375
            })
        );
        assert!(Target::from_docker_host(Some("ssh://elsewhere")).is_err());
    }

    #[test]
    fn a_session_is_a_process_and_its_beginning() {
        let session = RemoteSession {
            process: 42,
            began: 9001,
        };
        assert_eq!(RemoteSession::parse("42\n9001\n"), Some(session));
        assert_eq!(RemoteSession::parse("42\n"), None);
    }
}

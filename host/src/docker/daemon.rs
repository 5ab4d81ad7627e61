//! The manager's own Docker daemon: where it listens, and how a connection to it is made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::client::Pipe;
use crate::config::usable;

const SOCKET: &str = "/var/run/docker.sock";
const CONNECT: Duration = Duration::from_secs(15);

/// Where the daemon listens, with the keys that it asks for.
pub struct Daemon {
    end: End,
}

enum End {
    Unix(PathBuf),
    /// `host:port`
    Tcp(String),
    Tls {
        address: String,
        name: ServerName<'static>,
        connector: TlsConnector,
    },
}

/// What `[runners.docker]` has of it.
#[derive(Clone, Copy)]
struct Choice<'a> {
    host: Option<&'a str>,
    tls_verify: bool,
    tls_cert_path: Option<&'a str>,
}

/// Why there is no way to the daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonProblem {
    #[error(
        "docker host {0:?} is neither unix:///path nor tcp://host:port; next: correct `host` in [runners.docker], or \
         DOCKER_HOST of the manager where that has none"
    )]
    Host(String),
    #[error(
        "{path}: {why}; next: put the daemon's ca.pem and the client's cert.pem and key.pem into `tls_cert_path`"
    )]
    Certificate { path: String, why: String },
    #[error("the name of docker host {0:?} cannot be checked by TLS: {1}")]
    Name(String, InvalidDnsNameError),
    #[error("the certificates in {dir} do not work together: {why}")]
    Keys { dir: String, why: rustls::Error },
}

impl Daemon {
    /// As `[runners.docker]` says. Only without a `host` there, `DOCKER_HOST`, `DOCKER_CERT_PATH` and
    /// `DOCKER_TLS_VERIFY` of the manager count, all three together, as in GitLab Runner.
    pub fn of(
        docker: &usable::Docker,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DaemonProblem> {
        let choice = Choice {
            host: docker.host.as_deref(),
            tls_verify: docker.tls_verify,
            tls_cert_path: docker.tls_cert_path.as_deref(),
        };
        Self::chosen(choice, env)
    }

    fn chosen(
        configured: Choice<'_>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DaemonProblem> {
        let given = |name| env(name).filter(|value| !value.is_empty());
        let (host, certificates) = match configured.host {
            Some(host) => {
                let dir = configured.tls_cert_path.unwrap_or_default().to_owned();
                (Some(host.to_owned()), configured.tls_verify.then_some(dir))
            }
            None => {
                let dir = given("DOCKER_CERT_PATH").unwrap_or_default();
                let verify = given("DOCKER_TLS_VERIFY").is_some();
                (given("DOCKER_HOST"), verify.then_some(dir))
            }
        };
        let end = match host {
            None => End::Unix(SOCKET.into()),
            Some(host) => end(&host, certificates.as_deref())?,
        };
        Ok(Self { end })
    }

    /// As an operator reads it.
    pub fn address(&self) -> String {
        match &self.end {
            End::Unix(path) => format!("unix://{}", path.display()),
            End::Tcp(address) | End::Tls { address, .. } => format!("tcp://{address}"),
        }
    }

    /// One connection.
    pub(super) async fn connect(&self) -> io::Result<Pipe> {
        let connecting = async {
            Ok(match &self.end {
                End::Unix(path) => Pipe::new(UnixStream::connect(path).await?),
                End::Tcp(address) => Pipe::new(tcp(address).await?),
                End::Tls {
                    address,
                    name,
                    connector,
                } => {
                    let stream = connector.connect(name.clone(), tcp(address).await?).await?;
                    Pipe::new(stream)
                }
            })
        };
        tokio::time::timeout(CONNECT, connecting).await?
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// `certificates` is the directory to use where the daemon is to be verified.
fn end(host: &str, certificates: Option<&str>) -> Result<End, DaemonProblem> {
    if let Some(path) = host.strip_prefix("unix://") {
        return Ok(End::Unix(path.into()));
    }
    let no_host = || DaemonProblem::Host(host.to_owned());
    let address = ["tcp://", "http://", "https://"]
        .iter()
        .find_map(|scheme| host.strip_prefix(scheme))
        .ok_or_else(no_host)?
        .trim_end_matches('/');
    let (name, port) = address.rsplit_once(':').ok_or_else(no_host)?;
    port.parse::<u16>().map_err(|_| no_host())?;
    let Some(dir) = certificates else {
        return Ok(End::Tcp(address.to_owned()));
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned())
        .map_err(|why| DaemonProblem::Name(host.to_owned(), why))?;
    Ok(End::Tls {
        address: address.to_owned(),
        name,
        connector: TlsConnector::from(Arc::new(tls(Path::new(dir))?)),
    })
}

/// The daemon's own authority and no other.
fn tls(dir: &Path) -> Result<ClientConfig, DaemonProblem> {
    let keys = |why| DaemonProblem::Keys {
        dir: dir.display().to_string(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(&dir.join("ca.pem"))? {
        roots.add(authority).map_err(keys)?;
    }
    let key = dir.join("key.pem");
    let private = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|why| unusable(&key, why))?;
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&dir.join("cert.pem"))?, private)
        .map_err(keys)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DaemonProblem> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(path, "it holds no certificate")),
        Ok(all) => Ok(all),
        Err(why) => Err(unusable(path, why)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DaemonProblem> {
    fs::read(path).map_err(|why| unusable(path, why))
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> DaemonProblem {
    DaemonProblem::Certificate {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests;

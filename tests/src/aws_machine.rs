//! A machine as AWS runs it: a network of its own, in which whoever gives keys answers at the addresses AWS has for them.
//!
//! ```text
//! lo  127.0.0.1:<the cloud's port> ──► the cloud, which is outside
//!     169.254.169.254, [fd00:ec2::254]   instance metadata (IMDSv2)          ┐ answered here, on port 80;
//!     169.254.170.2                      the credentials of an ECS task      ├ each gives keys of its own
//!     169.254.170.23, [fd00:ec2::23]     those of a pod (EKS Pod Identity)   ┘
//! ```
//!
//! The network lasts as long as its thread, its sockets and what was run in it. Making one needs root.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use nix::sched::{CloneFlags, unshare};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::cloud::{Cloud, RoleKeys};

pub const METADATA: &str = "169.254.169.254";
pub const METADATA_V6: &str = "fd00:ec2::254";
pub const TASK: &str = "169.254.170.2";
pub const POD: &str = "169.254.170.23";
pub const POD_V6: &str = "fd00:ec2::23";
/// Where a task's and a pod's keys are.
pub const TASK_PATH: &str = "/v2/credentials/task";
pub const POD_PATH: &str = "/v1/credentials";
/// What a pod's file has to prove that it asks.
pub const POD_TOKEN: &str = "the-pods-own-token";

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "builders";
const SESSION: &str = "AQAEAsession==";

pub struct AwsMachine {
    network: PathBuf,
    given: BTreeMap<IpAddr, String>,
    heard: Heard,
    serving: Vec<JoinHandle<()>>,
    /// Its thread ends when this is dropped.
    _stay: mpsc::Sender<()>,
}

/// What the services have in common.
#[derive(Clone, Default)]
struct Heard {
    /// As `GET 169.254.170.2/path 200`.
    asked: Arc<Mutex<Vec<String>>>,
    /// Also of those who then said nothing.
    connections: Arc<AtomicUsize>,
    is_faulty: Arc<AtomicBool>,
}

/// One of the addresses.
#[derive(Clone)]
struct Service {
    address: IpAddr,
    region: String,
    keys: RoleKeys,
    heard: Heard,
}

impl AwsMachine {
    /// Its services give keys of the cloud's role, each those of its own session.
    pub async fn start(cloud: &Cloud) -> Result<Self> {
        let outside: SocketAddr = cloud
            .access
            .endpoint
            .trim_start_matches("http://")
            .parse()?;
        let addresses: Vec<IpAddr> = [METADATA, METADATA_V6, TASK, POD, POD_V6]
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let listened: Vec<SocketAddr> = std::iter::once(outside)
            .chain(addresses.iter().map(|address| (*address, 80).into()))
            .collect();
        let (network, listeners, stay) = network(listened).await?;

        let mut machine = Self {
            network,
            given: BTreeMap::new(),
            heard: Heard::default(),
            serving: Vec::new(),
            _stay: stay,
        };
        let mut listeners = listeners.into_iter();
        let to_cloud = listeners.next().context("the cloud has a listener")?;
        machine.serving.push(tokio::spawn(lead(to_cloud, outside)));
        for (address, listener) in addresses.into_iter().zip(listeners) {
            let keys = cloud
                .take_role(&format!("at-{address}").replace(':', "-"))
                .await?;
            machine.given.insert(address, keys.access_key_id.clone());
            let service = Service {
                address,
                region: cloud.access.region.clone(),
                keys,
                heard: machine.heard.clone(),
            };
            let router = Router::new().fallback(answer).with_state(service);
            let connections = machine.heard.connections.clone();
            let listener = listener.tap_io(move |_| {
                connections.fetch_add(1, Ordering::Relaxed);
            });
            machine.serving.push(tokio::spawn(async move {
                // It serves until it is aborted.
                let _ = axum::serve(listener, router).await;
            }));
        }
        Ok(machine)
    }

    /// Runs on this machine.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let network = self.network.display();
        command
            .arg(format!("--net={network}"))
            .arg("--")
            .arg(program);
        command
    }

    /// ID of the key that is given at this address.
    pub fn key(&self, address: &str) -> Result<String> {
        let address: IpAddr = address.parse()?;
        let key = self.given.get(&address);
        key.cloned().context("nobody gives keys there")
    }

    /// What was asked since the last time, in order.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.heard.asked))
    }

    /// Connections to these services so far.
    pub fn connections(&self) -> usize {
        self.heard.connections.load(Ordering::Relaxed)
    }

    /// From now on every service answers that it has a fault.
    pub fn fail(&self) {
        self.heard.is_faulty.store(true, Ordering::Relaxed);
    }
}

impl Drop for AwsMachine {
    fn drop(&mut self) {
        for task in &self.serving {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Network = (PathBuf, Vec<tokio::net::TcpListener>, mpsc::Sender<()>);

/// A network with these addresses, listened at. A network belongs to threads, so one stays in it.
async fn network(listened: Vec<SocketAddr>) -> Result<Network> {
    let (made, making) = tokio::sync::oneshot::channel();
    let (stay, left) = mpsc::channel();
    std::thread::Builder::new()
        .name("aws-machine".to_owned())
        .spawn(move || {
            // Nobody waits any more where it cannot be told.
            let _ = made.send(inside(&listened));
            // Ends with an error when the machine is dropped.
            let _ = left.recv();
        })?;
    let (network, listeners) = making.await.context("its thread ended")??;
    let listeners = listeners.into_iter().map(tokio::net::TcpListener::from_std);
    Ok((network, listeners.collect::<Result<_, _>>()?, stay))
}

/// Leaves the network of the process for a new one.
fn inside(listened: &[SocketAddr]) -> Result<(PathBuf, Vec<TcpListener>)> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network of its own needs root")?;
    ip(&["link", "set", "lo", "up"])?;
    for address in listened {
        if address.ip() != Ipv4Addr::LOCALHOST {
            let address = address.ip().to_string();
            ip(&["address", "add", &address, "dev", "lo"])?;
        }
    }
    let mut listeners = Vec::new();
    for address in listened {
        let listener = TcpListener::bind(address).with_context(|| format!("bind {address}"))?;
        listener.set_nonblocking(true)?;
        listeners.push(listener);
    }
    let thread = std::fs::read_link("/proc/thread-self")?;
    Ok((Path::new("/proc").join(thread).join("ns/net"), listeners))
}

/// In the network of this thread.
fn ip(arguments: &[&str]) -> Result<()> {
    let output = std::process::Command::new("ip")
        .args(arguments)
        .output()
        .context("the `ip` command cannot be run; `make setup` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments:?}: {said}");
    Ok(())
}

/// The way to the cloud, as if it were on this machine.
async fn lead(listener: tokio::net::TcpListener, outside: SocketAddr) {
    while let Ok((mut from, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut to = TcpStream::connect(outside).await?;
            tokio::io::copy_bidirectional(&mut from, &mut to).await
        });
    }
}

async fn answer(State(service): State<Service>, request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let answer = service.answer(method, path, request.headers());
    let (status, body) = answer.unwrap_or_else(|status| (status, String::new()));
    let (address, code) = (service.address, status.as_u16());
    lock(&service.heard.asked).push(format!("{method} {address}{path} {code}"));
    (status, body).into_response()
}

impl Service {
    /// As AWS documents each of them; anything else is refused.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, String), StatusCode> {
        if self.heard.is_faulty.load(Ordering::Relaxed) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is = |address: &str| address.parse() == Ok(self.address);
        let keys =
            || serde_json::to_string(&self.keys).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR);
        let body = if is(TASK) {
            match (method, path) {
                (&Method::GET, TASK_PATH) => keys()?,
                _ => return Err(StatusCode::NOT_FOUND),
            }
        } else if is(POD) || is(POD_V6) {
            match (method, path, header("authorization")) {
                (&Method::GET, POD_PATH, Some(POD_TOKEN)) => keys()?,
                (&Method::GET, POD_PATH, _) => return Err(StatusCode::UNAUTHORIZED),
                _ => return Err(StatusCode::NOT_FOUND),
            }
        } else {
            self.metadata(method, path, &header)?
        };
        Ok((StatusCode::OK, body))
    }

    /// Version 2 alone: nothing is told without the token of a session.
    fn metadata<'a>(
        &self,
        method: &Method,
        path: &str,
        header: &impl Fn(&str) -> Option<&'a str>,
    ) -> Result<String, StatusCode> {
        if (method, path) == (&Method::PUT, "/latest/api/token") {
            let lives = header("x-aws-ec2-metadata-token-ttl-seconds");
            let lives: Option<u32> = lives.and_then(|seconds| seconds.parse().ok());
            let is_valid = lives.is_some_and(|seconds| (1..=21_600).contains(&seconds));
            let refused = Err(StatusCode::BAD_REQUEST);
            return if is_valid {
                Ok(SESSION.to_owned())
            } else {
                refused
            };
        }
        if header("x-aws-ec2-metadata-token") != Some(SESSION) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        match (method, path.strip_prefix(ROLES)) {
            (&Method::GET, Some("")) => Ok(ROLE.to_owned()),
            (&Method::GET, Some(ROLE)) => {
                serde_json::to_string(&self.keys).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
            }
            (&Method::GET, None) if path == "/latest/meta-data/placement/region" => {
                Ok(self.region.clone())
            }
            _ => Err(StatusCode::NOT_FOUND),
        }
    }
}

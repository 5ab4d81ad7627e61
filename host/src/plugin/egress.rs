//! Every outgoing request of a plugin: grant, resolve, judge each address, dial, count, report.
//!
//! ```text
//! guest ─ wasi:http ─► EgressHooks ─► Reach::admits(name) ─► client of these AddressRules ─► JudgingResolver ─► dial
//!                                          └─ Denial ◄──────────────────────────────────────────┘
//!                       guest: HttpRequestDenied       operator: one line a host, with the grant to add
//! ```
//! Invariants: nothing is dialled that was not judged in this request's own rules (connections are pooled per rules);
//! redirects are never followed; no proxy of the environment is used.

mod body;
mod pace;
pub mod tap;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use self::body::Carrier;
use self::pace::Pace;
use self::tap::{Answer, Asked, Tap};
use super::address::AddressRules;
use super::grants::{Denial, Name, Reach, Target};

const BODY_BYTES: usize = 16 << 20;
const HEADER_BYTES: usize = 128 << 10;
const CONNECT: Duration = Duration::from_secs(10);
const FIRST_BYTE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(30);
const REQUESTS_PER_PLUGIN: usize = 8;
/// Hosts counted by name; what a plugin makes up beyond that shares one count.
const HOSTS_COUNTED: usize = 256;

/// Requests at once of all plugins together.
pub const REQUESTS_IN_ALL: usize = 64;

type Lookup = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// How names become addresses: the system's way, or a test's table.
pub type Resolver = Arc<dyn Fn(String) -> Lookup + Send + Sync>;

pub fn system_resolver() -> Resolver {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Requests to one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCount {
    pub sent: u64,
    pub denied: u64,
    /// The last one was denied, and the operator was told.
    is_denied: bool,
}

/// One group's way out.
pub struct Egress {
    plugin: String,
    group: String,
    grants_file: PathBuf,
    /// Why built-in grants are missing, when the plugin would have some.
    no_built_in: Option<String>,
    resolver: Resolver,
    reach: Mutex<Reach>,
    clients: Mutex<HashMap<AddressRules, reqwest::Client>>,
    hosts: Mutex<HashMap<String, HostCount>>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    pace: Mutex<Pace>,
    tap: Option<Arc<dyn Tap>>,
}

/// What [`Egress::new`] needs to know.
pub struct EgressOptions {
    pub plugin: String,
    pub group: String,
    pub grants_file: PathBuf,
    pub no_built_in: Option<String>,
    pub resolver: Resolver,
    pub all: Arc<Semaphore>,
    /// Who stands between admitted requests and the network; a manager has nobody there.
    pub tap: Option<Arc<dyn Tap>>,
}

impl Egress {
    pub fn new(options: EgressOptions, reach: Reach) -> Self {
        Self {
            plugin: options.plugin,
            group: options.group,
            grants_file: options.grants_file,
            no_built_in: options.no_built_in,
            resolver: options.resolver,
            reach: Mutex::new(reach),
            clients: Mutex::default(),
            hosts: Mutex::default(),
            own: Arc::new(Semaphore::new(REQUESTS_PER_PLUGIN)),
            all: options.all,
            pace: Mutex::default(),
            tap: options.tap,
        }
    }

    /// New grants count from the next request on, and every denial is news again.
    pub fn regrant(&self, reach: Reach) {
        *lock(&self.reach) = reach;
        for count in lock(&self.hosts).values_mut() {
            count.is_denied = false;
        }
    }

    /// Counts by host, for status and metrics.
    pub fn counts(&self) -> Vec<(String, HostCount)> {
        let hosts = lock(&self.hosts);
        hosts.iter().map(|(h, c)| (h.clone(), *c)).collect()
    }

    pub fn in_flight(&self) -> usize {
        REQUESTS_PER_PLUGIN - self.own.available_permits()
    }

    /// The answer, and what must run while its body is read; its end gives the permits back.
    async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<(http::Response<WasiBody>, Carrier), Error> {
        let target = Target::parse(&request.uri().to_string()).ok_or(Error::HttpRequestDenied)?;
        let admitted = lock(&self.reach).admits(&target);
        let rules = admitted.map_err(|denial| self.denied(&target, &denial))?;
        let permits = self.permits(&target).await?;
        let client = self.client(rules)?;
        let request = dialled(request, &target).await?;
        let phase =
            |asked: Option<Duration>, limit: Duration| asked.map_or(limit, |a| a.min(limit));
        let to_headers =
            phase(options.connect_timeout, CONNECT) + phase(options.first_byte_timeout, FIRST_BYTE);
        let idle = phase(options.between_bytes_timeout, IDLE);
        let exchange = self.exchange(&client, request, &target);
        let answer = tokio::time::timeout(to_headers, exchange).await;
        let response = match answer {
            Err(_) => {
                debug!(plugin = %self.plugin, %target, "no first byte in time");
                return Err(Error::HttpResponseTimeout);
            }
            Ok(Err(problem)) => return Err(problem),
            Ok(Ok(response)) => response,
        };
        self.count(&target.to_string(), |count| {
            count.sent += 1;
            count.is_denied = false;
        });
        limited(response, idle, permits)
    }

    /// The answer's head, with its body to come; by way of the tap where there is one.
    async fn exchange(
        &self,
        client: &reqwest::Client,
        request: reqwest::Request,
        target: &Target,
    ) -> Result<reqwest::Response, Error> {
        let asked = self.tap.as_ref().map(|tap| (tap, Asked::of(&request)));
        let sent = async {
            let sent = client.execute(request).await;
            sent.map_err(|problem| self.failed(target, &problem))
        };
        let Some((tap, asked)) = asked else {
            return sent.await;
        };
        let upstream = async { Answer::collect(sent.await?).await };
        let answer = tap.exchange(asked, Box::pin(upstream)).await?;
        Ok(answer.into_response())
    }

    async fn permits(&self, target: &Target) -> Result<Permits, Error> {
        let wait = async {
            // Its own first: a plugin waiting for itself must not hold what others need.
            let own = self.own.clone().acquire_owned().await;
            let turn = lock(&self.pace).turn(tokio::time::Instant::now());
            tokio::time::sleep(turn).await;
            let all = self.all.clone().acquire_owned().await;
            Ok::<Permits, tokio::sync::AcquireError>((own?, all?))
        };
        match tokio::time::timeout(FIRST_BYTE, wait).await {
            Ok(Ok(permits)) => Ok(permits),
            Ok(Err(_)) | Err(_) => {
                warn!(plugin = %self.plugin, group = %self.group, %target, "too many requests at once");
                Err(Error::ConnectionLimitReached)
            }
        }
    }

    fn client(&self, rules: AddressRules) -> Result<reqwest::Client, Error> {
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&rules) {
            return Ok(client.clone());
        }
        let resolver = JudgingResolver {
            lookup: self.resolver.clone(),
            rules,
        };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(REQUESTS_PER_PLUGIN)
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(|problem| Error::InternalError(Some(problem.to_string())))?;
        clients.insert(rules, client.clone());
        Ok(client)
    }

    /// One line a host until it is reached or the grants change: a plugin that tries every second floods nothing.
    fn denied(&self, target: &Target, denial: &Denial) -> Error {
        if let Some(tap) = &self.tap {
            tap.denied(denial);
        }
        let mut is_news = false;
        self.count(&target.to_string(), |count| {
            is_news = !count.is_denied;
            count.denied += 1;
            count.is_denied = true;
        });
        if is_news {
            let (plugin, group, file) = (&self.plugin, &self.group, self.grants_file.display());
            let builtin = self.no_built_in.as_deref().unwrap_or_default();
            match denial.grant() {
                Some(lines) => warn!(
                    %plugin, %group, %denial, builtin,
                    "request denied; to allow it, add under [{plugin}] in {file} (to the list `http` where there is one): `{}`",
                    lines.replace('\n', "` and `")
                ),
                None => {
                    warn!(%plugin, %group, %denial, builtin, "request denied; no grant can allow it")
                }
            }
        }
        Error::HttpRequestDenied
    }

    /// A secret asked for and not granted, told like a host: without it no request would ever be made.
    pub fn secret_denied(&self, name: &str) {
        // A name is the guest's own choice, and so is its length.
        let name: String = name.chars().take(SECRET_NAME_SHOWN).collect();
        if let Some(tap) = &self.tap {
            tap.secret_denied(&name);
        }
        let mut is_news = false;
        self.count(&format!("secret {name}"), |count| {
            is_news = !count.is_denied;
            count.denied += 1;
            count.is_denied = true;
        });
        if is_news {
            let (plugin, group, file) = (&self.plugin, &self.group, self.grants_file.display());
            let builtin = self.no_built_in.as_deref().unwrap_or_default();
            warn!(
                %plugin, %group, builtin,
                "secret denied; to allow it, add under [{plugin}] in {file}: secret.{name:?} = {{ file = \"…\" }}"
            );
        }
    }

    fn failed(&self, target: &Target, problem: &reqwest::Error) -> Error {
        if let Some(refused) = cause::<AddressRefused>(problem) {
            let denial = lock(&self.reach).refused_address(target, refused.0);
            return self.denied(target, &denial);
        }
        debug!(plugin = %self.plugin, %target, problem = ?problem, "request failed");
        if let Some(io) = cause::<std::io::Error>(problem) {
            use std::io::ErrorKind;
            match io.kind() {
                ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                ErrorKind::TimedOut => return Error::ConnectionTimeout,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                    return Error::DestinationIpUnroutable;
                }
                _ => {}
            }
        }
        if cause::<NotResolved>(problem).is_some() {
            return Error::DnsError {
                rcode: None,
                info_code: None,
            };
        }
        match (problem.is_connect(), problem.is_timeout()) {
            (true, true) => Error::ConnectionTimeout,
            (true, false) => Error::TlsProtocolError,
            (false, true) => Error::HttpResponseTimeout,
            (false, false) => Error::ConnectionTerminated,
        }
    }

    fn count(&self, host: &str, change: impl FnOnce(&mut HostCount)) {
        let mut hosts = lock(&self.hosts);
        let is_counted = hosts.len() < HOSTS_COUNTED || hosts.contains_key(host);
        let host = if is_counted { host } else { "other hosts" };
        change(hosts.entry(host.to_owned()).or_default());
    }
}

/// Characters.
const SECRET_NAME_SHOWN: usize = 64;

type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cause<E: std::error::Error + 'static>(problem: &reqwest::Error) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(problem);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The request as it is dialled: at the judged name, with the host header made from it, the body in hand.
async fn dialled(
    request: http::Request<WasiBody>,
    target: &Target,
) -> Result<reqwest::Request, Error> {
    let (mut parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES)
        .collect()
        .await
        .map_err(|_| Error::HttpRequestBodySize(None))?
        .to_bytes();
    let mut url =
        url::Url::parse(&parts.uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let host = match &target.name {
        Name::Dns(name) => name.clone(),
        Name::Ip(IpAddr::V6(address)) => format!("[{address}]"),
        Name::Ip(address) => address.to_string(),
    };
    url.set_host(Some(&host))
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    parts.headers.remove(http::header::HOST);
    let mut dialled = reqwest::Request::new(parts.method, url);
    *dialled.headers_mut() = parts.headers;
    if !body.is_empty() {
        *dialled.body_mut() = Some(body.into());
    }
    Ok(dialled)
}

/// Refuses what is too large by its own head; the body is only beginning.
fn limited(
    response: reqwest::Response,
    idle: Duration,
    permits: Permits,
) -> Result<(http::Response<WasiBody>, Carrier), Error> {
    let header_bytes: usize = response
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if header_bytes > HEADER_BYTES {
        let size = u32::try_from(header_bytes).ok();
        return Err(Error::HttpResponseHeaderSectionSize(size));
    }
    if response
        .content_length()
        .is_some_and(|n| n > BODY_BYTES as u64)
    {
        return Err(Error::HttpResponseBodySize(response.content_length()));
    }
    let mut answer = http::Response::new(());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    let (carrier, body) = body::carried(response, idle, permits);
    Ok((answer.map(|()| body), carrier))
}

/// Resolves once, keeps what the rules allow, and hands exactly that to the dialler.
struct JudgingResolver {
    lookup: Resolver,
    rules: AddressRules,
}

#[derive(Debug, thiserror::Error)]
#[error("the address {0} is refused")]
struct AddressRefused(IpAddr);

#[derive(Debug, thiserror::Error)]
#[error("the name leads nowhere: {0}")]
struct NotResolved(String);

impl reqwest::dns::Resolve for JudgingResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let lookup = (self.lookup)(name.as_str().to_owned());
        let rules = self.rules;
        Box::pin(async move {
            let found = lookup.await.map_err(|p| NotResolved(p.to_string()))?;
            let (refused, allowed): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|address| rules.refuse(*address).is_some());
            match (allowed.is_empty(), refused.first()) {
                (true, Some(address)) => Err(AddressRefused(*address).into()),
                (true, None) => Err(NotResolved("no address".to_owned()).into()),
                (false, _) => {
                    let addresses = allowed.into_iter().map(|ip| SocketAddr::new(ip, 0));
                    Ok(Box::new(addresses) as reqwest::dns::Addrs)
                }
            }
        })
    }
}

/// The policy as `wasi:http` asks for it: one instance's requests, none of which outlives the call that made it.
pub struct EgressHooks {
    egress: Arc<Egress>,
    call: CancellationToken,
}

impl EgressHooks {
    pub fn new(egress: Arc<Egress>) -> Self {
        Self {
            egress,
            call: CancellationToken::new(),
        }
    }

    /// Ends the requests that the call left behind, and gives their permits back.
    pub fn end_call(&mut self) {
        std::mem::take(&mut self.call).cancel();
    }
}

type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for EgressHooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (egress, call) = (self.egress.clone(), self.call.clone());
        Box::new(async move {
            let sending = egress.send(request, options.unwrap_or_default());
            let sent = call.run_until_cancelled(sending).await;
            let (response, carrier) = sent.unwrap_or(Err(Error::ConnectionTerminated))?;
            let carrying = async move {
                // A body that is cut tells its reader; there is nobody else to tell.
                call.run_until_cancelled(carrier.run()).await;
                Ok(())
            };
            Ok((response, Box::new(carrying) as Box<_>))
        })
    }
}

#[cfg(test)]
mod tests;

//! Every outgoing request of a plugin: grant, resolve, judge each address, dial, count, report.
//!
//! ```text
//! guest ─ wasi:http ─► EgressHooks ─► Policy: admits(name) ─► client of these rules ─► JudgingResolver, or proxy ─► dial
//!                                          └─ Denial ◄───────────────────────────────────┘
//!                       guest: HttpRequestDenied       operator: one line a host, with the grant to add
//!                       every request: an Exchange, for metrics and, on request, the log
//! ```
//! Invariants: nothing is dialled that was not judged in this request's own rules (connections are pooled per rules);
//! redirects are never followed; no proxy is used that the operator did not grant; nothing leaves before `init` has ended
//! well, because only then the file is pinned.

mod body;
mod exchange;
mod hooks;
mod pace;
mod permits;
mod policy;
mod resolver;
mod route;
pub mod tap;
mod tls;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

pub use self::exchange::{Exchange, Observer, Outcome};
pub use self::hooks::EgressHooks;
pub use self::policy::Policy;
pub use self::resolver::{Resolver, system_resolver};

use self::body::Carrier;
use self::exchange::Underway;
use self::pace::Pace;
use self::permits::{InFlight, Own, PATIENCE, Permits};
use self::resolver::{AddressRefused, NotResolved};
use self::tap::{Answer, Asked, Tap};
use super::grants::{Denial, Grants, Limits, Name, Target};

/// Hosts told of by name; what a plugin makes up beyond that is told as one.
const HOSTS_NAMED: usize = 256;

/// Requests at once of all plugins together.
pub const REQUESTS_IN_ALL: usize = 64;

/// Whether what an instance asks for may leave. An instance begins with it closed, and its `init` opens it: until then
/// the file may be one that nobody trusted yet, and the contract has no network there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WayOut {
    Closed,
    Open,
}

/// One host as the operator hears of it.
#[derive(Default)]
struct Host {
    /// What was told last, until a request succeeds or the policy changes: a plugin that tries every second floods
    /// nothing.
    told: String,
    /// It stands for all hosts beyond those that are named.
    is_shared: bool,
}

/// One group's way out.
pub struct Egress {
    plugin: String,
    group: String,
    grants_file: PathBuf,
    /// Why built-in grants are missing, when the plugin would have some.
    no_built_in: Option<String>,
    resolver: Resolver,
    observer: Observer,
    policy: watch::Sender<Arc<Policy>>,
    hosts: Mutex<HashMap<String, Host>>,
    in_flight: InFlight,
    all: Arc<Semaphore>,
    pace: Pace,
    tap: Option<Arc<dyn Tap>>,
}

/// What [`Egress::new`] needs to know.
pub struct EgressOptions {
    pub plugin: String,
    pub group: String,
    pub grants_file: PathBuf,
    pub no_built_in: Option<String>,
    pub resolver: Resolver,
    pub observer: Observer,
    pub all: Arc<Semaphore>,
    /// Who stands between admitted requests and the network; a manager has nobody there.
    pub tap: Option<Arc<dyn Tap>>,
}

impl Egress {
    pub fn new(options: EgressOptions, policy: Policy) -> Self {
        let egress = Self {
            plugin: options.plugin,
            group: options.group,
            grants_file: options.grants_file,
            no_built_in: options.no_built_in,
            resolver: options.resolver,
            observer: options.observer,
            policy: watch::Sender::new(Arc::new(policy)),
            hosts: Mutex::default(),
            in_flight: InFlight::default(),
            all: options.all,
            pace: Pace::default(),
            tap: options.tap,
        };
        egress.tell_problems(&[]);
        egress
    }

    /// New grants count from the next request on, and every denial is news again. What is under way ends as it began.
    pub async fn regrant(&self, grants: &Grants, config: &serde_json::Value) {
        self.adopt(Policy::read(grants, config).await, None);
    }

    /// The files that the grants name have changed.
    pub async fn reread(&self) {
        let before = self.policy();
        if let Some(policy) = before.reread().await {
            self.adopt(policy, Some(&before));
        }
    }

    /// Only in the place of `before`, where given: grants that were withdrawn meanwhile must not come back.
    fn adopt(&self, policy: Policy, before: Option<&Arc<Policy>>) {
        let mut replaced = None;
        self.policy.send_if_modified(|current| {
            if before.is_some_and(|before| !Arc::ptr_eq(before, current)) {
                return false;
            }
            replaced = Some(std::mem::replace(current, Arc::new(policy)));
            true
        });
        let Some(replaced) = replaced else {
            return;
        };
        for host in lock(&self.hosts).values_mut() {
            host.told.clear();
        }
        self.tell_problems(&replaced.problems());
    }

    /// Those that are not `known`.
    fn tell_problems(&self, known: &[String]) {
        let file = self.grants_file.display();
        let problems = self.policy().problems();
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::error!(plugin = %self.plugin, group = %self.group, %file, "{problem}");
        }
    }

    fn policy(&self) -> Arc<Policy> {
        self.policy.borrow().clone()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// The answer, and what must run while its body is read; its end gives the permits back.
    async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
        way_out: WayOut,
    ) -> Result<(http::Response<WasiBody>, Carrier), Error> {
        let policy = self.policy();
        let target = Target::parse(&request.uri().to_string()).ok_or_else(|| self.unnamable())?;
        let mut underway = self.underway(&policy, &target, &request);
        let admitted = policy.reach.admits(&target);
        let rules = admitted.map_err(|denial| {
            underway.denied();
            self.denied(&target, &denial)
        })?;
        let client = policy.client(&target, rules, &self.resolver);
        let client = client.map_err(|problem| {
            self.trouble(&target, &problem);
            Error::ConfigurationError
        })?;
        let (request, permits) = self.admission(&policy, request, &target).await?;
        underway.sends(
            request
                .body()
                .and_then(|b| b.as_bytes())
                .map_or(0, <[u8]>::len),
        );

        let limits = &policy.limits;
        let phase =
            |asked: Option<Duration>, limit: Duration| asked.map_or(limit, |a| a.min(limit));
        let to_headers = phase(options.connect_timeout, limits.connect)
            + phase(options.first_byte_timeout, limits.first_byte);
        let idle = phase(options.between_bytes_timeout, limits.idle);
        let exchange = self.exchange(&policy, &client, request, &target, way_out);
        let answer = tokio::time::timeout(to_headers, exchange).await;
        let response = match answer {
            Err(_) => {
                let is_its_own = to_headers < limits.connect + limits.first_byte;
                // The plugin's own time is not told: each other one would be news.
                let problem = if is_its_own {
                    "no answer has begun within the time that the plugin gives it".to_owned()
                } else {
                    format!("no answer has begun within {to_headers:?}")
                };
                self.trouble(&target, &problem);
                return Err(Error::HttpResponseTimeout);
            }
            Ok(Err(problem)) => {
                if matches!(problem, Error::HttpRequestDenied) {
                    underway.denied();
                }
                return Err(problem);
            }
            Ok(Ok(response)) => response,
        };
        underway.answered(response.status());
        if let Some((error, problem)) = too_large(&response, limits) {
            self.trouble(&target, &problem);
            return Err(error);
        }
        self.host(&target.to_string(), |host| host.told.clear());
        let mut answer = http::Response::new(());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        let (carrier, body) = body::carried(response, idle, limits.body, permits, underway);
        Ok((answer.map(|()| body), carrier))
    }

    fn underway(
        &self,
        policy: &Policy,
        target: &Target,
        request: &http::Request<WasiBody>,
    ) -> Underway {
        let exchange = Exchange {
            plugin: self.plugin.clone(),
            group: self.group.clone(),
            target: target.clone(),
            host: policy.reach.label(target),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            outcome: Outcome::Failed,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
        };
        Underway::new(exchange, self.observer.clone(), policy.is_logged)
    }

    /// The answer's head, with its body to come; by way of the tap where there is one.
    async fn exchange(
        &self,
        policy: &Policy,
        client: &reqwest::Client,
        request: reqwest::Request,
        target: &Target,
        way_out: WayOut,
    ) -> Result<reqwest::Response, Error> {
        let asked = self.tap.as_ref().map(|tap| (tap, Asked::of(&request)));
        let sent = async {
            if way_out == WayOut::Closed {
                return Err(self.too_early(target));
            }
            let sent = client.execute(request).await;
            sent.map_err(|problem| self.failed(policy, target, problem))
        };
        let Some((tap, asked)) = asked else {
            return sent.await;
        };
        let upstream = async { Answer::collect(sent.await?, policy.limits.body).await };
        let answer = tap.exchange(asked, Box::pin(upstream)).await?;
        Ok(answer.into_response())
    }

    /// The request in hand, and the right to send it. A guest that is slow with its body holds up nobody but itself.
    async fn admission(
        &self,
        policy: &Policy,
        request: http::Request<WasiBody>,
        target: &Target,
    ) -> Result<(reqwest::Request, Permits), Error> {
        let crowded = |_| self.crowded(policy, target);
        let own = tokio::time::timeout(PATIENCE, Own::acquire(&policy.own, &self.in_flight));
        let own = own.await.map_err(crowded)?;
        let written = dialled(request, target, policy.limits.body);
        let request = tokio::time::timeout(policy.limits.idle, written)
            .await
            .map_err(|_| Error::ConnectionWriteTimeout)??;
        let both = async {
            self.pace.turn(self.policy.subscribe()).await;
            own?.and_shared(&self.all).await
        };
        let both = tokio::time::timeout(PATIENCE, both).await;
        let permits = both.map_err(crowded)?;
        Ok((request, permits.ok_or(Error::ConnectionLimitReached)?))
    }

    fn crowded(&self, policy: &Policy, target: &Target) -> Error {
        let limits = &policy.limits;
        let problem = format!(
            "it waited {PATIENCE:?} for its turn; if that many are meant, raise `limits.concurrent_requests` ({}) or \
             `limits.requests_per_second` ({})",
            limits.concurrent_requests, limits.requests_per_second
        );
        self.trouble(target, &problem);
        Error::ConnectionLimitReached
    }

    /// A URL that no grant could name: another scheme, user information, a host that no resolver takes.
    fn unnamable(&self) -> Error {
        let told = "request denied: it is for no http or https URL of a plain host";
        let is_news = self.host("no host", |host| host.is_news(told));
        if is_news {
            warn!(plugin = %self.plugin, group = %self.group, "{told}; no grant can allow it");
        }
        Error::HttpRequestDenied
    }

    /// Before `init` has ended well.
    fn too_early(&self, target: &Target) -> Error {
        let told = "request denied: a plugin sends none before its `init` has ended";
        let is_news = self.host(&target.to_string(), |host| host.is_news(told));
        if is_news {
            let (plugin, group) = (&self.plugin, &self.group);
            warn!(%plugin, %group, %target, "{told}, and no grant can allow it; next: report it to the plugin's author");
        }
        Error::HttpRequestDenied
    }

    fn denied(&self, target: &Target, denial: &Denial) -> Error {
        if let Some(tap) = &self.tap {
            tap.denied(denial);
        }
        let told = denial.to_string();
        let is_news = self.host(&target.to_string(), |host| host.is_news(&told));
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

    /// What keeps requests to a granted host from being answered.
    fn trouble(&self, target: &Target, problem: &str) {
        let is_news = self.host(&target.to_string(), |host| host.is_news(problem));
        if is_news {
            let (plugin, group, file) = (&self.plugin, &self.group, self.grants_file.display());
            warn!(%plugin, %group, "request to {target} failed: {problem} (under [{plugin}] in {file})");
        }
    }

    /// A secret asked for and not granted, told like a host: without it no request would ever be made.
    pub fn secret_denied(&self, name: &str) {
        // A name is the guest's own choice, and so is its length.
        let name: String = name.chars().take(SECRET_NAME_SHOWN).collect();
        if let Some(tap) = &self.tap {
            tap.secret_denied(&name);
        }
        let is_news = self.host(&format!("secret {name}"), |host| host.is_news("denied"));
        if is_news {
            let (plugin, group, file) = (&self.plugin, &self.group, self.grants_file.display());
            let builtin = self.no_built_in.as_deref().unwrap_or_default();
            warn!(
                %plugin, %group, builtin,
                "secret denied; to allow it, add under [{plugin}] in {file}: secret.{name:?} = {{ file = \"…\" }}"
            );
        }
    }

    fn failed(&self, policy: &Policy, target: &Target, problem: reqwest::Error) -> Error {
        // The URL has the query, and in that may stand what no log is to hold.
        let problem = problem.without_url();
        if let Some(refused) = cause::<AddressRefused>(&problem) {
            let denial = policy.reach.refused_address(target, refused.0);
            return self.denied(target, &denial);
        }
        debug!(plugin = %self.plugin, %target, problem = ?problem, "request failed");
        if let Some(tls) = cause::<rustls::Error>(&problem) {
            if let Some(told) = tls::told(tls, target) {
                self.trouble(target, &told);
            }
            return match tls {
                rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
                rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
                    alert_id: Some(u8::from(*alert)),
                    alert_message: Some(format!("{alert:?}")),
                },
                _ => Error::TlsProtocolError,
            };
        }
        if let Some(io) = cause::<std::io::Error>(&problem) {
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
        if cause::<NotResolved>(&problem).is_some() {
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

    fn host<T>(&self, name: &str, change: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = lock(&self.hosts);
        let is_named = hosts.len() < HOSTS_NAMED || hosts.contains_key(name);
        let name = if is_named { name } else { "other hosts" };
        let host = hosts.entry(name.to_owned()).or_default();
        host.is_shared = !is_named;
        change(host)
    }
}

impl Host {
    fn is_news(&mut self, text: &str) -> bool {
        // Each of them would have another text.
        let text = if self.is_shared { "refused" } else { text };
        let is_news = self.told != text;
        if is_news {
            text.clone_into(&mut self.told);
        }
        is_news
    }
}

/// Characters.
const SECRET_NAME_SHOWN: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error from inside another; input and output hides its own from the usual chain.
fn cause<E: std::error::Error + 'static>(problem: &reqwest::Error) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(problem);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let within = error.downcast_ref::<std::io::Error>();
        next = match within.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The request as it is dialled: at the judged name, with the host header made from it, the body in hand.
async fn dialled(
    request: http::Request<WasiBody>,
    target: &Target,
    limit: usize,
) -> Result<reqwest::Request, Error> {
    let (mut parts, body) = request.into_parts();
    let body = Limited::new(body, limit)
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

/// What is too large by its own head, for the guest and for the operator; the body is only beginning.
fn too_large(response: &reqwest::Response, limits: &Limits) -> Option<(Error, String)> {
    let header_bytes: usize = response
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if header_bytes > limits.headers {
        let size = u32::try_from(header_bytes).ok();
        let problem = format!("its headers have {header_bytes} bytes, more than `limits.headers`");
        return Some((Error::HttpResponseHeaderSectionSize(size), problem));
    }
    let length = response.content_length()?;
    if length > limits.body as u64 {
        let problem = format!("its body has {length} bytes, more than `limits.body`");
        return Some((Error::HttpResponseBodySize(Some(length)), problem));
    }
    None
}

#[cfg(test)]
mod tests;

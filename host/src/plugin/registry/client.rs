//! One repository of one registry over HTTP: the OCI distribution protocol as far as plugins need it.
//!
//! ```text
//! ask ─► 401 ─ token (realm, login) ─► ask again, once ─► redirect ─► ask there: no Authorization off the origin
//!         every answer: read to a limit, held against its digest
//! ```
//! Invariants: the login goes to the realm that the registry names, and the token to the registry's own origin, both over
//! https unless the registry itself is spoken to in plain http; plain http is for loopback without certificates of its
//! own, or by request.
//!
//! Ours and not `oci-client`'s: that one reads manifests without a limit, follows redirects anywhere, loses why a login
//! failed, and knows no identity tokens.

pub mod certificates;
mod listing;
mod tls;
mod token;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};
use tokio::sync::Mutex;
use url::Position;

use self::certificates::Certificates;
use super::artifact::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST};
use super::login::Login;
use super::problem::RegistryProblem;
use super::{printable, sha256};
use crate::plugin::reference::Remote;

const CONNECT: Duration = Duration::from_secs(30);
/// Without a byte.
const IDLE: Duration = Duration::from_secs(60);
const MANIFEST_BYTES: u64 = 4 << 20;
const PROBLEM_BYTES: u64 = 64 << 10;
const REDIRECTS: usize = 5;

/// What the login is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Access {
    /// The protocol's word.
    fn actions(self) -> &'static str {
        match self {
            Self::Read => "pull",
            Self::Write => "pull,push",
        }
    }
}

pub struct Client {
    http: reqwest::Client,
    base: Url,
    remote: Remote,
    login: Option<Login>,
    access: Access,
    /// What the registry was last content with.
    authorization: Mutex<Option<HeaderValue>>,
}

/// One request, which may be sent more than once.
struct Ask {
    method: Method,
    url: Url,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: Bytes,
    /// For messages.
    what: String,
}

impl Ask {
    fn of(method: Method, url: Url, what: String) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
            what,
        }
    }
}

impl Client {
    /// `plain_http`: the registry is spoken to without TLS, which it is on loopback without asking, unless certificates
    /// are kept for it.
    pub fn new(
        remote: &Remote,
        login: Option<Login>,
        certificates: Certificates,
        access: Access,
        plain_http: bool,
    ) -> Result<Self, RegistryProblem> {
        let is_loopback = is_loopback(&remote.registry);
        let is_plain = plain_http || is_loopback && !certificates.are_kept();
        let scheme = if is_plain { "http" } else { "https" };
        // The hub's interface has another name than the hub.
        let host = match remote.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = Url::parse(&format!("{scheme}://{host}/"));
        let base = base.map_err(|problem| RegistryProblem::Client(problem.to_string()))?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("fleetling/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(certificates.roots);
        if let Some(identity) = certificates.identity {
            http = http.identity(identity);
        }
        if is_loopback {
            // A proxy's loopback is another machine's.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|problem| RegistryProblem::Client(causes(problem)))?;
        Ok(Self {
            http,
            base,
            remote: remote.clone(),
            login,
            access,
            authorization: Mutex::default(),
        })
    }

    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The manifest of a tag or digest, and its digest.
    pub async fn manifest(&self, reference: &str) -> Result<(Vec<u8>, String), RegistryProblem> {
        let what = self.named(reference);
        let url = self.url(&format!("manifests/{reference}"))?;
        let mut ask = Ask::of(Method::GET, url, what.clone());
        for accepted in [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX] {
            let accepted = HeaderValue::from_static(accepted);
            ask.headers.push((header::ACCEPT, accepted));
        }
        let answer = self.expect(ask, &[StatusCode::OK]).await?;
        let said = answer.headers().get("docker-content-digest");
        let said = said.and_then(|said| said.to_str().ok()).map(str::to_owned);
        let body = read(answer, MANIFEST_BYTES, &what).await?;
        let found = sha256(&body);
        let asked = reference.starts_with("sha256:").then_some(reference);
        let said = said.as_deref().filter(|said| said.starts_with("sha256:"));
        for expected in asked.into_iter().chain(said) {
            unchanged(&what, expected, &found)?;
        }
        Ok((body, found))
    }

    /// A blob of this digest and size.
    pub async fn blob(&self, digest: &str, size: u64) -> Result<Vec<u8>, RegistryProblem> {
        let what = format!("{digest} of {}", self.remote);
        let url = self.url(&format!("blobs/{digest}"))?;
        let ask = Ask::of(Method::GET, url, what.clone());
        let answer = self.expect(ask, &[StatusCode::OK]).await?;
        let body = read(answer, size, &what).await?;
        unchanged(&what, digest, &sha256(&body))?;
        Ok(body)
    }

    async fn has_blob(&self, digest: &str) -> Result<bool, RegistryProblem> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let ask = Ask::of(Method::HEAD, url, digest.to_owned());
        match self.expect(ask, &[StatusCode::OK]).await {
            Ok(_) => Ok(true),
            Err(RegistryProblem::Missing { .. }) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// Sends what the registry does not have yet.
    pub async fn upload(&self, blob: Bytes) -> Result<(), RegistryProblem> {
        let digest = sha256(&blob);
        if self.has_blob(&digest).await? {
            return Ok(());
        }
        let what = format!("the upload to {}", self.remote);
        let begin = Ask::of(Method::POST, self.url("blobs/uploads/")?, what.clone());
        let begun = self.expect(begin, &[StatusCode::ACCEPTED]).await?;
        let place = location(&begun).ok_or_else(|| senseless(&what, &"no Location"))?;
        let mut url = begun
            .url()
            .join(&place)
            .map_err(|problem| senseless(&what, &problem))?;
        url.query_pairs_mut().append_pair("digest", &digest);
        let mut put = Ask::of(Method::PUT, url, what);
        put.headers.push((
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ));
        put.body = blob;
        self.expect(put, &[StatusCode::CREATED]).await.map(drop)
    }

    /// Publishes a manifest under a tag.
    pub async fn put_manifest(
        &self,
        tag: &str,
        manifest: Bytes,
    ) -> Result<String, RegistryProblem> {
        let digest = sha256(&manifest);
        let url = self.url(&format!("manifests/{tag}"))?;
        let mut put = Ask::of(Method::PUT, url, self.named(tag));
        put.headers
            .push((header::CONTENT_TYPE, HeaderValue::from_static(MANIFEST)));
        put.body = manifest;
        self.expect(put, &[StatusCode::CREATED]).await?;
        Ok(digest)
    }

    fn named(&self, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        let Remote {
            registry,
            repository,
            ..
        } = &self.remote;
        format!("{registry}/{repository}{separator}{reference}")
    }

    fn url(&self, rest: &str) -> Result<Url, RegistryProblem> {
        let path = format!("/v2/{}/{rest}", self.remote.repository);
        let url = self.base.join(&path);
        url.map_err(|problem| RegistryProblem::Client(problem.to_string()))
    }

    /// The answer, if its status is one of these.
    async fn expect(&self, ask: Ask, wanted: &[StatusCode]) -> Result<Response, RegistryProblem> {
        let what = ask.what.clone();
        let answer = self.send(ask).await?;
        let status = answer.status();
        if wanted.contains(&status) {
            return Ok(answer);
        }
        let says = said(answer).await;
        Err(match status {
            StatusCode::UNAUTHORIZED => self.not_let_in(),
            StatusCode::FORBIDDEN => RegistryProblem::Forbidden { what, says },
            StatusCode::NOT_FOUND => RegistryProblem::Missing { what },
            // Of servers with TLS, which have no words of the protocol for it.
            StatusCode::BAD_REQUEST
                if self.base.scheme() == "http"
                    && Some(says.as_str()) == status.canonical_reason() =>
            {
                let registry = self.remote.registry.clone();
                RegistryProblem::NotPlain { registry }
            }
            status => RegistryProblem::Refused {
                what,
                status: status.as_u16(),
                says,
            },
        })
    }

    fn not_let_in(&self) -> RegistryProblem {
        let registry = self.remote.registry.clone();
        match &self.login {
            None => RegistryProblem::LoginNeeded { registry },
            Some(login) => RegistryProblem::LoginRefused {
                registry,
                source_name: login.source().to_owned(),
            },
        }
    }

    /// With a token where the registry wants one, and to where it leads.
    async fn send(&self, mut ask: Ask) -> Result<Response, RegistryProblem> {
        let mut was_let_in = false;
        let mut redirects = 0;
        loop {
            if !self.may_speak_to(&ask.url) {
                return Err(astray(&ask));
            }
            let is_own = ask.url.origin() == self.base.origin();
            let answer = self.send_once(&ask, is_own).await?;
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && is_own && !was_let_in {
                was_let_in = true;
                if let Some(authorization) = self.authorize(answer.headers()).await? {
                    *self.authorization.lock().await = Some(authorization);
                    continue;
                }
            }
            let is_reading = matches!(ask.method, Method::GET | Method::HEAD);
            match location(&answer).filter(|_| status.is_redirection() && is_reading) {
                None => return Ok(answer),
                Some(place) => {
                    redirects += 1;
                    let next = answer.url().join(&place);
                    ask.url = next.map_err(|problem| senseless(&ask.what, &problem))?;
                    if redirects > REDIRECTS {
                        return Err(astray(&ask));
                    }
                }
            }
        }
    }

    async fn send_once(&self, ask: &Ask, with_token: bool) -> Result<Response, RegistryProblem> {
        let mut request = self.http.request(ask.method.clone(), ask.url.clone());
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if !ask.body.is_empty() {
            request = request.body(ask.body.clone());
        } else if ask.method == Method::POST {
            // Some registries want it said that there is no body.
            request = request.header(header::CONTENT_LENGTH, 0);
        }
        let token = self.authorization.lock().await.clone();
        if let Some(token) = token.filter(|_| with_token) {
            request = request.header(header::AUTHORIZATION, token);
        }
        let answer = request.send().await;
        answer.map_err(|problem| {
            let to = &ask.url[Position::BeforeHost..Position::AfterPort];
            self.unreached(to.to_owned(), problem)
        })
    }

    /// `to`: what was asked, which the registry may have led to.
    fn unreached(&self, to: String, problem: reqwest::Error) -> RegistryProblem {
        let by_tls = tls::problem(&problem, &to, &self.remote.registry);
        by_tls.unwrap_or_else(|| RegistryProblem::Unreachable {
            registry: to,
            cause: causes(problem),
        })
    }

    /// In the clear only if the registry itself is spoken to so.
    fn may_speak_to(&self, url: &Url) -> bool {
        url.scheme() == "https" || url.scheme() == "http" && self.base.scheme() == "http"
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.split(':').next().unwrap_or(registry);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn location(answer: &Response) -> Option<String> {
    let place = answer.headers().get(header::LOCATION)?;
    place.to_str().ok().map(str::to_owned)
}

/// All of a body that is no longer than `limit`.
async fn read(mut answer: Response, limit: u64, what: &str) -> Result<Vec<u8>, RegistryProblem> {
    let mut body = Vec::new();
    loop {
        let piece = answer.chunk().await;
        let piece = piece.map_err(|problem| RegistryProblem::BrokenOff {
            what: what.to_owned(),
            cause: causes(problem),
        })?;
        let Some(piece) = piece else {
            return Ok(body);
        };
        if (body.len() + piece.len()) as u64 > limit {
            return Err(RegistryProblem::TooLarge {
                what: what.to_owned(),
                limit,
            });
        }
        body.extend_from_slice(&piece);
    }
}

/// The protocol's own words for a problem, else nothing.
async fn said(answer: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Problems {
        errors: Vec<Problem>,
    }
    #[derive(serde::Deserialize)]
    struct Problem {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = answer.status();
    let body = read(answer, PROBLEM_BYTES, "").await.unwrap_or_default();
    let problems = serde_json::from_slice::<Problems>(&body);
    let first = problems.ok().and_then(|p| p.errors.into_iter().next());
    match first {
        Some(Problem { code, message }) => printable(format!("{code} {message}").trim()),
        None => status.canonical_reason().unwrap_or_default().to_owned(),
    }
}

fn unchanged(what: &str, expected: &str, found: &str) -> Result<(), RegistryProblem> {
    if expected == found {
        return Ok(());
    }
    Err(RegistryProblem::Changed {
        what: what.to_owned(),
        expected: printable(expected),
        found: found.to_owned(),
    })
}

fn senseless(what: &str, why: &dyn std::fmt::Display) -> RegistryProblem {
    RegistryProblem::Senseless {
        what: what.to_owned(),
        why: printable(&why.to_string()),
    }
}

fn astray(ask: &Ask) -> RegistryProblem {
    // Without its query, which may be a key to it.
    let mut to = ask.url.clone();
    to.set_query(None);
    RegistryProblem::Astray {
        what: ask.what.clone(),
        to: printable(to.as_str()),
        most: REDIRECTS,
    }
}

/// The problem and what caused it, without the address, which may be a key to what is there.
fn causes(problem: reqwest::Error) -> String {
    let problem = problem.without_url();
    let mut text = problem.to_string();
    let mut cause = std::error::Error::source(&problem);
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    printable(&text)
}

#[cfg(test)]
mod tests;

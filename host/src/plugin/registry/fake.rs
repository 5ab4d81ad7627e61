//! A registry on loopback for tests: blobs, manifests, uploads, logins, and whatever a test puts in the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::certificates::Certificates;
use super::client::{Access, Client};
use super::login::Login;
use super::sha256;
use crate::plugin::reference::Remote;

pub(super) const REPOSITORY: &str = "team/aws";
pub(super) const USER: &str = "someone";
pub(super) const PASSWORD: &str = "hush";
pub(super) const REFRESH: &str = "refresh-me";
const TOKEN: &str = "a-token";

/// What it wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    Nobody,
    Basic,
    Bearer,
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Method, path and query.
    pub(super) request: String,
    pub(super) authorization: Option<String>,
    pub(super) body: String,
}

type Instead = Box<dyn Fn() -> Response<Body> + Send>;

#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By tag and by digest.
    manifests: BTreeMap<String, Vec<u8>>,
    instead: BTreeMap<String, Instead>,
    /// What refers to a digest, with each its digest and size; `None` in a registry that keeps no such list.
    referrers: Option<BTreeMap<String, Vec<Value>>>,
    seen: Vec<Seen>,
}

pub(super) struct Registry {
    /// `127.0.0.1:port`
    pub(super) address: String,
    shelf: Arc<Mutex<Shelf>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Front {
    guard: Guard,
    address: String,
    shelf: Arc<Mutex<Shelf>>,
}

impl Registry {
    pub(super) async fn start(guard: Guard) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shelf = Arc::new(Mutex::default());
        let front = Front {
            guard,
            address: address.clone(),
            shelf: Arc::clone(&shelf),
        };
        let service = axum::Router::new().fallback(answer).with_state(front);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, service).await;
        });
        Self {
            address,
            shelf,
            serving,
        }
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("no test panics while it holds it")
    }

    /// Answers this path otherwise; without the registry's own part.
    pub(super) fn instead(&self, path: &str, answer: impl Fn() -> Response<Body> + Send + 'static) {
        let path = format!("/v2/{REPOSITORY}/{path}");
        self.shelf().instead.insert(path, Box::new(answer));
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shelf().seen.clone()
    }

    pub(super) fn asked(&self, request: &str) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.request.starts_with(request))
            .count()
    }

    pub(super) fn blob(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.shelf().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    pub(super) fn blobs(&self) -> Vec<Vec<u8>> {
        self.shelf().blobs.values().cloned().collect()
    }

    pub(super) fn manifest(&self, tag: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256(&bytes);
        let mut shelf = self.shelf();
        shelf.manifests.insert(tag.to_owned(), bytes.clone());
        shelf.manifests.insert(digest.clone(), bytes);
        digest
    }

    /// From now on it lists what refers to a manifest, as registries have done since version 1.1 of the protocol.
    pub(super) fn list_referrers(&self) {
        self.shelf().referrers = Some(BTreeMap::new());
    }

    /// A manifest that refers to the one of `digest`; where no list is kept, under the tag that clients write for it.
    pub(super) fn refer(&self, digest: &str, manifest: &Value) {
        let own = self.manifest(&sha256(manifest.to_string().as_bytes()), manifest);
        let described = json!({
            "mediaType": manifest["mediaType"], "digest": own, "size": manifest.to_string().len(),
            "artifactType": manifest["artifactType"], "annotations": manifest["annotations"],
        });
        let mut shelf = self.shelf();
        if let Some(lists) = &mut shelf.referrers {
            lists.entry(digest.to_owned()).or_default().push(described);
            return;
        }
        let tag = digest.replace(':', "-");
        let there = shelf.manifests.get(&tag);
        let there = there.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let mut index = there.unwrap_or_else(|| json!({"schemaVersion": 2, "manifests": []}));
        if let Some(list) = index["manifests"].as_array_mut() {
            list.push(described);
        }
        shelf.manifests.insert(tag, index.to_string().into_bytes());
    }

    /// A plugin of these bytes under this tag; answers its manifest's digest.
    pub(super) fn plugin(&self, tag: &str, bytes: &[u8]) -> String {
        let digest = self.blob(bytes);
        let layer = json!({"mediaType": "application/wasm", "digest": digest, "size": bytes.len()});
        self.manifest(tag, &json!({"schemaVersion": 2, "layers": [layer]}))
    }

    pub(super) fn client(&self, constraint: &str, login: Option<Login>, access: Access) -> Client {
        let remote = Remote::parse(&format!("{}/{REPOSITORY}{constraint}", self.address));
        let remote = remote.expect("it is a reference");
        let none = Certificates::default();
        Client::new(&remote, login, none, access, false).expect("a client can be made")
    }
}

pub(super) fn password(password: &str) -> Option<Login> {
    Some(Login::Password {
        username: USER.to_owned(),
        password: password.to_owned().into(),
        source: "config.json".to_owned(),
    })
}

/// A response of this status, header and body.
pub(super) fn said(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response
        .body(body.into())
        .expect("a test writes headers that are some")
}

async fn answer(State(front): State<Front>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let authorization = parts.headers.get(header::AUTHORIZATION);
    let authorization =
        authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut shelf = front
        .shelf
        .lock()
        .expect("no test panics while it holds it");
    shelf.seen.push(Seen {
        request: format!("{} {}", parts.method, parts.uri),
        authorization: authorization.clone(),
        body: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    });
    let path = parts.uri.path();
    if path == "/token" {
        return token(authorization.as_deref(), &parts.method, &body);
    }
    if let Some(instead) = shelf.instead.get(path) {
        return instead();
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let (wanted, challenge) = match front.guard {
        Guard::Nobody => (None, String::new()),
        Guard::Basic => (Some(basic), "Basic realm=\"fake\"".to_owned()),
        Guard::Bearer => {
            let realm = format!("http://{}/token", front.address);
            let challenge = format!("Bearer realm=\"{realm}\",service=\"fake\"");
            (Some(format!("Bearer {TOKEN}")), challenge)
        }
    };
    if wanted.is_some() && wanted != authorization {
        return said(401, &[("www-authenticate", &challenge)], "");
    }
    let Some(rest) = path.strip_prefix(&format!("/v2/{REPOSITORY}/")) else {
        return said(404, &[], "");
    };
    shelf.take(rest, &parts.method, &parts.headers, parts.uri.query(), body)
}

impl Shelf {
    fn take(
        &mut self,
        rest: &str,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: Bytes,
    ) -> Response<Body> {
        if rest == "tags/list" {
            let tags = self.manifests.keys().filter(|name| !name.contains(':'));
            let tags: Vec<_> = tags.collect();
            return said(200, &[], json!({"tags": tags}).to_string());
        }
        if method == Method::POST && rest == "blobs/uploads/" {
            let place = format!("/v2/{REPOSITORY}/blobs/uploads/1?state=x");
            return said(202, &[("location", &place)], "");
        }
        if method == Method::PUT && rest == "blobs/uploads/1" {
            let digest = sha256(&body);
            let wanted = format!("state=x&digest={}", digest.replace(':', "%3A"));
            if query != Some(&wanted) {
                return said(400, &[], "");
            }
            self.blobs.insert(digest, body.to_vec());
            return said(201, &[], "");
        }
        if let (Some(lists), Some(digest)) = (&self.referrers, rest.strip_prefix("referrers/")) {
            let list = lists.get(digest).cloned().unwrap_or_default();
            return said(
                200,
                &[],
                json!({"schemaVersion": 2, "manifests": list}).to_string(),
            );
        }
        let kept = match rest.split_once('/') {
            Some(("manifests", tag)) if method == Method::PUT => {
                if headers.get(header::CONTENT_TYPE).is_none() {
                    return said(400, &[], "");
                }
                self.manifests.insert(tag.to_owned(), body.to_vec());
                return said(201, &[], "");
            }
            Some(("manifests", name)) => self.manifests.get(name),
            Some(("blobs", digest)) => self.blobs.get(digest),
            _ => None,
        };
        match kept {
            Some(bytes) => said(200, &[], bytes.clone()),
            None => said(
                404,
                &[],
                json!({"errors": [{"code": "NAME_UNKNOWN"}]}).to_string(),
            ),
        }
    }
}

/// A token for the password, or for what `docker login` may keep in its place.
fn token(authorization: Option<&str>, method: &Method, body: &[u8]) -> Response<Body> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let form = String::from_utf8_lossy(body);
    let is_known = match *method {
        Method::POST => form.contains(&format!("refresh_token={REFRESH}")),
        _ => authorization == Some(&basic),
    };
    if is_known {
        return said(200, &[], json!({"access_token": TOKEN}).to_string());
    }
    // As the hub does: a token that opens nothing that is private.
    match authorization {
        None if method == Method::GET => said(200, &[], json!({"token": "nobody"}).to_string()),
        _ => said(StatusCode::UNAUTHORIZED.as_u16(), &[], ""),
    }
}

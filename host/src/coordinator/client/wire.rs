//! How GitLab is dialled: straight or through the environment's proxy, with TLS as the entry says it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Proxy;

use super::trust::{Witness, client_config};
use super::{causes, user_agent};
use crate::config::server_tls::ServerTls;
use crate::config::server_url::ServerUrl;
use crate::coordinator::server_files::{ClientFiles, ServerFiles};
use crate::proxies::{Named, Proxies};

const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// What reqwest can dial through.
const PROXIES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) http: reqwest::Client,
    pub(super) tls: Arc<ServerTls>,
    /// Absent where TLS is not spoken.
    witness: Option<Arc<Witness>>,
}

impl Wire {
    /// `variable` looks into the environment. A problem is the end of a sentence.
    pub(super) fn new(
        url: &ServerUrl,
        tls: ServerTls,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut http = reqwest::Client::builder()
            .user_agent(user_agent())
            .connect_timeout(DIAL_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(90))
            .redirect(reqwest::redirect::Policy::none());
        let dialled = url.with_login();
        let uri = dialled.as_str().parse();
        let uri = uri.map_err(|problem: http::uri::InvalidUri| problem.to_string())?;
        http = match Proxies::read(variable).to(&uri) {
            Some(named) => http.proxy(proxy(named)?),
            None => http.no_proxy(),
        };
        let mut witness = None;
        if dialled.scheme() == "https" {
            let (config, watching) = client_config(dialled.host_str().unwrap_or_default(), &tls)?;
            http = http.tls_backend_preconfigured(config);
            witness = Some(watching);
        }
        Ok(Self {
            http: http.build().map_err(|problem| causes(&problem))?,
            tls: Arc::new(tls),
            witness,
        })
    }

    /// As they are now; the chain is known once GitLab has answered.
    pub(super) fn server_files(&self) -> ServerFiles {
        let authority = self.tls.authority.as_ref();
        let authority = authority.map(|authority| authority.pem.clone());
        let client = self.tls.client.as_ref();
        ServerFiles {
            authority: authority.or_else(|| self.witness.as_ref()?.chain()),
            client: client.map(|client| ClientFiles {
                certificate: client.pem.clone(),
                key: client.key.clone(),
            }),
        }
    }
}

/// The value may hold a password and is not told.
fn proxy(named: &Named) -> Result<Proxy, String> {
    let Named { variable, value } = named;
    let value = value.trim();
    let address = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let url = url::Url::parse(&address).ok();
    let url = url.filter(|url| PROXIES.contains(&url.scheme()) && url.has_host());
    url.and_then(|url| Proxy::all(url).ok()).ok_or_else(|| {
        format!(
            "{variable} of the environment is no proxy; next: write it like `http://proxy.example.com:3128`, or list \
             GitLab's host in NO_PROXY"
        )
    })
}

//! One group's grants made ready for use: files read, the way out chosen, clients kept.
//!
//! ```text
//! Grants + plugin_config + files + environment ─ Policy::read ─► Policy ─ admits, client, limits ─► Egress
//! ```
//! Invariant: a policy never changes. New grants or files are a new policy, with new clients: no connection that was made
//! under the old one serves a request under the new.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::lock;
use super::resolver::{JudgingResolver, Resolver};
use super::route::{Route, Routes};
use super::tls;
use crate::plugin::address::AddressRules;
use crate::plugin::grants::{Grants, Limits, Reach, Target, TlsHost};

pub struct Policy {
    grants: Grants,
    config: serde_json::Value,
    pub(super) reach: Reach,
    pub(super) limits: Limits,
    /// Every request is logged.
    pub(super) is_logged: bool,
    /// Requests at once.
    pub(super) own: Arc<Semaphore>,
    /// A host whose files cannot be used is closed; the text says which and why.
    tls: TlsConfigs,
    routes: Result<Routes, String>,
    clients: Mutex<HashMap<(Route, Option<TlsHost>), reqwest::Client>>,
}

impl Policy {
    /// Reads the files that the grants name.
    pub async fn read(grants: &Grants, config: &serde_json::Value) -> Self {
        let tls = tls_of(grants).await;
        Self::new(grants, config, tls, &|name| std::env::var(name).ok())
    }

    /// `variable` looks into the manager's environment.
    pub(super) fn new(
        grants: &Grants,
        config: &serde_json::Value,
        tls: TlsConfigs,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let limits = grants.limits.over(Limits::default());
        Self {
            grants: grants.clone(),
            config: config.clone(),
            reach: grants.reach(config),
            own: Arc::new(Semaphore::new(limits.concurrent_requests)),
            limits,
            is_logged: grants.log_requests == Some(true),
            tls,
            routes: Routes::new(grants.proxy.as_ref(), variable),
            clients: Mutex::default(),
        }
    }

    /// The same grants over the files as they are now; `None` where there is none.
    pub(super) async fn reread(&self) -> Option<Self> {
        if self.tls.is_empty() {
            return None;
        }
        Some(Self::read(&self.grants, &self.config).await)
    }

    /// What keeps requests from being sent, in words for the operator.
    pub fn problems(&self) -> Vec<String> {
        let tls = self.tls.iter();
        let tls = tls.filter_map(|(host, read)| Some(closed(host, read.as_ref().err()?)));
        let routes = self.routes.as_ref().err().map(|why| without_proxy(why));
        tls.chain(routes).collect()
    }

    /// The client for an admitted target; the problem is for the operator.
    pub(super) fn client(
        &self,
        target: &Target,
        rules: AddressRules,
        resolver: &Resolver,
    ) -> Result<reqwest::Client, String> {
        let route = match &self.routes {
            Ok(routes) => routes.route(target, rules),
            Err(_) if target.is_of_this_machine() => Route::Direct(rules),
            Err(why) => return Err(without_proxy(why)),
        };
        let mut hosts = TlsHost::of(target).into_iter();
        let host = hosts.find(|host| self.tls.contains_key(host));
        let tls = match host.as_ref().and_then(|host| self.tls.get_key_value(host)) {
            None => None,
            Some((_, Ok(config))) => Some(config),
            Some((host, Err(why))) => return Err(closed(host, why)),
        };
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&(route.clone(), host.clone())) {
            return Ok(client.clone());
        }
        let client = self.dialler(&route, tls, resolver);
        let client = client.map_err(|problem| problem.to_string())?;
        clients.insert((route, host), client.clone());
        Ok(client)
    }

    fn dialler(
        &self,
        route: &Route,
        tls: Option<&rustls::ClientConfig>,
        resolver: &Resolver,
    ) -> reqwest::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(self.limits.connect)
            .http2_max_header_list_size(u32::try_from(self.limits.headers).unwrap_or(u32::MAX))
            .pool_max_idle_per_host(self.limits.concurrent_requests);
        if let Some(tls) = tls {
            builder = builder.tls_backend_preconfigured(tls.clone());
        }
        builder = match route {
            Route::Direct(rules) => builder.dns_resolver(Arc::new(JudgingResolver {
                lookup: resolver.clone(),
                rules: *rules,
            })),
            Route::Through(proxy) => builder.proxy(reqwest::Proxy::all(proxy.exposed().clone())?),
        };
        builder.build()
    }
}

pub(super) type TlsConfigs = BTreeMap<TlsHost, Result<rustls::ClientConfig, String>>;

/// Files are read where blocking is no harm.
async fn tls_of(grants: &Grants) -> TlsConfigs {
    let mut read = TlsConfigs::new();
    for (host, written) in grants.tls.clone() {
        let reading = tokio::task::spawn_blocking(move || tls::client_config(&written)).await;
        let config = reading.unwrap_or_else(|problem| Err(problem.to_string()));
        read.insert(host, config);
    }
    read
}

fn closed(host: &TlsHost, why: &str) -> String {
    format!(
        "{host} is closed, because of its `tls`: {why}; next: correct the file, or what names it"
    )
}

fn without_proxy(why: &str) -> String {
    format!("no host is reached, because of `proxy`: {why}; next: correct it and start again")
}

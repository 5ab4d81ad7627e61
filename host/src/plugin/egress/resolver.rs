//! Names to addresses, and only to those that may be dialled.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use crate::plugin::address::AddressRules;

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

/// Resolves once, keeps what the rules allow, and hands exactly that to the dialler.
pub(super) struct JudgingResolver {
    pub(super) lookup: Resolver,
    pub(super) rules: AddressRules,
}

#[derive(Debug, thiserror::Error)]
#[error("the address {0} is refused")]
pub(super) struct AddressRefused(pub(super) IpAddr);

#[derive(Debug, thiserror::Error)]
#[error("the name leads nowhere: {0}")]
pub(super) struct NotResolved(String);

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

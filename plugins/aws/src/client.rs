//! AWS for one account, during one call of the contract: signed, tried again, read.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use fleetling_plugin_sdk::http::Response;
use fleetling_plugin_sdk::{Host, Level, Problem, ProblemKind, retry};
use serde::de::DeserializeOwned;

use crate::account::Account;
use crate::config::PluginConfig;
use crate::credentials::{Identity, Redeemer, Source, Vault, none};
use crate::endpoint::Service;
use crate::problem::{Failure, Refusal};
use crate::wire::{Wire, permission};
use crate::xml;

/// One page of a list, and the token of the next.
pub(crate) trait Page: DeserializeOwned {
    type Item;
    fn split(self) -> (Vec<Self::Item>, Option<String>);
}

pub(crate) struct Client<'a> {
    pub(crate) host: &'a dyn Host,
    account: Account,
    agent: &'a str,
    vault: &'a Vault,
    identity: RefCell<Identity>,
    /// Seconds that AWS's clock is ahead of this machine's, where they are so far apart that it matters.
    ahead: Cell<i64>,
}

impl<'a> Client<'a> {
    /// `agent` and `session` name the manager to AWS.
    pub(crate) fn new(
        host: &'a dyn Host,
        config: &PluginConfig,
        vault: &'a Vault,
        agent: &'a str,
        session: &str,
    ) -> Result<Self, Problem> {
        let account = Account::load(host, config, session, vault)?;
        let identity = identity(host, &account, vault, agent)?;
        Ok(Self {
            host,
            account,
            agent,
            vault,
            identity: RefCell::new(identity),
            ahead: Cell::new(0),
        })
    }

    pub(crate) fn region(&self) -> &str {
        &self.account.region
    }

    /// The time by AWS's clock, as far as it is known to differ.
    pub(crate) fn now(&self) -> SystemTime {
        let (now, ahead) = (self.host.now(), self.ahead.get());
        let by = Duration::from_secs(ahead.unsigned_abs());
        let moved = if ahead < 0 {
            now.checked_sub(by)
        } else {
            now.checked_add(by)
        };
        moved.unwrap_or(now)
    }

    /// A call that changes nothing: tried again where that may help.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, Problem> {
        let body = retry::read(self.host, || Ok(self.query(service, action, parameters)?))?;
        xml::read(&body).map_err(|detail| {
            let name = permission(service, action);
            let endpoint = self.account.endpoints.of(service, self.region());
            Problem::new(
                ProblemKind::Unavailable,
                format!("{endpoint} answered {name} with something else than expected: {detail}"),
            )
            .about(name)
        })
    }

    /// Every page of a list.
    pub(crate) fn list<P: Page>(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, String)],
    ) -> Result<Vec<P::Item>, Problem> {
        let mut parameters = parameters.to_vec();
        let given = parameters.len();
        let mut items = Vec::new();
        loop {
            let page: P = self.read(service, action, &parameters)?;
            let (mut more, next) = page.split();
            items.append(&mut more);
            let Some(next) = next.filter(|token| !token.is_empty()) else {
                return Ok(items);
            };
            parameters.truncate(given);
            parameters.push(("NextToken", next));
        }
    }

    /// The Query protocol, once.
    pub(crate) fn query(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, String)],
    ) -> Result<Vec<u8>, Failure> {
        self.call(service, action, |wire, signer, now| {
            wire.query(service, action, parameters, Some(&signer.credentials), now)
        })
    }

    /// The JSON protocol, once.
    pub(crate) fn json(
        &self,
        service: Service,
        action: &str,
        body: &serde_json::Value,
    ) -> Result<Vec<u8>, Failure> {
        self.call(service, action, |wire, signer, now| {
            wire.json(service, action, body, &signer.credentials, now)
        })
    }

    /// What AWS refused for the keys' age or the clock alone had no effect: it is signed anew, once.
    fn call(
        &self,
        service: Service,
        action: &str,
        send: impl Fn(&Wire<'_>, &Identity, SystemTime) -> Result<Response, Failure>,
    ) -> Result<Vec<u8>, Failure> {
        let wire = Wire {
            host: self.host,
            endpoints: &self.account.endpoints,
            region: &self.account.region,
            agent: self.agent,
        };
        let mut is_first = true;
        loop {
            let identity = self.identity.borrow().clone();
            let response = send(&wire, &identity, self.now())?;
            let Some(refusal) = Wire::refusal(service, &response) else {
                return Ok(response.into_body());
            };
            if std::mem::take(&mut is_first) && (self.renewed(&refusal) || self.set(&refusal)) {
                continue;
            }
            return Err(refusal.into_failure(&identity, &permission(service, action)));
        }
    }

    /// Whether other keys were to be had for expired ones.
    fn renewed(&self, refusal: &Refusal) -> bool {
        let is_redeemed = !matches!(self.account.choice.source, Source::Keys(_));
        if !is_redeemed || !refusal.is_of_the_keys() {
            return false;
        }
        self.vault.forget();
        let renewed = identity(self.host, &self.account, self.vault, self.agent);
        renewed.is_ok_and(|identity| {
            self.identity.replace(identity);
            true
        })
    }

    /// Whether AWS told its time, and it differs.
    fn set(&self, refusal: &Refusal) -> bool {
        let Some(theirs) = refusal.date.filter(|_| refusal.is_skew()) else {
            return false;
        };
        let seconds = |time: SystemTime| {
            let since = time
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or_default()
        };
        let ahead = seconds(theirs) - seconds(self.host.now());
        self.host.log(
            Level::Warn,
            "this machine's clock is wrong by AWS's; requests are signed with AWS's time; next: set the clock",
            &[("aws_is_ahead_s", ahead.to_string())],
        );
        let differs = ahead != self.ahead.get();
        self.ahead.set(ahead);
        differs
    }
}

fn identity(
    host: &dyn Host,
    account: &Account,
    vault: &Vault,
    agent: &str,
) -> Result<Identity, Problem> {
    let with = Redeemer {
        host,
        endpoints: &account.endpoints,
        region: &account.region,
        agent,
    };
    let choice = &account.choice;
    let redeemed = vault.identity(&with, &choice.source);
    redeemed.map_err(|problem| match &choice.source {
        // Nobody said that the machine has a role: what was said, or was not, is of more use than its silence.
        Source::Metadata(service) if !service.passes(&problem, vault.has_held(&choice.source)) => {
            none(&choice.passed, Some(&problem))
        }
        _ => problem,
    })
}

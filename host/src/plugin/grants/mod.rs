//! What the operator lets one plugin do: pure, and the only judge of names.
//!
//! ```text
//! plugins.toml ─ written ─► Grants ┐ extended_by          ┌ admits(Target) ─► AddressRules, or a Denial with
//! built in ───────────────► Grants ┴────────► reach(config) ┘                 the exact lines to add
//! ```
//! Nothing a plugin says about itself is an input here.

mod built_in;
mod entry;
mod limits;
mod proxy;
mod reach;
mod reading;
mod tls;
mod written;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use built_in::built_in;
pub use entry::{Entry, EntryProblem, Name, Target};
pub use limits::{Limit, Limits, LimitsWritten};
pub use proxy::{Proxy, ProxyProblem, ProxyUrl};
pub use reach::{Denial, Reach};
pub use reading::GrantsProblem;
pub use tls::{CertificateDigest, ClientCertificate, Tls, TlsHost};
pub use written::{GrantsFile, GrantsProblems};

/// Where a granted secret is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    /// The path that the operator wrote under this key of `plugin_config`, else the default.
    ConfigKey {
        key: String,
        default: Option<PathBuf>,
    },
    /// The same, with a path between the two that the manager's own environment may hold.
    Variable {
        key: Option<String>,
        variable: String,
        default: Option<PathBuf>,
    },
}

/// Where the file is looked for, for a person.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, variable, default) = match self {
            Self::File(file) => return write!(f, "{}", file.display()),
            Self::ConfigKey { key, default } => (Some(key), None, default),
            Self::Variable {
                key,
                variable,
                default,
            } => (key.as_ref(), Some(variable), default),
        };
        let key = key.map(|key| format!("the path in plugin_config.{key}"));
        let variable = variable.map(|variable| format!("the path in the variable {variable}"));
        let default = default.as_ref().map(|file| file.display().to_string());
        let places: Vec<String> = [key, variable, default].into_iter().flatten().collect();
        f.write_str(&places.join(", else "))
    }
}

/// Whether names may lead into private networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateAddresses {
    Never,
    /// Literal entries only: private endpoints of a cloud resolve to 10.x, so a blanket ban would break real ones.
    #[default]
    ListedNames,
    Any,
}

/// What a new digest under a trusted name means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    #[default]
    Pinned,
    Any,
}

/// One plugin's table. Absent scalars mean the strictest; lists are what is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub http: Vec<Template>,
    pub env: Vec<String>,
    pub secrets: BTreeMap<String, SecretSource>,
    pub plaintext: Option<bool>,
    pub loopback: Option<bool>,
    pub metadata: Option<bool>,
    pub allow_any_host: Option<bool>,
    pub private_addresses: Option<PrivateAddresses>,
    pub tls: BTreeMap<TlsHost, Tls>,
    pub proxy: Option<Proxy>,
    pub limits: LimitsWritten,
    pub log_requests: Option<bool>,
    pub reload: Option<Reload>,
    /// In lower-case hexadecimal.
    pub sha256: Option<String>,
    /// Only a digest that is named here, or that came with the installation, is loaded.
    pub require_pins: Option<bool>,
    pub builtin: Option<bool>,
}

impl Grants {
    /// Lists add, scalars replace, `builtin = false` drops what is built in.
    pub fn extended_by(self, over: &Self) -> Self {
        let mut grants = if over.builtin == Some(false) {
            Self::default()
        } else {
            self
        };
        grants.http.extend(over.http.iter().cloned());
        grants.env.extend(over.env.iter().cloned());
        grants.secrets.extend(over.secrets.clone());
        grants.tls.extend(over.tls.clone());
        grants.limits.extend(&over.limits);
        let Self {
            plaintext,
            loopback,
            metadata,
            allow_any_host,
            private_addresses,
            proxy,
            log_requests,
            reload,
            sha256,
            require_pins,
            builtin,
            ..
        } = over.clone();
        Self {
            plaintext: plaintext.or(grants.plaintext),
            loopback: loopback.or(grants.loopback),
            metadata: metadata.or(grants.metadata),
            allow_any_host: allow_any_host.or(grants.allow_any_host),
            private_addresses: private_addresses.or(grants.private_addresses),
            proxy: proxy.or(grants.proxy),
            log_requests: log_requests.or(grants.log_requests),
            reload: reload.or(grants.reload),
            sha256: sha256.or(grants.sha256),
            require_pins: require_pins.or(grants.require_pins),
            builtin: builtin.or(grants.builtin),
            ..grants
        }
    }

    /// True when there is something to lose: such a plugin is pinned to its digest.
    pub fn give_anything(&self) -> bool {
        !self.http.is_empty()
            || !self.env.is_empty()
            || !self.secrets.is_empty()
            || self.metadata == Some(true)
            || self.allow_any_host == Some(true)
    }

    /// The entries over one group's `plugin_config`. A template whose key is not written grants nothing.
    pub fn reach(&self, config: &serde_json::Value) -> Reach {
        Reach::new(self, config)
    }

    /// What an operator should be reminded of at every start.
    pub fn hazards(&self) -> Vec<&'static str> {
        [
            (self.allow_any_host, "any host may be reached"),
            (self.loopback, "this machine's loopback may be reached"),
            (self.plaintext, "plaintext http may be spoken"),
            (
                self.metadata,
                "this machine's credential service may be reached",
            ),
            (
                self.proxy.as_ref().map(|_| true),
                "a proxy resolves names, so the addresses they lead to are not judged",
            ),
        ]
        .into_iter()
        .filter_map(|(flag, hazard)| (flag == Some(true)).then_some(hazard))
        .collect()
    }
}

/// An entry that may hold `{key}` for a label taken from `plugin_config`: `https://ec2.{region}.amazonaws.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// Checked with a stand-in for every key, so that `over` can only fail by what the configuration holds.
    pub fn parse(text: &str) -> Result<Self, EntryProblem> {
        let stood_in = substitute(text, |_| Some("x".to_owned()))
            .ok_or_else(|| EntryProblem::Host(text.to_owned()))?;
        Entry::parse(&stood_in)?;
        Ok(Self(text.to_owned()))
    }

    fn over(&self, config: &serde_json::Value) -> Option<Entry> {
        let text = substitute(&self.0, |key| {
            let value = config.get(key)?.as_str()?;
            // One label and nothing more: a configuration value must not become another domain.
            let is_label = !value.is_empty()
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            is_label.then(|| value.to_owned())
        })?;
        Entry::parse(&text).ok()
    }
}

/// As the operator wrote it.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `None` when a brace is not closed or a key has no value.
fn substitute(text: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let close = open + rest[open..].find('}')?;
        out.push_str(&rest[..open]);
        out.push_str(&value(&rest[open + 1..close])?);
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    Some(out)
}

//! What the operator lets one plugin do: pure, and the only judge of names.
//!
//! ```text
//! plugins.toml ─ written ─► Grants ┐ extended_by          ┌ admits(Target) ─► AddressRules, or a Denial with
//! built in ───────────────► Grants ┴────────► reach(config) ┘                 the exact lines to add
//! ```
//! Nothing a plugin says about itself is an input here.

mod built_in;
mod entry;
mod written;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

pub use built_in::{built_in, has_built_in};
pub use entry::{Entry, EntryProblem, Name, Target};
pub use written::{GrantsFile, GrantsProblem, GrantsProblems};

use entry::Scheme;

use super::address::{self, AddressRules, Purpose};

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
    pub reload: Option<Reload>,
    /// Bytes of one instance's linear memories together.
    pub memory: Option<usize>,
    /// In lower-case hexadecimal.
    pub sha256: Option<String>,
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
        let Self {
            plaintext,
            loopback,
            metadata,
            allow_any_host,
            private_addresses,
            reload,
            memory,
            sha256,
            builtin,
            ..
        } = over.clone();
        Self {
            plaintext: plaintext.or(grants.plaintext),
            loopback: loopback.or(grants.loopback),
            metadata: metadata.or(grants.metadata),
            allow_any_host: allow_any_host.or(grants.allow_any_host),
            private_addresses: private_addresses.or(grants.private_addresses),
            reload: reload.or(grants.reload),
            memory: memory.or(grants.memory),
            sha256: sha256.or(grants.sha256),
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
        Reach {
            entries: self.http.iter().filter_map(|t| t.over(config)).collect(),
            plaintext: self.plaintext.unwrap_or_default(),
            loopback: self.loopback.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            any_host: self.allow_any_host.unwrap_or_default(),
            private: self.private_addresses.unwrap_or_default(),
        }
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

/// What one group's plugin may reach: grants over its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    entries: Vec<Entry>,
    plaintext: bool,
    loopback: bool,
    metadata: bool,
    any_host: bool,
    private: PrivateAddresses,
}

impl Reach {
    /// The first layer: the name. What it answers rules the second: every address the name leads to.
    pub fn admits(&self, target: &Target) -> Result<AddressRules, Denial> {
        let deny = |why| Denial {
            target: target.clone(),
            why,
            purpose: match &target.name {
                Name::Ip(address) => Some(address::purpose(*address)),
                Name::Dns(_) => None,
            },
            lacks_plaintext: target.scheme == Scheme::Http && !self.plaintext,
            lacks_loopback: !self.loopback,
            is_listed: self.lists(target),
            private_never: self.private == PrivateAddresses::Never,
        };
        let is_metadata = matches!(&target.name, Name::Ip(address)
            if address::purpose(*address) == Purpose::Metadata);
        if is_metadata {
            return if self.metadata {
                Ok(AddressRules {
                    metadata: true,
                    ..AddressRules::default()
                })
            } else {
                Err(deny(Why::Metadata))
            };
        }
        let mut matching = self.entries.iter().filter(|e| e.admits(target)).peekable();
        if matching.peek().is_none() && !self.any_host {
            return Err(deny(Why::NotGranted));
        }
        if target.scheme == Scheme::Http && !self.plaintext {
            return Err(deny(Why::Plaintext));
        }
        let is_literal = matching.any(Entry::is_literal);
        let rules = AddressRules {
            private: match self.private {
                PrivateAddresses::Never => false,
                PrivateAddresses::ListedNames => is_literal,
                PrivateAddresses::Any => true,
            },
            loopback: self.loopback && is_literal && names_loopback(&target.name),
            metadata: false,
        };
        match &target.name {
            Name::Ip(address) => match rules.refuse(*address) {
                Some(_) => Err(deny(Why::Address(*address))),
                None => Ok(rules),
            },
            Name::Dns(_) => Ok(rules),
        }
    }

    /// The denial for a granted name, all of whose addresses the second layer refused.
    pub fn refused_address(&self, target: &Target, address: std::net::IpAddr) -> Denial {
        Denial {
            target: target.clone(),
            why: Why::Address(address),
            purpose: Some(address::purpose(address)),
            lacks_plaintext: false,
            lacks_loopback: !self.loopback,
            is_listed: self.lists(target),
            private_never: self.private == PrivateAddresses::Never,
        }
    }

    fn lists(&self, target: &Target) -> bool {
        self.entries
            .iter()
            .any(|e| e.is_literal() && e.admits(target))
    }
}

/// A name other than this may be rebound to the loopback by whoever owns it.
fn names_loopback(name: &Name) -> bool {
    match name {
        Name::Dns(name) => name == "localhost",
        Name::Ip(address) => address::purpose(*address) == Purpose::Loopback,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NotGranted,
    Plaintext,
    Metadata,
    Address(std::net::IpAddr),
}

/// A request refused before a packet left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    target: Target,
    why: Why,
    purpose: Option<Purpose>,
    lacks_plaintext: bool,
    lacks_loopback: bool,
    is_listed: bool,
    private_never: bool,
}

impl Denial {
    /// The lines to add to the plugin's table, such as `http = ["…"]`; each entry of a list that the table already has
    /// goes into that list.
    /// `None` when nothing an operator writes admits it.
    pub fn grant(&self) -> Option<String> {
        let mut keys = Vec::new();
        let http = || format!("http = [\"{}\"]", self.target);
        match (self.why, self.purpose) {
            (Why::Metadata, _) => return Some("metadata = true".to_owned()),
            (_, Some(Purpose::Loopback)) if !names_loopback(&self.target.name) => return None,
            (_, None | Some(Purpose::Public | Purpose::Private | Purpose::Loopback)) => {
                if !self.is_listed {
                    keys.push(http());
                }
            }
            _ => return None,
        }
        if self.lacks_plaintext {
            keys.push("plaintext = true".to_owned());
        }
        if self.lacks_loopback && names_loopback(&self.target.name) {
            keys.push("loopback = true".to_owned());
        }
        if self.purpose == Some(Purpose::Private) && self.private_never {
            keys.push("private_addresses = \"listed-names\"".to_owned());
        }
        (!keys.is_empty()).then(|| keys.join("\n"))
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        match (self.why, self.purpose) {
            (Why::NotGranted, _) => write!(f, "{target} is not granted"),
            (Why::Plaintext, _) => write!(f, "{target} is plaintext http, which is not granted"),
            (Why::Metadata, _) => write!(f, "{target} is this machine's credential service"),
            (Why::Address(address), purpose) => write!(
                f,
                "{target} leads to {address}, a {} address",
                purpose.unwrap_or(Purpose::Public)
            ),
        }
    }
}

/// Names in a table, for nearest-key hints.
fn nearest<'a>(written: &str, known: &BTreeSet<&'a str>) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(written, known), *known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

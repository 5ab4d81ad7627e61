//! The judge of names: what one group's plugin may reach, and the denial of what it may not.

use std::fmt;
use std::net::IpAddr;

use super::entry::{Entry, Name, Scheme, Target};
use super::{Grants, PrivateAddresses};
use crate::plugin::address::{self, AddressRules, Purpose};

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
    pub(super) fn new(grants: &Grants, config: &serde_json::Value) -> Self {
        Self {
            entries: grants.http.iter().filter_map(|t| t.over(config)).collect(),
            plaintext: grants.plaintext.unwrap_or_default(),
            loopback: grants.loopback.unwrap_or_default(),
            metadata: grants.metadata.unwrap_or_default(),
            any_host: grants.allow_any_host.unwrap_or_default(),
            private: grants.private_addresses.unwrap_or_default(),
        }
    }

    /// What requests to the target are counted under: the entry that admits it, so that a plugin cannot make up labels.
    pub fn label(&self, target: &Target) -> String {
        let entry = self.entries.iter().find(|entry| entry.admits(target));
        match entry {
            Some(entry) => entry.to_string(),
            None if self.metadata && target.is_metadata() => "metadata".to_owned(),
            None => "other".to_owned(),
        }
    }

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
        if target.is_metadata() {
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
    pub fn refused_address(&self, target: &Target, address: IpAddr) -> Denial {
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

impl Target {
    /// A cloud's own service for the keys of its machines.
    pub fn is_metadata(&self) -> bool {
        matches!(&self.name, Name::Ip(address) if address::purpose(*address) == Purpose::Metadata)
    }

    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// This machine's own services. A proxy would ask its own instead, and hand out its credentials for ours.
    pub fn is_of_this_machine(&self) -> bool {
        self.is_metadata() || names_loopback(&self.name)
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
    Address(IpAddr),
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

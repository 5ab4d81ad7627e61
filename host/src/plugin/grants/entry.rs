//! One entry of a grant's `http` list, and the target of a request that is held against it.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// Bytes of a DNS name as it is written.
const LONGEST_NAME: usize = 253;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Https,
    Http,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "https" => Some(Self::Https),
            "http" => Some(Self::Http),
            _ => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Http => "http",
        })
    }
}

/// A host as requests name it: folded, in punycode, without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl Name {
    /// `url` reads `0x7f.1`, `2130706433` and `127.1` as the address they are.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match Host::parse(text).ok()? {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                is_plain(name).then(|| Self::Dns(name.to_owned()))
            }
            Host::Ipv4(address) => Some(Self::Ip(address.into())),
            Host::Ipv6(address) => Some(Self::Ip(
                address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4),
            )),
        }
    }
}

/// `url` takes more for a name than a resolver does. What is none must not come into a suggested line either: a `*`
/// there would be a wildcard, a brace a template, a quote the end of the string.
fn is_plain(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Where a request goes, normalised once: what is judged is what is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub scheme: Scheme,
    pub name: Name,
    pub port: u16,
}

impl Target {
    /// `None` for what no grant could name: other schemes, no host, port 0, user information.
    pub fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let scheme = Scheme::parse(url.scheme())?;
        let port = url.port().unwrap_or(scheme.default_port());
        let name = Name::parse(url.host_str()?)?;
        (port != 0).then_some(Self { scheme, name, port })
    }

    /// The literal entry that admits exactly this target.
    pub fn entry(&self) -> Entry {
        Entry {
            scheme: self.scheme,
            host: match &self.name {
                Name::Dns(name) => Pattern::Name(name.clone()),
                Name::Ip(address) => Pattern::Ip(*address),
            },
            port: Port::Number(self.port),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry().fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    Name(String),
    /// Labels from the left; `None` is a `*`, which stands for exactly one of them.
    Labels(Vec<Option<String>>),
    Ip(IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Number(u16),
    Any,
}

/// `https://ec2.*.amazonaws.com`, `http://172.28.0.1:5000`, `https://api.example.com:*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub scheme: Scheme,
    pub host: Pattern,
    pub port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    #[error("`{0}` names no scheme: write `https://{0}`")]
    NoScheme(String),
    #[error("`{0}` has the scheme `{1}`: only https and http can be granted")]
    Scheme(String, String),
    /// Only the host is quoted: what surrounds it may be a password or a token.
    #[error(
        "a path, query, fragment or user name beside `{0}`: write that alone, this grants hosts, not URLs"
    )]
    NotAHost(String),
    #[error("`{0}` has a port that is none: write a number from 1 to 65535, or `*` for any")]
    Port(String),
    #[error("`{0}` names no host")]
    Host(String),
    #[error("`{0}` uses `*` within a label: it stands for one whole label")]
    PartialWildcard(String),
    #[error("`{0}` is only wildcards: name a domain, or write `allow_any_host = true`")]
    OnlyWildcards(String),
}

impl Entry {
    pub fn parse(text: &str) -> Result<Self, EntryProblem> {
        let written = || text.to_owned();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(EntryProblem::NoScheme(written()));
        };
        let folded = scheme.to_ascii_lowercase();
        let Some(scheme) = Scheme::parse(&folded) else {
            return Err(EntryProblem::Scheme(written(), scheme.to_owned()));
        };
        if rest.contains(['/', '?', '#', '@', '\\']) {
            let host = rest.rsplit('@').next().unwrap_or_default();
            let host = host.split(['/', '?', '#', '\\']).next().unwrap_or_default();
            return Err(EntryProblem::NotAHost(format!("{scheme}://{host}")));
        }
        let (host, port) = split_port(rest);
        let port = match port {
            None => Port::Number(scheme.default_port()),
            Some("*") => Port::Any,
            Some(digits) => match digits.parse() {
                Ok(number) if number != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    Port::Number(number)
                }
                _ => return Err(EntryProblem::Port(written())),
            },
        };
        let host = Self::parse_host(host, text)?;
        Ok(Self { scheme, host, port })
    }

    fn parse_host(host: &str, text: &str) -> Result<Pattern, EntryProblem> {
        if !host.contains('*') {
            return match Name::parse(host) {
                Some(Name::Dns(name)) => Ok(Pattern::Name(name)),
                Some(Name::Ip(address)) => Ok(Pattern::Ip(address)),
                None => Err(EntryProblem::Host(text.to_owned())),
            };
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut labels = Vec::new();
        for label in host.split('.') {
            labels.push(match label {
                "*" => None,
                label if label.contains('*') => {
                    return Err(EntryProblem::PartialWildcard(text.to_owned()));
                }
                label => Some(fold_label(label).ok_or(EntryProblem::Host(text.to_owned()))?),
            });
        }
        if labels.iter().all(Option::is_none) {
            return Err(EntryProblem::OnlyWildcards(text.to_owned()));
        }
        Ok(Pattern::Labels(labels))
    }

    pub fn admits(&self, target: &Target) -> bool {
        self.scheme == target.scheme
            && match self.port {
                Port::Any => true,
                Port::Number(port) => port == target.port,
            }
            && match (&self.host, &target.name) {
                (Pattern::Name(granted), Name::Dns(asked)) => granted == asked,
                (Pattern::Ip(granted), Name::Ip(asked)) => granted == asked,
                (Pattern::Labels(granted), Name::Dns(asked)) => {
                    let mut asked = asked.split('.');
                    granted.iter().all(|label| {
                        asked.next().is_some_and(|asked| {
                            !asked.is_empty() && label.as_ref().is_none_or(|label| label == asked)
                        })
                    }) && asked.next().is_none()
                }
                _ => false,
            }
    }

    /// A wildcard may lead anywhere its domain's owner likes; a literal entry was meant.
    pub fn is_literal(&self) -> bool {
        !matches!(self.host, Pattern::Labels(_))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match &self.host {
            Pattern::Name(name) => f.write_str(name)?,
            Pattern::Ip(address) => Name::Ip(*address).fmt(f)?,
            Pattern::Labels(labels) => {
                for (i, label) in labels.iter().enumerate() {
                    let dot = if i == 0 { "" } else { "." };
                    write!(f, "{dot}{}", label.as_deref().unwrap_or("*"))?;
                }
            }
        }
        match self.port {
            Port::Any => f.write_str(":*"),
            Port::Number(port) if port == self.scheme.default_port() => Ok(()),
            Port::Number(port) => write!(f, ":{port}"),
        }
    }
}

/// The colon of a port is the last one, and never one inside `[…]`.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_brackets..].rfind(':') {
        Some(at) => {
            let at = after_brackets + at;
            (&authority[..at], Some(&authority[at + 1..]))
        }
        None => (authority, None),
    }
}

/// A label beside a wildcard is folded as a name's would be. The suffix keeps digits from reading as an address.
fn fold_label(label: &str) -> Option<String> {
    match Name::parse(&format!("{label}.x"))? {
        Name::Dns(name) => name.strip_suffix(".x").map(str::to_owned),
        Name::Ip(_) => None,
    }
    .filter(|label| !label.is_empty() && !label.contains('.'))
}

//! The proxies that the manager's environment names, and for which addresses: one rule for everything that obeys it.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY` and for both `ALL_PROXY`; never for this machine itself, nor for what `NO_PROXY` lists:
//! names (with those below them), addresses, networks, each with a port or without, or `*`.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Each may be written in capitals or not, as programs differ.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A variable that is set; its value may hold a password.
pub struct Named {
    pub variable: &'static str,
    pub value: String,
}

pub struct Proxies {
    pub https: Option<Named>,
    pub http: Option<Named>,
    exceptions: Vec<Exception>,
}

/// One item of `NO_PROXY`.
struct Exception {
    /// Intercepts what the item does not name; none where it names everything.
    others: Option<Matcher>,
    port: Option<u16>,
}

impl Proxies {
    /// `variable` looks into the environment.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let mut set = names.iter().filter_map(|name| {
                Some(Named {
                    variable: name,
                    value: variable(name)?,
                })
            });
            set.find(|named| !named.value.is_empty())
        };
        let exceptions = first(&EXCEPTIONS).map(|named| named.value);
        Self {
            https: first(&HTTPS),
            http: first(&HTTP),
            exceptions: exceptions
                .iter()
                .flat_map(|list| list.split(','))
                .filter_map(Exception::of)
                .collect(),
        }
    }

    /// The one that leads to `uri`.
    pub fn to(&self, uri: &Uri) -> Option<&Named> {
        let is_https = uri.scheme_str() == Some("https");
        let proxy = if is_https { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.is_excepted(uri))
    }

    pub fn is_excepted(&self, uri: &Uri) -> bool {
        is_this_machine(uri) || self.exceptions.iter().any(|exception| exception.names(uri))
    }
}

impl Exception {
    /// `None` of what is no port behind a name.
    fn of(item: &str) -> Option<Self> {
        let item = item.trim();
        let (name, port) = match item.rsplit_once(':') {
            // One colon is a port's, several are of an address.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                (name, Some(port.parse().ok()?))
            }
            _ => (item, None),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.strip_prefix("*.").unwrap_or(name);
        // Which proxy it has does not matter: only whether it has one is asked.
        let others = || Matcher::builder().all("http://proxy").no(name).build();
        let others = (name != "*").then(others);
        Some(Self { others, port })
    }

    fn names(&self, uri: &Uri) -> bool {
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            _ => Some(80),
        });
        let names = |others: &Matcher| others.intercept(uri).is_none();
        (self.port.is_none() || self.port == port) && self.others.as_ref().is_none_or(names)
    }
}

fn is_this_machine(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variable whose proxy leads there.
    fn taken(environment: &[(&str, &str)], uri: &'static str) -> Option<&'static str> {
        let proxies = Proxies::read(&|name| {
            let set = environment.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        });
        let named = proxies.to(&Uri::from_static(uri))?;
        Some(named.variable)
    }

    #[test]
    fn a_proxy_is_for_its_scheme_and_never_for_this_machine() {
        let environment = [("https_proxy", "http://a:1"), ("HTTP_PROXY", "b:2")];
        for (uri, variable) in [
            ("https://gitlab.example", Some("https_proxy")),
            ("http://gitlab.example:8080", Some("HTTP_PROXY")),
            ("https://localhost", None),
            ("http://LOCALHOST:8080", None),
            ("http://127.1.2.3", None),
            ("http://[::1]:8080", None),
        ] {
            assert_eq!(taken(&environment, uri), variable, "{uri}");
        }
        let all = [("ALL_PROXY", "c:3"), ("HTTPS_PROXY", "")];
        assert_eq!(taken(&all, "https://gitlab.example"), Some("ALL_PROXY"));
        assert_eq!(taken(&[], "https://gitlab.example"), None);
    }

    #[test]
    fn what_no_proxy_names_is_reached_directly() {
        for (exceptions, uri, is_direct) in [
            ("gitlab.example", "https://gitlab.example", true),
            ("gitlab.example", "https://ci.gitlab.example", true),
            ("gitlab.example", "https://notgitlab.example", false),
            (".example, other", "https://gitlab.example", true),
            ("*.example", "https://gitlab.example", true),
            ("gitlab.example:8443", "https://gitlab.example:8443", true),
            ("gitlab.example:8443", "https://gitlab.example", false),
            ("gitlab.example:443", "https://gitlab.example", true),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("fd00::1", "https://[fd00::1]", true),
            ("[fd00::1]:8443", "https://[fd00::1]:8443", true),
            ("[fd00::1]:8443", "https://[fd00::1]", false),
            ("*", "https://gitlab.example", true),
            ("*", "https://10.1.2.3", true),
            ("gitlab.example:abc", "https://gitlab.example", false),
            ("", "https://gitlab.example", false),
            (",", "https://gitlab.example", false),
        ] {
            let environment = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", exceptions)];
            let is_proxied = taken(&environment, uri).is_some();
            assert_eq!(!is_proxied, is_direct, "{exceptions:?}, {uri}");
        }
    }
}

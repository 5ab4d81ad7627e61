//! The way out: straight to a judged address, or through the operator's proxy.
//!
//! Through a proxy the name alone was judged, because the proxy resolves it. This machine's own services are never
//! asked for through one.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;

use crate::plugin::address::AddressRules;
use crate::plugin::grants::{Proxy, ProxyUrl, Target};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Route {
    Direct(AddressRules),
    Through(ProxyUrl),
}

/// What one plugin's `proxy` comes to.
pub(super) enum Routes {
    Direct,
    Through(ProxyUrl),
    Environment {
        https: Option<ProxyUrl>,
        http: Option<ProxyUrl>,
        /// Intercepts what `NO_PROXY` does not name.
        exceptions: Box<Matcher>,
    },
}

/// Each may be written in capitals or not, as programs differ.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

impl Routes {
    /// `variable` looks into the environment. The problem names the variable, and never its value.
    pub(super) fn new(
        proxy: Option<&Proxy>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let first = |names: &[&'static str]| {
            let mut set = names
                .iter()
                .filter_map(|name| Some((*name, variable(name)?)));
            set.find(|(_, value)| !value.is_empty())
        };
        let proxy_of = |names: &[&'static str]| match first(names) {
            None => Ok(None),
            Some((name, value)) => ProxyUrl::parse(&value)
                .map(Some)
                .map_err(|problem| format!("{name} of the environment is no proxy: {problem}")),
        };
        Ok(match proxy {
            None => Self::Direct,
            Some(Proxy::Url(url)) => Self::Through(url.clone()),
            Some(Proxy::Environment) => {
                let exceptions = first(&EXCEPTIONS).map(|(_, value)| value);
                // Which proxy it names does not matter: only whether it names one is asked.
                let matcher = Matcher::builder()
                    .all("http://proxy")
                    .no(exceptions.unwrap_or_default())
                    .build();
                Self::Environment {
                    https: proxy_of(&HTTPS)?,
                    http: proxy_of(&HTTP)?,
                    exceptions: Box::new(matcher),
                }
            }
        })
    }

    pub(super) fn route(&self, target: &Target, rules: AddressRules) -> Route {
        let proxy = match self {
            _ if target.is_of_this_machine() => None,
            Self::Direct => None,
            Self::Through(url) => Some(url),
            Self::Environment {
                https,
                http,
                exceptions,
            } => {
                let proxy = if target.is_https() { https } else { http };
                let uri: Option<http::Uri> = target.to_string().parse().ok();
                let is_excepted = uri.is_none_or(|uri| exceptions.intercept(&uri).is_none());
                proxy.as_ref().filter(|_| !is_excepted)
            }
        };
        match proxy {
            Some(url) => Route::Through(url.clone()),
            None => Route::Direct(rules),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_) => f.write_str("directly"),
            Self::Through(proxy) => write!(f, "through {proxy}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn taken(proxy: Option<&Proxy>, environment: &[(&str, &str)], url: &str) -> String {
        let variable = |name: &str| {
            let set = environment.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        let routes = Routes::new(proxy, &variable).unwrap();
        let target = Target::parse(url).unwrap();
        routes.route(&target, AddressRules::default()).to_string()
    }

    #[test]
    fn the_environment_is_used_only_where_it_is_granted() {
        let environment = [
            ("HTTPS_PROXY", "http://ann:s3cret@secure:3128"),
            ("http_proxy", "plain:8080"),
            ("NO_PROXY", "corp.example, 10.0.0.0/8"),
        ];
        let table = [
            (
                "https://api.example.com",
                "through http://secure:3128 (with credentials)",
            ),
            ("http://api.example.com", "through http://plain:8080"),
            ("https://corp.example", "directly"),
            ("https://db.corp.example:5432", "directly"),
            ("https://10.1.2.3", "directly"),
            (
                "https://notcorp.example",
                "through http://secure:3128 (with credentials)",
            ),
            ("http://169.254.169.254", "directly"),
            ("http://localhost:80", "directly"),
            ("http://127.0.0.1", "directly"),
        ];
        for (url, route) in table {
            assert_eq!(
                taken(Some(&Proxy::Environment), &environment, url),
                route,
                "{url}"
            );
            assert_eq!(taken(None, &environment, url), "directly", "{url}");
        }
        let all = [
            ("ALL_PROXY", "any:1"),
            ("HTTPS_PROXY", ""),
            ("no_proxy", "*"),
        ];
        let at = |environment| taken(Some(&Proxy::Environment), environment, "https://a.example");
        assert_eq!(at(&all[..2]), "through http://any:1");
        assert_eq!(at(&all), "directly");
        assert_eq!(at(&[]), "directly");
    }

    #[test]
    fn a_proxy_written_for_the_plugin_is_for_everything_but_this_machine() {
        let proxy = Proxy::Url(ProxyUrl::parse("http://p:3128").unwrap());
        let environment = [("NO_PROXY", "*")];
        for (url, route) in [
            ("https://api.example.com", "through http://p:3128"),
            ("https://10.0.0.1", "through http://p:3128"),
            ("http://169.254.170.2", "directly"),
            ("https://[::1]", "directly"),
        ] {
            assert_eq!(taken(Some(&proxy), &environment, url), route, "{url}");
        }
    }

    #[test]
    fn a_variable_that_is_no_proxy_is_named_and_not_quoted() {
        let variable =
            |name: &str| (name == "HTTPS_PROXY").then(|| "socks5://ann:s3cret@p".to_owned());
        let problem = Routes::new(Some(&Proxy::Environment), &variable)
            .err()
            .unwrap();
        assert!(
            problem.starts_with("HTTPS_PROXY of the environment is no proxy: only proxies"),
            "{problem}"
        );
        assert!(!problem.contains("s3cret"));
    }
}

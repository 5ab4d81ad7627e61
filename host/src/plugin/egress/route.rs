//! The way out: straight to a judged address, or through the operator's proxy.
//!
//! Through a proxy the name alone was judged, because the proxy resolves it. This machine's own services are never
//! asked for through one.

use std::fmt;

use crate::plugin::address::AddressRules;
use crate::plugin::grants::{Proxy, ProxyUrl, Target};
use crate::proxies::{Named, Proxies};

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
        environment: Box<Proxies>,
    },
}

impl Routes {
    /// `variable` looks into the environment. The problem names the variable, and never its value.
    pub(super) fn new(
        proxy: Option<&Proxy>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let proxy_of = |named: &Option<Named>| {
            let parse = |Named { variable, value }: &Named| {
                ProxyUrl::parse(value).map_err(|problem| {
                    format!("{variable} of the environment is no proxy: {problem}")
                })
            };
            named.as_ref().map(parse).transpose()
        };
        Ok(match proxy {
            None => Self::Direct,
            Some(Proxy::Url(url)) => Self::Through(url.clone()),
            Some(Proxy::Environment) => {
                let environment = Box::new(Proxies::read(variable));
                Self::Environment {
                    https: proxy_of(&environment.https)?,
                    http: proxy_of(&environment.http)?,
                    environment,
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
                environment,
            } => {
                let proxy = if target.is_https() { https } else { http };
                let uri: Option<http::Uri> = target.to_string().parse().ok();
                let is_excepted = uri.is_none_or(|uri| environment.is_excepted(&uri));
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

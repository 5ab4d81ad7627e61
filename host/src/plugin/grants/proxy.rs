//! `proxy` in a plugin's table: the operator's HTTP proxy, or the one that the manager's environment names.

use std::fmt;

use url::Url;

/// Which proxy a plugin's requests go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the manager say.
    Environment,
    Url(ProxyUrl),
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment's proxy"),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// `http://[user:password@]host[:port]`. Neither Display nor Debug shows the credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyUrl(Url);

/// Why a text names no proxy. The text stays out of it, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProblem {
    #[error("it is no address; write it like `http://proxy.example.com:3128`")]
    NoUrl,
    #[error(
        "only proxies spoken to over http:// are known; write it like `http://proxy.example.com:3128`"
    )]
    Scheme,
    #[error("a proxy has no path: write nothing after its host and port")]
    Path,
}

impl ProxyUrl {
    /// Without a scheme it is `http://`, as in the environment of most machines.
    pub fn parse(text: &str) -> Result<Self, ProxyProblem> {
        let text = text.trim();
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.map_err(|_| ProxyProblem::NoUrl)?;
        if url.scheme() != "http" {
            return Err(ProxyProblem::Scheme);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyProblem::Path);
        }
        Ok(Self(url))
    }

    /// With its credentials: for the client that dials it, and for nobody else.
    pub fn exposed(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(f, "http://{}", url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        if !url.username().is_empty() || url.password().is_some() {
            f.write_str(" (with credentials)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_shown_without_its_credentials() {
        let parsed = |text| ProxyUrl::parse(text).expect("it is a proxy");
        for (text, shown) in [
            (
                "http://proxy.example.com:3128",
                "http://proxy.example.com:3128",
            ),
            ("proxy.example.com:3128", "http://proxy.example.com:3128"),
            ("http://10.0.0.1/", "http://10.0.0.1"),
            ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
            (
                "http://ann:s3cret@proxy:3128",
                "http://proxy:3128 (with credentials)",
            ),
        ] {
            let proxy = Proxy::Url(parsed(text));
            assert_eq!(proxy.to_string(), shown);
            assert!(!format!("{proxy:?}").contains("s3cret"));
        }
        let exposed = parsed("http://ann:s3cret@proxy:3128");
        assert_eq!(exposed.exposed().password(), Some("s3cret"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_not_quoted() {
        for (text, problem) in [
            ("", ProxyProblem::NoUrl),
            ("http://", ProxyProblem::NoUrl),
            ("https://ann:s3cret@proxy", ProxyProblem::Scheme),
            ("socks5://proxy:1080", ProxyProblem::Scheme),
            ("http://ann:s3cret@proxy/path", ProxyProblem::Path),
            ("http://proxy?x", ProxyProblem::Path),
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(problem), "{text}");
            assert!(!problem.to_string().contains("s3cret"));
        }
    }
}

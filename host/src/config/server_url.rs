//! GitLab's address. A login may stand in it for a proxy before GitLab; what is shown of it never has one.

use std::fmt;
use std::str::FromStr;

use url::Url;

#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// As it is dialled, its login included: nothing to log or to name a record by.
    pub fn with_login(&self) -> &Url {
        &self.0
    }

    fn shown(&self) -> Url {
        let mut shown = self.0.clone();
        // Only an address without a host refuses this, and such a one has no login.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown
    }
}

impl From<Url> for ServerUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl FromStr for ServerUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown().as_str())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_kept_for_dialling_and_never_shown() {
        let url: ServerUrl = "https://user:pa%20ss@gitlab.example:8443/sub"
            .parse()
            .expect("an address");
        assert_eq!(url.to_string(), "https://gitlab.example:8443/sub");
        assert_eq!(format!("{url:?}"), "\"https://gitlab.example:8443/sub\"");
        assert_eq!(url.with_login().password(), Some("pa%20ss"));
    }
}

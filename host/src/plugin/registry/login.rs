//! A registry's login, from where Docker and Podman keep it.
//!
//! ```text
//! $DOCKER_AUTH_CONFIG ─► $DOCKER_CONFIG/config.json or ~/.docker/config.json ─► $REGISTRY_AUTH_FILE or
//! $XDG_RUNTIME_DIR/containers/auth.json: the first that knows the registry; each may name a docker-credential helper
//! ```

use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use secrecy::SecretString;

use super::printable;

/// What proves who we are; its Debug shows no secret.
#[derive(Clone, Debug)]
pub enum Login {
    Password {
        username: String,
        password: SecretString,
        /// Where it was found, for messages.
        source: String,
    },
    /// What `docker login` keeps for registries with accounts of their own: exchanged for a token.
    Identity { token: SecretString, source: String },
}

impl Login {
    pub fn source(&self) -> &str {
        match self {
            Self::Password { source, .. } | Self::Identity { source, .. } => source,
        }
    }
}

/// A source is there and of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the login for {registry} in {source_name} cannot be used: {why}; next: {next}")]
pub struct LoginProblem {
    registry: String,
    source_name: String,
    why: String,
    next: &'static str,
}

/// Texts that may hold logins, by the name they have in messages.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<(String, String)>);

impl Sources {
    /// Those of this process; files that are not there are none.
    pub fn of_process() -> std::io::Result<Self> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let home = std::env::home_dir();
        let docker = variable("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker")));
        let podman = variable("REGISTRY_AUTH_FILE")
            .or_else(|| Some(variable("XDG_RUNTIME_DIR")?.join("containers/auth.json")));
        let mut sources = Vec::new();
        if let Ok(text) = std::env::var("DOCKER_AUTH_CONFIG") {
            sources.push(("$DOCKER_AUTH_CONFIG".to_owned(), text));
        }
        for file in docker
            .map(|dir| dir.join("config.json"))
            .into_iter()
            .chain(podman)
        {
            match std::fs::read_to_string(&file) {
                Ok(text) => sources.push((file.display().to_string(), text)),
                Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => {}
                Err(problem) => {
                    let told = format!("{}: {problem}", file.display());
                    return Err(std::io::Error::new(problem.kind(), told));
                }
            }
        }
        Ok(Self(sources))
    }

    #[cfg(test)]
    pub fn of(name: &str, text: &str) -> Self {
        Self(vec![(name.to_owned(), text.to_owned())])
    }

    /// The first login for `registry`; `None` if no source has one. Blocks while a helper runs.
    pub fn login(&self, registry: &str) -> Result<Option<Login>, LoginProblem> {
        for (source, text) in &self.0 {
            let found = get_credential_from_reader(text.as_bytes(), key(registry));
            let source = source.clone();
            match found {
                Ok(DockerCredential::UsernamePassword(username, password)) => {
                    return Ok(Some(Login::Password {
                        username,
                        password: password.into(),
                        source,
                    }));
                }
                Ok(DockerCredential::IdentityToken(token)) => {
                    let token = token.into();
                    return Ok(Some(Login::Identity { token, source }));
                }
                Err(problem) => {
                    if let Some((why, next)) = trouble(&problem) {
                        return Err(LoginProblem {
                            registry: registry.to_owned(),
                            source_name: source,
                            why,
                            next,
                        });
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Docker keeps the hub under a name of its own.
fn key(registry: &str) -> &str {
    match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}

/// `None`: the source has no login for this registry, which is no problem.
fn trouble(problem: &CredentialRetrievalError) -> Option<(String, &'static str)> {
    use CredentialRetrievalError as E;
    const AGAIN: &str = "`docker login` again";
    let (why, next) = match problem {
        E::NoCredentialConfigured | E::ConfigNotFound => return None,
        // What helpers print when they have none, by their protocol.
        E::HelperFailure { stdout, .. } if stdout.contains("credentials not found") => return None,
        // Only its complaint: on its standard output it may have begun to write the secret.
        E::HelperFailure { helper, stderr, .. } => {
            let says = printable(stderr.trim());
            return Some((
                format!("{helper} failed: {says}"),
                "mend the helper, or `docker login` without it",
            ));
        }
        E::HelperCommunicationError => (
            "its credential helper does not run or does not listen",
            "put `docker-credential-…` into PATH, or `docker login` without it",
        ),
        E::MalformedHelperResponse => ("its credential helper answers no JSON", AGAIN),
        E::ConfigReadError => ("it is no JSON of Docker's", "mend or remove it"),
        E::CredentialDecodingError => ("its `auth` is no base64 of `user:password`", AGAIN),
        E::CredentialMismatchError => ("`auth` says another than `username`", AGAIN),
    };
    Some((why.to_owned(), next))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use secrecy::ExposeSecret as _;

    use super::*;

    fn login(text: &str, registry: &str) -> Result<Option<(String, String)>, String> {
        let found = Sources::of("config.json", text).login(registry);
        let found = found.map_err(|problem| problem.to_string())?;
        Ok(found.map(|login| match login {
            Login::Password {
                username, password, ..
            } => (username, password.expose_secret().to_owned()),
            Login::Identity { token, .. } => (String::new(), token.expose_secret().to_owned()),
        }))
    }

    #[test]
    fn the_docker_configuration_gives_the_login() {
        // user:pa:ss
        let text = r#"{"auths": {
            "registry.example.com:5000": {"auth": "dXNlcjpwYTpzcw=="},
            "https://index.docker.io/v1/": {"username": "hub", "password": "secret"},
            "identity.example.com": {"auth": "dXNlcjo=", "identitytoken": "refresh-me"},
            "empty.example.com": {}
        }}"#;
        let pair = |u: &str, p: &str| Ok(Some((u.to_owned(), p.to_owned())));
        assert_eq!(
            login(text, "registry.example.com:5000"),
            pair("user", "pa:ss")
        );
        assert_eq!(login(text, "docker.io"), pair("hub", "secret"));
        assert_eq!(login(text, "identity.example.com"), pair("", "refresh-me"));
        assert_eq!(login(text, "empty.example.com"), Ok(None));
        assert_eq!(login(text, "registry.example.com"), Ok(None));
        assert_eq!(login("{}", "registry.example.com"), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_named_without_the_secret() {
        insta::assert_snapshot!(login("no json", "r.example").unwrap_err(), @"the login for r.example in config.json cannot be used: it is no JSON of Docker's; next: mend or remove it");
        let text = r#"{"auths": {"r.example": {"auth": "c2VjcmV0"}}}"#;
        insta::assert_snapshot!(login(text, "r.example").unwrap_err(), @"the login for r.example in config.json cannot be used: its `auth` is no base64 of `user:password`; next: `docker login` again");
        let text = r#"{"credHelpers": {"r.example": "fleetling-is-not-there"}}"#;
        insta::assert_snapshot!(login(text, "r.example").unwrap_err(), @"the login for r.example in config.json cannot be used: its credential helper does not run or does not listen; next: put `docker-credential-…` into PATH, or `docker login` without it");
    }

    #[test]
    fn a_debug_shows_no_secret() {
        let text = r#"{"auths": {"r.example": {"auth": "dXNlcjpwYTpzcw=="}}}"#;
        let login = Sources::of("config.json", text).login("r.example").unwrap();
        assert!(!format!("{login:?}").contains("pa:ss"), "{login:?}");
    }
}

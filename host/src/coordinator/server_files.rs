//! What a job is given so that it reaches GitLab as the manager does: whom to trust, and what to show.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// Shorter lines may be of anything.
const TELLING: usize = 16;

/// Nothing of it by default: GitLab is reached without TLS, or by what every machine trusts.
#[derive(Clone, Default)]
pub struct ServerFiles {
    /// Certificates in PEM; the operator's own file, else those that GitLab was last believed by.
    pub authority: Option<String>,
    pub client: Option<ClientFiles>,
}

#[derive(Clone)]
pub struct ClientFiles {
    pub certificate: String,
    pub key: SecretString,
}

impl ServerFiles {
    /// Lines that no log may show: a key is seldom printed as a whole.
    pub fn secret_lines(&self) -> Vec<String> {
        let keys = self.client.iter();
        let lines = keys.flat_map(|client| client.key.expose_secret().lines());
        let lines = lines.map(str::trim);
        let secret = lines.filter(|line| line.len() >= TELLING && !line.starts_with("-----"));
        secret.map(str::to_owned).collect()
    }
}

impl fmt::Debug for ServerFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFiles")
            .field("authority", &self.authority.is_some())
            .field("client", &self.client.is_some())
            .finish()
    }
}

//! Docker's `config.json`, as far as it tells of logins; pure.

use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Login, RegistryCredential};

/// With or without the padding, as `docker` and people write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    /// `auths` that hold something; `docker login` leaves empty ones beside a store.
    pub(super) written: Vec<RegistryCredential>,
    /// `credsStore`: the helper for every registry it lists.
    pub(super) store: Option<String>,
    /// `credHelpers`: registry and helper.
    pub(super) helpers: Vec<(String, String)>,
}

/// It is no such configuration; says where, without what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl FromStr for DockerConfig {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // What the parser says of a value may hold it, and it may be a secret.
        let file: File = serde_json::from_str(text).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            Malformed(format!(
                "it is no Docker configuration in JSON: line {line}, column {column}"
            ))
        })?;
        let mut written = Vec::new();
        for (registry, entry) in file.auths {
            match entry.login() {
                Ok(Some(login)) => written.push(RegistryCredential { registry, login }),
                Ok(None) => {}
                Err(NoPair) => {
                    return Err(Malformed(format!(
                        "auths.{registry:?}.auth is no base64 of user:password"
                    )));
                }
            }
        }
        Ok(Self {
            written,
            store: file.store.filter(|name| !name.is_empty()),
            helpers: file.helpers.into_iter().collect(),
        })
    }
}

struct NoPair;

impl Entry {
    fn login(self) -> Result<Option<Login>, NoPair> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Login::Identity(self.identity_token.into())));
        }
        let (username, password) = if self.auth.is_empty() {
            (self.username, self.password)
        } else {
            let bytes = BASE64.decode(self.auth.trim()).map_err(|_| NoPair)?;
            let pair = String::from_utf8(bytes).map_err(|_| NoPair)?;
            let (username, password) = pair.split_once(':').ok_or(NoPair)?;
            // As Docker reads it: some tools end the password with a zero byte.
            let password = password.trim_end_matches('\0');
            (username.to_owned(), password.to_owned())
        };
        let is_empty = username.is_empty() && password.is_empty();
        Ok((!is_empty).then(|| Login::Password {
            username,
            password: password.into(),
        }))
    }
}

impl DockerConfig {
    /// Takes its helpers away and answers their names, each once.
    pub fn take_helpers(&mut self) -> Vec<String> {
        let named = std::mem::take(&mut self.helpers).into_iter();
        let mut names: Vec<_> = named.map(|(_, helper)| helper).collect();
        names.extend(self.store.take());
        names.sort();
        names.dedup();
        names
    }
}

//! `plugins.toml` as the operator wrote it: every problem at once, each with its line and column.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::reading::{GrantsProblem, Reading, Value, nearest};
use super::{
    CertificateDigest, ClientCertificate, Grants, Limit, LimitsWritten, PrivateAddresses, Proxy,
    ProxyUrl, Reload, SecretSource, Template, Tls, TlsHost,
};
use crate::plugin::directory::Reference;

/// All tables of `plugins.toml`, keyed by the operator's plugin name without `fleeting-plugin-` and a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantsFile {
    pub plugins: BTreeMap<String, Grants>,
    /// The top-level key, for every plugin whose table does not say otherwise.
    pub require_pins: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct GrantsProblems(pub Vec<GrantsProblem>);

impl fmt::Display for GrantsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

const REQUIRE_PINS: &str = "require_pins";

const KEYS: [&str; 18] = [
    "http",
    "env",
    "secret",
    "plaintext",
    "loopback",
    "metadata",
    "allow_any_host",
    "private_addresses",
    "tls",
    "proxy",
    "limits",
    "memory",
    "log_requests",
    "reload",
    "sha256",
    REQUIRE_PINS,
    "builtin",
    "secrets",
];

const TLS_KEYS: [&str; 4] = ["ca", "client_cert", "client_key", "sha256"];

impl GrantsFile {
    pub fn parse(text: &str) -> Result<Self, GrantsProblems> {
        let mut reading = Reading::new(text);
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(problem) => {
                let at = problem.span().map_or(0, |span| span.start);
                reading.problem(at, problem.message());
                return Err(GrantsProblems(reading.problems));
            }
        };
        let mut file = Self::default();
        let mut seen = BTreeSet::new();
        for (key, value) in document.get_ref() {
            let (written, at) = (key.get_ref(), key.span().start);
            let Some(table) = value.get_ref().as_table() else {
                if written == REQUIRE_PINS {
                    file.require_pins = reading.flag(written, value);
                } else if KEYS.contains(&&**written) {
                    let message = format!(
                        "`{written}` stands in a plugin's table: write `[aws]` above it, with the plugin's name"
                    );
                    reading.problem(at, message);
                } else if nearest(written, &[REQUIRE_PINS]).is_some() {
                    reading.unknown(at, written, &[REQUIRE_PINS]);
                } else {
                    reading.problem(at, format!("`{written}` is no table: write `[{written}]`"));
                }
                continue;
            };
            let grants = reading.plugin(table);
            let name = Reference::parse(written).name;
            if !seen.insert(name.clone()) {
                let message = format!("a second table for the plugin `{name}`: join the two");
                reading.problem(at, message);
            }
            file.plugins.insert(name, grants);
        }
        if reading.problems.is_empty() {
            return Ok(file);
        }
        reading.problems.sort();
        Err(GrantsProblems(reading.problems))
    }
}

/// The tables and values that only this file has.
impl Reading<'_> {
    fn plugin(&mut self, table: &DeTable<'_>) -> Grants {
        let mut grants = Grants::default();
        for (key, value) in table {
            let (name, at): (&str, _) = (key.get_ref(), key.span().start);
            match name {
                "http" => {
                    for (at, entry) in self.strings(name, value) {
                        match Template::parse(&entry) {
                            Ok(template) => grants.http.push(template),
                            Err(problem) => self.problem(at, problem.to_string()),
                        }
                    }
                }
                "env" => grants.env.extend(self.variables(value)),
                "secret" | "secrets" => self.secrets(name, value, &mut grants.secrets),
                "plaintext" => grants.plaintext = self.flag(name, value),
                "loopback" => grants.loopback = self.flag(name, value),
                "metadata" => grants.metadata = self.flag(name, value),
                "allow_any_host" => grants.allow_any_host = self.flag(name, value),
                "builtin" => grants.builtin = self.flag(name, value),
                "log_requests" => grants.log_requests = self.flag(name, value),
                "private_addresses" => {
                    let choices = [
                        ("never", PrivateAddresses::Never),
                        ("listed-names", PrivateAddresses::ListedNames),
                        ("any", PrivateAddresses::Any),
                    ];
                    grants.private_addresses = self.choice(name, value, &choices);
                }
                "reload" => {
                    let choices = [("pinned", Reload::Pinned), ("any", Reload::Any)];
                    grants.reload = self.choice(name, value, &choices);
                }
                "tls" => self.hosts(value, &mut grants.tls),
                "proxy" => grants.proxy = self.proxy(value),
                "limits" => self.limits(value, &mut grants.limits),
                "memory" => self.limit(at, Limit::Memory, value, &mut grants.limits),
                "sha256" => grants.sha256 = self.digest(value),
                REQUIRE_PINS => grants.require_pins = self.flag(name, value),
                unknown if Limit::of_key(unknown).is_some() => {
                    let message =
                        format!("`{unknown}` is a limit: write `limits.{unknown}` for it");
                    self.problem(at, message);
                }
                unknown => self.unknown(at, unknown, &KEYS),
            }
        }
        grants
    }

    fn variables(&mut self, value: &Value<'_>) -> Vec<String> {
        let mut names = Vec::new();
        for (at, name) in self.strings("env", value) {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message =
                    format!("`{name}` is no name of an environment variable: write only the name");
                self.problem(at, message);
            } else {
                names.push(name);
            }
        }
        names
    }

    fn digest(&mut self, value: &Value<'_>) -> Option<String> {
        let text = self.string("sha256", value)?.to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some(text);
        }
        let message = "`sha256` is 64 hexadecimal digits, as `sha256sum` prints them";
        self.problem(value.span().start, message);
        None
    }

    fn proxy(&mut self, value: &Value<'_>) -> Option<Proxy> {
        let text = self.string("proxy", value)?;
        if text == "environment" {
            return Some(Proxy::Environment);
        }
        match ProxyUrl::parse(&text) {
            Ok(url) => Some(Proxy::Url(url)),
            Err(problem) => {
                let message = format!("`proxy` is \"environment\" or a proxy's address: {problem}");
                self.problem(value.span().start, message);
                None
            }
        }
    }

    fn limits(&mut self, value: &Value<'_>, limits: &mut LimitsWritten) {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong("limits", value, "a table of limits");
            return;
        };
        for (key, value) in table {
            match Limit::of_key(key.get_ref()) {
                Some(limit) => self.limit(key.span().start, limit, value, limits),
                None => {
                    let known = Limit::ALL.map(Limit::key);
                    self.unknown(key.span().start, key.get_ref(), &known);
                }
            }
        }
    }

    fn limit(&mut self, at: usize, limit: Limit, value: &Value<'_>, limits: &mut LimitsWritten) {
        let number = match value.get_ref() {
            DeValue::String(text) => limit.text(text),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .and_then(|number| limit.number(number)),
            _ => None,
        };
        let key = limit.key();
        match number {
            Some(number) if limits.put(limit, number) => {}
            Some(_) => self.problem(
                at,
                format!("`{key}` is written twice, here and in `limits`"),
            ),
            None => self.problem(value.span().start, format!("`{key}` is {}", limit.wanted())),
        }
    }

    fn hosts(&mut self, value: &Value<'_>, hosts: &mut BTreeMap<TlsHost, Tls>) {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong("tls", value, "a table of hosts");
            return;
        };
        for (key, value) in table {
            let (written, at) = (key.get_ref(), key.span().start);
            let host = TlsHost::parse(written);
            let tls = self.host(written, value);
            match (host, tls) {
                (None, _) => {
                    let message = format!(
                        "`{written}` is no host: write it like \"api.example.com\" or \"api.example.com:8006\""
                    );
                    self.problem(at, message);
                }
                (Some(host), Some(tls)) => {
                    let message = format!("a second table for the host `{host}`: join the two");
                    if hosts.insert(host, tls).is_some() {
                        self.problem(at, message);
                    }
                }
                (Some(_), None) => {}
            }
        }
    }

    fn host(&mut self, host: &str, value: &Value<'_>) -> Option<Tls> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(
                host,
                value,
                "a table with `ca`, `client_cert`, `client_key`, `sha256`",
            );
            return None;
        };
        let mut tls = Tls::default();
        let (mut certificate, mut private_key) = (None, None);
        let before = self.problems.len();
        for (key, value) in table {
            let (name, at): (&str, _) = (key.get_ref(), key.span().start);
            match name {
                "ca" => tls.ca = self.file(name, value),
                "client_cert" => certificate = self.file(name, value),
                "client_key" => private_key = self.file(name, value),
                "sha256" => tls.sha256 = self.certificate_digest(value),
                other if other.contains("insecure") || other.contains("verify") => {
                    let message = format!(
                        "`{other}` is not known here, because certificates are always checked: name the signer's with \
                         `ca`, or the host's own with `sha256`"
                    );
                    self.problem(at, message);
                }
                unknown => self.unknown(at, unknown, &TLS_KEYS),
            }
        }
        if self.problems.len() > before {
            return None;
        }
        tls.client = match (certificate, private_key) {
            (Some(certificate), key) => Some(ClientCertificate {
                key: key.unwrap_or_else(|| certificate.clone()),
                certificate,
            }),
            (None, None) => None,
            (None, Some(_)) => {
                let message =
                    "`client_key` needs `client_cert`, the certificate that it belongs to";
                self.problem(value.span().start, message);
                return None;
            }
        };
        if tls == Tls::default() {
            let message = "nothing is written for this host: name `ca`, `client_cert` or `sha256`";
            self.problem(value.span().start, message);
            return None;
        }
        Some(tls)
    }

    fn certificate_digest(&mut self, value: &Value<'_>) -> Option<CertificateDigest> {
        let digest = CertificateDigest::parse(&self.string("sha256", value)?);
        if digest.is_none() {
            let message = "`sha256` is 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them";
            self.problem(value.span().start, message);
        }
        digest
    }

    fn secrets(
        &mut self,
        key: &str,
        value: &Value<'_>,
        secrets: &mut BTreeMap<String, SecretSource>,
    ) {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table of secrets");
            return;
        };
        for (name, value) in table {
            if let Some(source) = self.source(name.get_ref(), value) {
                secrets.insert(name.get_ref().to_string(), source);
            }
        }
    }

    fn source(&mut self, name: &str, value: &Value<'_>) -> Option<SecretSource> {
        let mut fields = BTreeMap::new();
        let table = value.get_ref().as_table();
        for (key, value) in table.into_iter().flatten() {
            let text = self.string(key.get_ref(), value)?;
            fields.insert(key.get_ref().to_string(), text);
        }
        let (file, key) = (fields.remove("file"), fields.remove("config_key"));
        let variable = fields.remove("variable");
        let default = fields.remove("default").map(PathBuf::from);
        match (file, key, variable, default) {
            (Some(file), None, None, None) if fields.is_empty() => {
                Some(SecretSource::File(file.into()))
            }
            (None, Some(key), None, default) if fields.is_empty() => {
                Some(SecretSource::ConfigKey { key, default })
            }
            (None, key, Some(variable), default) if fields.is_empty() => {
                Some(SecretSource::Variable {
                    key,
                    variable,
                    default,
                })
            }
            _ => {
                let message = format!(
                    "secret `{name}` is {{ file = \"…\" }} or {{ config_key = \"…\", variable = \"…\", default = \"…\" }} \
                     with at least one of the first two"
                );
                self.problem(value.span().start, message);
                None
            }
        }
    }
}

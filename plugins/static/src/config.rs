//! `plugin_config`: the machines, and how each is dialled.

use std::collections::BTreeMap;

use fleetling_plugin_sdk::{
    Address, Connection, Login, Problem, Protocol, Reach, config as written,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// What the operator writes. The doc comments below become the schema's descriptions.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct PluginConfig {
    /// A name for the list, where two entries have machines of the same names.
    #[serde(default)]
    name: Option<String>,
    /// The machines, by names of your choice.
    pub(crate) instances: BTreeMap<String, Machine>,
}

/// One machine.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Machine {
    /// The login user; without it, that of connector_config.
    username: Option<String>,
    /// The login user's password; without it, the key of connector_config or the manager's own.
    pub(crate) password: Option<String>,
    /// Taken so that configurations of GitLab Runner work; connector_config's timeout counts.
    timeout: Option<String>,
    /// Where the machine is dialled from its own network: host, or host:port.
    internal_addr: Option<String>,
    /// Where it is dialled with use_external_addr: host, or host:port.
    external_addr: Option<String>,
    /// linux, windows or darwin; without it, linux.
    os: Option<String>,
    /// amd64, arm64 or 386; without it, the machine is asked.
    arch: Option<String>,
    /// ssh, winrm or winrm+https; without it, ssh.
    protocol: Option<String>,
    /// The machine's public host keys, as OpenSSH writes them; without them, the first one seen counts.
    host_keys: Vec<String>,
}

impl PluginConfig {
    pub(crate) fn parse(json: &str) -> Result<Self, Problem> {
        let config: Self = written::parse(json)?;
        if config.instances.is_empty() {
            let key = "plugin_config.instances";
            let message = format!("{key} is empty; next: list at least one machine");
            return Err(Problem::invalid_config(key, message));
        }
        for (name, machine) in &config.instances {
            machine.check(name)?;
        }
        Ok(config)
    }

    /// The same for every manager that has this list first; another for lists of other machines.
    pub(crate) fn group(&self) -> String {
        let first = || {
            let (name, machine) = self.instances.first_key_value()?;
            let addr = machine
                .internal_addr
                .as_ref()
                .or(machine.external_addr.as_ref());
            Some(format!("{name}@{}", addr.map_or("", |addr| addr)))
        };
        let name = self.name.clone().or_else(first);
        format!("static/{}", name.unwrap_or_default())
    }
}

impl Machine {
    /// Everything that can be wrong is found at `init`, not when a job waits.
    fn check(&self, name: &str) -> Result<(), Problem> {
        let key = |part: &str| format!("plugin_config.instances.{name}.{part}");
        let wrong = |part: &str, what: &str| {
            let key = key(part);
            let message = format!("{key} {what}; next: correct it");
            Problem::invalid_config(key, message)
        };
        if self.internal_addr.is_none() && self.external_addr.is_none() {
            return Err(wrong("internal_addr", "and external_addr are both missing"));
        }
        for (part, addr) in [
            ("internal_addr", &self.internal_addr),
            ("external_addr", &self.external_addr),
        ] {
            if addr.as_ref().is_some_and(|addr| split(addr).is_none()) {
                return Err(wrong(part, "is neither host nor host:port"));
            }
        }
        if self.protocol().is_none() {
            return Err(wrong("protocol", "is none of ssh, winrm and winrm+https"));
        }
        Ok(())
    }

    /// None: unknown words.
    fn protocol(&self) -> Option<Protocol> {
        match self.protocol.as_deref() {
            None | Some("" | "ssh") => Some(Protocol::Ssh),
            Some("winrm") => Some(Protocol::Winrm),
            Some("winrm+https") => Some(Protocol::WinrmTls),
            Some(_) => None,
        }
    }

    pub(crate) fn connection(&self, login: Login) -> Result<Connection, Problem> {
        let both = [
            (Reach::Internal, &self.internal_addr),
            (Reach::External, &self.external_addr),
        ];
        let addresses = both.into_iter().filter_map(|(reach, addr)| {
            let (host, port) = split(addr.as_ref()?)?;
            Some(Address { reach, host, port })
        });
        Ok(Connection {
            os: Some(self.os.clone().unwrap_or_else(|| "linux".into())),
            arch: self.arch.clone(),
            protocol: self.protocol(),
            username: self.username.clone(),
            login,
            addresses: addresses.collect(),
            host_keys: self.host_keys.clone(),
            valid_until: None,
            extras: Vec::new(),
        })
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or `v6`.
fn split(addr: &str) -> Option<(String, Option<u16>)> {
    let addr = addr.trim();
    let (host, port) = if let Some(rest) = addr.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (
            host,
            rest.strip_prefix(':')
                .or_else(|| Some("").filter(|_| rest.is_empty()))?,
        )
    } else if addr.matches(':').count() == 1 {
        addr.split_once(':')?
    } else {
        (addr, "")
    };
    let is_good = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    let port = match port {
        "" => None,
        port => Some(port.parse().ok().filter(|port| *port != 0)?),
    };
    is_good.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_their_port() {
        for (addr, expected) in [
            ("10.0.0.1", Some(("10.0.0.1", None))),
            ("rack-1.example:2222", Some(("rack-1.example", Some(2222)))),
            ("[2001:db8::1]:22", Some(("2001:db8::1", Some(22)))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("rack-1:0", None),
            ("rack-1:70000", None),
            ("ssh://rack-1", None),
            ("[::1]x", None),
            (":22", None),
            ("", None),
        ] {
            let found = split(addr);
            let found = found.as_ref().map(|(host, port)| (host.as_str(), *port));
            assert_eq!(found, expected, "{addr}");
        }
    }
}

//! The AWS provider: an EC2 Auto Scaling group, spoken to in signed Query-protocol calls.
//!
//! ```text
//! plugin_config ─▶ config ┐            ┌ credentials  whose keys sign
//! ~/.aws/* ─▶ ini ─▶ files ┴▶ account ─┤                        ┌▶ group    open
//!                                      └ endpoint               ├▶ survey   update (member, launches, generation, notices)
//!              wire (sign, xml, problem) ─▶ client ─▶ api ──────┼▶ resize   increase, decrease (wishes: its tokens)
//!                                                               └▶ connect  connect-info
//! ```

mod account;
mod api;
mod client;
mod config;
mod connect;
mod credentials;
mod endpoint;
mod files;
mod generation;
mod group;
mod ini;
mod kept;
mod launches;
mod member;
mod notices;
mod problem;
mod resize;
mod sign;
mod survey;
mod variables;
mod wire;
mod wishes;
mod xml;

use std::rc::Rc;
use std::time::SystemTime;

use fleetling_plugin_sdk::{
    Connection, Description, Group, Host, IncreaseOutcome, IncreaseRequest, InstanceRef, Problem,
    Provider, Removal, Settings, Snapshot, export_provider,
};

use crate::client::Client;
use crate::config::PluginConfig;
use crate::credentials::{Vault, session_name};
use crate::endpoint::Service;

/// One Auto Scaling group.
pub struct Aws {
    host: Rc<dyn Host>,
    config: PluginConfig,
    settings: Settings,
    /// The manager's name as AWS's logs have it: of sessions, and in the `User-Agent`.
    session: String,
    agent: String,
    vault: Vault,
}

export_provider!(Aws);

impl Aws {
    /// For one call: the AWS files are read anew.
    fn client(&self) -> Result<Client<'_>, Problem> {
        Client::new(
            &*self.host,
            &self.config,
            &self.vault,
            &self.agent,
            &self.session,
        )
    }
}

impl Provider for Aws {
    fn describe() -> Description {
        Description {
            name: "aws".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::SCHEMA.into(),
            wants: Service::ALL
                .into_iter()
                .map(|service| format!("https://{}.{{region}}.amazonaws.com", service.name()))
                .chain(credentials::SERVICES.map(str::to_owned))
                .collect(),
            extras: variables::named(),
        }
    }

    fn init(host: Rc<dyn Host>, config: &str, settings: Settings) -> Result<Self, Problem> {
        let session = session_name(&settings.owner);
        Ok(Self {
            host,
            config: PluginConfig::parse(config)?,
            agent: format!(
                "fleetling-plugin-aws/{} {session}",
                env!("CARGO_PKG_VERSION")
            ),
            settings,
            session,
            vault: Vault::default(),
        })
    }

    fn open(&self) -> Result<Group, Problem> {
        let client = self.client()?;
        let found = group::find(&client, &self.config.name)?;
        let most = self.settings.max_instances;
        let mut opened = group::open(&found, client.region(), most);
        opened.notices.extend(self.config.notice());
        Ok(opened)
    }

    fn update(&self) -> Result<Snapshot, Problem> {
        let client = self.client()?;
        let most = self.settings.max_instances;
        let mut snapshot = survey::update(&client, &self.config.name, most)?;
        snapshot.notices.extend(self.config.notice());
        Ok(snapshot)
    }

    fn increase(&self, request: IncreaseRequest) -> IncreaseOutcome {
        match self.client() {
            Ok(client) => resize::increase(&*self.host, &client, &self.config.name, &request),
            Err(problem) => IncreaseOutcome::refused(problem),
        }
    }

    fn decrease(&self, instances: Vec<InstanceRef>) -> Vec<Removal> {
        match self.client() {
            Ok(client) => resize::decrease(&*self.host, &client, &self.config.name, &instances),
            Err(problem) => vec![Removal::Refused(problem); instances.len()],
        }
    }

    fn connect_info(&self, of: InstanceRef) -> Result<Connection, Problem> {
        connect::connect_info(&*self.host, &self.client()?, &self.settings, &of)
    }

    /// Nothing that EC2 knows of an instance is missing in `update`, which asks about all of them at once; one request an
    /// instance would say the same, and use up the account's limit.
    fn heartbeat(&self, _of: InstanceRef) -> Result<(), Problem> {
        Ok(())
    }

    /// Nothing of ours is left in the cloud: keys that Instance Connect authorised end by themselves.
    fn shutdown(&self, _for_good: bool) -> Result<(), Problem> {
        Ok(())
    }
}

fn unix_millis(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests;

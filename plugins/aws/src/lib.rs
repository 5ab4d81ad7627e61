//! The AWS provider: an EC2 Auto Scaling group, spoken to in signed Query-protocol calls.
//!
//! ```text
//! plugin_config ─▶ config ─┐
//! ~/.aws/* ─▶ ini ─▶ profile ─▶ client (sign, xml, problem) ─▶ group    open, update
//!                                                           ├▶ resize   increase, decrease (wishes: its tokens)
//!                                                           └▶ connect  connect-info
//! ```

mod client;
mod config;
mod connect;
mod group;
mod ini;
mod problem;
mod profile;
mod resize;
mod sign;
mod wishes;
mod xml;

use std::rc::Rc;

use fleetling_plugin_sdk::{
    Connection, Description, Group, Host, IncreaseOutcome, IncreaseRequest, InstanceRef, Problem,
    ProblemKind, Provider, Removal, Settings, Snapshot, export_provider,
};

use crate::client::Client;
use crate::config::PluginConfig;

/// One Auto Scaling group.
pub struct Aws {
    host: Rc<dyn Host>,
    config: PluginConfig,
    settings: Settings,
}

export_provider!(Aws);

impl Aws {
    /// For one call: the AWS files are read anew.
    fn client(&self) -> Result<Client<'_>, Problem> {
        Client::new(&*self.host, &self.config)
    }
}

impl Provider for Aws {
    fn describe() -> Description {
        let services = ["autoscaling", "ec2", "ec2-instance-connect"];
        Description {
            name: "aws".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::SCHEMA.into(),
            wants: services
                .into_iter()
                .map(|service| format!("https://{service}.{{region}}.amazonaws.com"))
                .collect(),
            extras: Vec::new(),
        }
    }

    fn init(host: Rc<dyn Host>, config: &str, settings: Settings) -> Result<Self, Problem> {
        Ok(Self {
            host,
            config: PluginConfig::parse(config)?,
            settings,
        })
    }

    fn open(&self) -> Result<Group, Problem> {
        let client = self.client()?;
        let group = group::find(&client, &self.config.name)?;
        let most = self.settings.max_instances;
        Ok(group::open(&group, &client.account.region, most))
    }

    fn update(&self) -> Result<Snapshot, Problem> {
        let client = self.client()?;
        let group = group::find(&client, &self.config.name)?;
        let members = &group.instances.member;
        let ids: Vec<&str> = members.iter().map(|one| &*one.instance_id).collect();
        let seen = client.instances(&ids);
        match seen {
            Err(problem) if problem.kind == ProblemKind::Unauthenticated => Err(problem),
            seen => Ok(group::snapshot(&group, seen, self.settings.max_instances)),
        }
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

#[cfg(test)]
mod tests;

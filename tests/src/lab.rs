//! The whole lab, ready for a manager: GitLab, cloud, registry and instances on a network of their own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::busy_registry::BusyRegistry;
use crate::cloud::Cloud;
use crate::coordinator::{Coordinator, Speech};
use crate::installation::Installation;
use crate::instances::{Instances, REGISTRY_HOST, Site};
use crate::journal::{Fact, Journal};
use crate::manager::{Configuration, Manager};
use crate::registry::{Door, ImageRegistry};
use crate::run::Run;

/// Fields are dropped in this order: services first, then the run and with it everything on disk and in Docker.
pub struct Lab {
    pub gitlab: Coordinator,
    pub cloud: Arc<Cloud>,
    pub instances: Instances,
    pub journal: Journal,
    run: Run,
}

impl Lab {
    /// With the Debian 12 instances, or those that `FLEETLING_LAB_INSTANCE` names (`bookworm`, `trixie`).
    pub async fn start() -> Result<Self> {
        Self::begin(Speech::Plain).await
    }

    /// The same, whose GitLab is [`Speech::Secured`].
    pub async fn start_secured() -> Result<Self> {
        Self::begin(Speech::Secured).await
    }

    async fn begin(speech: Speech) -> Result<Self> {
        let suite =
            std::env::var("FLEETLING_LAB_INSTANCE").unwrap_or_else(|_| "bookworm".to_owned());
        let journal = Journal::default();
        let run = tokio::task::spawn_blocking(Run::start).await??;
        let gateway = run.host(1);
        let site = Arc::new(Site::of(&run, &format!("fleetling-lab/instance:{suite}"))?);
        let range = run.range();
        let (gitlab, registry, cloud) = tokio::join!(
            Coordinator::start(IpAddr::V4(gateway), &run.dir, journal.clone(), speech),
            site.start_registry(run.host(REGISTRY_HOST)),
            Cloud::start(gateway, &range, &run.dir, journal.clone()),
        );
        registry?;
        let (cloud, happenings) = cloud?;
        let cloud = Arc::new(cloud);
        let instances =
            Instances::follow(site, Arc::downgrade(&cloud), happenings, journal.clone());
        Ok(Self {
            gitlab: gitlab?,
            cloud,
            instances,
            journal,
            run,
        })
    }

    /// `host:port` of the registry that stands for Docker Hub, for names that are to lead nowhere else.
    pub fn registry(&self) -> String {
        format!("{}:5000", self.run.host(REGISTRY_HOST))
    }

    /// Another registry, which the instances reach.
    pub async fn start_registry(&self, door: Door) -> Result<ImageRegistry> {
        ImageRegistry::start(&self.run, door).await
    }

    /// Another way to a registry, which answers so many requests for a manifest with 503 first.
    pub async fn start_busy_registry(
        &self,
        registry: &ImageRegistry,
        refusals: usize,
    ) -> Result<BusyRegistry> {
        BusyRegistry::start(self.run.host(1).into(), &registry.address, refusals).await
    }

    /// The same behind TLS; who is to trust it must be given its authority's certificate.
    pub async fn start_secured_registry(&self, door: Door) -> Result<ImageRegistry> {
        ImageRegistry::start_secured(&self.run, door).await
    }

    /// The documented configuration with this lab's url, token and paths.
    pub fn configuration(&self) -> Configuration {
        Configuration::documented(&self.gitlab, &self.cloud.access)
    }

    /// Writes the manager's files and starts `fleetling run`.
    pub fn start_manager(&self, configuration: &Configuration) -> Result<Manager> {
        self.start_manager_of(&Installation::built()?, configuration)
    }

    /// The same with another installation than the one that was built.
    pub fn start_manager_of(
        &self,
        installation: &Installation,
        configuration: &Configuration,
    ) -> Result<Manager> {
        let home = self.home();
        configuration.write(&home)?;
        let journal = self.journal.clone();
        Manager::run(installation, &home, &self.run.dir.join("pids"), journal)
    }

    /// Writes the files of a manager that runs.
    pub fn rewrite(&self, configuration: &Configuration) -> Result<()> {
        configuration.write(&self.home())
    }

    /// Any command of the binary, with the manager's environment and no file written before.
    pub fn command(&self, arguments: &[&str]) -> Result<Manager> {
        let (home, pids) = (self.home(), self.run.dir.join("pids"));
        std::fs::create_dir_all(&home)?;
        let journal = self.journal.clone();
        Manager::command(&Installation::built()?, arguments, &home, &pids, journal)
    }

    /// Where config.toml, plugins.toml, the AWS files and the manager's state are; survives the manager.
    pub fn home(&self) -> PathBuf {
        self.run.dir.join("manager")
    }

    /// How often GitLab was asked for this path, by whomever.
    pub fn asked(&self, path: &str) -> usize {
        let entries = self.journal.entries();
        let is_it = |fact: &Fact| matches!(fact, Fact::Asked { path: asked, .. } if asked == path);
        entries.iter().filter(|entry| is_it(&entry.fact)).count()
    }

    /// Actions the cloud was asked for, with parameters and status, in order.
    pub fn cloud_requests(&self, action: &str) -> Vec<(serde_json::Value, u16)> {
        let entries = self.journal.entries().into_iter();
        entries
            .filter_map(|entry| match entry.fact {
                Fact::CloudAsked {
                    action: asked,
                    parameters,
                    status,
                    ..
                } if asked == action => Some((parameters, status)),
                _ => None,
            })
            .collect()
    }

    /// Instances removed through `decrease`: one by one, the group made smaller by each.
    pub fn removed(&self) -> Vec<String> {
        let asked = self.cloud_requests("TerminateInstanceInAutoScalingGroup");
        let accepted = asked.iter().filter(|(_, status)| *status == 200);
        accepted
            .filter(|(asked, _)| asked["ShouldDecrementDesiredCapacity"] == "true")
            .filter_map(|(asked, _)| asked["InstanceId"].as_str().map(str::to_owned))
            .collect()
    }

    /// Instances of the cloud that have not ended.
    pub fn living(&self) -> Vec<String> {
        let mut living = Vec::new();
        for entry in self.journal.entries() {
            match entry.fact {
                Fact::InstanceLaunched(id) => living.push(id),
                Fact::InstanceEnded(id) => living.retain(|living| *living != id),
                _ => {}
            }
        }
        living
    }

    /// Every instance the cloud ever launched.
    pub fn launched(&self) -> Vec<String> {
        let entries = self.journal.entries().into_iter();
        entries
            .filter_map(|entry| match entry.fact {
                Fact::InstanceLaunched(id) => Some(id),
                _ => None,
            })
            .collect()
    }

    /// The end of every story: the manager did nothing that GitLab would refuse or wonder about.
    pub fn was_correct(&self) -> Result<()> {
        let violations = self.gitlab.violations();
        if !violations.is_empty() {
            bail!("GitLab would not like this:\n  {}", violations.join("\n  "));
        }
        Ok(())
    }
}

//! Makes instances ready: connections, ready command, Docker, architecture, helper image, nothing left of earlier jobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::ListContainersOptionsBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::line::{Line, Wires};
use super::machine::{Facts, Machine};
use super::stage::Addresses;
use super::way::{Connected, Path, Way};
use super::{helper_image, label, leftovers};
use crate::fleet::connector::DialFailure;
use crate::fleet::group::{InstanceId, Reach};
use crate::fleet::ready::{Authorise, NotReady, Occupation, Preparation};

const READY_COMMAND: Duration = Duration::from_secs(300);

/// How instances of one group are made ready.
pub struct Readiness {
    pub way: Way,
    /// `instance_ready_command`; must exit 0.
    pub ready_command: Option<String>,
    /// Where `helper-image-<arch>.tar.gz`, its `.id`, and `helper-<arch>` lie.
    pub data: PathBuf,
    /// Label of our own containers.
    pub system_id: String,
    /// The runner's short token, where other runners of this manager use the same daemon: their jobs are not its to end.
    pub shared_as: Option<String>,
}

impl Readiness {
    async fn dial(&self, path: &Path) -> Result<Connected, NotReady> {
        path.dial(self.way.patience()).await.map_err(unreached)
    }

    /// What marks containers and volumes as left by earlier jobs of whom this is made ready for.
    fn ours(&self) -> Vec<(&str, &str)> {
        let runner = self.shared_as.as_deref();
        [
            (label::MANAGED, "true"),
            (label::SYSTEM_ID, &self.system_id),
        ]
        .into_iter()
        .chain(runner.map(|runner| (label::RUNNER_ID, runner)))
        .collect()
    }

    async fn facts(&self, instance: &InstanceId, control: &Connected) -> Result<Facts, NotReady> {
        if let Some(command) = &self.ready_command {
            let finished = control.run(command, READY_COMMAND).await;
            let finished =
                finished.map_err(|e| NotReady::Failed(format!("instance_ready_command: {e}")))?;
            if finished.status != Some(0) {
                return Err(NotReady::Failed(format!(
                    "instance_ready_command did not succeed (status {:?}): {}",
                    finished.status,
                    finished.output.trim_end()
                )));
            }
        }
        let version = control.docker.version().await.map_err(|e| {
            NotReady::Failed(format!(
                "docker does not answer on the instance: {e}; is it installed, running, and open to the login user?"
            ))
        })?;
        let os = version.os.unwrap_or_default();
        if os != "linux" {
            return Err(NotReady::Failed(format!(
                "docker on the instance runs {os:?} containers, only linux is supported"
            )));
        }
        let removed = leftovers::remove(&control.docker, instance, &self.ours()).await;
        match removed {
            // What one job left in a daemon of one's own must not keep it from all others.
            Err(left) if self.shared_as.is_some() => {
                warn!(%instance, left, "something of earlier jobs stays; next: remove it by hand");
            }
            removed => removed.map_err(NotReady::Failed)?,
        }
        let arch = helper_image::arch_name(&version.arch.unwrap_or_default()).to_owned();
        let helper_image = helper_image::ensure(&control.docker, &self.data, &arch)
            .await
            .map_err(NotReady::Failed)?;
        let helper_binary = self.data.join(format!("helper-{arch}"));
        Ok(Facts {
            arch,
            api: api(version.api_version.as_deref()),
            helper_image,
            helper_binary,
        })
    }
}

/// An unknown version is older than every known one.
fn api(version: Option<&str>) -> (u32, u32) {
    let numbers = version.and_then(|version| version.split_once('.'));
    let (major, minor) = numbers.unwrap_or_default();
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (major, minor),
        _ => (0, 0),
    }
}

fn unreached(failure: DialFailure) -> NotReady {
    match failure {
        DialFailure::NoConnection(call) => NotReady::NoConnection(call),
        other => NotReady::Failed(other.to_string()),
    }
}

#[async_trait]
impl Preparation for Readiness {
    type Machine = Machine;

    async fn prepare(
        &self,
        instance: InstanceId,
        authorise: Arc<dyn Authorise>,
        slots: u32,
    ) -> Result<Arc<Machine>, NotReady> {
        let path = Arc::new(self.way.path(instance.clone(), authorise));
        // The control connection proves address and login; the slots then dial beside the slow rest.
        let control = self.dial(&path).await?;
        let known = path.addresses().await.map_err(unreached)?;
        let host = |reach| {
            let address = known.iter().find(|address| address.reach == reach);
            address.map(|address| address.host.clone())
        };
        let addresses = Addresses {
            internal: host(Reach::Internal),
            external: host(Reach::External),
        };
        let (facts, dialled) = tokio::try_join!(self.facts(&instance, &control), async {
            let dialled = path.dial_slots(slots, self.way.patience()).await;
            dialled.map_err(unreached)
        })?;
        if let Way::Ssh { .. } = self.way {
            // The first request of a connection is slow, and no job shall pay for it.
            for slot in &dialled {
                slot.docker
                    .ping()
                    .await
                    .map_err(|e| NotReady::Failed(format!("docker does not answer: {e}")))?;
            }
        }
        let (changes, _) = watch::channel(0);
        let (gone, gone_seen) = watch::channel(None);
        let closing = CancellationToken::new();
        let wires = Wires {
            changes: changes.clone(),
            gone: gone_seen,
            closing: closing.clone(),
        };
        let keep = |connected| Line::keep(connected, Arc::clone(&path), wires.clone());
        let control = keep(control);
        let slots = dialled.into_iter().map(keep).collect();
        debug!(%instance, arch = %facts.arch, "instance prepared");
        Ok(Arc::new(Machine {
            instance,
            addresses,
            facts,
            control,
            slots,
            changes,
            gone,
            closing,
        }))
    }

    async fn inspect(
        &self,
        instance: InstanceId,
        authorise: Arc<dyn Authorise>,
    ) -> Result<Occupation, NotReady> {
        let path = self.way.path(instance, authorise);
        let control = self.dial(&path).await?;
        let options = ListContainersOptionsBuilder::default()
            .filters(&label::filter(&[(label::MANAGED, "true")]))
            .build();
        let listed = control.docker.list_containers(Some(options)).await;
        control.close().await;
        let foreign: Vec<String> = listed
            .map_err(|e| NotReady::Failed(format!("docker does not answer: {e}")))?
            .into_iter()
            .filter(|container| {
                let labels = container.labels.as_ref();
                labels.and_then(|labels| labels.get(label::SYSTEM_ID)) != Some(&self.system_id)
            })
            .map(|container| {
                let names = container.names.unwrap_or_default();
                names.first().map_or_else(
                    || container.id.unwrap_or_default(),
                    |name| name.trim_start_matches('/').to_owned(),
                )
            })
            .collect();
        Ok(if foreign.is_empty() {
            Occupation::Idle
        } else {
            Occupation::Foreign(foreign)
        })
    }
}

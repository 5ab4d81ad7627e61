//! How Docker is reached: on an instance over SSH, or as the manager's own daemon.
//!
//! ```text
//! Way ──path(instance)──▶ Path ──dial(within)──▶ Connected (a Docker client, and the SSH connection beneath it if any)
//! ```

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::client;
use super::daemon::Daemon;
use crate::fleet::connector::{Connector, DialFailure, Finished, Link, Route, Target};
use crate::fleet::group::{Address, InstanceId};
use crate::fleet::ready::Authorise;

const PAUSE: Duration = Duration::from_secs(1);
const RESTART: Duration = Duration::from_secs(60);

/// The way to the instances of one group.
#[derive(Clone)]
pub enum Way {
    Ssh {
        connector: Arc<Connector>,
        target: Target,
    },
    Own(Arc<Daemon>),
}

/// The way to one of them.
pub(super) enum Path {
    Ssh {
        route: Box<Route>,
        target: Target,
    },
    Own {
        instance: InstanceId,
        daemon: Arc<Daemon>,
    },
}

impl Way {
    pub(super) fn path(&self, instance: InstanceId, authorise: Arc<dyn Authorise>) -> Path {
        match self {
            Self::Ssh { connector, target } => Path::Ssh {
                route: Box::new(connector.route(instance, authorise)),
                target: target.clone(),
            },
            Self::Own(daemon) => Path::Own {
                instance,
                daemon: Arc::clone(daemon),
            },
        }
    }

    /// Forgets what is known of an instance that no longer exists.
    pub fn forget(&self, instance: &InstanceId) {
        if let Self::Ssh { connector, .. } = self {
            connector.forget(instance);
        }
    }

    /// How long a fresh instance may take to answer; a daemon that is being started again takes less.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Ssh { connector, .. } => connector.timeout(),
            Self::Own(_) => RESTART,
        }
    }
}

impl Path {
    pub(super) fn instance(&self) -> &InstanceId {
        match self {
            Self::Ssh { route, .. } => route.instance(),
            Self::Own { instance, .. } => instance,
        }
    }

    /// Where the instance is, as its provider says.
    pub(super) async fn addresses(&self) -> Result<Vec<Address>, DialFailure> {
        match self {
            Self::Ssh { route, .. } => route.addresses().await,
            Self::Own { .. } => Ok(Vec::new()),
        }
    }

    /// Tries at least once, and again until `within` has passed.
    pub(super) async fn dial(&self, within: Duration) -> Result<Connected, DialFailure> {
        match self {
            Self::Ssh { route, target } => {
                let link = route.dial(within).await?;
                let made = client::over_link(&link, target);
                Ok(Connected {
                    docker: made.map_err(|e| unreachable(target.to_string(), &e))?,
                    link: Some(link),
                })
            }
            Self::Own { daemon, .. } => dial_own(daemon, within).await,
        }
    }

    /// Connections for `count` slots, which are to work apart from each other.
    pub(super) async fn dial_slots(
        &self,
        count: u32,
        within: Duration,
    ) -> Result<Vec<Connected>, DialFailure> {
        match self {
            Self::Ssh { .. } => try_join_all((0..count).map(|_| self.dial(within))).await,
            // It has a connection for every request that needs one.
            Self::Own { .. } => {
                let one = self.dial(within).await?;
                Ok((0..count).map(|_| one.clone()).collect())
            }
        }
    }
}

async fn dial_own(daemon: &Arc<Daemon>, within: Duration) -> Result<Connected, DialFailure> {
    let until = Instant::now() + within;
    let unreachable = |error| unreachable(daemon.address(), &error);
    let docker = client::over_own(daemon).map_err(unreachable)?;
    loop {
        match docker.ping().await {
            Ok(_) => return Ok(Connected { docker, link: None }),
            Err(error) if Instant::now() + PAUSE > until => return Err(unreachable(error)),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn unreachable(address: String, error: &bollard::errors::Error) -> DialFailure {
    // The library's own sentence leaves out what the system said.
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        why = format!("{why}: {deeper}");
        cause = deeper.source();
    }
    DialFailure::Unreachable { address, why }
}

/// Docker at the end of a connection that works, or did.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) docker: Docker,
    /// Absent for one's own daemon: each of its requests tells by itself whether it is there.
    link: Option<Link>,
}

impl Connected {
    pub(super) fn is_up(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_up)
    }

    /// Waits until the connection is lost; says why. Safe to drop.
    pub(super) async fn lost(&self) -> String {
        match &self.link {
            Some(link) => link.lost().await,
            None => pending().await,
        }
    }

    pub(super) async fn close(&self) {
        if let Some(link) = &self.link {
            link.close().await;
        }
    }

    /// Runs a command where the daemon is; an error is the reason that there is no answer.
    pub(super) async fn run(&self, command: &str, within: Duration) -> Result<Finished, String> {
        let Some(link) = &self.link else {
            return Err("the manager's own daemon has no login".to_owned());
        };
        link.run(command, within).await.map_err(|e| e.to_string())
    }

    /// Ends what an earlier, lost connection to the same place may still hold there. True when it holds nothing.
    pub(super) async fn takes_over(&self, lost: &Self) -> bool {
        match (&self.link, lost.link.as_ref().and_then(Link::session)) {
            (Some(link), Some(old)) => link.end_session(old).await,
            _ => true,
        }
    }
}

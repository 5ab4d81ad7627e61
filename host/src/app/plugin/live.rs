//! `fleetling plugin check --live`: a group from 0 to 2 to 0, with a container on each instance, as a manager does it.
//!
//! Whatever ends it, a failure or Ctrl-C, the instances are removed; the group must have been empty.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng as _;
use tokio::time::Instant;

use super::chosen::ForRunner;
use super::{Places, clean, say};
use crate::app::places;
use crate::docker::readiness::Readiness;
use crate::docker::way::Way;
use crate::fleet::connector::{Connector, Target};
use crate::fleet::group::{
    CallFailure, Connection, IncreaseRequest, InstanceGroup, InstanceRef, InstanceState, Listed,
};
use crate::fleet::ready::{Authorise, Machine as _, Preparation as _};
use crate::plugin::conformance::{Check, Verdict};

const COUNT: u32 = 2;
/// Until instances run, and until they are gone.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn live(places: &Places<'_>, of: &ForRunner) -> anyhow::Result<Vec<Check>> {
    let platform = of.platform(places, None)?;
    let rehearsal = of.rehearse(&platform).await?;
    let group: Arc<dyn InstanceGroup> = match rehearsal.provider().await {
        Ok(provider) => Arc::new(provider),
        Err(why) => anyhow::bail!("`init`: {}", clean(&why.to_string())),
    };
    let mut lines = Lines::default();
    let there = listed(&*group).await.map_err(anyhow::Error::msg)?;
    if !there.is_empty() {
        lines.add(
            "the group is empty before",
            Err(format!(
                "it has {} instances; next: name a group of its own",
                there.len()
            )),
        );
        return Ok(lines.checks);
    }
    tokio::select! {
        () = scale(&group, of, &mut lines) => {}
        _ = tokio::signal::ctrl_c() => {
            say("interrupted: what was made is removed");
            lines.add("all of --live is done", Err("interrupted".to_owned()));
        }
    }
    let swept = tokio::select! {
        swept = sweep(&*group) => swept,
        _ = tokio::signal::ctrl_c() => Err("interrupted; next: remove the instances in the cloud".to_owned()),
    };
    lines.add("both are removed", swept);
    Ok(lines.checks)
}

#[derive(Default)]
struct Lines {
    checks: Vec<Check>,
}

impl Lines {
    /// True if it passed.
    fn add(&mut self, name: &'static str, outcome: Result<(), String>) -> bool {
        let is_passed = outcome.is_ok();
        let check = Check {
            name,
            verdict: match outcome {
                Ok(()) => Verdict::Passed,
                Err(why) => Verdict::Failed(clean(&why)),
            },
        };
        say(&check.to_string());
        self.checks.push(check);
        is_passed
    }
}

async fn scale(group: &Arc<dyn InstanceGroup>, of: &ForRunner, lines: &mut Lines) {
    let running = two_running(&**group).await;
    let (running, outcome) = match running {
        Ok(running) => (running, Ok(())),
        Err(why) => (Vec::new(), Err(why)),
    };
    if !lines.add("two instances are made and run", outcome) {
        return;
    }
    let outcome = match readiness(of) {
        Ok(readiness) => containers(group, &readiness, running).await,
        Err(problem) => Err(format!("{problem:#}")),
    };
    lines.add("each runs a container, reached over SSH", outcome);
}

async fn two_running(group: &dyn InstanceGroup) -> Result<Vec<InstanceRef>, String> {
    let request = IncreaseRequest {
        token: format!("live-{:016x}", rand::rng().random::<u64>()),
        count: COUNT,
        avoid_pools: Vec::new(),
    };
    let outcome = group.increase(request).await.map_err(|e| e.to_string())?;
    if outcome.accepted != COUNT {
        let why = outcome.problems.first().map(ToString::to_string);
        return Err(format!(
            "{} of {COUNT} accepted: {}",
            outcome.accepted,
            why.unwrap_or_default()
        ));
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let there = listed(group).await?;
        let running = there
            .iter()
            .filter(|one| one.state == InstanceState::Running);
        let running: Vec<_> = running.map(reference).collect();
        if running.len() == COUNT as usize {
            return Ok(running);
        }
        if Instant::now() > end {
            return Err(format!(
                "{} of {COUNT} run after {PATIENCE:?}; next: see in the cloud what became of the others",
                running.len()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn readiness(of: &ForRunner) -> anyhow::Result<Readiness> {
    let (runner, autoscaler) = (&of.runner, &of.runner.autoscaler);
    let connector = autoscaler.connector.clone();
    Ok(Readiness {
        way: Way::Ssh {
            connector: Connector::new(connector, of.identity.clone(), of.store.clone()),
            target: Target::from_docker_host(runner.docker.host.as_deref())
                .map_err(anyhow::Error::msg)?,
        },
        ready_command: autoscaler.instance_ready_command.clone(),
        data: places::data_dir()?,
        system_id: "fleetling-plugin-check".to_owned(),
        shared_as: None,
    })
}

async fn containers(
    group: &Arc<dyn InstanceGroup>,
    readiness: &Readiness,
    running: Vec<InstanceRef>,
) -> Result<(), String> {
    let tried = running.into_iter().map(|of| async move {
        let asked = Asked {
            group: Arc::clone(group),
            of: of.clone(),
        };
        let told = |why: String| format!("{}: {why}", of.id);
        let machine = readiness
            .prepare(of.id.clone(), Arc::new(asked), 1)
            .await
            .map_err(|why| told(why.to_string()))?;
        let ran = machine.try_container().await;
        machine.close().await;
        ran.map_err(told)
    });
    futures_util::future::try_join_all(tried).await.map(drop)
}

/// How an instance is dialled, asked of the plugin.
struct Asked {
    group: Arc<dyn InstanceGroup>,
    of: InstanceRef,
}

#[async_trait]
impl Authorise for Asked {
    async fn connect_info(&self) -> Result<Connection, CallFailure> {
        self.group.connect_info(self.of.clone()).await
    }
}

/// Until the group is empty; the error names what is left.
async fn sweep(group: &dyn InstanceGroup) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    let mut why = String::new();
    let mut left = Vec::new();
    while Instant::now() < end {
        match look(group).await {
            // What the cloud still wants may come yet.
            Ok((there, None | Some(0))) if there.is_empty() => return Ok(()),
            Ok((there, _)) => {
                left = there.iter().map(reference).collect();
                if let Err(failure) = group.decrease(left.clone()).await {
                    why = failure.to_string();
                }
            }
            Err(problem) => why = problem,
        }
        tokio::time::sleep(PAUSE).await;
    }
    let left: Vec<_> = left.into_iter().map(|one| one.id.0).collect();
    Err(format!(
        "left: {}; next: remove them in the cloud ({why})",
        left.join(", ")
    ))
}

async fn listed(group: &dyn InstanceGroup) -> Result<Vec<Listed>, String> {
    Ok(look(group).await?.0)
}

/// What is there, and how many the cloud wants, where it tells.
async fn look(group: &dyn InstanceGroup) -> Result<(Vec<Listed>, Option<u32>), String> {
    let snapshot = group.update().await.map_err(|e| e.to_string())?;
    let mut there = snapshot.instances;
    there.retain(|one| !matches!(one.state, InstanceState::Deleting | InstanceState::Deleted));
    Ok((there, snapshot.target))
}

fn reference(listed: &Listed) -> InstanceRef {
    InstanceRef {
        id: listed.id.clone(),
        memo: listed.memo.clone(),
    }
}

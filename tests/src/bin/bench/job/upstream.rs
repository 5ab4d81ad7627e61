//! GitLab Runner's sequence of a job, as a peer: every container start that it waits for, in its order, over the same kind
//! of connection. What it does between them costs nothing here, and neither does its own dial, log and helper image.
//!
//! ```text
//! volume ─ cache-init ─ pull ─ H: prepare_script ─ H: get_sources ─ B: step_script ─ H: cleanup ─ removal ─ end
//! ```

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fleetling_lab::Lab;
use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Engine, Printed};
use super::peer::PeerTimes;
use super::{GREETING, SCRIPT};

const PROJECT: &str = "/builds/group/project";

/// What `get_sources` does.
pub(super) enum Sources {
    None,
    Fetched { url: String, commit: String },
}

impl Sources {
    fn script(&self) -> String {
        match self {
            Self::None => format!("mkdir -p {PROJECT}\n"),
            Self::Fetched { url, commit } => format!(
                "set -e; git config --global --add safe.directory {PROJECT}; git init -q {PROJECT}; cd {PROJECT}
                 git remote add origin '{url}'
                 git fetch origin --no-recurse-submodules --depth 20 --prune --quiet \
                   +refs/pipelines/7001:refs/pipelines/7001 +refs/heads/main:refs/remotes/origin/main
                 git checkout -f -q {commit}; git clean -ffdxq\n"
            ),
        }
    }
}

pub(super) struct Sequence<'a> {
    engine: &'a Engine,
    /// Ours: it has a shell and git, as GitLab Runner's has.
    helper: String,
}

impl<'a> Sequence<'a> {
    pub(super) async fn on(engine: &'a Engine, lab: &Lab, instance: &str) -> Result<Self> {
        let list = "docker images --quiet --no-trunc --filter label=fleetling.version | head -n 1";
        let helper = lab.instances.exec(instance, list).await?.trim().to_owned();
        ensure!(!helper.is_empty(), "{instance} has no helper image");
        Ok(Self { engine, helper })
    }

    pub(super) async fn run(&self, sources: &Sources) -> Result<PeerTimes> {
        let engine = self.engine;
        let begin = Instant::now();
        engine.get("/_ping").await?;
        engine.get("/info").await?;
        engine.get(&format!("/images/{}/json", self.helper)).await?;
        let volume = self.volume().await?;
        engine
            .post("/images/create?fromImage=busybox&tag=latest")
            .await?;
        engine.get("/images/busybox:latest/json").await?;

        let helper = self.container(&self.helper, &volume).await?;
        let hostname = "echo \"Running on $(hostname)...\"\n";
        engine.stage(&helper, hostname).await?;
        self.again(&helper, &sources.script()).await?;
        let build = self.container("busybox:latest", &volume).await?;
        let step = format!("cd {PROJECT}\n{SCRIPT}\n");
        let output = shown(&engine.stage(&build, &step).await?)?;
        self.again(&helper, "rm -f /builds/group/project.tmp/*\n")
            .await?;
        let (one, other) = tokio::join!(self.remove(&helper), self.remove(&build));
        one.and(other)?;
        engine.delete(&format!("/volumes/{volume}?force=1")).await?;
        Ok(PeerTimes {
            output: output - begin,
            end: begin.elapsed(),
        })
    }

    /// A new volume that any user may write to.
    async fn volume(&self) -> Result<String> {
        let made = self
            .engine
            .ask(Method::POST, "/volumes/create", Some(&json!({})))
            .await?;
        let name = made["Name"].as_str().context("a volume without a name")?;
        let id = self
            .engine
            .create(&json!({
                "Image": self.helper,
                "Cmd": ["chmod", "0777", "/cache-init"],
                "HostConfig": {"Binds": [format!("{name}:/cache-init")]},
            }))
            .await?;
        self.engine.start(&id).await?;
        let code = self.engine.wait(&id).await?;
        ensure!(code == 0, "cache-init ended with exit code {code}");
        self.engine
            .delete(&format!("/containers/{id}?force=1"))
            .await?;
        Ok(name.to_owned())
    }

    async fn container(&self, image: &str, volume: &str) -> Result<String> {
        let id = self
            .engine
            .create(&json!({
                "Image": image, "Cmd": ["sh"],
                "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
                "OpenStdin": true, "StdinOnce": true,
                "HostConfig": {"Binds": [format!("{volume}:/builds")]},
            }))
            .await?;
        self.inspect(&id).await?;
        Ok(id)
    }

    /// A further stage of a container that ended.
    async fn again(&self, id: &str, script: &str) -> Result<Printed> {
        self.inspect(id).await?;
        self.engine.stage(id, script).await
    }

    async fn inspect(&self, id: &str) -> Result<Value> {
        self.engine.get(&format!("/containers/{id}/json")).await
    }

    /// Looks into every network before.
    async fn remove(&self, id: &str) -> Result<()> {
        let networks = self.engine.get("/networks").await?;
        for network in networks.as_array().into_iter().flatten() {
            let name = network["Id"].as_str().unwrap_or_default();
            self.engine.get(&format!("/networks/{name}")).await?;
        }
        let path = format!("/containers/{id}?force=1&v=1");
        self.engine.delete(&path).await
    }
}

fn shown(printed: &Printed) -> Result<Instant> {
    let greeting = |bytes: &[u8]| bytes.starts_with(GREETING.as_bytes());
    let found = printed.iter().find(|(_, bytes)| greeting(bytes));
    Ok(found
        .with_context(|| format!("the build container did not print {GREETING:?}: {printed:?}"))?
        .0)
}

//! Instances: a container with its own address, sshd and Docker Engine for each one the cloud launches.
//!
//! ```text
//! launched ──docker run──► booting ──sshd and Docker answer──► booted (the cloud now calls it running) ──ended──► removed
//! ```
//!
//! One task per instance does its starting and its removing in order, so that no removal overtakes a start. Login keys are
//! files in a folder that the container sees as `/run/keys`; a key stays for 60 s, as EC2 Instance Connect keeps it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc};

use crate::cloud::{Cloud, Happening};
use crate::journal::{Fact, Journal};
use crate::run::Run;

const KEY_LIFETIME: Duration = Duration::from_secs(60);
const BOOT_LIMIT: Duration = Duration::from_secs(120);
pub(crate) const REGISTRY_HOST: u8 = 2;

/// What every container of the run shares.
pub(crate) struct Site {
    name: String,
    label: String,
    keys: PathBuf,
    mirror: String,
    image: String,
    /// Starts at once: each costs about half a second of a processor.
    starts: Semaphore,
}

impl Site {
    pub(crate) fn of(run: &Run, image: &str) -> Result<Self> {
        let keys = run.dir.join("keys");
        std::fs::create_dir_all(&keys)?;
        Ok(Self {
            name: run.name.clone(),
            label: run.label.clone(),
            keys,
            mirror: format!("http://{}:5000", run.host(REGISTRY_HOST)),
            image: image.to_owned(),
            starts: Semaphore::new(3),
        })
    }

    /// The registry that stands for Docker Hub.
    pub(crate) async fn start_registry(&self, address: Ipv4Addr) -> Result<()> {
        let name = format!("{}-registry", self.name);
        let address = address.to_string();
        docker(&[
            "run",
            "-d",
            "--name",
            &name,
            "--label",
            &self.label,
            "--network",
            &self.name,
            "--ip",
            &address,
            "fleetling-lab/registry:latest",
        ])
        .await
        .context("the lab's registry did not start; `make setup` makes its image")
        .map(drop)
    }

    pub(crate) fn container(&self, id: &str) -> String {
        format!("{}-{id}", self.name)
    }

    /// Privileged but for CAP_SYS_RESOURCE, which not every machine has to give.
    async fn start(&self, id: &str, address: Ipv4Addr) -> Result<()> {
        let permit = self.starts.acquire().await?;
        let keys = self.keys.join(id);
        tokio::fs::create_dir_all(&keys).await?;
        let container = self.container(id);
        let mirror = format!("MIRROR={}", self.mirror);
        let mount = format!("{}:/run/keys:ro", keys.display());
        let ip = address.to_string();
        let arguments = [
            "run",
            "-d",
            "--name",
            &container,
            "--hostname",
            id,
            "--label",
            &self.label,
            "--network",
            &self.name,
            "--ip",
            &ip,
            "--dns",
            "127.0.0.1",
            "--cap-add",
            "ALL",
            "--cap-drop",
            "SYS_RESOURCE",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
            "--security-opt",
            "systempaths=unconfined",
            "--device-cgroup-rule",
            "a *:* rwm",
            "--cgroupns",
            "private",
            "-e",
            &mirror,
            "-v",
            &mount,
            &self.image,
        ];
        // The cloud gives an address out again before the container that had it is quite gone.
        for attempt in 0.. {
            match docker(&arguments).await {
                Ok(_) => break,
                Err(problem)
                    if attempt < 20 && problem.to_string().contains("Address already in use") =>
                {
                    let _ = docker(&["rm", "-fv", &container]).await;
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(problem) => return Err(problem),
            }
        }
        drop(permit);
        let ready = async {
            while !self.answers(&container).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(BOOT_LIMIT, ready)
            .await
            .with_context(|| {
                format!(
                    "instance {id} did not boot within {} s",
                    BOOT_LIMIT.as_secs()
                )
            })
    }

    async fn answers(&self, container: &str) -> bool {
        let probe = "docker version >/dev/null 2>&1 && grep -q ':0016 ' /proc/net/tcp";
        docker(&["exec", container, "sh", "-c", probe])
            .await
            .is_ok()
    }

    async fn remove(&self, id: &str) -> Result<()> {
        docker(&["rm", "-fv", &self.container(id)]).await.map(drop)
    }

    async fn authorise(&self, id: &str, user: &str, key: &str) -> Result<()> {
        // sshd reads it on every login.
        let file = self.keys.join(id).join(user);
        let mut keys = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        keys.push_str(key.trim());
        keys.push('\n');
        replace(&file, keys).await?;
        let key = key.trim().to_owned();
        tokio::spawn(async move {
            tokio::time::sleep(KEY_LIFETIME).await;
            let keys = tokio::fs::read_to_string(&file).await.unwrap_or_default();
            // The same key may have been authorised again meanwhile: one line goes, not all.
            let mut dropped = false;
            let kept = keys
                .lines()
                .filter(|line| dropped || *line != key || !std::mem::replace(&mut dropped, true))
                .map(|line| format!("{line}\n"))
                .collect();
            let _ = replace(&file, kept).await;
        });
        Ok(())
    }
}

async fn replace(file: &Path, content: String) -> Result<()> {
    let beside = file.with_extension("new");
    tokio::fs::write(&beside, content).await?;
    tokio::fs::rename(&beside, file).await?;
    Ok(())
}

async fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker")
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("docker {}: {}", arguments[0], said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a test does to an instance behind the cloud's back.
#[derive(Clone)]
pub struct Instances {
    site: Arc<Site>,
}

impl Instances {
    /// Follows the cloud until it is gone.
    pub(crate) fn follow(
        site: Arc<Site>,
        cloud: Weak<Cloud>,
        mut happenings: mpsc::UnboundedReceiver<Happening>,
        journal: Journal,
    ) -> Self {
        let instances = Self {
            site: Arc::clone(&site),
        };
        tokio::spawn(async move {
            let mut ends: HashMap<String, mpsc::UnboundedSender<()>> = HashMap::new();
            while let Some(happening) = happenings.recv().await {
                match happening {
                    Happening::Launched { id, address } => {
                        let (end, ended) = mpsc::unbounded_channel();
                        ends.insert(id.clone(), end);
                        let (site, cloud) = (Arc::clone(&site), Weak::clone(&cloud));
                        tokio::spawn(live(site, cloud, journal.clone(), id, address, ended));
                    }
                    Happening::Ended { id } => drop(ends.remove(&id)),
                    Happening::Key { id, user, key } => {
                        if let Err(problem) = site.authorise(&id, &user, &key).await {
                            journal.record(Fact::Violation(format!(
                                "a key for {id} was lost: {problem}"
                            )));
                        }
                    }
                }
            }
        });
        instances
    }

    /// The machine dies, the cloud does not notice.
    pub async fn kill(&self, id: &str) -> Result<()> {
        docker(&["kill", &self.site.container(id)]).await.map(drop)
    }

    /// The network swallows every packet to and from the instance and its containers: nothing answers, nobody hangs up.
    /// The rules live in the instance's own network namespace and end with it.
    pub async fn swallow_packets(&self, id: &str) -> Result<()> {
        let drop =
            "for chain in INPUT OUTPUT FORWARD; do iptables -I $chain -j DROP || exit 1; done";
        self.exec(id, drop).await.map(std::mem::drop)
    }

    /// Takes back what [`swallow_packets`](Self::swallow_packets) did.
    pub async fn let_packets_pass(&self, id: &str) -> Result<()> {
        let pass =
            "for chain in INPUT OUTPUT FORWARD; do iptables -D $chain -j DROP || exit 1; done";
        self.exec(id, pass).await.map(drop)
    }

    /// Ends the Docker daemon with this signal; behind its end another one starts with these arguments.
    pub async fn restart_daemon(&self, id: &str, signal: &str, arguments: &str) -> Result<()> {
        let restart = format!(
            "pid=$(cat /var/run/docker.pid) && kill -{signal} $pid && \
             {{ (while [ -d /proc/$pid ]; do sleep 0.1; done; rm -f /var/run/docker.pid; exec setsid dockerd {arguments}) \
             >>/var/log/dockerd.log 2>&1 </dev/null & }}"
        );
        self.exec(id, &restart).await.map(drop)
    }

    /// Runs a command on the instance as root and returns what it prints.
    pub async fn exec(&self, id: &str, script: &str) -> Result<String> {
        docker(&["exec", &self.site.container(id), "sh", "-c", script]).await
    }

    /// Lets a user log in with this public key, as the cloud does it: for a minute.
    pub async fn authorise(&self, id: &str, user: &str, key: &str) -> Result<()> {
        self.site.authorise(id, user, key).await
    }

    /// Asks a shell condition on the instance until it holds.
    pub async fn until(&self, id: &str, condition: &str, within: Duration) -> Result<()> {
        let holds = async { while self.exec(id, condition).await.is_err() {} };
        let waited = tokio::time::timeout(within, holds).await;
        waited.with_context(|| format!("on {id} in {} s never: {condition}", within.as_secs()))
    }

    /// Ends every SSH connection to the instance; sshd stays, so that they can be made again.
    pub async fn cut_connections(&self, id: &str) -> Result<()> {
        // The listener is the container's first process.
        self.exec(
            id,
            "for pid in $(pgrep sshd); do [ $pid = 1 ] || kill -9 $pid; done",
        )
        .await
        .map(drop)
    }
}

async fn live(
    site: Arc<Site>,
    cloud: Weak<Cloud>,
    journal: Journal,
    id: String,
    address: Ipv4Addr,
    mut ended: mpsc::UnboundedReceiver<()>,
) {
    let boot = async {
        match site.start(&id, address).await {
            Ok(()) => {
                // Refused only when the cloud ended it meanwhile.
                if let Some(cloud) = cloud.upgrade() {
                    let _ = cloud.booted(&id).await;
                }
                journal.record(Fact::InstanceBooted(id.clone()));
            }
            Err(problem) => {
                journal.record(Fact::Violation(format!(
                    "instance {id} did not start: {problem:#}"
                )));
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = boot => {}
        _ = ended.recv() => {}
    }
    // `docker run` that was dropped half-way may still create its container.
    for _ in 0..20 {
        let _ = site.remove(&id).await;
        if docker(&["container", "inspect", &site.container(&id)])
            .await
            .is_err()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

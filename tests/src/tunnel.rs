//! An instance's Docker socket on this machine, through OpenSSH: the way a manager takes, for others to be measured on.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::instances::Instances;

const USER: &str = "ec2-user";
const OPENED: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(50);

/// Open until it is dropped.
pub struct Tunnel {
    _ssh: Child,
    folder: TempDir,
}

impl Tunnel {
    /// Makes a key, has it authorised, and logs in once.
    pub async fn open(instances: &Instances, id: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status()
            .await
            .context("ssh-keygen cannot be run; `make setup` installs it")?;
        if !made.success() {
            bail!("ssh-keygen: {made}");
        }
        let public = tokio::fs::read_to_string(key.with_extension("pub")).await?;
        instances.authorise(id, USER, &public).await?;
        let address = instances.exec(id, "hostname -i").await?;
        let tunnel = Self {
            _ssh: Command::new("ssh")
                .args(["-N", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
                .args(["-o", "StrictHostKeyChecking=no"])
                .args(["-o", "UserKnownHostsFile=/dev/null"])
                .args(["-o", "ExitOnForwardFailure=yes"])
                .arg("-i")
                .arg(&key)
                .arg("-L")
                .arg(format!(
                    "{}:/var/run/docker.sock",
                    folder.path().join("docker").display()
                ))
                .arg(format!("{USER}@{}", address.trim()))
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .context("ssh cannot be run; `make setup` installs it")?,
            folder,
        };
        let opened = async {
            while !tunnel.socket().exists() {
                tokio::time::sleep(STEP).await;
            }
        };
        tokio::time::timeout(OPENED, opened)
            .await
            .with_context(|| format!("ssh to {id} gave no Docker socket"))?;
        Ok(tunnel)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker")
    }
}

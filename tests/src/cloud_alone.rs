//! The cloud without machines: its instances boot by themselves after a while, and nothing runs on them.
//!
//! For what asks the cloud alone, such as the plugin commands: no Docker, and an instance costs nothing.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::aws_machine::AwsMachine;
use crate::cloud::{Cloud, Happening};
use crate::installation::Installation;
use crate::journal::Journal;
use crate::manager::{Configuration, DOCUMENTED};

/// From its launch until the cloud calls an instance running.
const BOOT: Duration = Duration::from_secs(1);
/// Of addresses that nobody dials.
const RANGE: &str = "10.199.0.0/24";
/// One answer of a command that asks.
const ANSWERED: Duration = Duration::from_secs(60);

pub struct CloudAlone {
    pub cloud: Arc<Cloud>,
    pub journal: Journal,
    dir: TempDir,
}

impl CloudAlone {
    pub async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let journal = Journal::default();
        let started = Cloud::start(Ipv4Addr::LOCALHOST, RANGE, dir.path(), journal.clone());
        let (cloud, mut happenings) = started.await?;
        let cloud = Arc::new(cloud);
        let booting = Arc::downgrade(&cloud);
        tokio::spawn(async move {
            while let Some(happening) = happenings.recv().await {
                let Happening::Launched { id, .. } = happening else {
                    continue;
                };
                let booting = booting.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(BOOT).await;
                    if let Some(cloud) = booting.upgrade() {
                        // It may have ended first.
                        let _ = cloud.booted(&id).await;
                    }
                });
            }
        });
        Ok(Self {
            cloud,
            journal,
            dir,
        })
    }

    /// Where the configuration lies.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// The documented configuration with this cloud's endpoint and keys, and leave to reach it.
    pub fn configuration(&self) -> Configuration {
        let config = DOCUMENTED.replace("<token>", "glrt-nobody-asks");
        let mut configuration = Configuration::of_cloud(config, &self.cloud.access);
        configuration.plugins.push_str("loopback = true\n");
        configuration
    }

    pub fn write(&self, configuration: &Configuration) -> Result<()> {
        configuration.write(self.home())
    }

    /// A command of the binary, to its end.
    pub async fn fleetling(&self, arguments: &[&str]) -> Result<Output> {
        let installation = Installation::built()?;
        let mut command = Command::new(&installation.binary);
        command.args(arguments).stdin(Stdio::null());
        self.at_home(&mut command);
        command.output().await.context("fleetling cannot be run")
    }

    /// The same on a machine of AWS's, with these variables.
    pub async fn fleetling_on(
        &self,
        machine: &AwsMachine,
        variables: &[(&str, String)],
        arguments: &[&str],
    ) -> Result<Output> {
        let installation = Installation::built()?;
        let mut command = machine.command(&installation.binary);
        command.args(arguments).stdin(Stdio::null());
        self.at_home(&mut command);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.output().await.context("fleetling cannot be run")
    }

    /// A command on a terminal, with an answer to each question: the first whose words are in it.
    pub async fn asked(&self, arguments: &[&str], answers: &[(&str, &str)]) -> Result<String> {
        let installation = Installation::built()?;
        let mut line = vec![shell_word(&installation.binary)];
        line.extend(arguments.iter().map(|word| shell_word(Path::new(word))));
        // `script` is part of every Debian, and gives its command a terminal.
        let mut command = Command::new("script");
        command.args(["-qec", &line.join(" "), "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.at_home(&mut command);
        let mut child = command.spawn().context("`script` cannot be run")?;
        let mut input = child.stdin.take().context("it has no input")?;
        let mut output = child.stdout.take().context("it has no output")?;
        let (mut said, mut answered) = (String::new(), 0);
        let mut piece = [0; 4096];
        loop {
            let read = tokio::time::timeout(ANSWERED, output.read(&mut piece)).await;
            let read = read.with_context(|| format!("it says no more:\n{said}"))??;
            if read == 0 {
                break;
            }
            said.push_str(&String::from_utf8_lossy(&piece[..read]));
            let open = &said[answered..];
            if open.ends_with("[y/N] ") || open.ends_with("none): ") {
                let question = open.lines().last().unwrap_or_default().to_owned();
                let found = answers.iter().find(|(words, _)| question.contains(words));
                let Some((_, answer)) = found else {
                    bail!("nobody told what to answer to: {question}");
                };
                answered = said.len();
                input.write_all(format!("{answer}\n").as_bytes()).await?;
            }
        }
        child.wait().await?;
        Ok(said)
    }

    fn at_home(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(self.home())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home())
            .env("SHELL", "/bin/sh")
            .env("STATE_DIRECTORY", self.state())
            .kill_on_drop(true);
    }

    /// Where a manager of this configuration keeps its state.
    pub fn state(&self) -> PathBuf {
        self.home().join("state")
    }
}

fn shell_word(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

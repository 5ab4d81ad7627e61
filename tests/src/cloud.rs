//! The lab's AWS: moto with signature checking on, in a Python process that tells what happens line by line.
//!
//! ```text
//! moto_cloud.py ──stdout: launched, ended, key, request──► reader task ──► journal, and `Happening`s for the instances
//!               ◄──stdin: booted, terminate, desire, most, group, … ── Cloud::ask, answered on stdout
//! ```

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use crate::journal::{Fact, Journal};

/// The group of the documented configuration.
pub const GROUP: &str = "my-docker-asg";

/// What the instances must follow.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Happening {
    Launched {
        id: String,
        address: Ipv4Addr,
    },
    Ended {
        id: String,
    },
    /// EC2 Instance Connect authorised a key for a user; valid for 60 s.
    Key {
        id: String,
        user: String,
        key: String,
    },
}

/// The group as the cloud describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    pub desired: u32,
    pub instances: Vec<String>,
}

/// How a client reaches the cloud.
#[derive(Clone, Debug, Deserialize)]
pub struct Access {
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    /// A role that may do what the manager's user may.
    pub role: String,
    /// A user that may take that role, and do nothing else.
    pub base_key: String,
    pub base_secret_key: String,
    /// Proves to STS who its bearer is, so that the bearer is given the role.
    pub identity_token: String,
}

/// Keys of a role, as the services that hand them out write them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoleKeys {
    pub access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: String,
    expiration: String,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value>>>>>;

pub struct Cloud {
    pub access: Access,
    input: tokio::sync::Mutex<(u64, ChildStdin)>,
    waiting: Waiting,
    /// Its standard input closes with this struct, and that ends it; killing is for when it hangs.
    _process: Child,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Ready(Access),
    Request {
        action: String,
        parameters: Value,
        status: u16,
        access_key: String,
    },
    Answer {
        id: u64,
        ok: bool,
        answer: Value,
    },
    #[serde(untagged)]
    Happening(Happening),
}

impl Cloud {
    /// Starts moto on `address`; instances get addresses of `range`, from .4 on.
    pub(crate) async fn start(
        address: Ipv4Addr,
        range: &str,
        dir: &Path,
        journal: Journal,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Happening>)> {
        let python = python();
        let log = std::fs::File::create(dir.join("cloud.log"))?;
        let mut process = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/moto_cloud.py"))
            .args([&address.to_string(), range, GROUP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "{} cannot be run; `make setup` installs moto",
                    python.display()
                )
            })?;
        let input = process.stdin.take().context("moto has no input")?;
        let output = process.stdout.take().context("moto has no output")?;
        let mut lines = BufReader::new(output).lines();

        let first = tokio::time::timeout(Duration::from_secs(90), async {
            while let Some(line) = lines.next_line().await? {
                if let Line::Ready(access) = serde_json::from_str(&line)? {
                    return Ok(access);
                }
            }
            bail!("moto ended before it was ready")
        });
        let access = first
            .await
            .map_err(|_| anyhow!("moto was not ready within 90 s"))
            .flatten()
            .with_context(|| format!("see {}", dir.join("cloud.log").display()))?;

        let waiting = Waiting::default();
        let (happenings, receiver) = mpsc::unbounded_channel();
        tokio::spawn(read(lines, journal, Arc::clone(&waiting), happenings));
        let cloud = Self {
            access,
            input: tokio::sync::Mutex::new((0, input)),
            waiting,
            _process: process,
        };
        Ok((cloud, receiver))
    }

    /// On this machine's own address and without instances to follow it, for who asks the API alone.
    pub async fn alone(dir: &Path) -> Result<Self> {
        let (address, range) = (Ipv4Addr::LOCALHOST, "10.99.0.0/24");
        let started = Self::start(address, range, dir, Journal::default()).await?;
        let (cloud, mut happenings) = started;
        tokio::spawn(async move { while happenings.recv().await.is_some() {} });
        Ok(cloud)
    }

    /// Keys of the role in a session of this name.
    pub async fn take_role(&self, session: &str) -> Result<RoleKeys> {
        let taken = self.ask(json!({"take_role": session})).await?;
        Ok(serde_json::from_value(taken)?)
    }

    /// From now on the manager's user may do these actions, on every resource.
    pub async fn allow(&self, actions: &[String]) -> Result<()> {
        self.ask(json!({"allow": actions})).await.map(drop)
    }

    /// The API shows an instance as something that it is not, such as `{"lifecycle": "spot"}`.
    pub async fn pretend(&self, id: &str, what: Value) -> Result<()> {
        self.ask(json!({"pretend": what, "of": id})).await.map(drop)
    }

    /// The group wants so many more instances, and nobody makes them.
    pub async fn lack(&self, count: u32) -> Result<()> {
        self.ask(json!({"lack": count})).await.map(drop)
    }

    /// Ends an instance from outside, as a person or another program would (EC2 TerminateInstances).
    pub async fn terminate(&self, id: &str) -> Result<()> {
        self.ask(json!({"terminate": id})).await.map(drop)
    }

    /// Sets the group's size, as a person would.
    pub async fn desire(&self, count: u32) -> Result<()> {
        self.ask(json!({"desire": count})).await.map(drop)
    }

    /// Sets the group's maximum.
    pub async fn allow_at_most(&self, count: u32) -> Result<()> {
        self.ask(json!({"most": count})).await.map(drop)
    }

    pub async fn group(&self) -> Result<Group> {
        Ok(serde_json::from_value(
            self.ask(json!({"group": true})).await?,
        )?)
    }

    /// The instance's boot is over: the cloud calls it running.
    pub async fn booted(&self, id: &str) -> Result<()> {
        self.ask(json!({"booted": id})).await.map(drop)
    }

    async fn ask(&self, mut what: Value) -> Result<Value> {
        let (sender, answer) = oneshot::channel();
        {
            let mut input = self.input.lock().await;
            input.0 += 1;
            what["id"] = json!(input.0);
            self.waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(input.0, sender);
            input.1.write_all(format!("{what}\n").as_bytes()).await?;
        }
        tokio::time::timeout(Duration::from_secs(30), answer)
            .await
            .context("moto did not answer within 30 s")?
            .context("moto ended")?
    }
}

/// The interpreter that has moto and boto3.
pub fn python() -> PathBuf {
    crate::run::lab_dir().join("venv/bin/python")
}

async fn read(
    mut lines: tokio::io::Lines<BufReader<ChildStdout>>,
    journal: Journal,
    waiting: Waiting,
    happenings: mpsc::UnboundedSender<Happening>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(line) = serde_json::from_str(&line) else {
            journal.record(Fact::Violation(format!("the cloud said {line:?}")));
            continue;
        };
        let happening = match line {
            Line::Happening(happening) => happening,
            Line::Ready(_) => continue,
            Line::Request {
                action,
                parameters,
                status,
                access_key,
            } => {
                journal.record(Fact::CloudAsked {
                    action,
                    parameters,
                    status,
                    key: access_key,
                });
                continue;
            }
            Line::Answer { id, ok, answer } => {
                let asked = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
                if let Some(asked) = asked {
                    let answer = if ok {
                        Ok(answer)
                    } else {
                        Err(anyhow!("the cloud: {answer}"))
                    };
                    // Whoever asked may have given up.
                    let _ = asked.send(answer);
                }
                continue;
            }
        };
        journal.record(match &happening {
            Happening::Launched { id, .. } => Fact::InstanceLaunched(id.clone()),
            Happening::Ended { id } => Fact::InstanceEnded(id.clone()),
            Happening::Key { id, .. } => Fact::KeyAuthorised(id.clone()),
        });
        if happenings.send(happening).is_err() {
            return;
        }
    }
}

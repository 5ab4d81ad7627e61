//! A ready instance: its warm connections and what was learnt of it before any job came.
//!
//! ```text
//! control ── ping, facts                closing ─▶ every line ends
//! slot 0 ── one job's streams           gone ────▶ every wait ends at once, with the cloud's reason
//! slot 1 ── …
//! ```

use async_trait::async_trait;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::stage::Addresses;
use crate::fleet::group::InstanceId;
use crate::fleet::ready::{self, NotReady};

/// How long Docker may take to answer a ping, a lost connection's redial included.
const PING: Duration = Duration::from_secs(5);

/// What is known of an instance once it is ready.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// As the kernel names it: `x86_64`, `aarch64`.
    pub(super) arch: String,
    /// The newest version of its API that the daemon speaks: (1, 41) of Docker 20.10.
    pub(super) api: (u32, u32),
    /// ID of the helper image, present on the instance.
    pub(super) helper_image: String,
    /// The helper binary for this architecture, on the manager.
    pub(super) helper_binary: PathBuf,
}

pub struct Machine {
    pub(super) instance: InstanceId,
    pub(super) addresses: Addresses,
    pub(super) facts: Facts,
    pub(super) control: Line,
    pub(super) slots: Vec<Line>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) gone: watch::Sender<Option<String>>,
    pub(super) closing: CancellationToken,
}

impl Machine {
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// As the kernel names it: `x86_64`, `aarch64`.
    pub fn arch(&self) -> &str {
        &self.facts.arch
    }

    pub(super) fn slot(&self, slot: u32) -> Option<&Line> {
        self.slots.get(usize::try_from(slot).ok()?)
    }
}

#[async_trait]
impl ready::Machine for Machine {
    fn slot_is_up(&self, slot: u32) -> bool {
        self.slot(slot).is_some_and(Line::is_up)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn gone(&self, reason: String) {
        self.gone.send_replace(Some(reason));
        self.closing.cancel();
        self.changes.send_modify(|n| *n += 1);
    }

    async fn ping(&self) -> Result<(), NotReady> {
        let ping = async {
            let control = self.control.connected().await?;
            control.docker.ping().await.map_err(|e| e.to_string())
        };
        let answered = tokio::time::timeout(PING, ping).await;
        let why = match answered {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", PING.as_secs()),
        };
        Err(NotReady::Failed(format!(
            "docker on instance {} does not answer: {why}",
            self.instance
        )))
    }

    async fn close(&self) {
        self.closing.cancel();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

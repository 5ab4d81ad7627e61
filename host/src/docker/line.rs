//! One warm connection to an instance: kept, and redialled when it is lost.
//!
//! ```text
//!   up ──lost──▶ down ──dialled──▶ old remote session ended ──▶ up      gone or closed: the end
//! ```
//! Invariant: a connection is published only after the one before it was ended on the instance, where that is allowed.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::client;
use crate::fleet::connector::{Link, Route, Target};

/// How long a job waits for a lost connection to come back.
pub(super) const REDIAL_WINDOW: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) docker: Docker,
}

impl Connected {
    pub(super) fn new(link: Link, target: &Target) -> Result<Self, bollard::errors::Error> {
        let docker = client::over(&link, target)?;
        Ok(Self { link, docker })
    }
}

/// What a line tells of and obeys.
#[derive(Clone)]
pub(super) struct Wires {
    pub(super) changes: watch::Sender<u64>,
    /// Why the instance is gone, once it is.
    pub(super) gone: watch::Receiver<Option<String>>,
    pub(super) closing: CancellationToken,
}

pub(super) struct Line {
    now: watch::Receiver<Option<Connected>>,
    gone: watch::Receiver<Option<String>>,
}

impl Line {
    /// Keeps `first` warm in a task of its own until the wires say otherwise.
    pub(super) fn keep(first: Connected, route: Arc<Route>, target: Target, wires: Wires) -> Self {
        let (publish, now) = watch::channel(Some(first.clone()));
        let gone = wires.gone.clone();
        tokio::spawn(keep(first, route, target, wires, publish));
        Self { now, gone }
    }

    pub(super) fn is_up(&self) -> bool {
        self.now
            .borrow()
            .as_ref()
            .is_some_and(|connected| connected.link.is_up())
    }

    /// The connection, waiting through a redial. Fails when the instance is gone or the window has passed.
    pub(super) async fn connected(&self) -> Result<Connected, String> {
        let mut now = self.now.clone();
        let up = async {
            let up = now
                .wait_for(|now| now.as_ref().is_some_and(|c| c.link.is_up()))
                .await;
            up.ok().and_then(|now| now.clone())
        };
        tokio::select! {
            up = up => up.ok_or_else(|| "the connection was closed".to_owned()),
            why = self.gone() => Err(why),
            () = tokio::time::sleep(REDIAL_WINDOW) => Err(format!(
                "the instance did not answer for {} s", REDIAL_WINDOW.as_secs()
            )),
        }
    }

    /// Waits until the instance is said to be gone; says why.
    pub(super) async fn gone(&self) -> String {
        let mut gone = self.gone.clone();
        match gone.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the instance was let go".into(),
        }
    }
}

async fn keep(
    first: Connected,
    route: Arc<Route>,
    target: Target,
    mut wires: Wires,
    publish: watch::Sender<Option<Connected>>,
) {
    let instance = route.instance().clone();
    let mut current = first;
    loop {
        let why = tokio::select! {
            why = current.link.lost() => why,
            () = wires.closing.cancelled() => return current.link.close().await,
        };
        publish.send_replace(None);
        wires.changes.send_modify(|n| *n += 1);
        warn!(%instance, reason = %why, "connection lost");
        let redial = async {
            loop {
                match route.dial(REDIAL_WINDOW).await {
                    Ok(link) => match Connected::new(link, &target) {
                        Ok(connected) => return connected,
                        Err(error) => warn!(%instance, %error, "client not made"),
                    },
                    Err(failure) => warn!(%instance, reason = %failure, "redial failed"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let next = tokio::select! {
            next = redial => next,
            () = wires.closing.cancelled() => return,
            _ = wires.gone.wait_for(Option::is_some) => return,
        };
        if let Some(old) = current.link.session()
            && !next.link.end_session(old).await
        {
            warn!(%instance, "the lost connection's remote session could not be ended");
        }
        current = next;
        publish.send_replace(Some(current.clone()));
        wires.changes.send_modify(|n| *n += 1);
        info!(%instance, "connection restored");
    }
}

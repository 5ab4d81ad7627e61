//! One warm connection to an instance: kept, and redialled when it is lost.
//!
//! ```text
//!   up ──lost──▶ down ──dialled──▶ old remote session ended ──▶ up      gone or closed: the end
//! ```
//! Invariants: a connection is published only after the one before it was ended on the instance, where that is allowed;
//! the time a job waits counts from the loss, so that whoever asks later (its cleanup) waits no second time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::way::{Connected, Path};

/// How long a job waits for a lost connection to come back.
pub(super) const REDIAL_WINDOW: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);

/// What a line tells of and obeys.
#[derive(Clone)]
pub(super) struct Wires {
    pub(super) changes: watch::Sender<u64>,
    /// Why the instance is gone, once it is.
    pub(super) gone: watch::Receiver<Option<String>>,
    pub(super) closing: CancellationToken,
}

/// Whether there is a connection.
#[derive(Clone)]
enum State<C> {
    Up(C),
    Down { since: Instant },
}

pub(super) struct Line {
    now: watch::Receiver<State<Connected>>,
    gone: watch::Receiver<Option<String>>,
}

impl Line {
    /// Keeps `first` warm in a task of its own until the wires say otherwise.
    pub(super) fn keep(first: Connected, path: Arc<Path>, wires: Wires) -> Self {
        let (publish, now) = watch::channel(State::Up(first.clone()));
        let gone = wires.gone.clone();
        tokio::spawn(keep(first, path, wires, publish));
        Self { now, gone }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.now.borrow(), State::Up(connected) if connected.is_up())
    }

    /// The connection, waiting through a redial. Fails when the instance is gone or the window has passed.
    pub(super) async fn connected(&self) -> Result<Connected, String> {
        let up = tokio::select! {
            up = within_window(self.now.clone(), |connected| connected.is_up()) => up,
            why = self.gone() => Err(why),
        };
        // A line ends because the instance is gone, and both are seen at once: the cloud's word tells more.
        up.map_err(|why| self.gone.borrow().clone().unwrap_or(why))
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

/// The connection once it works. One that is lost but not yet said to be is waited out like one that is down.
async fn within_window<C: Clone>(
    mut now: watch::Receiver<State<C>>,
    works: impl Fn(&C) -> bool,
) -> Result<C, String> {
    let asked = Instant::now();
    loop {
        let lost = match &*now.borrow_and_update() {
            State::Up(connected) if works(connected) => return Ok(connected.clone()),
            State::Up(_) => asked,
            State::Down { since } => *since,
        };
        tokio::select! {
            changed = now.changed() => changed.map_err(|_| "the connection was closed".to_owned())?,
            () = sleep_until(lost + REDIAL_WINDOW) => return Err(format!(
                "the instance did not answer for {} s", REDIAL_WINDOW.as_secs()
            )),
        }
    }
}

async fn keep(
    first: Connected,
    path: Arc<Path>,
    mut wires: Wires,
    publish: watch::Sender<State<Connected>>,
) {
    let instance = path.instance().clone();
    let mut current = first;
    loop {
        let why = tokio::select! {
            why = current.lost() => why,
            () = wires.closing.cancelled() => return current.close().await,
        };
        publish.send_replace(State::Down {
            since: Instant::now(),
        });
        wires.changes.send_modify(|n| *n += 1);
        warn!(%instance, reason = %why, "connection lost");
        let redial = async {
            loop {
                match path.dial(REDIAL_WINDOW).await {
                    Ok(connected) => return connected,
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
        if !next.takes_over(&current).await {
            warn!(%instance, "the lost connection's remote session could not be ended");
        }
        current = next;
        publish.send_replace(State::Up(current.clone()));
        wires.changes.send_modify(|n| *n += 1);
        info!(%instance, "connection restored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_is_waited_for_once_however_often_it_is_asked_for() {
        let (publish, now) = watch::channel(State::Up(true));
        let works = |works: &bool| *works;
        assert_eq!(within_window(now.clone(), works).await, Ok(true));

        let lost = Instant::now();
        publish.send_replace(State::Down { since: lost });
        assert!(within_window(now.clone(), works).await.is_err());
        assert_eq!(lost.elapsed(), REDIAL_WINDOW);
        assert!(within_window(now.clone(), works).await.is_err());
        assert_eq!(lost.elapsed(), REDIAL_WINDOW, "the second asker waited too");

        publish.send_replace(State::Up(true));
        assert_eq!(within_window(now, works).await, Ok(true));
    }

    /// More than once, because which of the two is seen first is a matter of luck.
    #[tokio::test(start_paused = true)]
    async fn complaint_15_a_job_on_a_dead_instance_is_told_what_the_cloud_says_of_it() {
        for _ in 0..50 {
            let since = Instant::now();
            let (publish, now) = watch::channel(State::Down { since });
            let (tell, gone) = watch::channel(None);
            let line = Line { now, gone };
            let (found, ()) = tokio::join!(line.connected(), async {
                tokio::task::yield_now().await;
                tell.send_replace(Some("the cloud deleted it".to_owned()));
                drop(publish);
            });
            assert_eq!(found.err().as_deref(), Some("the cloud deleted it"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_comes_back_in_time_is_taken() {
        let (publish, now) = watch::channel(State::Up(false));
        let begun = Instant::now();
        let back = async {
            tokio::time::sleep(REDIAL_WINDOW / 2).await;
            publish.send_replace(State::Down { since: begun });
            tokio::time::sleep(REDIAL_WINDOW / 4).await;
            publish.send_replace(State::Up(true));
        };
        let (connected, ()) = tokio::join!(within_window(now, |works| *works), back);
        assert_eq!(connected, Ok(true));
    }
}

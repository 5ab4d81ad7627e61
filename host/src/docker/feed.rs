//! The fed helper: one container for the whole job, its pid 1 our helper, stages sent to it as frames.
//!
//! ```text
//! attach ─▶ hello{resume_from} ─▶ hello ─▶ stage ─▶ output… ─▶ exit        any loss: attach again, and so on from hello
//! ```
//! Invariants: a frame is taken once, by its number; a stage may be sent again, because the helper knows its id; a helper
//! that runs and does not answer is given up after the time that a lost connection is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::StartContainerOptions;
use fleetling_helper::{
    Decoder, Frame as _, FromHelper, Shell, StageOrder, Stream as From, ToHelper,
};
use futures_util::{Stream as Items, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use super::line::REDIAL_WINDOW;
use super::site::{Site, failed};
use super::stage::{Output, StageFailure, StageScript, Stream};
use super::stream::{Sieve, UNBEGUN};

/// The helper's own KILL comes ten seconds after its TERM; then the container is removed.
const CANCEL: Duration = Duration::from_secs(11);
const HELLO: Duration = Duration::from_secs(10);
/// Frames between two acks.
const ACK_EVERY: u32 = 16;
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Feed {
    pub(super) name: String,
    wire: Option<Wire>,
    /// Number of the last frame taken.
    taken: u64,
    stages: u64,
}

struct Wire {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Pin<Box<dyn Items<Item = Result<LogOutput, Error>> + Send>>,
    decoder: Decoder<FromHelper>,
}

/// What broke a wire; the next one resumes.
struct Broken;

/// How long a helper has owed an answer.
#[derive(Default)]
struct Silence(Option<Instant>);

impl Silence {
    /// Goes on counting where it has begun.
    fn begin(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    /// A helper may be silent for as long as a connection may be lost.
    fn is_too_long(&self) -> bool {
        self.0.is_some_and(|since| since.elapsed() >= REDIAL_WINDOW)
    }
}

/// Why a helper could not be fed.
pub(super) enum Unfed {
    /// This image cannot run our helper.
    CannotRun(String),
    Failed(StageFailure),
}

impl Wire {
    async fn send(&mut self, frame: &ToHelper) -> Result<(), Broken> {
        let line = frame.encode().map_err(|_| Broken)?;
        let sending = async {
            self.input.write_all(&line).await?;
            self.input.flush().await
        };
        // A helper that does not read takes nothing more once the pipes are full.
        let sent = tokio::time::timeout(REDIAL_WINDOW, sending).await;
        sent.map_err(|_| Broken)?.map_err(|_| Broken)
    }

    /// The next frame. Safe to drop: what was read stays in the decoder.
    async fn next(&mut self) -> Result<Result<FromHelper, ()>, Broken> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Ok(Ok(frame)),
                Err(_) => return Ok(Err(())),
                Ok(None) => {}
            }
            match self.output.next().await {
                Some(Ok(LogOutput::StdOut { message })) => self.decoder.push(&message),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Broken),
            }
        }
    }
}

impl Feed {
    /// Of a container that nothing was sent to.
    pub(super) fn of(name: String) -> Self {
        Self {
            name,
            wire: None,
            taken: 0,
            stages: 0,
        }
    }

    /// Attaches to a created container, starts it and waits for its hello.
    pub(super) async fn begin(site: &Site, name: String) -> Result<Self, Unfed> {
        let mut feed = Self::of(name);
        let at = site.connected().await.map_err(Unfed::Failed)?;
        feed.attach(site).await.map_err(Unfed::Failed)?;
        let starting = at
            .docker
            .start_container(&feed.name, None::<StartContainerOptions>)
            .instrument(debug_span!("step", step = "start", container = feed.name));
        match site.unless_gone(starting).await.map_err(Unfed::Failed)? {
            Ok(()) => {}
            Err(Error::DockerResponseServerError { message, .. }) => {
                return Err(Unfed::CannotRun(message));
            }
            // Whether it started is unknown; the state tells below.
            Err(_) => feed.wire = None,
        }
        match feed.greet(site).await {
            Ok(()) => Ok(feed),
            Err(Broken) => {
                let state = site.state(&feed.name).await.map_err(Unfed::Failed)?;
                if state.running == Some(true) {
                    return Ok(feed);
                }
                let code = state.exit_code.unwrap_or_default();
                Err(Unfed::CannotRun(format!(
                    "it ended at once with exit code {code}"
                )))
            }
        }
    }

    async fn attach(&mut self, site: &Site) -> Result<(), StageFailure> {
        let until = Instant::now() + REDIAL_WINDOW;
        loop {
            let at = site.connected().await?;
            match site.attach(&at, &self.name).await? {
                Ok(attached) => {
                    self.wire = Some(Wire {
                        input: attached.input,
                        output: attached.output,
                        decoder: Decoder::default(),
                    });
                    return Ok(());
                }
                Err(why) if Instant::now() >= until => {
                    return Err(failed(format!("cannot attach to {}: {why}", self.name)));
                }
                Err(_) => site.unless_gone(tokio::time::sleep(PAUSE)).await?,
            }
        }
    }

    /// Says hello and waits for the answer; what comes before it is another attach's remainder.
    async fn greet(&mut self, site: &Site) -> Result<(), Broken> {
        let wire = self.wire.as_mut().ok_or(Broken)?;
        let greeting = async {
            let resume_from = self.taken + 1;
            wire.send(&ToHelper::Hello { resume_from }).await?;
            loop {
                if let Ok(FromHelper::Hello { .. }) = wire.next().await? {
                    return Ok(());
                }
            }
        };
        let greeted = tokio::time::timeout(HELLO, greeting).instrument(debug_span!(
            "step",
            step = "greet",
            container = self.name
        ));
        let answered = site.unless_gone(greeted).await.map_err(|_| Broken)?;
        let result = answered.unwrap_or(Err(Broken));
        if result.is_err() {
            self.wire = None;
        }
        result
    }

    /// Runs one stage; after [`StageFailure::Stopped`] the helper still serves.
    pub(super) async fn run(
        &mut self,
        site: &Site,
        stage: &StageScript,
        output: &Arc<dyn Output>,
        stop: &CancellationToken,
    ) -> Result<i32, StageFailure> {
        self.stages += 1;
        let order = ToHelper::Stage(StageOrder {
            id: self.stages,
            script: stage.text.clone().into_bytes(),
            environment: vec![],
            directory: String::new(),
            umask: site.plan.helper_umask,
            shell: Shell::Detect,
        });
        let mut sieve = Sieve::new(&stage.begin_mark);
        let mut silence = Silence::default();
        loop {
            if self.wire.is_none() {
                self.attach(site).await?;
                if let Err(Broken) = self.greet(site).await {
                    still_runs(site, &self.name).await?;
                    silence.begin();
                    if silence.is_too_long() {
                        return Err(failed(format!(
                            "the helper container runs but did not answer for {} s",
                            REDIAL_WINDOW.as_secs()
                        )));
                    }
                    // A stopped stage is not worth waiting for.
                    if stop.is_cancelled() {
                        return Err(StageFailure::Stopped);
                    }
                    site.unless_gone(tokio::time::sleep(PAUSE)).await?;
                    continue;
                }
                silence = Silence::default();
            }
            let fed = self.feed(&order, &mut sieve, output, stop);
            let code = match site.unless_gone(fed).await? {
                Ok(Some(code)) => code,
                Ok(None) => return Err(StageFailure::Stopped),
                Err(Broken) => {
                    self.wire = None;
                    silence.begin();
                    still_runs(site, &self.name).await?;
                    continue;
                }
            };
            let rest = sieve.rest();
            output.write(Stream::Out, &rest);
            if stop.is_cancelled() {
                return Err(StageFailure::Stopped);
            }
            if code == 0 && !sieve.seen() {
                return Err(failed(format!(
                    "stage {} ended before its script began",
                    stage.name
                )));
            }
            if !sieve.seen() {
                output.write(Stream::Err, UNBEGUN);
            }
            return Ok(code);
        }
    }

    /// Sends the stage and takes its frames to the exit; `None` when it would not end after a cancel.
    async fn feed(
        &mut self,
        order: &ToHelper,
        sieve: &mut Sieve,
        output: &Arc<dyn Output>,
        stop: &CancellationToken,
    ) -> Result<Option<i32>, Broken> {
        let (wire, id) = (self.wire.as_mut().ok_or(Broken)?, self.stages);
        wire.send(order).await?;
        let (mut patience, mut unacked) = (None, 0);
        loop {
            let frame = tokio::select! {
                frame = wire.next() => frame?.map_err(|()| Broken)?,
                () = stop.cancelled(), if patience.is_none() => {
                    wire.send(&ToHelper::Cancel { id }).await?;
                    patience = Some(Instant::now() + CANCEL);
                    continue;
                }
                () = tokio::time::sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    return Ok(None);
                }
            };
            let Some(seq) = frame.seq().filter(|seq| *seq > self.taken) else {
                continue;
            };
            self.taken = seq;
            let ended = match frame {
                FromHelper::Output {
                    stage,
                    stream,
                    bytes,
                    ..
                } if stage == id => {
                    match stream {
                        From::Err => output.write(Stream::Err, &bytes),
                        From::Out => {
                            let shown = sieve.pass(&bytes);
                            if !shown.is_empty() {
                                output.write(Stream::Out, &shown);
                            }
                        }
                    }
                    None
                }
                FromHelper::Exit { stage, code, .. } if stage == id => Some(code),
                _ => None,
            };
            // An ack that does not get through, or was not sent yet, only means that frames come again.
            unacked += 1;
            let acked = if unacked >= ACK_EVERY || ended.is_some() {
                unacked = 0;
                wire.send(&ToHelper::Ack { seq }).await
            } else {
                Ok(())
            };
            if ended.is_some() {
                return Ok(ended);
            }
            acked?;
        }
    }
}

async fn still_runs(site: &Site, name: &str) -> Result<(), StageFailure> {
    let state = site.state(name).await?;
    if state.running == Some(true) {
        return Ok(());
    }
    Err(failed(format!(
        "the helper container ended by itself (exit code {}){}",
        state.exit_code.unwrap_or_default(),
        if state.oom_killed == Some(true) {
            ", out of memory"
        } else {
            ""
        }
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_its_begin_and_ends_the_wait_within_the_window() {
        let mut silence = Silence::default();
        tokio::time::sleep(REDIAL_WINDOW * 2).await;
        assert!(!silence.is_too_long(), "nothing was owed");
        silence.begin();
        tokio::time::sleep(REDIAL_WINDOW / 2).await;
        silence.begin();
        assert!(!silence.is_too_long());
        tokio::time::sleep(REDIAL_WINDOW / 2).await;
        assert!(silence.is_too_long(), "the second loss began it anew");
    }
}

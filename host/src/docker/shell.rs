//! A container whose process is a shell: one start for each stage, its script sent over the attach.
//!
//! ```text
//! attach ─▶ start ─▶ send script ─▶ mark seen ─▶ exit
//!              │           │ lost: nothing ran  │ lost: go on from the log, never send again
//! ```
//! Invariants: a lost stream is no end, only wait and inspect are, and only after start answered; exit 0 counts only
//! with the mark. After a loss the log is the one source, so that no seam between log and attach has to be found.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecOptions;
use bollard::models::ExecConfig;
use bollard::query_parameters::{
    KillContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::{Stream as Items, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use super::line::REDIAL_WINDOW;
use super::site::{self, Site, failed, unmet};
use super::stage::{Output, StageFailure, StageScript, Stream};
use super::stream::{Sieve, Skip, Tally, UNBEGUN};
use super::way::Connected;

/// How long a container's streams may be silent after its end; they go on for as long as the rest takes.
const DRAIN: Duration = Duration::from_secs(10);
/// How long processes may take to end after TERM.
const GRACE: Duration = Duration::from_secs(10);
/// How long the mark may take to show in the log after a loss; without it nothing ran.
const MARK_WAIT: Duration = Duration::from_secs(2);
/// How often an ended container's log is tried.
const CATCH_UPS: u32 = 3;
/// How much later than the streams it cuts a loss is known.
pub(super) const LOSS_SHOWS: Duration = Duration::from_millis(300);

pub(super) const RESTARTED: &str =
    "the Docker daemon on the instance was restarted, which ended the job";

/// Sends TERM to every process but the first and itself, and waits until they are gone.
const TERMINATE: &str = "others() { for p in /proc/[0-9]*; do p=${p#/proc/}; [ \"$p\" = 1 ] || [ \"$p\" = $$ ] || \
echo \"$p\"; done; }; for p in $(others); do kill -TERM \"$p\" 2>/dev/null; done; n=0; \
while [ $n -lt 8 ]; do left=0; for p in $(others); do kill -0 \"$p\" 2>/dev/null && left=1; done; \
[ $left = 0 ] && exit 0; sleep 1; n=$((n+1)); done";

pub(super) struct Shell {
    pub(super) name: String,
    /// Its shell already waits for a script.
    pub(super) started: bool,
    tally: [Tally; 2],
}

pub(super) enum End {
    Code(i32),
    /// The script never began; it may be sent to a new container.
    NothingRan,
}

type Source = Pin<Box<dyn Items<Item = Result<LogOutput, Error>> + Send>>;

/// How long what is left of a stream is waited for.
#[derive(Default)]
struct Drain(Option<Instant>);

impl Drain {
    /// From its begin on, and anew with whatever came.
    fn wait_on(&mut self) {
        self.0 = Some(Instant::now() + DRAIN);
    }

    fn came(&mut self) {
        if self.0.is_some() {
            self.wait_on();
        }
    }

    /// Safe to drop.
    async fn over(&self) {
        match self.0 {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

/// How a look at a running container ended.
enum Looked {
    Exited(i64),
    /// The stream or the wait broke; `daemon` when the connection did not.
    Broke {
        daemon: bool,
    },
    NoMark,
}

struct Pump<'a> {
    sieve: Sieve,
    tally: &'a mut [Tally; 2],
    output: &'a Arc<dyn Output>,
}

impl Pump<'_> {
    fn take(&mut self, item: &LogOutput, skips: Option<&mut [Skip; 2]>) {
        let (n, message) = match item {
            LogOutput::StdOut { message } | LogOutput::Console { message } => (0, message),
            LogOutput::StdErr { message } => (1, message),
            LogOutput::StdIn { .. } => return,
        };
        let new = match skips {
            Some(skips) => skips[n].pass(message),
            None => message,
        };
        self.tally[n].count(new);
        if n == 1 {
            return self.write(Stream::Err, new);
        }
        let shown = self.sieve.pass(new);
        self.write(Stream::Out, &shown);
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.output.write(stream, bytes);
        }
    }
}

impl Shell {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            started: false,
            tally: Default::default(),
        }
    }

    pub(super) async fn start(&mut self, site: &Site) -> Result<(), StageFailure> {
        let at = site.connected().await?;
        let starting = at
            .docker
            .start_container(&self.name, None::<StartContainerOptions>)
            .instrument(debug_span!("step", step = "start", container = self.name));
        site.unless_gone(starting).await?.map_err(|error| {
            let what = format!("container {} could not be started", self.name);
            unmet(&what, &error)
        })?;
        self.started = true;
        Ok(())
    }

    /// Runs one stage. After [`StageFailure::Stopped`] the container is only good for removal.
    pub(super) async fn run(
        &mut self,
        site: &Site,
        stage: &StageScript,
        output: &Arc<dyn Output>,
        stop: &CancellationToken,
    ) -> Result<End, StageFailure> {
        let at = site.connected().await?;
        let Ok(attached) = site.attach(&at, &self.name).await? else {
            return Ok(End::NothingRan);
        };
        if !self.started
            && let Err(failure) = self.start(site).await
        {
            return if at.is_up() {
                Err(failure)
            } else {
                Ok(End::NothingRan)
            };
        }
        self.started = false;
        let name = self.name.clone();
        let mut pump = Pump {
            sieve: Sieve::new(&stage.begin_mark),
            tally: &mut self.tally,
            output,
        };
        let mut input = attached.input;
        let text = stage.text.clone();
        // The writer keeps the input open: it ends with the attach.
        let sending = tokio::spawn(async move {
            let sent = async {
                input.write_all(text.as_bytes()).await?;
                input.flush().await
            };
            sent.await.map(|()| input)
        });
        let looking = Look {
            site,
            name: &name,
            stop,
        };
        let (looked, started_at) = tokio::join!(
            looking.on(&at, attached.output, None, &mut pump, None),
            site.state(&name)
        );
        sending.abort();
        let mut looked = looked?;
        let started_at = started_at?.started_at;
        let (mut daemon_cut, mut resumed) = (false, false);
        let code = loop {
            match looked {
                Looked::Exited(code) => break code,
                Looked::NoMark => return looking.before_the_mark(&mut pump).await,
                Looked::Broke { daemon } => daemon_cut |= daemon,
            }
            let state = site.state(&name).await?;
            if state.started_at != started_at {
                return Err(failed(format!("container {name}: somebody restarted it")));
            }
            let running = state.running.unwrap_or_default();
            if !running && daemon_cut {
                return Err(failed(RESTARTED.into()));
            }
            let at = site.connected().await?;
            resumed = true;
            let mut skips = [pump.tally[0].skip(), pump.tally[1].skip()];
            let log = log(&at, &name, true);
            let patience = (!pump.sieve.seen() && running).then_some(MARK_WAIT);
            looked = looking
                .on(&at, log, Some(&mut skips), &mut pump, patience)
                .await?;
        };
        // A followed log may end before a last line without its newline was written.
        for _ in 0..CATCH_UPS {
            if !resumed || looking.catch_up(&mut pump).await? {
                break;
            }
        }
        let rest = pump.sieve.rest();
        pump.write(Stream::Out, &rest);
        if code == 0 && !pump.sieve.seen() {
            return Err(failed(format!(
                "container {name} ended before its script began; an entrypoint must run the command it is given"
            )));
        }
        if !pump.sieve.seen() {
            pump.write(Stream::Err, UNBEGUN);
        }
        Ok(End::Code(i32::try_from(code).unwrap_or(-1)))
    }
}

fn log(at: &Connected, name: &str, follow: bool) -> Source {
    let options = LogsOptionsBuilder::default()
        .follow(follow)
        .stdout(true)
        .stderr(true)
        .build();
    Box::pin(at.docker.logs(name, Some(options)))
}

struct Look<'a> {
    site: &'a Site,
    name: &'a str,
    stop: &'a CancellationToken,
}

impl Look<'_> {
    /// Reads a source until the container ends, the source breaks, or the mark does not come in time.
    async fn on(
        &self,
        at: &Connected,
        mut source: Source,
        mut skips: Option<&mut [Skip; 2]>,
        pump: &mut Pump<'_>,
        patience: Option<Duration>,
    ) -> Result<Looked, StageFailure> {
        let options = WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let mut waiting = Box::pin(at.docker.wait_container(self.name, Some(options)));
        let mut exit = None;
        let (mut waited, mut streamed, mut stopping) = (false, false, false);
        let mut drain = Drain::default();
        let no_mark = Instant::now() + patience.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let mut ending = Box::pin(self.terminate(at));
        let gone = self.site.unless_gone(std::future::pending::<()>());
        tokio::pin!(gone);
        while !(streamed && waited) {
            tokio::select! {
                item = source.next(), if !streamed => match item {
                    Some(Ok(item)) => {
                        pump.take(&item, skips.as_deref_mut());
                        drain.came();
                    }
                    Some(Err(_)) | None => {
                        streamed = true;
                        drain.wait_on();
                    }
                },
                ended = waiting.next(), if !waited => {
                    waited = true;
                    exit = match ended {
                        Some(Ok(ended)) => Some(ended.status_code),
                        Some(Err(Error::DockerContainerWaitError { code, .. })) => Some(code),
                        Some(Err(_)) | None => None,
                    };
                    if exit.is_some() {
                        drain.wait_on();
                    }
                }
                () = drain.over() => break,
                () = self.stop.cancelled(), if !stopping => stopping = true,
                () = &mut ending, if stopping => return Err(StageFailure::Stopped),
                () = tokio::time::sleep_until(no_mark), if patience.is_some() && !pump.sieve.seen() => {
                    return Ok(Looked::NoMark);
                }
                gone = &mut gone => gone?,
            }
        }
        if stopping {
            return Err(StageFailure::Stopped);
        }
        // A loss is known a moment after the streams it cut.
        let lost = tokio::time::timeout(LOSS_SHOWS, at.lost());
        match exit {
            // The wait's answer came over this connection; the stream may have been cut short all the same.
            Some(code) if at.is_up() && streamed => Ok(Looked::Exited(code)),
            _ => {
                let lost = lost.await.is_ok();
                Ok(Looked::Broke {
                    daemon: !lost && waited && exit.is_none(),
                })
            }
        }
    }

    /// Kills a container whose mark was not seen and makes sure that nothing ran in it.
    async fn before_the_mark(&self, pump: &mut Pump<'_>) -> Result<End, StageFailure> {
        let at = self.site.connected().await?;
        let killing = at
            .docker
            .kill_container(self.name, None::<KillContainerOptions>);
        if let Err(problem) = self.site.unless_gone(killing).await?
            && !site::is_not_running(&problem)
        {
            // What still runs may yet begin.
            return Err(failed(format!(
                "the connection was lost as the script began, and its container could not be killed: {problem}"
            )));
        }
        if self.catch_up(pump).await? && !pump.sieve.seen() {
            return Ok(End::NothingRan);
        }
        Err(failed(
            "the connection was lost as the script began; whether it ran is unknown, so it is not run again".into(),
        ))
    }

    /// Takes what the log of an ended container still has. False when it could not be read to its end.
    async fn catch_up(&self, pump: &mut Pump<'_>) -> Result<bool, StageFailure> {
        let at = self.site.connected().await?;
        let mut skips = [pump.tally[0].skip(), pump.tally[1].skip()];
        let mut log = log(&at, self.name, false);
        // Only silence is bounded: a long log takes its time.
        let reading = async {
            loop {
                match tokio::time::timeout(REDIAL_WINDOW, log.next()).await {
                    Ok(Some(Ok(item))) => pump.take(&item, Some(&mut skips)),
                    Ok(Some(Err(_))) | Err(_) => return false,
                    Ok(None) => return true,
                }
            }
        };
        Ok(self.site.unless_gone(reading).await? && at.is_up())
    }

    /// TERM to the processes in the container, at most for the grace.
    async fn terminate(&self, at: &Connected) {
        if self.site.plan.native_stop {
            let options = StopContainerOptionsBuilder::default()
                .t(i32::try_from(GRACE.as_secs()).unwrap_or_default())
                .build();
            // What it does not end, removal ends. What it ended may have had a last word, which is still on its way.
            if at
                .docker
                .stop_container(self.name, Some(options))
                .await
                .is_ok()
            {
                tokio::time::sleep(DRAIN).await;
            }
            return;
        }
        let ending = async {
            if self.site.config.pid_mode.is_some() {
                // It sees processes that are not its own: only its first one gets TERM.
                let term = KillContainerOptionsBuilder::default()
                    .signal("SIGTERM")
                    .build();
                return at.docker.kill_container(self.name, Some(term)).await;
            }
            let config = ExecConfig {
                cmd: Some(["sh", "-c", TERMINATE].map(String::from).to_vec()),
                ..ExecConfig::default()
            };
            let made = at.docker.create_exec(self.name, config).await?;
            let options = StartExecOptions {
                detach: true,
                ..StartExecOptions::default()
            };
            at.docker.start_exec(&made.id, Some(options)).await?;
            Ok(())
        };
        let begun = Instant::now();
        // An image without `sh` gets no TERM; removal ends it.
        if let Ok(Ok(())) = tokio::time::timeout(GRACE, ending).await {
            tokio::time::sleep_until(begun + GRACE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends at once if the wait is over.
    async fn is_over(drain: &Drain) -> bool {
        tokio::select! {
            biased;
            () = drain.over() => true,
            () = tokio::time::sleep(Duration::ZERO) => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_stream_may_take_long_but_not_be_silent_for_long() {
        let mut drain = Drain::default();
        drain.came();
        tokio::time::sleep(DRAIN * 2).await;
        assert!(!is_over(&drain).await, "its container has not ended");
        drain.wait_on();
        for _ in 0..10 {
            tokio::time::sleep(DRAIN - Duration::from_secs(1)).await;
            assert!(!is_over(&drain).await, "it was not silent");
            drain.came();
        }
        tokio::time::sleep(DRAIN).await;
        assert!(is_over(&drain).await);
    }
}

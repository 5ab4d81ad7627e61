//! Reads frames from standard input, runs stages one after another, and answers on standard output.
//!
//! ```text
//!   reader (main) ──┬─ hello, ack ─────────▶ spool ──▶ writer ──▶ stdout
//!                   └─ stage, cancel, end ─▶ ┌───────┐   ▲
//!   reaper ── exited(pid) ─────────────────▶ │ stages │──┘ exit, output of two pipe threads
//!   signals ── TERM, INT ──────────────────▶ └───────┘
//! ```
//!
//! `stages` alone knows what runs. A stage ends when its shell exits: what is left of it is killed, its pipes are read
//! for at most two more seconds, and its exit frame is the last of it. The end of standard input ends nothing that runs.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::frame::{Decoder, StageOrder, Stream, ToHelper};
use crate::spool::Spool;
use crate::stage::{self, Running};

/// Between TERM and KILL of a cancelled stage.
const GRACE: Duration = Duration::from_secs(10);
/// How long pipes are read on after the shell has ended and its processes were killed.
const DRAIN: Duration = Duration::from_secs(2);
/// The exit code of a stage that could not be started, as a shell has it.
const NOT_STARTED: i32 = 127;
/// The exit code of this process after a TERM.
const TERMINATED: u8 = 143;

enum Event {
    Stage(StageOrder),
    Cancel(u64),
    /// A pipe of this stage was read to its end.
    PipeClosed(u64),
    Exited(Pid, i32),
    End,
    InputEnded,
    Terminated,
}

/// Serves until `end`, a TERM, or the end of standard input with nothing running. Answers the exit code.
pub fn serve() -> Result<u8, String> {
    // Blocked before the first thread starts, so that every thread inherits it; `stage` unblocks what it starts.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
        .thread_block()
        .map_err(|e| format!("cannot block signals: {e}"))?;
    // As pid 1 orphans are ours anyway; otherwise (tests, `init = true`) we ask for them.
    if let Err(e) = nix::sys::prctl::set_child_subreaper(true) {
        eprintln!("fleetling-helper: orphans will not be reaped: {e}");
    }

    let spool = Arc::new(Spool::new());
    let (events, inbox) = channel();
    let (born, births) = channel();
    let for_signals = events.clone();
    thread::spawn(move || {
        if signals.wait().is_ok() {
            let _ = for_signals.send(Event::Terminated);
        }
    });
    let for_reaper = events.clone();
    thread::spawn(move || reap(&births, &for_reaper));
    let for_writer = Arc::clone(&spool);
    thread::spawn(move || write(&for_writer));
    let (for_reader, reader_spool) = (events.clone(), Arc::clone(&spool));
    thread::spawn(move || read(&for_reader, &reader_spool));

    let mut stages = Stages {
        spool,
        events,
        born,
        running: None,
        queue: VecDeque::new(),
        leaving: false,
    };
    Ok(stages.work(&inbox))
}

/// Turns standard input into events. A line that is no frame is the rest of one whose attach was lost: skipped.
fn read(events: &Sender<Event>, spool: &Spool) {
    let mut stdin = io::stdin().lock();
    let mut decoder = Decoder::<ToHelper>::default();
    let mut seen = HashSet::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => decoder.push(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        }
        loop {
            let sent = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(ToHelper::Hello { resume_from })) => {
                    spool.resume(resume_from);
                    Ok(())
                }
                Ok(Some(ToHelper::Ack { seq })) => {
                    spool.ack(seq);
                    Ok(())
                }
                Ok(Some(ToHelper::Stage(order))) if seen.insert(order.id) => {
                    events.send(Event::Stage(order))
                }
                Ok(Some(ToHelper::Stage(_))) => Ok(()),
                Ok(Some(ToHelper::Cancel { id })) => events.send(Event::Cancel(id)),
                Ok(Some(ToHelper::End)) => events.send(Event::End),
                Err(problem) => {
                    eprintln!("fleetling-helper: skipped a line: {problem}");
                    Ok(())
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }
    let _ = events.send(Event::InputEnded);
}

/// Blocks as long as nobody reads standard output; the spool takes what stages write meanwhile.
fn write(spool: &Spool) {
    let mut stdout = io::stdout().lock();
    loop {
        let sent = spool
            .next_to_send()
            .and_then(|bytes| stdout.write_all(&bytes).and_then(|()| stdout.flush()));
        if let Err(problem) = sent {
            eprintln!("fleetling-helper: cannot answer: {problem}");
            return;
        }
    }
}

/// Waits for every child there is; with none left, for the next one to be born.
fn reap(births: &Receiver<()>, events: &Sender<Event>) {
    loop {
        let exited = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => Event::Exited(pid, code),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Event::Exited(pid, 128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => {
                if births.recv().is_err() {
                    return;
                }
                continue;
            }
        };
        if events.send(exited).is_err() {
            return;
        }
    }
}

struct Stages {
    spool: Arc<Spool>,
    events: Sender<Event>,
    born: Sender<()>,
    running: Option<Phase>,
    queue: VecDeque<StageOrder>,
    /// Standard input has ended: leave when nothing runs.
    leaving: bool,
}

struct Phase {
    stage: Running,
    open_pipes: u8,
    /// The shell's exit code, once it has ended.
    code: Option<i32>,
    /// KILL after a cancel, or the end of draining once the shell has ended.
    deadline: Option<Instant>,
}

impl Stages {
    fn work(&mut self, inbox: &Receiver<Event>) -> u8 {
        loop {
            if self.running.is_none() {
                match self.queue.pop_front() {
                    Some(order) => self.start(order),
                    None if self.leaving => return 0,
                    None => {}
                }
            }
            let event = match self.running.as_ref().and_then(|phase| phase.deadline) {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Stage(order)) => self.queue.push_back(order),
                Ok(Event::Cancel(id)) => self.cancel(id),
                Ok(Event::PipeClosed(id)) => self.pipe_closed(id),
                Ok(Event::Exited(pid, code)) => self.exited(pid, code),
                Ok(Event::InputEnded) => self.leaving = true,
                Ok(Event::End) => return self.kill_all(0),
                Ok(Event::Terminated) => return self.kill_all(TERMINATED),
                Err(RecvTimeoutError::Timeout) => self.deadline_passed(),
                Err(RecvTimeoutError::Disconnected) => return 0,
            }
        }
    }

    fn start(&mut self, order: StageOrder) {
        let id = order.id;
        self.spool.begin(id);
        let (spool, events) = (Arc::clone(&self.spool), self.events.clone());
        let output = move |stream, bytes: &[u8]| spool.output(id, stream, bytes);
        let closed = move || {
            let _ = events.send(Event::PipeClosed(id));
        };
        match stage::start(order, output, closed) {
            Ok(stage) => {
                let _ = self.born.send(());
                self.running = Some(Phase {
                    stage,
                    open_pipes: 2,
                    code: None,
                    deadline: None,
                });
            }
            Err(problem) => {
                self.spool
                    .output(id, Stream::Err, format!("{problem}\n").as_bytes());
                self.spool.exit(id, NOT_STARTED);
            }
        }
    }

    fn cancel(&mut self, id: u64) {
        if let Some(queued) = self.queue.iter().position(|order| order.id == id) {
            self.queue.remove(queued);
            self.spool.begin(id);
            self.spool.exit(id, TERMINATED.into());
        } else if let Some(phase) = self.running.as_mut().filter(|p| p.stage.id == id)
            && phase.deadline.is_none()
        {
            phase.stage.signal(Signal::SIGTERM);
            phase.deadline = Some(Instant::now() + GRACE);
        }
    }

    fn exited(&mut self, pid: Pid, code: i32) {
        let Some(phase) = self.running.as_mut().filter(|p| p.stage.shell == pid) else {
            return;
        };
        phase.stage.signal(Signal::SIGKILL);
        phase.code = Some(code);
        phase.deadline = Some(Instant::now() + DRAIN);
        self.finish_when_drained();
    }

    fn pipe_closed(&mut self, id: u64) {
        if let Some(phase) = self.running.as_mut().filter(|p| p.stage.id == id) {
            phase.open_pipes -= 1;
        }
        self.finish_when_drained();
    }

    fn finish_when_drained(&mut self) {
        if let Some(Phase {
            open_pipes: 0,
            code: Some(code),
            stage,
            ..
        }) = &self.running
        {
            self.spool.exit(stage.id, *code);
            self.running = None;
        }
    }

    fn deadline_passed(&mut self) {
        if let Some(phase) = self.running.as_mut() {
            match phase.code {
                Some(_) => phase.open_pipes = 0,
                None => {
                    phase.stage.signal(Signal::SIGKILL);
                    phase.deadline = None;
                }
            }
        }
        self.finish_when_drained();
    }

    fn kill_all(&self, code: u8) -> u8 {
        if let Some(phase) = &self.running {
            phase.stage.signal(Signal::SIGKILL);
        }
        code
    }
}

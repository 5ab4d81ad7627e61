//! Starts one stage's shell and ends what it leaves behind.

use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use crate::frame::{MAX_OUTPUT, StageOrder, Stream};
use crate::shell;

/// A stage whose shell has been started.
pub(crate) struct Running {
    pub(crate) id: u64,
    /// The shell, and leader of its process group.
    pub(crate) shell: Pid,
}

/// Starts the stage. `output` is called from two threads, `closed` once by each as its pipe ends.
pub(crate) fn start(
    order: StageOrder,
    output: impl Fn(Stream, &[u8]) + Clone + Send + 'static,
    closed: impl Fn() + Clone + Send + 'static,
) -> Result<Running, String> {
    let shell = shell::find(order.shell).ok_or("shell not found")?;
    umask(Mode::from_bits_truncate(order.umask));
    let mut command = Command::new(&shell);
    if !order.directory.is_empty() {
        std::fs::create_dir_all(&order.directory)
            .map_err(|e| format!("cannot make the directory {}: {e}", order.directory))?;
        command.current_dir(&order.directory);
    }
    let script = script_file(&order.script).map_err(|e| format!("cannot hold the script: {e}"))?;
    // A child inherits its parent thread's mask, and a shell cannot trap what is blocked. A TERM for ourselves in this
    // instant is lost to pid 1; whoever sent it follows with KILL.
    let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    let spawned = command
        .envs(order.environment)
        .stdin(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    if let Ok(blocked) = blocked {
        let _ = blocked.thread_set_mask();
    }
    let mut child = spawned.map_err(|e| format!("cannot start {}: {e}", shell.display()))?;
    let pid = i32::try_from(child.id()).map_err(|e| e.to_string())?;
    if let Some(pipe) = child.stdout.take() {
        drain(pipe, Stream::Out, output.clone(), closed.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        drain(pipe, Stream::Err, output, closed);
    }
    // The reaper waits for the shell as for every other process: `child` is dropped without a wait.
    Ok(Running {
        id: order.id,
        shell: Pid::from_raw(pid),
    })
}

/// In memory and seekable, so that a shell reads its script in blocks; a pipe it must read byte by byte.
fn script_file(script: &[u8]) -> io::Result<Stdio> {
    let mut file = std::fs::File::from(memfd_create(c"script", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(script)?;
    file.rewind()?;
    Ok(file.into())
}

fn drain(
    mut pipe: impl Read + Send + 'static,
    stream: Stream,
    output: impl Fn(Stream, &[u8]) + Send + 'static,
    closed: impl Fn() + Send + 'static,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; MAX_OUTPUT];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => output(stream, &buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        closed();
    });
}

impl Running {
    /// Signals the stage's processes: all but ourselves where we are pid 1, else the shell's process group.
    /// Processes that are gone already are no problem.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = killpg(self.shell, signal);
        if std::process::id() == 1 {
            let _ = kill(Pid::from_raw(-1), signal);
        }
    }
}

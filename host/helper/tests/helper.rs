//! The helper's binary as the manager meets it: frames in, frames out, real shells.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fleetling_helper::{Decoder, Frame, FromHelper, Shell, StageOrder, Stream, ToHelper};

const PATIENCE: Duration = Duration::from_secs(60);

struct Helper {
    child: Child,
    stdin: ChildStdin,
    frames: Receiver<FromHelper>,
}

impl Helper {
    fn start() -> Self {
        Self::with(&[])
    }

    /// Opens these folders first.
    fn with(folders: &[&Path]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fleetling-helper"))
            .args(folders)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, frames) = channel();
        let mut stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut decoder = Decoder::default();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                decoder.push(&buffer[..n]);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    if to.send(frame).is_err() {
                        return;
                    }
                }
            }
        });
        let stdin = child.stdin.take().unwrap();
        Self {
            child,
            stdin,
            frames,
        }
    }

    fn say(&mut self, frame: &ToHelper) {
        self.stdin.write_all(&frame.encode().unwrap()).unwrap();
    }

    fn next(&self) -> FromHelper {
        self.frames.recv_timeout(PATIENCE).unwrap()
    }

    /// Both streams of the stage and its exit code.
    fn until_exit(&self) -> (String, String, i32) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.next() {
                FromHelper::Hello { .. } => {}
                FromHelper::Output {
                    stream: Stream::Out,
                    bytes,
                    ..
                } => out.extend(bytes),
                FromHelper::Output {
                    stream: Stream::Err,
                    bytes,
                    ..
                } => err.extend(bytes),
                FromHelper::Exit { code, .. } => {
                    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
                    return (text(out), text(err), code);
                }
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn order(id: u64, script: &str) -> StageOrder {
    StageOrder {
        id,
        script: script.into(),
        environment: Vec::new(),
        directory: String::new(),
        umask: 0,
        shell: Shell::Detect,
    }
}

#[test]
fn a_stage_gets_its_environment_directory_and_umask_and_tells_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("made/here");
    let mut helper = Helper::start();
    helper.say(&ToHelper::Hello { resume_from: 1 });
    helper.say(&ToHelper::Stage(StageOrder {
        environment: vec![
            ("WHO".into(), "first".into()),
            ("WHO".into(), "last".into()),
        ],
        directory: directory.to_str().unwrap().into(),
        ..order(1, "echo $WHO; pwd; umask; echo oops >&2; exit 3")
    }));
    let expected = format!("last\n{}\n0000\n", directory.display());
    assert_eq!(helper.until_exit(), (expected, "oops\n".into(), 3));
    // The same id again is not run again; the next one is.
    helper.say(&ToHelper::Stage(order(1, "echo twice")));
    helper.say(&ToHelper::Stage(order(2, "kill -9 $$")));
    assert_eq!(helper.until_exit(), (String::new(), String::new(), 137));
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_new_hello() {
    let mut helper = Helper::start();
    helper.say(&ToHelper::Hello { resume_from: 1 });
    helper.say(&ToHelper::Stage(order(1, "echo once")));
    let _ = helper.until_exit();
    // A lost attach leaves half a line behind.
    helper.stdin.write_all(b"{\"v\":1,\"kind\":\"sta").unwrap();
    helper.say(&ToHelper::Hello { resume_from: 1 });
    assert!(matches!(
        helper.next(),
        FromHelper::Hello {
            next_seq: 3,
            running: None,
            ..
        }
    ));
    assert_eq!(helper.until_exit().0, "once\n");
    helper.say(&ToHelper::Ack { seq: 1 });
    helper.say(&ToHelper::Hello { resume_from: 1 });
    assert!(matches!(helper.next(), FromHelper::Hello { .. }));
    assert!(matches!(
        helper.next(),
        FromHelper::Exit {
            seq: 2,
            stage: 1,
            code: 0
        }
    ));
}

#[test]
fn a_stage_runs_to_its_end_with_nobody_reading() {
    let mut helper = Helper::start();
    // No hello: nothing is sent, and far more than a pipe holds is written.
    let mark = tempfile::tempdir().unwrap();
    let done = mark.path().join("done");
    let script = format!("head -c 9000000 /dev/zero; : > {}", done.display());
    helper.say(&ToHelper::Stage(order(1, &script)));
    let begun = Instant::now();
    while !done.exists() {
        assert!(
            begun.elapsed() < PATIENCE,
            "the stage was held up by its reader"
        );
        std::thread::yield_now();
    }
    helper.say(&ToHelper::Hello { resume_from: 1 });
    let (out, _, code) = helper.until_exit();
    assert_eq!((out.len(), code), (9_000_000, 0));
}

#[test]
fn what_a_stage_leaves_behind_is_killed_and_does_not_hold_its_end() {
    let mut helper = Helper::start();
    helper.say(&ToHelper::Hello { resume_from: 1 });
    helper.say(&ToHelper::Stage(order(1, "sleep 1000 & echo $!")));
    let (pid, _, code) = helper.until_exit();
    assert_eq!(code, 0);
    let process = format!("/proc/{}", pid.trim());
    let begun = Instant::now();
    while std::path::Path::new(&process).exists() {
        assert!(begun.elapsed() < PATIENCE, "{process} still lives");
        std::thread::yield_now();
    }
}

#[test]
fn cancel_is_a_term_and_end_ends_the_helper() {
    let mut helper = Helper::start();
    helper.say(&ToHelper::Hello { resume_from: 1 });
    let script = "trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.1; done";
    helper.say(&ToHelper::Stage(order(5, script)));
    loop {
        if let FromHelper::Output { bytes, .. } = helper.next() {
            assert_eq!(bytes, b"up\n");
            break;
        }
    }
    helper.say(&ToHelper::Cancel { id: 4 });
    helper.say(&ToHelper::Cancel { id: 5 });
    let (out, _, code) = helper.until_exit();
    assert_eq!((out.as_str(), code), ("term\n", 9));
    helper.say(&ToHelper::End);
    assert!(helper.child.wait().unwrap().success());
}

#[test]
fn a_stage_that_cannot_start_says_why() {
    let mut helper = Helper::start();
    helper.say(&ToHelper::Hello { resume_from: 1 });
    helper.say(&ToHelper::Stage(StageOrder {
        directory: "/dev/null/x".into(),
        ..order(1, "echo never")
    }));
    let (out, err, code) = helper.until_exit();
    assert_eq!((out.as_str(), code), ("", 127));
    assert!(
        err.starts_with("cannot make the directory /dev/null/x"),
        "{err}"
    );
}

#[test]
fn the_end_of_input_lets_the_stage_end_and_its_frames_out() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleetling-helper"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for frame in [
        ToHelper::Hello { resume_from: 1 },
        ToHelper::Stage(order(1, "echo out")),
    ] {
        stdin.write_all(&frame.encode().unwrap()).unwrap();
    }
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("\"kind\":\"exit\"") && text.contains("b3V0Cg=="),
        "{text}"
    );
}

#[test]
fn mount_points_are_open_to_all_before_the_first_stage_and_a_missing_one_ends_nothing() {
    let dir = std::env::temp_dir().join(format!("fleetling-helper-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut helper = Helper::with(&[Path::new("/nowhere/at/all"), &dir]);
    helper.say(&ToHelper::Hello { resume_from: 1 });
    assert!(matches!(helper.next(), FromHelper::Hello { .. }));
    let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(mode & 0o777, 0o777);
}

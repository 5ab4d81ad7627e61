//! Scripts that are ended from outside: what they hear, and what nobody reads of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::Child;

use super::*;

const LEGACY: Style = Style {
    legacy_eval: true,
    ..PLAIN
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A shell with a script in it that has told its number, in a process group of its own.
struct Begun {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    /// Of the inner shell, which runs the commands.
    inner: u32,
}

impl Begun {
    /// The commands follow one that tells the number.
    fn new(shell: &[&str], style: Style, commands: &str, home: &Path) -> Self {
        let mut body = Body::default();
        let tell = "sh -c 'echo \"inner $PPID\"'";
        body.commands(style, "script_step", &[format!("{tell}\n{commands}")]);
        let file = home.join("script");
        std::fs::write(&file, body.script("m", style)).unwrap();
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .process_group(0)
            .stdin(Stdio::from(std::fs::File::open(file).unwrap()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let inner = loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "no number was told");
            if let Some(number) = line.trim().strip_prefix("inner ") {
                break number.parse().unwrap();
            }
        };
        Self { child, said, inner }
    }

    /// Of the outer shell; none where it does not end.
    fn code(&mut self) -> Option<i32> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = self.child.try_wait().unwrap() {
                return ended.code();
            }
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// To the outer and the inner shell and all that they started.
    fn all(&self) -> String {
        format!("-{}", self.child.id())
    }

    /// Ends with what is still to be read of both streams, and the exit code.
    fn end(mut self) -> (String, String, Option<i32>) {
        let code = self.code();
        // What outlived both shells would hold their streams open.
        signal("KILL", &self.all());
        let (mut out, mut err) = (String::new(), String::new());
        self.said.read_to_string(&mut out).unwrap();
        let mut stream = self.child.stderr.take().unwrap();
        stream.read_to_string(&mut err).unwrap();
        (out, err, code)
    }
}

/// One that hears nothing ends, too, and so does what a failed test leaves.
impl Drop for Begun {
    fn drop(&mut self) {
        signal("KILL", &self.all());
    }
}

fn signal(name: &str, whom: &str) {
    let kill = format!("kill -s {name} -- {whom} 2> /dev/null");
    Command::new("sh").args(["-c", &kill]).status().unwrap();
}

/// As in a container without an init, where the outer shell is the first process, and in one with it, where it is not.
#[test]
fn commands_hear_term_and_have_the_last_word() {
    let home = tempfile::tempdir().unwrap();
    let commands = "trap 'echo heard; echo told >&2; exit 7' TERM\necho ready\n\
                    while :; do sleep 0.05; done";
    for shell in shells() {
        for style in [PLAIN, LEGACY] {
            for with_init in [false, true] {
                let mut begun = Begun::new(&shell, style, commands, home.path());
                let mut ready = String::new();
                begun.said.read_line(&mut ready).unwrap();
                assert_eq!(ready, "ready\n");
                match with_init {
                    false => signal("TERM", &begun.inner.to_string()),
                    true => signal("TERM", &begun.all()),
                }
                let (out, err, code) = begun.end();
                let case = format!("{shell:?} {style:?}, init: {with_init}");
                assert_eq!(out, "heard\n", "{case}");
                assert!(err.contains("told\n"), "{case}: {err}");
                // The outer shell's own trap has its turn once the inner one has ended.
                assert_eq!(code, Some(if with_init { 1 } else { 7 }), "{case}");
            }
        }
    }
}

/// Bash prints what it ran when it is killed, say for want of memory: the whole script, and every value in it.
#[test]
fn a_shell_that_is_ended_does_not_print_its_script() {
    let home = tempfile::tempdir().unwrap();
    // A long `sleep` that begins after the signal would be waited for.
    let commands = "CANARY='it is'\nwhile :; do sleep 0.05; done";
    for shell in shells() {
        for style in [PLAIN, LEGACY] {
            for (name, code) in [("TERM", 1), ("KILL", 137)] {
                let begun = Begun::new(&shell, style, commands, home.path());
                match name {
                    // To the command in front, too: a shell waits for that before it looks at its traps.
                    "TERM" => signal(name, &begun.all()),
                    _ => signal(name, &begun.inner.to_string()),
                }
                let (out, err, ended) = begun.end();
                let case = format!("{shell:?} {style:?} {name}");
                assert_eq!(ended, Some(code), "{case}: {out}{err}");
                for part in ["CANARY", "it is", "eval", "trap"] {
                    assert!(
                        !out.contains(part) && !err.contains(part),
                        "{case}: {out}{err}"
                    );
                }
            }
        }
    }
}

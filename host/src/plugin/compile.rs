//! Compiling in a process of its own: what a large component costs the compiler stays with the process that ran it.
//!
//! ```text
//! manager ── the component, over a pipe ──► `fleetling compile-plugin CACHE` ──► wasmtime's cache
//!    └──────────── the same bytes, loaded from there as if compiled before ◄───────────┘
//! ```
//! Nothing comes back but the word that it went well. The cache is the manager's own: [`super::engine`] uses none that
//! others can write.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::engine::Engine;
use super::report::Cause;
use super::sighting::MOST_BYTES;

/// Bytes of a component that is compiled elsewhere. Compiled by themselves, 15 MB leave 600 MB behind; an ordinary plugin
/// of half a megabyte leaves 35, and is there before another process would have started.
pub const LARGE: usize = 4 << 20;
/// Ten times what the largest takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of what the compiler says when it fails.
const DETAIL_BYTES: usize = 1 << 10;

/// How a compiler is started; one runs at a time.
pub struct Compiler {
    /// The program and its first arguments; the cache's place is the last one.
    command: Vec<OsString>,
    cache: PathBuf,
    least: usize,
    turn: Mutex<()>,
}

impl Compiler {
    /// `least`: bytes from which on a component is compiled here.
    pub fn new(command: Vec<OsString>, cache: PathBuf, least: usize) -> Self {
        Self {
            command,
            cache,
            least,
            turn: Mutex::default(),
        }
    }

    pub fn is_for(&self, component: &[u8]) -> bool {
        component.len() >= self.least
    }

    /// Returns when the cache holds `component`, compiled.
    pub async fn fill(&self, component: &[u8]) -> Result<(), Cause> {
        // Two at once would take the memory of two, and mostly to compile the same.
        let _turn = self.turn.lock().await;
        let compiling = tokio::time::timeout(PATIENCE, self.run(component));
        match compiling.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(detail)) => Err(Cause::NotCompiled { detail }),
            Err(_) => Err(Cause::NotCompiled {
                detail: format!("it took longer than {} s", PATIENCE.as_secs()),
            }),
        }
    }

    async fn run(&self, component: &[u8]) -> Result<(), String> {
        let told = |problem: std::io::Error| format!("the compiler could not be run: {problem}");
        let (program, arguments) = self.command.split_first().ok_or("there is no compiler")?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(&self.cache)
            // What it reads is not to be trusted, and it needs nothing of the manager's.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(told)?;
        let mut input = child.stdin.take().ok_or("the compiler has no input")?;
        let feeding = async move {
            // A compiler that ended early says why in its own words.
            let _ = input.write_all(component).await;
        };
        let ((), ended) = tokio::join!(feeding, child.wait_with_output());
        let ended = ended.map_err(told)?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = &said[..said.floor_char_boundary(DETAIL_BYTES)];
        let status = ended.status;
        Err(if said.is_empty() {
            format!("the compiler ended with {status}")
        } else {
            format!("the compiler ended with {status}: {said}")
        })
    }
}

/// What the other process does: reads a component to its end and leaves it, compiled, in the cache.
///
/// # Errors
/// If it is no component, or the cache cannot be written.
pub fn compile(cache: &Path, component: impl Read) -> Result<(), String> {
    let mut bytes = Vec::new();
    let read = component.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|problem| problem.to_string())?;
    let engine = Engine::new(Some(cache)).map_err(|problem| format!("{problem:#}"))?;
    engine.fill_cache(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDER: &str = include_str!("fixtures/provider.wat");

    /// This test program as the compiler: with these arguments it runs the test below, and nothing else.
    fn compiler(cache: &Path) -> Compiler {
        let program = std::env::current_exe().expect("it runs");
        let child = "plugin::compile::tests::as_the_other_process";
        let command = [program.into_os_string(), "--exact".into(), child.into()];
        let command = command.into_iter().chain(["--ignored".into()]).collect();
        Compiler::new(command, cache.to_owned(), 1)
    }

    #[test]
    #[ignore = "it is what the other tests here start as a process of its own"]
    fn as_the_other_process() {
        let cache = std::env::args_os().next_back().expect("the cache's place");
        compile(Path::new(&cache), std::io::stdin()).expect("it compiles");
    }

    #[tokio::test]
    async fn what_another_process_compiled_is_only_loaded_here() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = dir.path().join("cache");
        let component = wat::parse_str(PROVIDER).expect("the fixture is valid");
        let compiler = compiler(&cache);
        compiler.fill(&component).await.expect("it is sound");
        let engine = Engine::new(Some(&cache)).expect("it starts");
        assert!(engine.compile(&component).is_ok());
        assert_eq!(engine.compiled_here(), 0);
        let other = PROVIDER.replace("fixture/one", "fixture/two");
        let other = wat::parse_str(other).expect("the fixture is valid");
        assert!(engine.compile(&other).is_ok());
        assert_eq!(engine.compiled_here(), 1);
    }

    #[tokio::test]
    async fn a_compiler_that_fails_is_a_report() {
        let dir = tempfile::tempdir().expect("a directory");
        let of = |command: &[&str]| {
            let command = command.iter().map(OsString::from).collect();
            Compiler::new(command, dir.path().to_owned(), 1)
        };
        let large = vec![0; 1 << 20];
        for (command, said) in [
            (
                &["/bin/sh", "-c", "echo out of memory >&2; exit 3"][..],
                "the compiler ended with exit status: 3: out of memory",
            ),
            (
                &["/bin/sh", "-c", "kill -9 $$"],
                "the compiler ended with signal: 9 (SIGKILL)",
            ),
            (
                &["/nowhere/fleetling"],
                "the compiler could not be run: No such file or directory (os error 2)",
            ),
        ] {
            let failed = of(command).fill(&large).await;
            let detail = said.to_owned();
            assert_eq!(failed, Err(Cause::NotCompiled { detail }));
        }
        assert!(!of(&["x"]).is_for(b""));
    }
}

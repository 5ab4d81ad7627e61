//! `fleetling run` as an operator runs it: a subprocess with its files, its log, and signals.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::cloud::Access;
use crate::coordinator::Coordinator;
use crate::detour::Detour;
use crate::installation::Installation;
use crate::journal::{Fact, Journal};
use crate::line::Line;

/// The example of the Docker Autoscaler documentation, to the letter.
pub const DOCUMENTED: &str = include_str!("documented.toml");

/// The manager's files. The documented ones to begin with; every change is an edit of their text.
#[derive(Clone)]
pub struct Configuration {
    pub config: String,
    pub plugins: String,
    pub credentials: String,
    pub aws_config: String,
}

impl Configuration {
    pub(crate) fn documented(gitlab: &Coordinator, access: &Access) -> Self {
        let config = DOCUMENTED
            .replace("https://gitlab.com", gitlab.url())
            .replace("<token>", &gitlab.runner_token());
        Self::of_cloud(config, access)
    }

    /// With the files that lead to this cloud.
    pub(crate) fn of_cloud(config: String, access: &Access) -> Self {
        Self {
            config,
            plugins: format!(
                "[aws]\nhttp = [\"{}\"]\nplaintext = true\n",
                access.endpoint
            ),
            credentials: format!(
                "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
                access.access_key, access.secret_key
            ),
            aws_config: format!(
                "[default]\nregion = {}\nendpoint_url = {}\n",
                access.region, access.endpoint
            ),
        }
    }

    /// In the Docker daemon of the machine that the manager runs on, with an image that it has and no cache that stays.
    pub fn own_daemon(self) -> Self {
        self.replace("\"docker-autoscaler\"", "\"docker\"").replace(
            "    image = \"busybox:latest\"",
            "    image = \"fleetling-lab/busybox:latest\"\n    pull_policy = \"if-not-present\"\n    disable_cache = true",
        )
    }

    /// Replaces a piece of config.toml.
    ///
    /// # Panics
    /// When the piece is not there: a test that changes nothing proves nothing.
    pub fn replace(mut self, piece: &str, with: &str) -> Self {
        assert!(self.config.contains(piece), "config.toml has no {piece:?}");
        self.config = self.config.replace(piece, with);
        self
    }

    pub fn idle_count(self, count: u32) -> Self {
        self.replace("idle_count = 5", &format!("idle_count = {count}"))
    }

    pub fn max_instances(self, count: u32) -> Self {
        self.replace("max_instances = 10", &format!("max_instances = {count}"))
    }

    /// A key of `[runners.autoscaler]`.
    pub fn autoscaler(self, line: &str) -> Self {
        self.replace("    plugin = ", &format!("    {line}\n    plugin = "))
    }

    /// The cloud is reached, and may be reached, by another way only.
    pub fn through(mut self, detour: &Detour) -> Self {
        for file in [&mut self.plugins, &mut self.aws_config] {
            *file = file.replace(&detour.around, &detour.endpoint);
        }
        self
    }

    /// Another plugin, for the small cloud that the plugin kit's tests are told in: where it answers, and the file with
    /// its token.
    pub fn small_cloud(self, plugin: &Path, name: &str, endpoint: &str, token: &Path) -> Self {
        let mut other = self
            .replace("fleeting-plugin-aws", &plugin.to_string_lossy())
            .replace("name             = \"my-docker-asg\"", "group = \"ci\"")
            .replace(
                "profile          = \"default\"",
                &format!("endpoint = \"{endpoint}\""),
            )
            .replace("config_file      = \"/home/user/.aws/config\"", "")
            .replace("credentials_file = \"/home/user/.aws/credentials\"", "");
        other.plugins = format!(
            "[{name}]\nhttp = [\"{endpoint}\"]\nplaintext = true\nloopback = true\n\
             secret.token = {{ file = {token:?} }}\n"
        );
        other
    }

    /// A key above all tables.
    pub fn global(mut self, line: &str) -> Self {
        self.config = format!("{line}\n{}", self.config);
        self
    }

    /// With `/home/user` of the example replaced by `home`, so that `home` holds everything.
    pub(crate) fn write(&self, home: &Path) -> Result<()> {
        let aws = home.join(".aws");
        std::fs::create_dir_all(&aws)?;
        let config = self.config.replace("/home/user", &home.to_string_lossy());
        std::fs::write(home.join("config.toml"), config)?;
        std::fs::write(home.join("plugins.toml"), &self.plugins)?;
        std::fs::write(aws.join("config"), &self.aws_config)?;
        std::fs::write(aws.join("credentials"), &self.credentials)?;
        Ok(())
    }
}

/// The running manager; killed when this is dropped.
pub struct Manager {
    child: Child,
    pid: Pid,
    pid_file: PathBuf,
    journal: Journal,
    /// Where this manager's part of the journal begins.
    begins: usize,
}

impl Manager {
    pub(crate) fn run(
        installation: &Installation,
        home: &Path,
        pids: &Path,
        journal: Journal,
    ) -> Result<Self> {
        let config = home.join("config.toml");
        let arguments = ["run", "--config", &config.to_string_lossy()];
        Self::command(installation, &arguments, home, pids, journal)
    }

    /// Any command of the binary, with the manager's environment.
    pub(crate) fn command(
        installation: &Installation,
        arguments: &[&str],
        home: &Path,
        pids: &Path,
        journal: Journal,
    ) -> Result<Self> {
        let binary = &installation.binary;
        let begins = journal.entries().len();
        let mut child = Command::new(binary)
            .args(arguments)
            .current_dir(home)
            .env_clear()
            .env("PATH", &installation.search_path)
            .env("HOME", home)
            .env("STATE_DIRECTORY", home.join("state"))
            .env("NO_COLOR", "1")
            .envs(std::env::var_os("FLEETLING_LOG").map(|level| ("LOG_LEVEL", level)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be run", binary.display()))?;
        let id = child.id().context("the manager has no process id")?;
        // For the reaper, should this process end without dropping anything.
        let pid_file = pids.join(id.to_string());
        std::fs::create_dir_all(pids)?;
        std::fs::write(&pid_file, binary.to_string_lossy().as_bytes())?;
        listen(
            child.stdout.take(),
            home.join("manager.out"),
            journal.clone(),
        );
        listen(
            child.stderr.take(),
            home.join("manager.log"),
            journal.clone(),
        );
        Ok(Self {
            child,
            pid: Pid::from_raw(i32::try_from(id)?),
            pid_file,
            journal,
            begins,
        })
    }

    /// Its process.
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Everything it has printed so far.
    pub fn said(&self) -> String {
        let entries = self.journal.since(self.begins).into_iter();
        entries
            .filter_map(|entry| match entry.fact {
                Fact::Said(line) => Some(line + "\n"),
                _ => None,
            })
            .collect()
    }

    /// The lines of its output that contain `text`.
    pub fn lines(&self, text: &str) -> Vec<Line> {
        let said = self.said();
        let lines = said.lines().filter(|line| line.contains(text));
        lines.map(|line| Line(line.to_owned())).collect()
    }

    /// Waits until one line of its output contains all of `words`, and returns that line.
    pub async fn says(&self, words: &[&str], within: Duration) -> Result<String> {
        let line = || {
            let said = self.said();
            let line = said
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned)
        };
        self.journal
            .until(
                &format!("a line with {words:?} from the manager"),
                within,
                line,
            )
            .await
            .with_context(|| format!("it said:\n{}", self.said()))
    }

    /// The most memory that it has had at once, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// SIGQUIT: running jobs end first.
    pub fn quit(&self) -> Result<()> {
        self.signal(Signal::SIGQUIT)
    }

    /// SIGTERM: jobs are ended.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGHUP: the configuration is read again.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// SIGKILL: nothing is told to anybody.
    pub async fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(self.pid, signal).with_context(|| format!("{signal} to the manager"))
    }

    /// Waits for its end; the error shows what it said.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        let status = ended.with_context(|| {
            format!(
                "the manager did not end within {} s; it said:\n{}",
                within.as_secs(),
                self.said()
            )
        })?;
        Ok(status?)
    }

    /// Bytes of it that are in memory now.
    pub fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.with_context(|| format!("the kernel tells no {name}"))?;
        Ok(kibibytes.trim().parse::<u64>()? << 10)
    }

    /// Files, sockets and pipes that it has open now.
    pub fn open_files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_file(&self.pid_file);
    }
}

/// Into a file and the journal, line by line.
fn listen(from: Option<impl AsyncRead + Unpin + Send + 'static>, file: PathBuf, journal: Journal) {
    let Some(from) = from else { return };
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        let mut options = tokio::fs::OpenOptions::new();
        let mut kept = options.create(true).append(true).open(&file).await.ok();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(kept) = &mut kept {
                // The journal has it too; the file is for a person who looks into a lab that was kept.
                let _ = kept.write_all(format!("{line}\n").as_bytes()).await;
            }
            journal.record(Fact::Said(line));
        }
    });
}

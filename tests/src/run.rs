//! One run of the lab: its folder, its network, and the reaper that removes both.
//!
//! Invariants: everything made for a run carries its label; the reaper outlives whoever started it and acts when its
//! standard input closes; what a run left behind that had no reaper (the machine went down) is removed by the next.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use rand::Rng;

/// The label's name; its value is `<pid>-<start of that process>-<number>`.
const LABEL: &str = "fleetling-lab.run";
/// What Docker keeps of a run.
const KINDS: [&str; 2] = ["container", "network"];

pub(crate) struct Run {
    /// Name of the network, prefix of every container's name.
    pub(crate) name: String,
    /// `fleetling-lab.run=<value>`, for every container.
    pub(crate) label: String,
    pub(crate) dir: PathBuf,
    /// The first three octets of the run's network.
    network: [u8; 3],
    reaper: Child,
}

impl Run {
    pub(crate) fn start() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_leftovers()?;
        }
        let pid = std::process::id();
        let value = format!("{pid}-{}-{number}", started(pid).unwrap_or_default());
        let name = format!("fleetling-lab-{value}");
        let dir = lab_dir().join("runs").join(&value);
        std::fs::create_dir_all(dir.join("pids"))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        let mut run = Self {
            reaper: spawn_reaper(&name, &dir, &value)?,
            label: format!("{LABEL}={value}"),
            network: [0; 3],
            name,
            dir,
        };
        run.network = run.make_network()?;
        Ok(run)
    }

    /// Host number `n` of the run's network; 1 is this machine.
    pub(crate) fn host(&self, n: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, n)
    }

    pub(crate) fn range(&self) -> String {
        format!("{}/24", self.host(0))
    }

    /// Without a way out: jobs and instances reach this machine and each other, and nothing else.
    fn make_network(&self) -> Result<[u8; 3]> {
        let mut last = String::new();
        for _ in 0..20 {
            let mut rng = rand::rng();
            let network = [10, rng.random_range(200..250), rng.random_range(0..=255)];
            let [a, b, c] = network;
            let subnet = format!("{a}.{b}.{c}.0/24");
            let gateway = format!("{a}.{b}.{c}.1");
            match docker(&[
                "network",
                "create",
                "--internal",
                "--label",
                &self.label,
                "--subnet",
                &subnet,
                "--gateway",
                &gateway,
                &self.name,
            ]) {
                Ok(_) => return Ok(network),
                Err(problem) => last = problem.to_string(),
            }
        }
        Err(anyhow!("no free network for the lab was found: {last}"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// `target/lab`, or where `FLEETLING_LAB_DIR` says.
pub(crate) fn lab_dir() -> PathBuf {
    std::env::var_os("FLEETLING_LAB_DIR").map_or_else(|| root().join("target/lab"), PathBuf::from)
}

/// The source tree.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Runs the docker command; its standard error becomes the error.
pub(crate) fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("the docker command cannot be run; `make setup` installs it")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("docker {}: {}", arguments[0], said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn spawn_reaper(name: &str, dir: &Path, value: &str) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    // A process group of its own: Ctrl-C is for the lab, the reaper acts afterwards.
    Command::new("sh")
        .args(["-c", include_str!("reaper.sh"), "reaper", name])
        .arg(dir)
        .arg(value)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start the lab's reaper")
}

/// Removes what dead runs left; living ones are not touched.
fn remove_leftovers() -> Result<()> {
    for kind in KINDS {
        for (id, value) in labelled(kind)? {
            if !is_alive(&value) {
                let force: &[&str] = if kind == "container" { &["-fv"] } else { &[] };
                // Somebody else may be clearing the same leftovers.
                let _ = docker(&[&[kind, "rm"], force, &[&id]].concat());
            }
        }
    }
    Ok(())
}

/// Everything of one kind that any run made, with its run's value.
fn labelled(kind: &str) -> Result<Vec<(String, String)>> {
    let filter = format!("label={LABEL}");
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let all: &[&str] = if kind == "container" { &["-a"] } else { &[] };
    let listed = docker(&[&[kind, "ls", "--filter", &filter, "--format", &format], all].concat())?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs
        .map(|(id, value)| (id.to_owned(), value.to_owned()))
        .collect())
}

/// Something of a run that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    Container(String),
    Network(String),
    Folder(PathBuf),
    Process { id: i32, command: String },
}

/// What is there of the labs that process `pid` began, itself included while it runs.
pub fn left_by(pid: u32) -> Result<Vec<Left>> {
    let its = format!("{pid}-");
    let of_its_runs = |kind: &str| -> Result<Vec<String>> {
        let all = labelled(kind)?.into_iter();
        Ok(all
            .filter_map(|(id, value)| value.starts_with(&its).then_some(id))
            .collect())
    };
    let mut left: Vec<_> = of_its_runs("container")?
        .into_iter()
        .map(Left::Container)
        .collect();
    left.extend(of_its_runs("network")?.into_iter().map(Left::Network));
    let runs = lab_dir().join("runs");
    for entry in std::fs::read_dir(&runs)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&its) {
            left.push(Left::Folder(entry.path()));
        }
    }
    let folder = runs.join(&its).to_string_lossy().into_owned();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(id) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // What cannot be read has ended meanwhile.
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let group = stat(&entry.file_name().to_string_lossy(), 2);
        if command.contains(&folder) || group == Some(u64::from(pid)) {
            left.push(Left::Process { id, command });
        }
    }
    Ok(left)
}

fn is_alive(value: &str) -> bool {
    let mut parts = value.split('-');
    let pid = parts.next().and_then(|pid| pid.parse().ok());
    let start = parts.next().and_then(|start| start.parse().ok());
    pid.is_some_and(|pid| start.is_some() && started(pid) == start)
}

/// When a process started, in the kernel's ticks: with the id it names the process for good.
fn started(pid: u32) -> Option<u64> {
    stat(&pid.to_string(), 19)
}

/// A number of `/proc/<pid>/stat`, counted from the state, which is 0.
fn stat(pid: &str, field: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(field)?.parse().ok()
}

//! What the manager's process took, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};

/// The kernel's unit in `/proc/<pid>/stat`: 100 a second wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
pub(super) struct Process(pub(super) i32);

impl Process {
    /// Of all its threads, in user and kernel mode; exact to a tick.
    pub(super) fn processor_time(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest);
        // The 14th and 15th field; the third follows the name.
        let ticks = after_name.and_then(|rest| {
            let mut fields = rest.split_whitespace().skip(11);
            let (user, system) = (fields.next()?, fields.next()?);
            Some(user.parse::<u32>().ok()? + system.parse::<u32>().ok()?)
        });
        let ticks = ticks.with_context(|| format!("/proc/{}/stat is not as it was", self.0))?;
        Ok(TICK * ticks)
    }

    /// From now on the peak is counted anew.
    pub(super) fn forget_peak(self) -> Result<()> {
        let file = format!("/proc/{}/clear_refs", self.0);
        std::fs::write(&file, "5").with_context(|| format!("cannot write {file}"))
    }

    /// Bytes it has in memory.
    pub(super) fn resident(self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most bytes that it had in memory.
    pub(super) fn peak(self) -> Result<f64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Result<f64> {
        let status = self.read("status")?;
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = value.and_then(|value| value.split_whitespace().next());
        let kibibytes: f64 = kibibytes
            .with_context(|| format!("/proc/{}/status has no {name}", self.0))?
            .parse()?;
        Ok(kibibytes * 1024.0)
    }

    fn read(self, name: &str) -> Result<String> {
        let file = format!("/proc/{}/{name}", self.0);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))
    }
}

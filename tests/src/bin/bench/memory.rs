//! Memory that only this process has.

use anyhow::{Context, Result};

/// Private pages of this process in bytes, clean and dirty; what it shares with others does not count.
pub(crate) fn private() -> Result<u64> {
    let file = "/proc/self/smaps_rollup";
    let rollup = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let kibibytes = |name: &str| -> Result<u64> {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name));
        let number = value.and_then(|value| value.split_whitespace().next());
        let number = number.with_context(|| format!("{file} has no {name}"))?;
        Ok(number.parse()?)
    };
    Ok((kibibytes("Private_Clean:")? + kibibytes("Private_Dirty:")?) * 1024)
}

//! `docker run` of the job's image and script, on the job's instance.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use fleetling_lab::Lab;

use super::{GREETING, SCRIPT};

/// From the beginning of the other way to run a script.
pub(super) struct PeerTimes {
    pub(super) output: Duration,
    pub(super) end: Duration,
}

/// Timed by the instance's own clock, so that getting there costs nothing. Three lines: begin, first output, end.
pub(super) async fn docker_run(lab: &Lab, instance: &str, options: &str) -> Result<PeerTimes> {
    let script = format!(
        "date +%s%N
         docker run --rm {options} busybox sh -c '{SCRIPT}' 2>/dev/null | {{
           read -r line; [ \"$line\" = '{GREETING}' ] && date +%s%N; cat >/dev/null; }}
         date +%s%N"
    );
    let moments = moments(lab, instance, &script).await?;
    let [begin, output, end] = moments[..] else {
        bail!("docker run printed no {GREETING:?}; the clock said {moments:?}");
    };
    Ok(PeerTimes {
        output: Duration::from_nanos(output - begin),
        end: Duration::from_nanos(end - begin),
    })
}

/// From the first to the last byte that `docker run` of `script` gives a reader who throws them away.
pub(super) async fn docker_reads(lab: &Lab, instance: &str, script: &str) -> Result<Duration> {
    let script = format!(
        "docker run --rm busybox sh -c '{script}' 2>/dev/null | {{
           head -c 1 >/dev/null; date +%s%N; cat >/dev/null; date +%s%N; }}"
    );
    let moments = moments(lab, instance, &script).await?;
    let [first, last] = moments[..] else {
        bail!("docker run printed nothing; the clock said {moments:?}");
    };
    Ok(Duration::from_nanos(last - first))
}

/// What the instance's clock said, line by line.
async fn moments(lab: &Lab, instance: &str, script: &str) -> Result<Vec<u64>> {
    let printed = lab.instances.exec(instance, script).await?;
    let moments: Result<Vec<u64>, _> = printed.lines().map(str::parse).collect();
    moments.with_context(|| format!("not the clock's: {printed:?}"))
}

//! The demo leaves nothing behind, however it ends.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::{Left, left_by};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const BOOT: Duration = Duration::from_secs(120);
/// For removing instances, which takes Docker a while each.
const CLEARED: Duration = Duration::from_secs(60);

/// The demo with its first instance ready, met by `fate`; how it ended.
async fn demo(fate: impl FnOnce(Pid, &[Left]) -> Result<()>) -> Result<ExitStatus> {
    // A process group of its own, as a shell gives to what it starts in a terminal.
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let id = demo.id().context("the demo ended at once")?;
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("is ready") {
                return Ok(());
            }
        }
        anyhow::bail!("the demo ended before an instance was ready")
    };
    timeout(BOOT, ready)
        .await
        .context("no instance got ready")??;
    let there = left_by(id)?;
    let kinds: [fn(&Left) -> bool; 4] = [
        |left| matches!(left, Left::Container(_)),
        |left| matches!(left, Left::Network(_)),
        |left| matches!(left, Left::Folder(_)),
        |left| matches!(left, Left::Process { .. }),
    ];
    ensure!(
        kinds.iter().all(|of_kind| there.iter().any(of_kind)),
        "this sees too little to miss anything later: {there:#?}"
    );
    fate(Pid::from_raw(i32::try_from(id)?), &there)?;
    // It goes on talking; nobody has to listen, but its output must not fill up.
    let talk = async { while let Ok(Some(_)) = lines.next_line().await {} };
    let (ended, ()) = timeout(CLEARED, async { tokio::join!(demo.wait(), talk) })
        .await
        .context("the demo did not end")?;
    // What Docker was being asked for as it ended, the lab's reaper removes.
    let gone = async {
        while !left_by(id)?.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    if let Ok(gone) = timeout(CLEARED, gone).await {
        gone?;
        return Ok(ended?);
    }
    anyhow::bail!("left behind: {:#?}", left_by(id)?)
}

fn is_no_success(status: ExitStatus) -> Result<()> {
    // Nor a death by the signal: then nobody said what became of it.
    ensure!(status.code().is_some_and(|code| code != 0), "{status}");
    Ok(())
}

/// The terminal sends SIGINT to the whole group: the demo, the manager, the cloud.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_removes_everything_and_is_no_success() -> Result<()> {
    is_no_success(demo(|group, _| Ok(killpg(group, Signal::SIGINT)?)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_removes_everything_and_is_no_success() -> Result<()> {
    let kill_manager = |_: Pid, there: &[Left]| {
        let manager = there.iter().find_map(|left| match left {
            Left::Process { id, command } => command.contains("fleetling run ").then_some(*id),
            _ => None,
        });
        let manager = manager.with_context(|| format!("no manager runs: {there:#?}"))?;
        Ok(kill(Pid::from_raw(manager), Signal::SIGKILL)?)
    };
    is_no_success(demo(kill_manager).await?)
}

//! What `fleetling plugin new` makes, builds and passes its tests where this project's sources are not, and runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::{Installation, Lab};
use fleetling_plugin_sdk::testing::Cloud;

const MINUTE: Duration = Duration::from_secs(60);

/// Runs it in `folder` and returns its standard output; fails with what it said if it failed.
fn run(command: &mut Command, folder: &Path) -> Result<String> {
    let shown = format!("{command:?}");
    let out = command
        .current_dir(folder)
        // From what this project's own build has downloaded.
        .env("CARGO_NET_OFFLINE", "true")
        // Set for this test by cargo, and meant for it alone.
        .env_remove("CARGO_MANIFEST_DIR")
        .output()
        .with_context(|| shown.clone())?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{shown}: {}\n{said}", out.status);
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_builds_outside_of_this_tree_passes_its_tests_and_makes_instances()
-> Result<()> {
    let fleetling = Installation::built()?;
    let fleetling = fleetling.binary();
    let home = tempfile::tempdir()?;
    let made = Command::new(fleetling)
        .args(["plugin", "new", "my-cloud"])
        .current_dir(home.path())
        .output()?;
    let said = String::from_utf8_lossy(&made.stdout);
    ensure!(made.status.success(), "{made:?}");
    ensure!(
        said.contains("cd my-cloud") && said.contains("make check"),
        "{said}"
    );
    let again = Command::new(fleetling)
        .args(["plugin", "new", "my-cloud"])
        .current_dir(home.path())
        .output()?;
    let said = String::from_utf8_lossy(&again.stderr);
    ensure!(
        !again.status.success() && said.contains("exists already"),
        "{said}"
    );

    let top = home.path().join("my-cloud");
    // The same crates as this project's, which are here: a new plugin has no lock file yet.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    std::fs::copy(lock, top.join("Cargo.lock"))?;
    let tested = run(Command::new("make").arg("test"), &top)?;
    ensure!(tested.contains("test result: ok. 5 passed"), "{tested}");
    run(Command::new("make").arg("plugin"), &top)?;
    let plugin = top.join("fleeting-plugin-my-cloud.wasm");
    let size = std::fs::metadata(&plugin)?.len();
    ensure!(size < 1_500_000, "the plugin has {size} bytes");

    let list = run(
        Command::new(fleetling)
            .args(["plugin", "list", "--config", "check/config.toml"])
            .args(["--plugin-dir", "."])
            .env("XDG_CACHE_HOME", home.path()),
        &top,
    )?;
    let line = list.lines().find(|line| line.starts_with("my-cloud "));
    let line = line.with_context(|| list.clone())?;
    ensure!(
        line.contains(" 0.1.0 ") && line.contains(" present "),
        "{line}"
    );
    let check = format!("FLEETLING={}", fleetling.display());
    let checked = run(Command::new("make").args(["check", &check]), &top)?;
    ensure!(checked.contains(" 0 failed, 0 not checked"), "{checked}");

    // In the sandbox: three instances are asked for side by side, because each takes its time.
    let lab = Lab::start().await?;
    let cloud = Cloud::start("s3cret", 5);
    cloud.slow(Duration::from_millis(500));
    let configuration = lab
        .configuration()
        .idle_count(3)
        .max_instances(5)
        .small_cloud(&plugin, "my-cloud", &cloud.url(), &top.join("check/token"));
    let mut manager = lab.start_manager(&configuration)?;
    let made = || (cloud.instances().len() == 3).then_some(());
    let awaited = lab
        .journal
        .until("three idle instances", 2 * MINUTE, made)
        .await;
    awaited.with_context(|| manager.said())?;
    manager.says(&["vm-3"], MINUTE).await?;
    let most = cloud.server().most_at_once();
    ensure!(most >= 2, "{most} request at once:\n{}", manager.said());
    manager.terminate()?;
    manager.ended(MINUTE).await?;
    lab.was_correct()
}

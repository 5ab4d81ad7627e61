//! A provider in Python, against the same contract, in the same manager.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::{Installation, Lab};
use fleetling_plugin_sdk::testing::Cloud;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_in_python_passes_every_check_and_makes_instances_for_a_manager() -> Result<()> {
    let lab = Lab::start().await?;
    let cloud = Cloud::start("s3cret", 3);
    let plugin = Installation::python_provider()?;
    let home = lab.home();
    std::fs::create_dir_all(&home)?;
    let token = home.join("token");
    std::fs::write(&token, "s3cret\n")?;
    let configuration = lab
        .configuration()
        .idle_count(1)
        .max_instances(2)
        .small_cloud(&plugin, "toy-python", &cloud.url(), &token);
    // In a cloud of its own, because its instances come and go there.
    let tried = Cloud::start("s3cret", 5);
    lab.rewrite(
        &lab.configuration()
            .small_cloud(&plugin, "toy-python", &tried.url(), &token),
    )?;
    let (config, file) = (home.join("config.toml"), plugin.to_string_lossy());
    let check = [
        "plugin",
        "check",
        &file,
        "--config",
        &config.to_string_lossy(),
    ];
    let mut check = lab.command(&check)?;
    let status = check.ended(10 * MINUTE).await?;
    ensure!(status.success(), "{status}: {}", check.said());
    check
        .says(&[" 0 failed, 0 not checked"], MINUTE)
        .await
        .map(drop)?;

    let mut manager = lab.start_manager(&configuration)?;
    // It has 19 MB, which a debug build of the manager compiles: half a minute, on a busy machine some.
    let made = || (cloud.instances() == ["vm-1"]).then_some(());
    let what = "the instance that is to stand idle";
    let awaited = lab.journal.until(what, 8 * MINUTE, made).await;
    awaited.with_context(|| manager.said())?;
    // Listed twice, so it runs, and is dialled: nobody answers there, and that is said by its name.
    manager.says(&["vm-1"], MINUTE).await?;
    for request in cloud.server().requests() {
        let shown = &request.headers()["authorization"];
        ensure!(shown == "Bearer s3cret", "{request:?}");
    }
    manager.terminate()?;
    manager.ended(MINUTE).await?;
    lab.was_correct()
}

//! Bad input: each kind is told apart, says what is wrong, where, and what next, and loses nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Configuration, Installation, Job, Lab, Manager};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// Starts the manager with `edit` applied and waits for a line with all of `words`.
async fn refused(
    edit: impl FnOnce(Configuration) -> Configuration,
    words: &[&str],
) -> Result<(Lab, Manager)> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&edit(lab.configuration().idle_count(1).max_instances(2)))?;
    manager.says(words, SOON).await?;
    Ok((lab, manager))
}

/// It gives up by itself, and says by its status that it did not work.
async fn ends_badly(manager: &mut Manager) -> Result<()> {
    let status = manager.ended(SOON).await?;
    ensure!(!status.success(), "{status}: {}", manager.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_config_file() -> Result<()> {
    let lab = Lab::start().await?;
    let missing = lab.home().join("missing.toml");
    let missing = missing.to_string_lossy();
    let mut manager = lab.command(&["run", "--config", &missing])?;
    ends_badly(&mut manager).await?;
    let place = format!("looked for {missing}");
    let words = ["no configuration file", &place, "--config"];
    manager.says(&words, SOON).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_toml_syntax_error_ends_the_start_and_names_the_line() -> Result<()> {
    let edit = |c: Configuration| c.replace("concurrent = 10", "concurrent = = 10");
    let words = ["config.toml:1:14: no TOML: extra `=`", "; mend this line"];
    let (_lab, mut manager) = refused(edit, &words).await?;
    ends_badly(&mut manager).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type_names_the_key() -> Result<()> {
    let edit = |c: Configuration| {
        c.replace(
            "capacity_per_instance = 1",
            "capacity_per_instance = \"one\"",
        )
    };
    let words = [
        "config.toml:14:5:",
        "\"instance autoscaler example\"",
        "autoscaler.capacity_per_instance: expected a whole number, found a string",
        "; remove the quotes",
    ];
    let (_lab, mut manager) = refused(edit, &words).await?;
    ends_badly(&mut manager).await?;
    manager
        .says(&["no [[runners]] entry that can work; next:"], SOON)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_holds_plugin_config_against_the_schema_of_its_plugin() -> Result<()> {
    let lab = Lab::start().await?;
    let config = lab.home().join("config.toml");
    let lint = ["config", "lint", "--config", &config.to_string_lossy()];
    std::fs::create_dir_all(lab.home())?;
    lab.rewrite(&lab.configuration())?;
    let mut clean = lab.command(&lint)?;
    let status = clean.ended(SOON).await?;
    ensure!(status.success(), "{status}: {}", clean.said());

    let slip = |c: Configuration| c.replace("credentials_file = ", "credential_file = ");
    lab.rewrite(&slip(lab.configuration()))?;
    let mut slipped = lab.command(&lint)?;
    ends_badly(&mut slipped).await?;
    let words = [
        "config.toml:21:7: [[runners]] \"instance autoscaler example\"",
        "autoscaler.plugin_config.credential_file: the plugin does not know this key; is it `credentials_file`?",
    ];
    slipped.says(&words, SOON).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_plugin_says_where_it_was_looked_for_and_is_loaded_once_it_is_there() -> Result<()>
{
    let edit = |c: Configuration| c.replace("fleeting-plugin-aws", "fleeting-plugin-nowhere");
    let words = [
        "runner takes no jobs until its plugin can be loaded: plugin `nowhere` was not loaded",
        "it was found in none of: ",
        "/manager/plugins, ",
        "/share/fleetling/plugins, ",
        "/usr/bin",
        "next: put `fleeting-plugin-nowhere.wasm` or `nowhere.wasm` into one of these",
        "runner=\"instance autoscaler example\"",
    ];
    let (lab, mut manager) = refused(edit, &words).await?;
    ensure!(manager.is_running(), "{}", manager.said());
    let plugins = lab.home().join("plugins");
    std::fs::create_dir_all(&plugins)?;
    std::fs::copy(Installation::aws_plugin(), plugins.join("nowhere.wasm"))?;
    manager
        .says(&["runner started", "instance autoscaler example"], SOON)
        .await?;
    let times = manager.lines("was not loaded").len();
    ensure!(times == 1, "said {times} times:\n{}", manager.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_plugin_on_the_path_is_refused_by_name() -> Result<()> {
    let lab = Lab::start().await?;
    let programs = lab.home().join("programs");
    std::fs::create_dir_all(&programs)?;
    let native = programs.join("fleeting-plugin-aws");
    std::fs::copy("/bin/true", &native)?;
    let bare = Installation::without_plugins(&lab.home().join("installed"))?.on_path(&programs)?;
    let manager = lab.start_manager_of(&bare, &lab.configuration())?;
    let named = format!(
        "{} is a native plugin and cannot run here: a `.wasm` is needed",
        native.display()
    );
    let words = [
        "plugin `aws` was not loaded",
        &named,
        "put `fleeting-plugin-aws.wasm`",
    ];
    manager.says(&words, SOON).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_no_component_is_named() -> Result<()> {
    let lab = Lab::start().await?;
    std::fs::create_dir_all(lab.home())?;
    let file = lab.home().join("broken.wasm");
    std::fs::write(&file, "this is not WebAssembly")?;
    let path = file.to_string_lossy().into_owned();
    let configuration = lab
        .configuration()
        .replace("\"fleeting-plugin-aws\"", &format!("\"{path}\""));
    let manager = lab.start_manager(&configuration)?;
    let words = [
        "plugin `broken` (",
        &path,
        "sha256 ",
        "was not loaded",
        "it is not a WebAssembly component",
        "next: copy it here again, in one piece",
    ];
    manager.says(&words, SOON).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_group_is_named() -> Result<()> {
    let edit = |c: Configuration| c.replace("my-docker-asg", "no-such-asg");
    refused(edit, &["no-such-asg", "not-found", "next: "])
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runners_on_one_group_are_refused() -> Result<()> {
    let edit = |mut c: Configuration| {
        let runner = c
            .config
            .find("[[runners]]")
            .map(|at| c.config[at..].to_owned())
            .unwrap_or_default();
        c.config
            .push_str(&runner.replace("instance autoscaler example", "the second"));
        c
    };
    let words = [
        "the second",
        "my-docker-asg: it is already used by [[runners]]",
        "next: give every runner a group of its own",
    ];
    let (_lab, mut manager) = refused(edit, &words).await?;
    // The first one works on.
    manager.says(&["instance ready"], 3 * SOON).await?;
    ensure!(manager.is_running(), "{}", manager.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_a_configuration_error() -> Result<()> {
    let lab = Lab::start().await?;
    let manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    // By the registry's own name: behind a mirror's "no", Docker goes on to Docker Hub, which cannot be reached here.
    let image = format!("{}/nobody/has-this:latest", lab.registry());
    let id = lab
        .gitlab
        .queue(Job::named("no image").image(&image).without_sources());
    let job = &lab.gitlab.ended(&[id], 3 * SOON).await?[0];
    ensure!(
        job.failure_reason.as_deref() == Some("runner_configuration_error"),
        "{:?}\n{}",
        job.failure_reason,
        job.log()
    );
    ensure!(job.log().contains("nobody/has-this"), "{}", job.log());
    // The operator reads the same reason as GitLab.
    let job = format!("job={}", id.0);
    let words = ["job ended", &job, "runner_configuration_error"];
    manager.says(&words, SOON).await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_gitlab_is_named_and_the_manager_stays() -> Result<()> {
    let lab = Lab::start().await?;
    // Port 9 of the lab's gateway: nobody listens there.
    let nobody = lab
        .gitlab
        .url()
        .rsplit_once(':')
        .map(|(host, _)| format!("{host}:9"))
        .unwrap_or_default();
    let configuration = lab
        .configuration()
        .idle_count(1)
        .max_instances(2)
        .replace(lab.gitlab.url(), &nobody);
    let mut manager = lab.start_manager(&configuration)?;
    let words = [
        "cannot reach GitLab at",
        &nobody,
        "next: check url in config.toml",
    ];
    manager.says(&words, SOON).await?;
    ensure!(manager.is_running(), "{}", manager.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_said_and_the_manager_stays() -> Result<()> {
    let lab = Lab::start().await?;
    lab.gitlab.forget_runner();
    let configuration = lab
        .configuration()
        .replace(&lab.gitlab.runner_token(), "glrt-an-old-token");
    let mut manager = lab.start_manager(&configuration.idle_count(1).max_instances(2))?;
    manager.says(&["403", "next: "], SOON).await?;
    ensure!(manager.is_running(), "{}", manager.said());
    ensure!(
        !manager.said().contains("glrt-an-old-token"),
        "the token is in the log"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_state_directory_is_fatal_only_when_state_was_asked_for() -> Result<()> {
    let asked = "\n    [runners.autoscaler.state_storage]\n      enabled = true\n      dir = \"/proc/nobody-writes-here\"\n";
    let edit = |mut c: Configuration| {
        c.config.push_str(asked);
        c
    };
    let words = [
        "state directory cannot be written (/proc/nobody-writes-here",
        "next: let the manager's user write there",
        "drop enabled = true",
    ];
    let (_lab, mut manager) = refused(edit, &words).await?;
    ends_badly(&mut manager).await?;

    let default = |mut c: Configuration| {
        c.config
            .push_str(&asked.replace("      enabled = true\n", ""));
        c
    };
    let words = [
        "warning",
        "state directory cannot be written (/proc/nobody-writes-here",
        "nothing survives a restart",
        "next: let the manager's user write there",
    ];
    let (_lab, mut manager) = refused(default, &words).await?;
    manager.says(&["instance ready"], 3 * SOON).await?;
    ensure!(manager.is_running(), "{}", manager.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_job_that_cannot_be_honoured_fail_it_at_once_by_name() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(1).max_instances(2))?;
    let parts = [
        (
            "artifacts",
            "artifacts",
            json!([{"name": "out", "paths": ["out/"], "when": "on_success"}]),
        ),
        (
            "secrets",
            "secrets (TOKEN)",
            json!({"TOKEN": {"vault": {"path": "a", "field": "b"}}}),
        ),
    ];
    for (part, named, value) in parts {
        let id = lab
            .gitlab
            .queue(Job::named(part).part(part, value).without_sources());
        let job = &lab.gitlab.ended(&[id], 3 * SOON).await?[0];
        let log = job.log();
        ensure!(job.state == JobState::Failed, "{part}: {}", job.state);
        let text = format!("this job needs what Fleetling cannot do yet: {named}. Remove it");
        ensure!(log.contains(&text), "{text:?} is missing:\n{log}");
        ensure!(
            job.failure_reason.as_deref() == Some("runner_configuration_error"),
            "{part}: {:?}",
            job.failure_reason
        );
        ensure!(job.instance().is_none(), "it cost an instance:\n{log}");
    }
    lab.was_correct()
}

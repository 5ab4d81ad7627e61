//! The plugin commands with the AWS plugin and a cloud: what it is, whether it does what it must, what it says, and how
//! it comes to be trusted.

use std::process::Output;

use anyhow::{Result, ensure};
use fleetling_lab::{CloudAlone, Installation, Lab};
use serde_json::Value;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A copy that the installation does not vouch for, under a name of its own.
fn copy(alone: &CloudAlone, name: &str) -> Result<String> {
    let file = alone.home().join(format!("{name}.wasm"));
    std::fs::create_dir_all(file.parent().unwrap_or(alone.home()))?;
    std::fs::copy(Installation::aws_plugin(), &file)?;
    Ok(file.to_string_lossy().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_shown_with_what_it_asks_for_and_what_it_is_granted() -> Result<()> {
    let alone = CloudAlone::start().await?;
    alone.write(&alone.configuration())?;
    let listed = alone
        .fleetling(&["plugin", "list", "--config", "config.toml"])
        .await?;
    ensure!(listed.status.success(), "{}", err(&listed));
    let listed = out(&listed);
    ensure!(
        listed.contains("aws ") && listed.contains("(shipped)"),
        "{listed}"
    );

    let arguments = ["plugin", "inspect", "aws", "--config", "config.toml"];
    let shown = alone.fleetling(&arguments).await?;
    ensure!(shown.status.success(), "{}", err(&shown));
    let shown = out(&shown);
    for words in [
        "known here as `aws`",
        "shipped with this installation",
        "https://ec2.{region}.amazonaws.com  granted",
        "the variable AWS_REGION  granted",
        "aws_credentials: the path in plugin_config.credentials_file, else the path in the variable AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials",
        "loopback          true",
        "128MiB",
        "string, required",
        "fleetling:provider/provider@0.1.0",
        "compiled in ",
    ] {
        ensure!(shown.contains(words), "{words:?} is missing:\n{shown}");
    }

    // What a manager trusts is read where it keeps it, and nothing is written there.
    copy(&alone, "plugins/pinned")?;
    let mut configuration = alone.configuration();
    configuration
        .plugins
        .push_str("[pinned]\nenv = [\"LANG\"]\n");
    alone.write(&configuration)?;
    let pins = alone.state().join("plugin-pin");
    std::fs::create_dir_all(&pins)?;
    std::fs::write(pins.join("pinned"), "ab".repeat(32))?;
    let listed = alone
        .fleetling(&["plugin", "list", "--config", "config.toml"])
        .await?;
    let listed = out(&listed);
    let words = "its digest is not the one trusted before (abababababab)";
    ensure!(listed.contains(words), "{words:?} is missing:\n{listed}");
    ensure!(
        std::fs::read_dir(alone.state())?.count() == 1,
        "the state was changed"
    );

    // The same file under another name has nothing, and its JSON says what to add.
    let file = copy(&alone, "mine")?;
    let shown = alone
        .fleetling(&[
            "plugin",
            "inspect",
            &file,
            "--format",
            "json",
            "--config",
            "config.toml",
        ])
        .await?;
    let json: Value = serde_json::from_str(&out(&shown))?;
    ensure!(
        json["plugin"] == "mine" && json["name"] == "aws",
        "{json:#}"
    );
    ensure!(json["granted"] == serde_json::json!([]), "{json:#}");
    let add = json["wants"][0]["add"].as_str().unwrap_or_default();
    ensure!(
        add.starts_with("http = [\"https://autoscaling."),
        "{json:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_plugin_does_what_every_provider_must() -> Result<()> {
    let alone = CloudAlone::start().await?;
    alone.cloud.allow_at_most(6).await?;
    alone.write(&alone.configuration())?;

    let bare = alone.fleetling(&["plugin", "check", "aws"]).await?;
    // A configuration that merely lies there is not used.
    let said = out(&bare);
    ensure!(bare.status.success(), "{said}{}", err(&bare));
    ensure!(
        said.contains("passed       describe is pure and stable"),
        "{said}"
    );
    ensure!(
        said.contains("not checked  open names the group, and changes nothing: needs --config"),
        "{said}"
    );
    ensure!(alone.cloud.group().await?.desired == 0);

    let arguments = ["plugin", "check", "aws", "--config", "config.toml"];
    let checked = alone.fleetling(&arguments).await?;
    let said = out(&checked);
    println!("{said}");
    ensure!(checked.status.success(), "{said}{}", err(&checked));
    ensure!(!said.contains("failed       "), "{said}");
    for name in [
        "increase with a repeated token adds nothing",
        "answers of status 429 are survived",
        "increase killed between any two of its requests leaks nothing",
        "increase beyond the maximum is accepted in part",
        "no request and no secret is outside of its grants",
    ] {
        ensure!(
            said.contains(&format!("passed       {name}")),
            "{name}:\n{said}"
        );
    }
    let left = alone.cloud.group().await?;
    ensure!(left.desired == 0 && left.instances.is_empty(), "{left:?}");

    // Somebody's instances are nobody's to try things on.
    alone.cloud.desire(1).await?;
    let said = out(&alone.fleetling(&arguments).await?);
    let words = "not checked  increase adds what it accepts, and update lists it: the group has 1 instances";
    ensure!(said.contains(words), "{said}");
    ensure!(alone.cloud.group().await?.desired == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_is_made_and_its_exchanges_are_shown_without_secrets() -> Result<()> {
    let alone = CloudAlone::start().await?;
    alone.write(&alone.configuration())?;
    let call = async |arguments: &[&str]| {
        let all = [
            &["plugin", "call", "aws"],
            arguments,
            &["--config", "config.toml"],
        ]
        .concat();
        alone.fleetling(&all).await
    };
    let described = call(&["describe"]).await?;
    let described: Value = serde_json::from_str(&out(&described))?;
    ensure!(
        described["config-schema"]["type"] == "object",
        "{described:#}"
    );

    let made = call(&["increase", "1", "--token", "one", "--trace"]).await?;
    let answer: Value = serde_json::from_str(&out(&made))?;
    ensure!(answer["accepted"] == 1, "{answer:#}");
    let trace = err(&made);
    for words in [
        "> POST http://127.0.0.1:",
        "> authorization: (redacted)",
        "Action=SetDesiredCapacity",
        "< 200 OK after ",
        "<DescribeAutoScalingGroupsResponse",
    ] {
        ensure!(trace.contains(words), "{words:?} is missing:\n{trace}");
    }
    ensure!(!trace.contains(&alone.cloud.access.secret_key), "{trace}");
    ensure!(!trace.contains("Signature="), "{trace}");

    let updated = call(&["update"]).await?;
    let snapshot: Value = serde_json::from_str(&out(&updated))?;
    let id = snapshot["instances"][0]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(id.starts_with("i-"), "{snapshot:#}");
    let unknown = call(&["connect-info", "i-00000000000000000"]).await?;
    ensure!(!unknown.status.success());
    let refused: Value = serde_json::from_str(&out(&unknown))?;
    ensure!(refused["problem"]["kind"] == "not-found", "{refused:#}");
    let removed = call(&["decrease", &id]).await?;
    ensure!(out(&removed).contains("accepted"), "{}", out(&removed));
    ensure!(alone.cloud.group().await?.desired == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_asks_about_each_thing_that_is_refused_and_writes_what_was_read() -> Result<()> {
    let alone = CloudAlone::start().await?;
    let mut configuration = alone.configuration();
    configuration.plugins = "# ours\n[other]\nenv = [\"A\"] # kept\n".to_owned();
    let file = copy(&alone, "mine")?;
    let configuration = configuration.replace("\"fleeting-plugin-aws\"", &format!("\"{file}\""));
    alone.write(&configuration)?;
    let trust = ["plugin", "trust", &file, "--config", "config.toml"];

    // Nobody can answer, and nothing answers for all.
    let refused = alone.fleetling(&trust).await?;
    ensure!(
        !refused.status.success() && err(&refused).contains("no terminal"),
        "{}",
        err(&refused)
    );
    let refused = alone.fleetling(&[&trust[..], &["--yes"]].concat()).await?;
    ensure!(
        !refused.status.success() && err(&refused).contains("one by one"),
        "{}",
        err(&refused)
    );

    let aws = alone.home().join(".aws");
    let (config, credentials) = (aws.join("config"), aws.join("credentials"));
    let (config, credentials) = (config.to_string_lossy(), credentials.to_string_lossy());
    let read = || std::fs::read_to_string(alone.home().join("plugins.toml"));
    let said = alone
        .asked(
            &trust,
            &[
                ("variables of the environment", "n"),
                ("aws_config", &config),
                ("aws_credentials", &credentials),
                ("127.0.0.1", "n"),
                ("nevertheless", "n"),
            ],
        )
        .await?;
    ensure!(said.contains("nothing was written"), "{said}");
    ensure!(read()? == configuration.plugins);

    let answers = [
        ("variables of the environment", "y"),
        ("aws_config", &*config),
        ("aws_credentials", &*credentials),
        ("127.0.0.1", "y"),
        ("Write this into", "y"),
    ];
    let said = alone.asked(&trust, &answers).await?;
    ensure!(
        said.contains("`open` and `update` work: group aws/"),
        "{said}"
    );
    let written = read()?;
    for words in [
        "# ours",
        "env = [\"A\"] # kept",
        "[mine]",
        "sha256 = \"",
        "loopback = true",
        "aws_credentials",
        "\"AWS_REGION\"",
    ] {
        ensure!(written.contains(words), "{words:?} is missing:\n{written}");
    }
    let opened = alone
        .fleetling(&["plugin", "call", &file, "open", "--config", "config.toml"])
        .await?;
    ensure!(opened.status.success(), "{}{}", out(&opened), err(&opened));

    // Another file under that name is not given anything until somebody says so.
    let mut bytes = std::fs::read(&file)?;
    // An empty custom section, named `x`.
    bytes.extend([0, 2, 1, b'x']);
    std::fs::write(&file, bytes)?;
    let refused = alone
        .fleetling(&["plugin", "call", &file, "open", "--config", "config.toml"])
        .await?;
    ensure!(
        !refused.status.success() && err(&refused).contains("digest"),
        "{}",
        err(&refused)
    );
    let accepted = [("Is this file meant", "y"), ("Write this into", "y")];
    let said = alone.asked(&trust, &accepted).await?;
    ensure!(said.contains("written into"), "{said}");
    let opened = alone
        .fleetling(&["plugin", "call", &file, "open", "--config", "config.toml"])
        .await?;
    ensure!(opened.status.success(), "{}{}", out(&opened), err(&opened));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_check_runs_a_container_on_each_of_two_instances_and_leaves_none() -> Result<()> {
    let lab = Lab::start().await?;
    lab.rewrite(&lab.configuration())?;
    let config = lab.home().join("config.toml");
    let config = config.to_string_lossy();
    let mut command = lab.command(&["plugin", "check", "aws", "--live", "--config", &config])?;
    let ended = command.ended(std::time::Duration::from_secs(500)).await?;
    let said = command.said();
    ensure!(ended.success(), "{said}");
    for words in [
        "passed       two instances are made and run",
        "passed       each runs a container, reached over SSH",
        "passed       both are removed",
    ] {
        ensure!(said.contains(words), "{words:?} is missing:\n{said}");
    }
    ensure!(lab.living().is_empty(), "{:?}", lab.living());
    Ok(())
}

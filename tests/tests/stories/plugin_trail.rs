//! What operators are told of plugins, by a manager and its files: the present in `status` and `plugin list`, the past in
//! the audit log.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Configuration, Job, Lab};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
const SECRET: &str = "correct-horse-battery";

/// The manager's own fixture; a block comment of a function's name is where its instructions go.
const PROVIDER: &str = include_str!("../../../host/src/plugin/fixtures/provider.wat");
/// Reads the secret `token`.
const READS: &str = "(call $secret (i32.const 1200) (i32.const 5) (i32.const 2048))";

/// In one piece, as an operator's tool puts it there.
fn put(file: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::create_dir_all(file.parent().context("it is in a folder")?)?;
    std::fs::write(&new, bytes)?;
    Ok(std::fs::rename(new, file)?)
}

/// With a second runner, whose plugin is `late`.
fn with_a_late_one(mut configuration: Configuration) -> Configuration {
    let runner = configuration.config.find("[[runners]]");
    let runner = runner.map(|at| configuration.config[at..].to_owned());
    let late = runner.unwrap_or_default();
    let late = late.replace("instance autoscaler example", "late one");
    let late = late.replace("fleeting-plugin-aws", "late");
    configuration.config.push_str(&late);
    configuration
}

struct Operator<'a> {
    lab: &'a Lab,
    config: String,
}

impl Operator<'_> {
    /// The text of a command, once it says all of `pieces` in order; asked again until then.
    async fn reads(&self, command: &[&str], pieces: &[&str]) -> Result<String> {
        let arguments = [command, &["--config", &self.config]].concat();
        let end = tokio::time::Instant::now() + MINUTE;
        loop {
            let mut asked = self.lab.command(&arguments)?;
            let status = asked.ended(MINUTE).await?;
            let said = asked.said();
            if status.success() && has(&said, pieces) {
                return Ok(said);
            }
            ensure!(
                tokio::time::Instant::now() < end,
                "{status}: of {said}\nnot all of {pieces:?} is there"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn page(&self) -> Result<Value> {
        let arguments = ["status", "--format", "json", "--config", &self.config];
        let asked = self.lab.command(&arguments)?;
        let whole = || serde_json::from_str(asked.said().trim()).ok();
        self.lab.journal.until("a whole page", MINUTE, whole).await
    }

    fn audit_file(&self) -> std::path::PathBuf {
        self.lab.home().join("state/audit.log")
    }

    /// The audit log, which begins as it did `before`, once it has an entry that is wanted.
    async fn records(
        &self,
        what: &str,
        before: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<String> {
        let end = tokio::time::Instant::now() + MINUTE;
        loop {
            let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
            ensure!(text.starts_with(before), "it was not only appended to");
            let added = entries(&text[before.len()..])?;
            if added.iter().any(&wanted) {
                return Ok(text);
            }
            ensure!(
                tokio::time::Instant::now() < end,
                "never recorded: {what}\n{text}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A last line that is still being written is left for later.
fn entries(text: &str) -> Result<Vec<Value>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// In this order; columns are as wide as they need to be.
fn has(text: &str, pieces: &[&str]) -> bool {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = &*text;
    pieces.iter().all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

fn is(entry: &Value, event: &str, plugin: &str) -> bool {
    entry["event"] == event && entry["plugin"] == plugin
}

#[tokio::test(flavor = "multi_thread")]
async fn what_plugins_are_and_may_do_is_shown_while_it_is_so_and_kept_for_good() -> Result<()> {
    let lab = Lab::start().await?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let configuration = lab.configuration().idle_count(0).max_instances(1);
    let configuration = configuration.global(&format!("listen_address = \"{free}\""));
    let configuration = with_a_late_one(configuration);
    let (file, token) = (
        lab.home().join("plugins/late.wasm"),
        lab.home().join("late-token"),
    );
    let grants = |more: &str| {
        let mut granting = configuration.clone();
        granting
            .plugins
            .push_str(&format!("[late]\nenv = [\"LANG\"]\n{more}"));
        granting
    };
    let mut manager = lab.start_manager(&grants(""))?;
    let operator = Operator {
        lab: &lab,
        config: lab
            .home()
            .join("config.toml")
            .to_string_lossy()
            .into_owned(),
    };
    std::fs::write(&token, SECRET)?;

    // One runner waits for its plugin, which is said where it is looked for; the other works meanwhile.
    let waits = [
        "late one waiting",
        "plugin `late` was not loaded",
        "it was found in none of: ",
        "next: put `fleeting-plugin-late.wasm`",
        "runner instance autoscaler example",
    ];
    operator.reads(&["status"], &waits).await?;
    let listed = [
        "aws ",
        "loaded",
        "(shipped)",
        "late ",
        "waiting",
        "was not loaded",
    ];
    operator.reads(&["plugin", "list"], &listed).await?;
    let job = Job::named("one").script(["echo done"]).without_sources();
    let id = lab.gitlab.queue(job);
    let job = lab.gitlab.ended(&[id], 4 * MINUTE).await?.remove(0);
    ensure!(job.state == JobState::Success, "{}", job.log());
    let instance = job.instance().context("the log names no instance")?;
    let deleted = |entry: &Value| is(entry, "instance_deleted", "aws");
    let before = operator.records("the instance's end", "", deleted).await?;

    // The file comes, another takes its place, and the operator trusts that one: by an edit that is noticed.
    let [first, second] = ["nop", "nop nop"].map(|other| {
        let text = PROVIDER.replace("(;update;)", &format!("{READS} {other}"));
        wat::parse_str(text)
    });
    let (first, second) = (first?, second?);
    put(&file, &first)?;
    operator
        .reads(&["status"], &["late", "1.2.3", "late one loaded"])
        .await?;
    put(&file, &second)?;
    let refused = [
        "late",
        "late one loaded",
        "plugin `late` (",
        "its digest is not the one trusted before",
        "next: if the new file is meant, review it",
    ];
    operator.reads(&["status"], &refused).await?;
    let page = operator.page().await?;
    let plugins = page["plugins"].as_array().context("it lists plugins")?;
    let late = plugins.iter().find(|row| row["name"] == "late");
    let late = late.context("it lists the late one")?;
    ensure!(late["state"] == "loaded", "{late:#}");
    let error = late["last_error"].as_str().unwrap_or_default();
    ensure!(error.contains("trusted before"), "{late:#}");
    operator
        .reads(
            &["plugin", "list"],
            &["late ", "loaded", "late one", "trusted before"],
        )
        .await?;
    let review = error.split("sha256 = \"").nth(1);
    let digest = review.and_then(|rest| rest.get(..64));
    let digest = digest.context("the report has the line to write")?;
    let named = format!("sha256 = \"{digest}\"\n");
    lab.rewrite(&grants(&named))?;
    let took_over = |entry: &Value| {
        is(entry, "plugin_loaded", "late")
            && entry["digest"] == digest
            && entry["instead_of"].is_string()
    };
    let before = operator.records("the new file", &before, took_over).await?;
    let mended = operator.reads(&["status"], &["late one loaded"]).await?;
    ensure!(!mended.contains("was not loaded"), "{mended}");

    // A further grant, and SIGHUP.
    let secret = format!("{named}secret.token = {{ file = {token:?} }}\n");
    lab.rewrite(&grants(&secret))?;
    manager.reload()?;
    let read = |entry: &Value| is(entry, "secret_read", "late") && entry["secret"] == "token";
    let before = operator.records("the secret", &before, read).await?;
    manager.quit()?;
    ensure!(manager.ended(MINUTE).await?.success(), "{}", manager.said());

    // The next manager goes on behind what this one wrote.
    let mut manager = lab.start_manager(&grants(&secret))?;
    let loaded = |entry: &Value| is(entry, "plugin_loaded", "late");
    let text = operator.records("the next start", &before, loaded).await?;
    manager.quit()?;
    ensure!(manager.ended(MINUTE).await?.success(), "{}", manager.said());

    let all = entries(&text)?;
    let mut rest = all.iter();
    for (event, plugin, fact) in [
        ("plugin_trusted", "aws", ""),
        ("plugin_loaded", "aws", "secret aws_credentials"),
        ("secret_read", "aws", "aws_credentials"),
        ("instance_created", "aws", &*instance),
        ("instance_deleted", "aws", &*instance),
        ("plugin_trusted", "late", ""),
        ("plugin_loaded", "late", "env LANG"),
        ("plugin_trusted", "late", digest),
        ("plugin_loaded", "late", digest),
        ("grants_changed", "late", "secret token from "),
        ("secret_read", "late", "\"token\""),
        ("plugin_loaded", "late", digest),
    ] {
        let found = rest.any(|entry| is(entry, event, plugin) && entry.to_string().contains(fact));
        ensure!(
            found,
            "no {event} of {plugin} with {fact:?} in its place:\n{text}"
        );
    }
    let access = &lab.cloud.access;
    for secret in [SECRET, &access.secret_key, &lab.gitlab.runner_token()] {
        ensure!(!text.contains(secret), "{secret} is in the audit log");
        ensure!(!manager.said().contains(secret), "{secret} is in the log");
    }
    let mode = std::fs::metadata(operator.audit_file())?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    lab.was_correct()
}

//! `fleetling plugin inspect`: what a plugin is, asks for, is granted, and takes as its configuration.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::chosen::{self, Chosen};
use super::{Answer, Places, clean};
use crate::cli::AnswerFormat;
use crate::cli::plugin::Subject;
use crate::plugin::actor::Clocks;
use crate::plugin::grants::{Grants, Limits, PrivateAddresses, Reload, Target, Template};
use crate::plugin::outline::inert;
use crate::plugin::platform::{Examined, Platform, PlatformOptions};

pub(super) async fn inspect(
    places: &Places<'_>,
    subject: &Subject,
    format: AnswerFormat,
) -> anyhow::Result<Answer> {
    let options = chosen::options(places)?;
    let chosen = Chosen::of(subject, &options)?;
    // Compiled for real, and once, so that the time says something.
    let options = PlatformOptions {
        cache_dir: None,
        compiler: None,
        ..options
    };
    let platform = Platform::start(options)?;
    let examined = match platform.examine(&chosen.plugin, chosen.file).await {
        Ok(examined) => examined,
        Err(report) if format == AnswerFormat::Json => {
            let text = format!("{:#}\n", json!({ "refusal": report.to_string() }));
            let is_good = false;
            return Ok(Answer { text, is_good });
        }
        Err(report) => return Err(report.into()),
    };
    let is_good = examined.refusal.is_none();
    let text = match format {
        AnswerFormat::Text => text(&examined),
        AnswerFormat::Json => format!("{:#}\n", as_json(&examined)),
    };
    Ok(Answer { text, is_good })
}

/// An origin that the plugin asks for.
#[derive(Debug, PartialEq, Eq)]
struct Want {
    origin: String,
    state: WantState,
}

#[derive(Debug, PartialEq, Eq)]
enum WantState {
    Granted,
    /// What to add to its table.
    NotGranted(String),
    /// Why no grant can name it.
    Unnamable(String),
}

/// `{key}` of what is asked for and of what is granted stand for the same label.
fn want(origin: &str, grants: &Grants) -> Want {
    let state = match Template::parse(origin) {
        Err(problem) => WantState::Unnamable(clean(&problem.to_string())),
        Ok(_) => {
            let (stood_in, config) = stand_in(origin);
            let admitted =
                Target::parse(&stood_in).map(|target| grants.reach(&config).admits(&target));
            match admitted {
                Some(Ok(_)) => WantState::Granted,
                Some(Err(denial)) => {
                    let lines = denial.grant().unwrap_or_default();
                    let lines = lines.replace(&stood_in, origin);
                    WantState::NotGranted(clean(&lines.replace('\n', "; ")))
                }
                None => WantState::NotGranted(clean(&format!("http = [\"{origin}\"]"))),
            }
        }
    };
    Want {
        origin: clean(origin),
        state,
    }
}

/// Every key as the label `x`, and a configuration that has it so.
fn stand_in(origin: &str) -> (String, Value) {
    let mut config = serde_json::Map::new();
    let mut out = String::new();
    let mut rest = origin;
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) = after.split_once('}').unwrap_or((after, ""));
        config.insert(key.to_owned(), json!("x"));
        out.push_str(before);
        out.push('x');
        rest = after;
    }
    out.push_str(rest);
    (out.replace("*", "x"), Value::Object(config))
}

fn text(it: &Examined) -> String {
    let mut out = String::new();
    let said = &it.description;
    let (name, version) = (clean(&said.name), clean(&said.version));
    let _ = writeln!(
        out,
        "{name} {version}, known here as `{}`",
        clean(&it.plugin)
    );
    let _ = writeln!(out, "  {}", clean(&it.file.display().to_string()));
    let _ = writeln!(out, "  sha256 {}", it.digest.hex());
    let _ = writeln!(
        out,
        "  {}, compiled in {:.1} s",
        size(it.size as u64),
        it.compile.as_secs_f64()
    );
    if it.is_shipped {
        out.push_str("  shipped with this installation\n");
    }
    if let Some(why) = &it.no_built_in {
        let _ = writeln!(out, "  {}", clean(why));
    }

    out.push_str("\nasks for\n");
    let wants: Vec<Want> = said.wants.iter().map(|one| want(one, &it.grants)).collect();
    for want in &wants {
        let state = match &want.state {
            WantState::Granted => "granted".to_owned(),
            WantState::NotGranted(lines) => {
                format!(
                    "not granted; to grant it, add under [{}] in plugins.toml: {lines}",
                    clean(&it.plugin)
                )
            }
            WantState::Unnamable(why) => format!("cannot be granted: {why}"),
        };
        let _ = writeln!(out, "  {}  {state}", want.origin);
    }
    for (name, is_granted) in variables(it) {
        let state = if is_granted { "granted" } else { "not granted" };
        let _ = writeln!(out, "  the variable {name}  {state}");
    }
    if wants.is_empty() && said.variables.is_empty() {
        out.push_str("  nothing that it names\n");
    }

    out.push_str("\ngranted\n");
    let granted = granted(&it.grants);
    for (key, value) in &granted {
        let _ = writeln!(out, "  {key:18}{}", clean(value));
    }
    if granted.is_empty() {
        out.push_str("  nothing\n");
    }

    out.push_str("\nlimits\n");
    for (key, value) in limits(&it.grants) {
        let _ = writeln!(out, "  {key:22}{value}");
    }

    out.push_str("\nplugin_config\n");
    match schema(&said.config_schema) {
        Ok(keys) if keys.is_empty() => out.push_str("  no key\n"),
        Ok(keys) => {
            let width = keys.iter().map(|key| key.name.chars().count()).max();
            let width = width.unwrap_or_default();
            for key in keys {
                let required = if key.is_required { ", required" } else { "" };
                let kind = format!("{}{required}", key.kind);
                let _ = writeln!(out, "  {:width$}  {kind:18}  {}", key.name, key.description);
            }
        }
        Err(why) => {
            let _ = writeln!(out, "  its schema is no JSON: {}", clean(&why));
        }
    }

    out.push_str("\nimports\n");
    for import in &it.outline.imports {
        match inert(import) {
            Some(why) => {
                let _ = writeln!(out, "  {}  inert: {why}", clean(import));
            }
            None => {
                let _ = writeln!(out, "  {}", clean(import));
            }
        }
    }
    out.push_str("\nexports\n");
    for export in &it.outline.exports {
        let _ = writeln!(out, "  {}", clean(export));
    }
    if let Some(refusal) = &it.refusal {
        let lines: Vec<_> = refusal.to_string().lines().map(clean).collect();
        let _ = writeln!(out, "\n{}", lines.join("\n"));
    }
    out
}

/// What it reads of the environment by its own word, and whether it may.
fn variables(it: &Examined) -> impl Iterator<Item = (&str, bool)> {
    let read = it.description.variables.iter();
    read.map(|name| (name.as_str(), it.grants.env.contains(name)))
}

fn as_json(it: &Examined) -> Value {
    let said = &it.description;
    let wants = said.wants.iter().map(|one| {
        let want = want(one, &it.grants);
        match want.state {
            WantState::Granted => json!({ "origin": want.origin, "granted": true }),
            WantState::NotGranted(add) => {
                json!({ "origin": want.origin, "granted": false, "add": add })
            }
            WantState::Unnamable(why) => {
                json!({ "origin": want.origin, "granted": false, "problem": why })
            }
        }
    });
    let imports = it
        .outline
        .imports
        .iter()
        .map(|import| json!({ "name": clean(import), "inert": inert(import).is_some() }));
    let pairs = |pairs: Vec<(&'static str, String)>| -> Value {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| json!({ key: clean(&value) }));
        pairs.collect()
    };
    let limits: serde_json::Map<_, _> = limits(&it.grants)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({
        "plugin": it.plugin,
        "name": clean(&said.name),
        "version": clean(&said.version),
        "file": it.file,
        "sha256": it.digest.hex(),
        "bytes": it.size,
        "compile_ms": u64::try_from(it.compile.as_millis()).unwrap_or(u64::MAX),
        "shipped": it.is_shipped,
        "wants": wants.collect::<Vec<_>>(),
        "variables": variables(it)
            .map(|(name, is_granted)| json!({ "name": name, "granted": is_granted }))
            .collect::<Vec<_>>(),
        "granted": pairs(granted(&it.grants)),
        "limits": limits,
        "config_schema": serde_json::from_str::<Value>(&said.config_schema).unwrap_or_default(),
        "imports": imports.collect::<Vec<_>>(),
        "exports": it.outline.exports.iter().map(|one| clean(one)).collect::<Vec<_>>(),
        "refusal": it.refusal.as_ref().map(ToString::to_string),
    })
}

/// In the words of plugins.toml, one pair an entry.
fn granted(grants: &Grants) -> Vec<(&'static str, String)> {
    let mut granted = Vec::new();
    granted.extend(grants.http.iter().map(|entry| ("http", entry.to_string())));
    granted.extend(grants.env.iter().map(|name| ("env", name.clone())));
    for (name, source) in &grants.secrets {
        granted.push(("secret", format!("{name}: {source}")));
    }
    for (key, flag) in [
        ("plaintext", grants.plaintext),
        ("loopback", grants.loopback),
        ("metadata", grants.metadata),
        ("allow_any_host", grants.allow_any_host),
    ] {
        if flag == Some(true) {
            granted.push((key, "true".to_owned()));
        }
    }
    if let Some(private) = grants.private_addresses {
        let word = match private {
            PrivateAddresses::Never => "never",
            PrivateAddresses::ListedNames => "listed-names",
            PrivateAddresses::Any => "any",
        };
        granted.push(("private_addresses", word.to_owned()));
    }
    for host in grants.tls.keys() {
        granted.push(("tls", host.to_string()));
    }
    if let Some(proxy) = &grants.proxy {
        let alone = "through it the name alone decides, whatever it leads to";
        granted.push(("proxy", format!("{proxy} ({alone})")));
    }
    if grants.log_requests == Some(true) {
        granted.push(("log_requests", "true".to_owned()));
    }
    if grants.reload == Some(Reload::Any) {
        granted.push(("reload", "any".to_owned()));
    }
    if let Some(digest) = &grants.sha256 {
        granted.push(("sha256", digest.clone()));
    }
    granted
}

/// Those that hold for this plugin, whoever set them.
fn limits(grants: &Grants) -> Vec<(&'static str, String)> {
    let clocks = Clocks::default();
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let limits = grants.limits.over(Limits::default());
    let mut shown = limits.shown();
    shown.extend([
        ("increase", seconds(clocks.mutation)),
        ("decrease", seconds(clocks.mutation)),
        ("heartbeat", seconds(clocks.heartbeat)),
        ("other calls", seconds(clocks.other)),
    ]);
    shown
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// One key of `plugin_config`, as the plugin's schema has it.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    name: String,
    kind: String,
    is_required: bool,
    description: String,
}

fn schema(text: &str) -> Result<Vec<Key>, String> {
    let schema: Value = serde_json::from_str(text).map_err(|problem| problem.to_string())?;
    let required = schema["required"].as_array();
    let is_required =
        |name: &str| required.is_some_and(|keys| keys.iter().any(|key| key.as_str() == Some(name)));
    let properties = schema["properties"].as_object();
    let keys = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| Key {
            name: clean(name),
            kind: kind(property),
            is_required: is_required(name),
            description: description(property),
        });
    let mut keys: Vec<_> = keys.collect();
    // What must be written comes first.
    keys.sort_by_key(|key| !key.is_required);
    Ok(keys)
}

fn kind(property: &Value) -> String {
    let kind = match &property["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Value::as_str);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ if property["enum"].is_array() => "one of".to_owned(),
        _ => "any".to_owned(),
    };
    clean(&kind)
}

fn description(property: &Value) -> String {
    let mut told = property["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if let Some(values) = property["enum"].as_array() {
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        told.push_str(&format!(" One of {}.", values.join(", ")));
    }
    if let Some(default) = property.get("default") {
        told.push_str(&format!(" Default {default}."));
    }
    clean(told.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::grants::GrantsFile;

    fn grants(toml: &str) -> Grants {
        let file = GrantsFile::parse(&format!("[p]\n{toml}")).expect("the test's grants parse");
        file.plugins["p"].clone()
    }

    #[test]
    fn what_is_asked_for_is_held_against_what_is_granted() {
        let wildcard = grants(r#"http = ["https://ec2.*.amazonaws.com"]"#);
        let template = grants(r#"http = ["https://ec2.{region}.amazonaws.com"]"#);
        let asked = "https://ec2.{region}.amazonaws.com";
        for granted in [&wildcard, &template] {
            assert_eq!(want(asked, granted).state, WantState::Granted);
        }
        let add = |line: &str| WantState::NotGranted(line.to_owned());
        assert_eq!(
            want(asked, &Grants::default()).state,
            add(r#"http = ["https://ec2.{region}.amazonaws.com"]"#)
        );
        assert_eq!(
            want("http://cloud.example:8080", &Grants::default()).state,
            add(r#"http = ["http://cloud.example:8080"]; plaintext = true"#)
        );
        let no_host = want("cloud.example\u{1b}[0m", &Grants::default());
        assert!(
            matches!(no_host.state, WantState::Unnamable(_)),
            "{no_host:?}"
        );
        assert_eq!(no_host.origin, "cloud.example[0m");
    }

    #[test]
    fn a_schema_becomes_lines() {
        let text = r#"{"required": ["name"], "properties": {
            "zone": {"enum": ["a", "b"], "default": "a", "description": "Where."},
            "name": {"type": "string", "description": "Of the\ngroup."},
            "size": {"type": ["integer", "null"]}}}"#;
        let lines: Vec<_> = schema(text)
            .expect("it is JSON")
            .into_iter()
            .map(|key| {
                format!(
                    "{} {} {} {}",
                    key.name, key.kind, key.is_required, key.description
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "name string true Of the group.",
                "size integer or null false ",
                r#"zone one of false Where. One of "a", "b". Default "a"."#,
            ]
        );
        assert!(schema("{").is_err());
    }
}

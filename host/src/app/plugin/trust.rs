//! `fleetling plugin trust`: a plugin tries to reach its cloud, and a person decides about each thing that it is refused.
//!
//! ```text
//! rehearse under the table so far ─ open, update ─► refused? ─ asked, y ─► table grows ─┐   nothing new granted
//!    ▲                                                  └ n                             │   ─► show, ask, write
//!    └─────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Nothing is written before the last question, and then the whole file at once.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use async_trait::async_trait;

use super::chosen::ForRunner;
use super::table::granting;
use super::{Answer, Places, clean, say};
use crate::cli::plugin::{OfRunner, Subject};
use crate::fleet::group::{CallFailure, InstanceGroup as _};
use crate::plugin::egress::tap::Tap;
use crate::plugin::grants::{Denial, Grants, GrantsFile, built_in};
use crate::plugin::platform::Platform;
use crate::plugin::watch::read_grants;

pub(super) async fn trust(
    places: &Places<'_>,
    subject: &Subject,
    of: &OfRunner,
    yes: bool,
) -> anyhow::Result<Answer> {
    if yes {
        bail!(
            "what a plugin may reach is decided one by one, by somebody who reads it; next: run it without --yes, or \
             write the table into plugins.toml by another way"
        );
    }
    if !std::io::stdin().is_terminal() {
        bail!(
            "it asks, and nobody can answer: standard input is no terminal; next: run it in a terminal, or write the \
             table into plugins.toml by another way"
        );
    }
    let of = ForRunner::of(subject, of, places)?;
    let file = places.config.with_file_name("plugins.toml");
    let before = read_grants(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let refusals = Arc::new(Refusals::default());
    let platform = of.platform(places, Some(refusals.clone() as Arc<dyn Tap>))?;

    let (plugin, path) = (&of.chosen.plugin, of.chosen.file.clone());
    let examined = platform.examine(plugin, path).await?;
    let said = &examined.description;
    say(&format!(
        "{} {}, known here as `{plugin}`\n  {}\n  sha256 {}",
        clean(&said.name),
        clean(&said.version),
        clean(&examined.file.display().to_string()),
        examined.digest.hex()
    ));
    if let Some(refusal) = &examined.refusal {
        say(&format!("  {}", clean(&refusal.cause.to_string())));
        if !yes_to("Is this file meant, and may it have what the one before has?")? {
            return Ok(nothing_written());
        }
    }
    let mut review = Review {
        text: before.clone(),
        digest: examined.digest.hex(),
        is_shipped: examined.is_shipped,
        asked: BTreeSet::new(),
    };
    review.add(plugin, &format!("sha256 = \"{}\"", review.digest))?;
    review.decide_variables(plugin, &said.variables)?;
    let reached = loop {
        let tried = attempt(&of, &platform, review.grants(plugin)?).await;
        let refused = refusals.take();
        let mut is_changed = false;
        for refusal in refused {
            is_changed |= review.decide(plugin, refusal)?;
        }
        if !is_changed {
            break tried;
        }
    };
    match reached {
        Ok(group) => say(&format!(
            "`open` and `update` work: group {}",
            clean(&group)
        )),
        Err(why) => {
            say(&format!("it does not work yet: {}", clean(&why)));
            let granted = review.grants(plugin)?.env;
            let unset = granted.iter().filter(|name| !is_set(name));
            let unset: Vec<_> = unset.map(|name| clean(name)).collect();
            if !unset.is_empty() {
                let unset = unset.join(", ");
                say(&format!(
                    "granted, and not set here, where it may be in a manager's environment: {unset}"
                ));
            }
            if !yes_to("Write what you granted nevertheless?")? {
                return Ok(nothing_written());
            }
        }
    }
    if review.text == before {
        return Ok(Answer::good(format!(
            "{} says so already\n",
            file.display()
        )));
    }
    say(&format!("\n{}\n", table_of(&review.text, plugin)));
    if !yes_to(&format!("Write this into {}?", file.display()))? {
        return Ok(nothing_written());
    }
    replace(&file, &before, &review.text)?;
    Ok(Answer::good(format!(
        "written into {}; a running manager reads it within seconds\n",
        file.display()
    )))
}

fn nothing_written() -> Answer {
    Answer {
        text: "nothing was written\n".to_owned(),
        is_good: false,
    }
}

/// `open` and `update` under these grants; the group's ID.
async fn attempt(of: &ForRunner, platform: &Platform, grants: Grants) -> Result<String, String> {
    let told = |problem: anyhow::Error| format!("{problem:#}");
    let request = of.request(Some(grants)).map_err(told)?;
    let rehearsal = platform.rehearse(request).await;
    let rehearsal = rehearsal.map_err(|report| report.to_string())?;
    let provider = rehearsal.provider().await.map_err(|why| why.to_string())?;
    let failed = |call: &str, failure: CallFailure| format!("`{call}`: {failure}");
    let group = provider.open().await.map_err(|e| failed("open", e))?;
    provider.update().await.map_err(|e| failed("update", e))?;
    Ok(group.id)
}

/// The table as it grows.
struct Review {
    text: String,
    digest: String,
    is_shipped: bool,
    /// Each thing is asked about once, whatever the answer was.
    asked: BTreeSet<String>,
}

impl Review {
    fn add(&mut self, plugin: &str, lines: &str) -> anyhow::Result<()> {
        self.text = granting(&self.text, plugin, &[lines.to_owned()])?;
        Ok(())
    }

    /// As a manager would read them.
    fn grants(&self, plugin: &str) -> anyhow::Result<Grants> {
        let file = GrantsFile::parse(&self.text).context("plugins.toml is not usable")?;
        let written = file.plugins.get(plugin).cloned().unwrap_or_default();
        let ours = built_in(plugin).filter(|_| self.is_shipped);
        Ok(ours.unwrap_or_default().extended_by(&written))
    }

    /// All at once: a plugin that misses one finds another way, and is refused nothing.
    fn decide_variables(&mut self, plugin: &str, read: &[String]) -> anyhow::Result<()> {
        let granted = self.grants(plugin)?.env;
        let missing: Vec<_> = read.iter().filter(|name| !granted.contains(name)).collect();
        if !missing.is_empty() {
            let names = missing.iter().map(|name| name.as_str());
            let list = format!("env = {}", names.collect::<toml_edit::Array>());
            let set = missing.iter().filter(|name| is_set(name));
            let set: Vec<_> = set.map(|name| name.as_str()).collect();
            let set = match &set[..] {
                [] => "none of them is set here".to_owned(),
                set => format!("set here: {}", set.join(", ")),
            };
            let question =
                format!("It reads variables of the environment; {set}. Grant it ({list})?");
            if yes_to(&question)? {
                self.add(plugin, &list)?;
            }
        }
        if read.is_empty() {
            say("variables of the environment were not examined: it does not say which it reads");
        }
        Ok(())
    }

    /// True if the table grew.
    fn decide(&mut self, plugin: &str, refused: Refused) -> anyhow::Result<bool> {
        if !self.asked.insert(refused.what().to_owned()) {
            return Ok(false);
        }
        let lines = match &refused {
            Refused::Host { what, lines: None } => {
                say(&format!("{}; no grant can allow it", clean(what)));
                None
            }
            Refused::Host {
                what,
                lines: Some(lines),
            } => {
                let shown = clean(&lines.replace('\n', ", "));
                yes_to(&format!("{}. Grant it ({shown})?", clean(what)))?.then(|| lines.clone())
            }
            Refused::Secret { name } => {
                let asked = format!(
                    "It asks for the secret `{}`. The file to give it (empty: none):",
                    clean(name)
                );
                let file = line(&asked)?;
                let value = toml_edit::Value::from(file.as_str());
                let key = toml_edit::Key::new(name);
                (!file.is_empty()).then(|| format!("secret.{key} = {{ file = {value} }}"))
            }
        };
        match lines {
            Some(lines) => self.add(plugin, &lines).map(|()| true),
            None => Ok(false),
        }
    }
}

/// One thing that the plugin was refused.
enum Refused {
    Host { what: String, lines: Option<String> },
    Secret { name: String },
}

impl Refused {
    fn what(&self) -> &str {
        match self {
            Self::Host { what, .. } => what,
            Self::Secret { name } => name,
        }
    }
}

/// What was refused since it was last asked for, each once.
#[derive(Default)]
struct Refusals(Mutex<Vec<Refused>>);

impl Refusals {
    fn take(&self) -> Vec<Refused> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, refused: Refused) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|known| known.what() == refused.what()) {
            all.push(refused);
        }
    }
}

#[async_trait]
impl Tap for Refusals {
    fn denied(&self, denial: &Denial) {
        self.note(Refused::Host {
            what: denial.to_string(),
            lines: denial.grant(),
        });
    }

    fn secret_denied(&self, name: &str) {
        self.note(Refused::Secret {
            name: name.to_owned(),
        });
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

fn yes_to(question: &str) -> anyhow::Result<bool> {
    let answer = line(&format!("{question} [y/N]"))?;
    Ok(matches!(&*answer.to_ascii_lowercase(), "y" | "yes"))
}

fn line(question: &str) -> anyhow::Result<String> {
    print!("{question} ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        say("");
    }
    Ok(answer.trim().to_owned())
}

/// The plugin's part of the file, to be read before it is written.
fn table_of(text: &str, plugin: &str) -> String {
    let Ok(document) = text.parse::<toml_edit::DocumentMut>() else {
        return text.to_owned();
    };
    let is_its = |key: &str| crate::plugin::directory::Reference::parse(key).name == plugin;
    let mut shown = toml_edit::DocumentMut::new();
    for (key, item) in document.iter().filter(|(key, _)| is_its(key)) {
        shown.insert(key, item.clone());
    }
    shown.to_string().trim().to_owned()
}

/// Whole or not at all, with the rights it had; not if somebody else changed it meanwhile.
fn replace(file: &Path, before: &str, text: &str) -> anyhow::Result<()> {
    let written = || format!("{} was not written", file.display());
    if read_grants(file).with_context(written)? != before {
        bail!(
            "{} changed meanwhile, and nothing was written; next: run it again",
            file.display()
        );
    }
    // Where it is a link, what it leads to is meant.
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".plugins.toml-")
        .tempfile_in(folder)
        .with_context(written)?;
    temporary.write_all(text.as_bytes()).with_context(written)?;
    let there = std::fs::metadata(&target).ok();
    let rights = there.as_ref().map(std::fs::Metadata::permissions);
    let rights = rights.unwrap_or_else(|| std::os::unix::fs::PermissionsExt::from_mode(0o644));
    // The manager's user may own it, and root may be the one who trusts.
    let owned = there.map_or(Ok(()), |there| {
        std::os::unix::fs::fchown(temporary.as_file(), Some(there.uid()), Some(there.gid()))
    });
    owned
        .and_then(|()| temporary.as_file().set_permissions(rights))
        .and_then(|()| temporary.as_file().sync_all())
        .with_context(written)?;
    temporary.persist(&target).with_context(written)?;
    Ok(())
}

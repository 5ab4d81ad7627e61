//! Commands that explain: `why`, which reads the journal without a manager, and `status`, which asks a running one.

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tracing::warn;

use super::places;
use crate::config::usable::Config;
use crate::observe::ask::ask;
use crate::observe::journal::{Entry, Event, merged};
use crate::observe::table::table;
use crate::observe::why::{Subject, moment, stories, text};
use crate::store::journal;

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Text,
    Json,
}

/// What the journal tells of `subject`, and how it stood `at` a time.
///
/// # Errors
/// If the time is none, the journal cannot be read, or it does not know the subject.
pub fn why(
    config: &Config,
    subject: &Subject,
    at: Option<&str>,
    look: Look,
) -> anyhow::Result<String> {
    let zone = TimeZone::system();
    let at = at
        .map(|at| moment(at, Timestamp::now(), &zone))
        .transpose()?;
    let dirs = places::state_dirs(config);
    let (dir, entries) = read(&dirs)?;
    let covers = entries.first().zip(entries.last());
    let Some((first, last)) = covers else {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        anyhow::bail!(
            "there is no journal in {}; next: name the manager's configuration with --config, set STATE_DIRECTORY as \
             it is set for the manager, or start one: `fleetling run` keeps the journal",
            dirs.join(" or ")
        );
    };
    let stories = stories(&entries, subject, at);
    let (from, to) = (first.at, last.end());
    if stories.is_empty() {
        anyhow::bail!(
            "{subject} is not in the journal of {}, which covers {from:.0} to {to:.0}; next: compare the ID with the one \
             that GitLab or the cloud shows, and look at the manager that took it: what is older than {} days is forgotten",
            dir.display(),
            journal::KEPT_DAYS
        );
    }
    Ok(match look {
        Look::Text => text(subject, &stories, &zone),
        Look::Json => {
            let answer = json!({
                "subject": subject.to_string(),
                "journal": {"from": from, "to": to},
                "stories": stories,
            });
            format!("{answer:#}\n")
        }
    })
}

/// The entries of the first directory that has any, in order.
fn read(dirs: &[PathBuf]) -> anyhow::Result<(PathBuf, Vec<Entry>)> {
    for dir in dirs {
        let read = journal::read(dir)?;
        let mut torn = read.torn;
        let mut entries = Vec::with_capacity(read.lines.len());
        for line in &read.lines {
            match serde_json::from_str::<Entry>(line) {
                Ok(entry) => entries.push(entry),
                Err(_) => torn += 1,
            }
        }
        if torn > 0 {
            warn!(lines = torn, dir = %dir.display(), "lines of the journal are torn and were skipped");
        }
        let entries = merged(entries);
        let known = |entry: &Entry| entry.event != Event::Unknown;
        if entries.iter().any(known) {
            return Ok((dir.clone(), entries));
        }
    }
    Ok((PathBuf::new(), Vec::new()))
}

/// How the manager of this configuration stands now, asked at `address` or its own `listen_address`.
///
/// # Errors
/// If there is no address, or no manager answers there.
pub async fn status(config: &Config, address: Option<&str>, look: Look) -> anyhow::Result<String> {
    let address = address
        .or(config.listen_address.as_deref())
        .with_context(|| {
            format!(
                "{} has no listen_address, so the manager answers nowhere; next: write listen_address = \
                 \"127.0.0.1:9252\" above all tables and start it again, or name its address with --address",
                config.path.display()
            )
        })?;
    let page = ask(address).await?;
    Ok(match look {
        Look::Text => table(&page, Timestamp::now()),
        Look::Json => format!("{page:#}\n"),
    })
}

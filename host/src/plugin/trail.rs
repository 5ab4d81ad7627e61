//! What the audit log is told of one file at work for one group: what it may do, and which secrets it read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::grants::{Grants, PrivateAddresses, SecretSource};
use super::report::Digest;
use crate::store::audit::{Audit, Event};

/// A secret that is read again and again is told no more often than this.
const REPEATED: Duration = Duration::from_secs(60);

pub struct Trail {
    audit: Audit,
    plugin: String,
    group: String,
    digest: Digest,
    /// By granted name.
    reads: Mutex<BTreeMap<String, Reads>>,
}

/// When its last entry was written, and how often it was read since.
struct Reads {
    told: Instant,
    since: u64,
}

impl Trail {
    pub fn new(audit: Audit, plugin: String, group: String, digest: Digest) -> Self {
        Self {
            audit,
            plugin,
            group,
            digest,
            reads: Mutex::default(),
        }
    }

    pub fn loaded(&self, file: &Path, version: &str, grants: &Grants, instead_of: Option<Digest>) {
        self.audit.record(Event::PluginLoaded {
            plugin: self.plugin.clone(),
            group: self.group.clone(),
            digest: self.digest.hex(),
            version: version.to_owned(),
            file: file.to_owned(),
            grants: lines(grants),
            instead_of: instead_of.map(|digest| digest.hex()),
        });
    }

    pub fn granted(&self, grants: &Grants) {
        self.audit.record(Event::GrantsChanged {
            plugin: self.plugin.clone(),
            group: self.group.clone(),
            digest: self.digest.hex(),
            grants: lines(grants),
        });
    }

    /// `secret` is a granted name.
    pub fn secret_read(&self, secret: &str) {
        let now = Instant::now();
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let times = match reads.get_mut(secret) {
            Some(reads) if now.duration_since(reads.told) < REPEATED => {
                reads.since += 1;
                return;
            }
            Some(reads) => {
                reads.told = now;
                std::mem::take(&mut reads.since) + 1
            }
            None => {
                let first = Reads {
                    told: now,
                    since: 0,
                };
                reads.insert(secret.to_owned(), first);
                1
            }
        };
        self.read(secret, times);
    }

    fn read(&self, secret: &str, times: u64) {
        self.audit.record(Event::SecretRead {
            plugin: self.plugin.clone(),
            group: self.group.clone(),
            digest: self.digest.hex(),
            secret: secret.to_owned(),
            times,
        });
    }
}

/// What was counted and not told yet is told at the end.
impl Drop for Trail {
    fn drop(&mut self) {
        let reads = self.reads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (secret, reads) in std::mem::take(reads) {
            if reads.since > 0 {
                self.read(&secret, reads.since);
            }
        }
    }
}

/// As `plugins.toml` would say it, one grant a line; where a secret is read, never what it is.
fn lines(grants: &Grants) -> Vec<String> {
    let mut lines: Vec<String> = grants
        .http
        .iter()
        .map(|entry| format!("http {entry}"))
        .collect();
    lines.extend(grants.env.iter().map(|name| format!("env {name}")));
    lines.extend(grants.secrets.iter().map(|(name, source)| match source {
        SecretSource::File(file) => format!("secret {name} from {}", file.display()),
        SecretSource::ConfigKey { key, .. } | SecretSource::Variable { key: Some(key), .. } => {
            format!("secret {name} by plugin_config's {key}")
        }
        SecretSource::Variable { variable, .. } => format!("secret {name} by {variable}"),
    }));
    lines.extend(grants.hazards().into_iter().map(str::to_owned));
    match grants.private_addresses {
        None | Some(PrivateAddresses::ListedNames) => {}
        Some(PrivateAddresses::Never) => lines.push("no private address may be reached".to_owned()),
        Some(PrivateAddresses::Any) => lines.push("any private address may be reached".to_owned()),
    }
    lines.extend(grants.tls.keys().map(|host| format!("tls for {host}")));
    lines.extend(grants.proxy.iter().map(|proxy| format!("proxy {proxy}")));
    let limits = grants.limits.shown();
    lines.extend(limits.map(|(limit, value)| format!("limit {limit} {value}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_read_in_a_loop_is_two_entries_and_counts() {
        let audit = Audit::in_memory();
        let trail = Trail::new(audit.clone(), "p".into(), "g".into(), Digest::of(b""));
        for _ in 0..1000 {
            trail.secret_read("token");
        }
        trail.secret_read("other");
        drop(trail);
        let told: Vec<_> = audit
            .recorded()
            .into_iter()
            .map(|event| match event {
                Event::SecretRead { secret, times, .. } => (secret, times),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [("token", 1), ("other", 1), ("token", 999)];
        assert_eq!(
            told,
            expected.map(|(secret, times)| (secret.to_owned(), times))
        );
    }
}

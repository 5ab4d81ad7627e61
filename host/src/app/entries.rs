//! All `[[runners]]` entries at work, and what a changed configuration makes of them.
//!
//! ```text
//!                     same instances           ──► the entry goes on under its new words
//! file changed ──► pair ├─ other instances     ──► the old one retires, a new one starts beside it
//!                       ├─ only in the new file ──► starts
//!                       └─ only at work         ──► retires; stays while the file has broken entries that may be it
//! ```
//!
//! Invariants: a file that cannot be used changes nothing; a retiring entry takes no job, lets its jobs end, and then
//! deletes its instances, because nobody adopts them; a group passes to its next entry only after that.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::reload::ConfigFile;
use super::run::{Process, tell};
use super::runner::{self, Orders};
use crate::config::changes::{self, Pairing};
use crate::config::usable::{Config, Runner};
use crate::config::{Loaded, Problem};

pub(super) struct Entries {
    process: Arc<Process>,
    file: ConfigFile,
    at_work: Vec<Entry>,
    tasks: JoinSet<()>,
}

struct Entry {
    words: watch::Sender<Arc<Runner>>,
    retire: CancellationToken,
    task: AbortHandle,
}

impl Entry {
    fn runner(&self) -> Arc<Runner> {
        self.words.borrow().clone()
    }
}

impl Entries {
    /// Starts every entry of the configuration, which names these `files`.
    pub(super) fn start(process: Arc<Process>, files: Vec<PathBuf>) -> Self {
        let config = process.config.borrow().clone();
        let mut entries = Self {
            file: ConfigFile::new(config.path, files),
            process,
            at_work: Vec::new(),
            tasks: JoinSet::new(),
        };
        for runner in config.runners {
            let entry = entries.serve(Arc::new(runner));
            entries.at_work.push(entry);
        }
        entries
    }

    /// Until the last entry has ended. Reads the configuration again whenever there is reason to.
    pub(super) async fn work(mut self) {
        let shutdown = self.process.shutdown.clone();
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => {
                    if ended.is_none() {
                        return;
                    }
                }
                () = self.file.changed(shutdown.reload()), if !shutdown.draining().is_cancelled() => {
                    self.reload();
                }
            }
        }
    }

    fn serve(&mut self, runner: Arc<Runner>) -> Entry {
        let (words, entry) = watch::channel(runner);
        let retire = CancellationToken::new();
        let orders = Orders {
            entry,
            retire: retire.clone(),
        };
        let task = self
            .tasks
            .spawn(runner::serve(self.process.clone(), orders));
        Entry {
            words,
            retire,
            task,
        }
    }

    fn reload(&mut self) {
        self.process.platform.look_now();
        match self.file.load() {
            Err(problem) => error!(
                "changed configuration is not applied, everything goes on as it was: {problem}"
            ),
            Ok(Loaded {
                config, problems, ..
            }) if config.runners.is_empty() => {
                tell(&problems);
                error!(
                    "changed configuration is not applied, everything goes on as it was: none of its [[runners]] can \
                     work; next: mend it, or stop the manager with SIGQUIT"
                );
            }
            Ok(Loaded {
                config, problems, ..
            }) => {
                tell(&problems);
                self.apply(config, &problems);
            }
        }
    }

    fn apply(&mut self, config: Config, problems: &[Problem]) {
        warn_of_what_needs_a_restart(&self.process.config.borrow(), &config);
        self.process.concurrent.resize(config.concurrent);
        self.process.monitor.configured(&config);
        let runners = config.runners.clone();
        self.process.config.send_replace(config);

        let before = std::mem::take(&mut self.at_work);
        let now: Vec<Arc<Runner>> = before.iter().map(Entry::runner).collect();
        let at_work: Vec<&Runner> = now.iter().map(AsRef::as_ref).collect();
        let Pairing { kept, added } = changes::pair(&at_work, &runners);
        let (mut in_place, mut replaced, mut removed) = (0, 0, 0);
        for (old, entry) in before.into_iter().enumerate() {
            let paired = kept.iter().find(|(at, _)| *at == old);
            let runner = paired.map(|(_, new)| Arc::new(runners[*new].clone()));
            let stays = match &runner {
                Some(runner) => self.renew(entry, runner, &mut in_place, &mut replaced),
                None if changes::may_be_broken(at_work[old], problems) => {
                    let name = &at_work[old].name;
                    warn!(
                        runner = name,
                        "runner goes on as it was until its entry is mended"
                    );
                    entry
                }
                None => {
                    info!(
                        runner = at_work[old].name,
                        "runner was removed; its jobs end first"
                    );
                    entry.retire.cancel();
                    removed += 1;
                    continue;
                }
            };
            self.at_work.push(stays);
        }
        for &new in &added {
            let entry = self.serve(Arc::new(runners[new].clone()));
            self.at_work.push(entry);
        }
        info!(
            in_place,
            replaced,
            removed,
            added = added.len(),
            "changed configuration is applied"
        );
    }

    /// The entry under its new words; another one in its place where those make other instances.
    fn renew(
        &mut self,
        entry: Entry,
        runner: &Arc<Runner>,
        in_place: &mut u32,
        replaced: &mut u32,
    ) -> Entry {
        if entry.task.is_finished() {
            // It could not work; perhaps it can now.
            *replaced += 1;
            return self.serve(Arc::clone(runner));
        }
        if let Some(key) = changes::other_instances(&entry.runner(), runner) {
            info!(
                runner = runner.name,
                key, "runner takes new instances; those that stand go when their jobs have ended"
            );
            entry.retire.cancel();
            *replaced += 1;
            return self.serve(Arc::clone(runner));
        }
        *in_place += 1;
        entry.words.send_replace(Arc::clone(runner));
        entry
    }
}

/// What this process cannot change while it runs.
fn warn_of_what_needs_a_restart(old: &Config, new: &Config) {
    let storage = |config: &Config| -> Vec<_> {
        let runners = config.runners.iter();
        let storages = runners.map(|runner| runner.autoscaler.state_storage.clone());
        storages
            .filter(|storage| storage.enabled.is_some() || storage.dir.is_some())
            .map(|storage| (storage.enabled, storage.dir))
            .collect()
    };
    for (key, differs) in [
        ("listen_address", old.listen_address != new.listen_address),
        ("log_level", old.log_level != new.log_level),
        ("log_format", old.log_format != new.log_format),
        ("state_storage", storage(old) != storage(new)),
    ] {
        if differs {
            warn!(
                key,
                "the old value holds until the manager is started again"
            );
        }
    }
}

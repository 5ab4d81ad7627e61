//! The static provider: machines that exist already, lent out and taken back. It needs no network and no grant.
//!
//! ```text
//! plugin_config ─▶ config (machines)          who may be lent: open
//!                     └─▶ loans (kept by kv)   who is lent to whom: update, increase, decrease, connect-info
//! ```
//! To a manager, an instance is one *loan* of a machine: `rack-1.7` is the seventh loan of `rack-1`. So each loan has an
//! ID of its own, as every cloud's instances have, and a machine that comes back is a new instance the next time.
//!
//! This is also the tutorial: read it beside `plugins/README.md`, top to bottom, then `config` and `loans`.

mod config;
mod loans;

use std::rc::Rc;
use std::time::SystemTime;

use fleetling_plugin_sdk::{
    Connection, Description, Group, Host, IncreaseOutcome, IncreaseRequest, Instance, InstanceRef,
    InstanceState, Login, Notice, Problem, Provider, Removal, Settings, Snapshot,
    config as written, export_provider,
};

use crate::config::{Machine, PluginConfig};
use crate::loans::{Loan, Loans};

/// What `init` leaves behind. Nothing in it changes: what changes is kept by the host.
pub struct Static {
    /// The way to everything outside: here only the clock, the log and the store.
    host: Rc<dyn Host>,
    config: PluginConfig,
    /// What the host says beside the configuration: its public key, for one.
    settings: Settings,
}

// Makes this crate a component. In a native build, as for tests, it makes nothing.
export_provider!(Static);

impl Provider for Static {
    /// Called before everything else, also by tools that only look. Nothing may be asked here.
    fn describe() -> Description {
        Description {
            name: "static".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            // From the struct and its doc comments: one place says what may be written.
            config_schema: written::schema::<PluginConfig>(),
            // Origins that are called. None: the host dials the machines, this plugin never does.
            wants: Vec::new(),
            extras: Vec::new(),
        }
    }

    /// Everything that is wrong with the configuration alone is said here, by key.
    fn init(host: Rc<dyn Host>, config: &str, settings: Settings) -> Result<Self, Problem> {
        Ok(Self {
            host,
            config: PluginConfig::parse(config)?,
            settings,
        })
    }

    /// A provider of a cloud would authenticate here. This one has nothing to ask, and something to say.
    fn open(&self) -> Result<Group, Problem> {
        Ok(Group {
            id: self.config.group(),
            max_size: Some(self.size()),
            owner: None,
            notices: self.notices(),
            extras: Vec::new(),
        })
    }

    /// Every loan is an instance that runs. A machine that is not lent is none: it waits, like capacity of a cloud.
    fn update(&self) -> Result<Snapshot, Problem> {
        let loans = Loans::read(&*self.host)?;
        // A machine that the operator took off the list is gone, whatever was lent.
        let known = loans.all().filter(|loan| self.machine(loan).is_some());
        Ok(Snapshot {
            instances: known.map(instance).collect(),
            max_size: Some(self.size()),
            notices: self.notices(),
            ..Snapshot::default()
        })
    }

    /// Lends the first free machines. All or some: what is missing is explained, and is no failure.
    fn increase(&self, request: IncreaseRequest) -> IncreaseOutcome {
        let now = millis(self.host.now());
        let names = self.config.instances.keys();
        let lent = Loans::change(&*self.host, |loans| {
            loans.lend(names.clone(), &request.token, request.count, now)
        });
        let ids = match lent {
            Ok(ids) => ids,
            Err(problem) => return IncreaseOutcome::refused(problem),
        };
        let accepted = u32::try_from(ids.len()).unwrap_or(request.count);
        let mut problems = Vec::new();
        if accepted < request.count {
            let size = self.size();
            let message = format!(
                "all {size} machines are in use; next: lower max_instances to {size}, or add machines to \
                 plugin_config.instances"
            );
            problems.push(Problem::quota("plugin_config.instances", message));
        }
        IncreaseOutcome {
            accepted,
            ids,
            problems,
            ..IncreaseOutcome::default()
        }
    }

    /// Takes machines back. One that is not lent is gone already: asking twice is harmless.
    fn decrease(&self, instances: Vec<InstanceRef>) -> Vec<Removal> {
        let ended = Loans::change(&*self.host, |loans| {
            let taken = instances.iter().map(|one| loans.take_back(&one.id));
            taken.collect::<Vec<bool>>()
        });
        match ended {
            Ok(ended) => ended
                .into_iter()
                .map(|was_lent| {
                    if was_lent {
                        Removal::Accepted
                    } else {
                        Removal::Gone
                    }
                })
                .collect(),
            Err(problem) => vec![Removal::Refused(problem); instances.len()],
        }
    }

    fn connect_info(&self, of: InstanceRef) -> Result<Connection, Problem> {
        let loans = Loans::read(&*self.host)?;
        let loan = loans.all().find(|loan| loan.id() == of.id);
        let machine = loan.and_then(|loan| self.machine(loan)).ok_or_else(|| {
            let message = format!(
                "{} is not lent, or its machine is not in plugin_config",
                of.id
            );
            Problem::not_found(&of.id, message)
        })?;
        machine.connection(self.login(machine))
    }

    /// Only the host can tell whether a machine answers, and it does: it dials it.
    fn heartbeat(&self, _of: InstanceRef) -> Result<(), Problem> {
        Ok(())
    }

    /// For good: the entry was removed, so nothing is lent any more.
    fn shutdown(&self, for_good: bool) -> Result<(), Problem> {
        if for_good {
            Loans::change(&*self.host, Loans::forget)?;
        }
        Ok(())
    }
}

impl Static {
    fn size(&self) -> u32 {
        u32::try_from(self.config.instances.len()).unwrap_or(u32::MAX)
    }

    fn machine(&self, loan: &Loan) -> Option<&Machine> {
        self.config.instances.get(&loan.machine)
    }

    fn login(&self, machine: &Machine) -> Login {
        match &machine.password {
            _ if self.settings.connector.static_credentials => Login::AsConfigured,
            Some(password) => Login::Password(password.clone()),
            None => Login::PublicKey,
        }
    }

    /// A cloud's plugin would install the host's key itself. Nobody but the operator can on a machine that exists.
    fn notices(&self) -> Vec<Notice> {
        let mut machines = self.config.instances.values();
        let by_key = machines.any(|machine| self.login(machine) == Login::PublicKey);
        let key = self.settings.ssh_public_key.as_ref().filter(|_| by_key);
        let notice = key.map(|key| Notice {
            subject: "authorized_keys".into(),
            message: format!(
                "machines without a password must have this line in the login user's ~/.ssh/authorized_keys: {key}"
            ),
        });
        notice.into_iter().collect()
    }
}

fn instance(loan: &Loan) -> Instance {
    Instance {
        created_at: Some(loan.since),
        request: Some(loan.token.clone()),
        ..Instance::new(loan.id(), InstanceState::Running)
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

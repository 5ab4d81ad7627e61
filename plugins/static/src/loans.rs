//! Which machine is lent under which ID, kept in the group's store, because nobody else could be asked.
//!
//! ```text
//!   free ── lend (a token, once) ──▶ lent as `name.n` ── take back ──▶ free, and n grows
//! ```
//! Invariants: a machine has one loan at most; an ID is used once; a token that was served is served no second time.

use std::collections::BTreeMap;

use fleetling_plugin_sdk::{Host, Problem, ProblemKind};
use serde::{Deserialize, Serialize};

const KEY: &str = "loans";
/// The host repeats a token only right after it; more are kept than it can have under way.
const TOKENS: usize = 16;

/// One machine, lent once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Loan {
    pub(crate) machine: String,
    /// Which loan of this machine it is.
    number: u64,
    /// Of the wish it serves.
    pub(crate) token: String,
    /// Unix milliseconds.
    pub(crate) since: u64,
}

impl Loan {
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.machine, self.number)
    }
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Loans {
    lent: Vec<Loan>,
    /// How often each machine was lent.
    numbers: BTreeMap<String, u64>,
    /// The last tokens, the oldest first, with the IDs that were answered.
    served: Vec<(String, Vec<String>)>,
}

impl Loans {
    pub(crate) fn read(host: &dyn Host) -> Result<Self, Problem> {
        Ok(Self::stored(host)?.0)
    }

    /// Reads, changes and writes as one step: if somebody else wrote in between, it begins anew.
    pub(crate) fn change<T>(
        host: &dyn Host,
        mut change: impl FnMut(&mut Self) -> T,
    ) -> Result<T, Problem> {
        // Only one instance of a plugin changes anything, so losing this race twice is out of the question.
        for _ in 0..3 {
            let (mut loans, before) = Self::stored(host)?;
            let outcome = change(&mut loans);
            let after = serde_json::to_vec(&loans).map_err(unreadable)?;
            if host.swap(KEY, before.as_deref(), Some(&after))? {
                return Ok(outcome);
            }
        }
        let message = "somebody else keeps changing what is lent; it is tried again";
        Err(Problem::new(ProblemKind::Conflict, message))
    }

    fn stored(host: &dyn Host) -> Result<(Self, Option<Vec<u8>>), Problem> {
        let stored = host.stored(KEY)?;
        let loans = match &stored {
            Some(json) => serde_json::from_slice(json).map_err(unreadable)?,
            None => Self::default(),
        };
        Ok((loans, stored))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Loan> {
        self.lent.iter()
    }

    /// Lends up to `count` of these machines, and answers with the loans' IDs.
    pub(crate) fn lend<'a>(
        &mut self,
        machines: impl Iterator<Item = &'a String>,
        token: &str,
        count: u32,
        now: u64,
    ) -> Vec<String> {
        if let Some((_, ids)) = self.served.iter().find(|(served, _)| served == token) {
            return ids.clone();
        }
        let mut ids = Vec::new();
        for machine in machines {
            if ids.len() >= count as usize {
                break;
            }
            if self.lent.iter().any(|loan| loan.machine == *machine) {
                continue;
            }
            let number = self.numbers.entry(machine.clone()).or_default();
            *number += 1;
            let loan = Loan {
                machine: machine.clone(),
                number: *number,
                token: token.to_owned(),
                since: now,
            };
            ids.push(loan.id());
            self.lent.push(loan);
        }
        self.served.push((token.to_owned(), ids.clone()));
        let surplus = self.served.len().saturating_sub(TOKENS);
        self.served.drain(..surplus);
        ids
    }

    /// Whether it was lent.
    pub(crate) fn take_back(&mut self, id: &str) -> bool {
        let before = self.lent.len();
        self.lent.retain(|loan| loan.id() != id);
        self.lent.len() < before
    }

    /// Nothing is lent any more. Numbers stay: an ID is used once.
    pub(crate) fn forget(&mut self) {
        self.lent.clear();
        self.served.clear();
    }
}

fn unreadable(error: serde_json::Error) -> Problem {
    let message = format!("what this plugin keeps of its loans cannot be used: {error}");
    Problem::new(ProblemKind::Other, message)
}

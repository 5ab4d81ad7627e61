//! What is around a plugin in a test besides HTTP: secrets, store, variables, clock, log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{KvProblem, Level, SecretProblem};

/// Kept and shown; nothing in it waits.
#[derive(Debug, Default)]
pub struct Surroundings {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    secrets: BTreeMap<String, Result<Vec<u8>, SecretProblem>>,
    store: BTreeMap<String, Vec<u8>>,
    variables: BTreeMap<String, String>,
    slept: Vec<Duration>,
    lines: Vec<String>,
}

impl Surroundings {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants a secret with this content.
    pub fn set_secret(&self, name: &str, content: &str) {
        let content = Ok(content.as_bytes().to_vec());
        self.kept().secrets.insert(name.into(), content);
    }

    /// Makes a secret fail.
    pub fn break_secret(&self, name: &str, problem: SecretProblem) {
        self.kept().secrets.insert(name.into(), Err(problem));
    }

    /// Grants an environment variable.
    pub fn set_variable(&self, name: &str, value: &str) {
        self.kept().variables.insert(name.into(), value.into());
    }

    /// How long each wait was to be; none was waited for.
    pub fn slept(&self) -> Vec<Duration> {
        self.kept().slept.clone()
    }

    /// Log lines, message and fields.
    pub fn lines(&self) -> Vec<String> {
        self.kept().lines.clone()
    }

    pub(crate) fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        let missing = || {
            Err(SecretProblem::NotGranted(format!(
                "`{name}` is not granted"
            )))
        };
        let found = self.kept().secrets.get(name).cloned();
        found.unwrap_or_else(missing)
    }

    pub(crate) fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.kept().store.get(key).cloned()
    }

    pub(crate) fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem> {
        let store = &mut self.kept().store;
        if store.get(key).map(Vec::as_slice) != expected {
            return Ok(false);
        }
        match new {
            Some(new) => store.insert(key.into(), new.to_vec()),
            None => store.remove(key),
        };
        Ok(true)
    }

    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.kept().variables.get(name).cloned()
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.kept().slept.push(time);
    }

    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.kept()
            .lines
            .push(format!("{level:?}: {message} {fields:?}"));
    }
}

//! The world around a plugin: everything it can ask for, behind one trait, so that tests can stand in for it.

use std::time::{Duration, SystemTime};

use crate::{KvProblem, Level, SecretProblem, http};

/// What a plugin may ask of the host. Every call blocks the plugin, and only the plugin.
pub trait Host {
    /// Sends one request and reads the whole answer. Redirects are not followed; a status of 400 or more is an answer,
    /// not an error.
    fn send(&self, request: &http::Request, limits: &http::Limits) -> http::Result;

    /// Sends several side by side, at most eight at once, and reads their whole answers: one for each, in their order.
    /// A host that cannot do that sends them one after the other.
    fn send_all(&self, requests: &[http::Request], limits: &http::Limits) -> Vec<http::Result> {
        let one = |request| self.send(request, limits);
        requests.iter().map(one).collect()
    }

    /// A file that the operator granted by this name, as it is now.
    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem>;

    /// A value of the group's own store; at most 64 KiB in all.
    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem>;

    /// Replaces `expected` by `new` at once; `false` if the value was another.
    fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem>;

    /// An environment variable that the operator granted; empty counts as unset.
    fn variable(&self, name: &str) -> Option<String>;

    /// The wall clock.
    fn now(&self) -> SystemTime;

    /// Waits. Counts against the call's wall clock, not against its processor time.
    fn sleep(&self, time: Duration);

    /// One log line; never a secret.
    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]);
}

//! A [`Host`] for tests: answers from a list, keeps what was asked. Not part of a component.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::testing::Surroundings;
use crate::{Connector, Host, KvProblem, Level, SecretProblem, Settings, http};

/// Answers in order, and remembers. A request beyond the list panics: the test did not expect it.
#[derive(Debug, Default)]
pub struct Script {
    answers: RefCell<VecDeque<http::Result>>,
    requests: RefCell<Vec<http::Request>>,
    around: Surroundings,
}

impl Script {
    /// The next request is answered with this.
    pub fn answer(&self, status: u16, body: &str) {
        self.answer_with(status, &[], body);
    }

    /// The same with headers.
    pub fn answer_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut response = ::http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response
            .body(body.as_bytes().to_vec())
            .expect("status and headers of a scripted answer are valid");
        self.answers.borrow_mut().push_back(Ok(response));
    }

    /// The next request fails with this.
    pub fn fail(&self, error: http::Error) {
        self.answers.borrow_mut().push_back(Err(error));
    }

    pub fn set_secret(&self, name: &str, content: &str) {
        self.around.set_secret(name, content);
    }

    pub fn break_secret(&self, name: &str, problem: SecretProblem) {
        self.around.break_secret(name, problem);
    }

    pub fn set_variable(&self, name: &str, value: &str) {
        self.around.set_variable(name, value);
    }

    /// What was sent since the last time this was called.
    pub fn requests(&self) -> Vec<http::Request> {
        self.requests.take()
    }

    /// Bodies of what was sent since the last time, as text.
    pub fn bodies(&self) -> Vec<String> {
        let text = |request: http::Request| String::from_utf8_lossy(request.body()).into_owned();
        self.requests().into_iter().map(text).collect()
    }

    /// Answers that nobody asked for.
    pub fn unasked(&self) -> usize {
        self.answers.borrow().len()
    }

    pub fn slept(&self) -> Vec<Duration> {
        self.around.slept()
    }

    /// Log lines, message and fields.
    pub fn lines(&self) -> Vec<String> {
        self.around.lines()
    }
}

impl Host for Script {
    fn send(&self, request: &http::Request, _: &http::Limits) -> http::Result {
        self.requests.borrow_mut().push(request.clone());
        let answer = self.answers.borrow_mut().pop_front();
        answer.unwrap_or_else(|| panic!("nothing is scripted for {request:?}"))
    }

    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        self.around.secret(name)
    }

    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        Ok(self.around.stored(key))
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem> {
        self.around.swap(key, expected, new)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.around.variable(name)
    }

    /// 2026-01-02 03:04:05 UTC, and it stands still.
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)
    }

    fn sleep(&self, time: Duration) {
        self.around.sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.around.log(level, message, fields);
    }
}

impl Settings {
    /// What a host would say with nothing configured, and a key.
    pub fn for_tests() -> Self {
        Self {
            connector: Connector {
                os: None,
                arch: None,
                protocol: None,
                port: None,
                username: None,
                static_credentials: false,
            },
            ssh_public_key: Some("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVuaXQ= fleetling".into()),
            rsa_public_key: None,
            owner: "tests".into(),
            max_instances: Some(10),
            capacity_per_instance: 1,
            extras: Vec::new(),
        }
    }
}

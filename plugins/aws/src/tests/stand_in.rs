//! A stand-in for everything that answers HTTP: services by address, each as long as it has something to say.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use fleetling_plugin_sdk::http::{self, Error, Request, Response};
use fleetling_plugin_sdk::script::Script;
use fleetling_plugin_sdk::{Host, KvProblem, Level, SecretProblem};

/// What is asked is named as `GET http://host/path`, with the action of the Query protocol behind it if there is one:
/// `POST https://sts.eu-west-1.amazonaws.com/ AssumeRole`.
#[derive(Default)]
pub(crate) struct StandIn {
    /// Files, environment, store and log.
    pub(crate) around: Script,
    services: RefCell<Vec<(String, VecDeque<http::Result>)>>,
    asked: RefCell<Vec<(String, Request)>>,
    later: Cell<Duration>,
}

impl StandIn {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The next answer of one service; the last one given is repeated for ever.
    pub(crate) fn on(&self, asked: &str, status: u16, body: &str) -> &Self {
        self.answers(asked, Ok(response(status, &[], body)))
    }

    pub(crate) fn answers(&self, asked: &str, answer: http::Result) -> &Self {
        let mut services = self.services.borrow_mut();
        match services.iter_mut().find(|(known, _)| known == asked) {
            Some((_, answers)) => answers.push_back(answer),
            None => services.push((asked.to_owned(), VecDeque::from([answer]))),
        }
        self
    }

    pub(crate) fn variable(&self, name: &str, value: &str) -> &Self {
        self.around.set_variable(name, value);
        self
    }

    pub(crate) fn secret(&self, name: &str, content: &str) -> &Self {
        self.around.set_secret(name, content);
        self
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, time: Duration) {
        self.later.set(self.later.get() + time);
    }

    /// What was asked since the last time, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked
            .take()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    /// The requests of one service since the last time that anything was taken.
    pub(crate) fn requests(&self, asked: &str) -> Vec<Request> {
        let all = self.asked.borrow();
        let its = all.iter().filter(|(name, _)| name == asked);
        its.map(|(_, request)| request.clone()).collect()
    }
}

pub(crate) fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let value = http::HeaderValue::from_str(value).expect("a header");
        response.headers_mut().insert(*name, value);
    }
    response
}

fn name(request: &Request) -> String {
    let body = String::from_utf8_lossy(request.body());
    let action = body
        .strip_prefix("Action=")
        .and_then(|rest| rest.split('&').next());
    let name = format!("{} {}", request.method(), request.uri());
    match action {
        Some(action) => format!("{name} {action}"),
        None => name,
    }
}

impl Host for StandIn {
    fn send(&self, request: &Request, _: &http::Limits) -> http::Result {
        let name = name(request);
        self.asked
            .borrow_mut()
            .push((name.clone(), request.clone()));
        let mut services = self.services.borrow_mut();
        let Some((_, answers)) = services.iter_mut().find(|(known, _)| *known == name) else {
            return Err(Error::Refused);
        };
        match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap_or(Err(Error::Refused)),
        }
    }

    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        self.around.secret(name)
    }

    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        self.around.stored(key)
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
        Host::variable(&self.around, name)
    }

    fn now(&self) -> SystemTime {
        self.around.now() + self.later.get()
    }

    fn sleep(&self, time: Duration) {
        self.around.sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.around.log(level, message, fields);
    }
}

//! Faults on order: what a test makes of the next requests to one endpoint.

use std::time::Duration;

use axum::http::Method;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Verify,
    RequestJob,
    AppendTrace,
    UpdateJob,
    Git,
}

impl Endpoint {
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        Some(match (method.as_str(), path) {
            ("POST", "/api/v4/runners/verify") => Self::Verify,
            ("POST", "/api/v4/jobs/request") => Self::RequestJob,
            ("PATCH", _) if path.ends_with("/trace") => Self::AppendTrace,
            ("PUT", _) => Self::UpdateJob,
            _ if path.contains(".git/") => Self::Git,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// Answered by something before GitLab: nothing is acted upon.
    Refuse(u16),
    /// GitLab acts, but its answer is lost on the way (502).
    LoseAnswer,
    /// Answered as usual, later.
    Delay(Duration),
    /// The connection stays open and silent.
    Hang,
}

/// One fault for the next `times` requests to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    endpoint: Endpoint,
    how: How,
    times: u32,
}

impl Fault {
    pub fn refuse(endpoint: Endpoint, status: u16) -> Self {
        Self::new(endpoint, How::Refuse(status))
    }

    pub fn lose_answer(endpoint: Endpoint) -> Self {
        Self::new(endpoint, How::LoseAnswer)
    }

    pub fn delay(endpoint: Endpoint, by: Duration) -> Self {
        Self::new(endpoint, How::Delay(by))
    }

    pub fn hang(endpoint: Endpoint) -> Self {
        Self::new(endpoint, How::Hang)
    }

    fn new(endpoint: Endpoint, how: How) -> Self {
        Self {
            endpoint,
            how,
            times: 1,
        }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Takes the first fault for `endpoint` out of the script, once.
    fn take(script: &mut Vec<Self>, endpoint: Endpoint) -> Option<How> {
        let position = script.iter().position(|fault| fault.endpoint == endpoint)?;
        let fault = &mut script[position];
        let how = fault.how;
        fault.times -= 1;
        if fault.times == 0 {
            script.remove(position);
        }
        Some(how)
    }
}

/// What is to be done about a request before and after GitLab sees it.
pub(super) struct Plan {
    pub(super) before: Option<Duration>,
    /// `Some(0)` is silence.
    pub(super) instead: Option<u16>,
    pub(super) after: Option<u16>,
}

pub(super) fn plan(script: &mut Vec<Fault>, endpoint: Option<Endpoint>) -> Plan {
    let mut plan = Plan {
        before: None,
        instead: None,
        after: None,
    };
    match endpoint.and_then(|endpoint| Fault::take(script, endpoint)) {
        None => {}
        Some(How::Refuse(status)) => plan.instead = Some(status),
        Some(How::LoseAnswer) => plan.after = Some(502),
        Some(How::Delay(by)) => plan.before = Some(by),
        Some(How::Hang) => plan.instead = Some(0),
    }
    plan
}

//! The instance metadata service, version 2: keys of the role of the machine that the manager runs on, and its region.
//!
//! ```text
//! PUT api/token ─▶ token ─▶ GET meta-data/iam/security-credentials/ ─▶ role ─▶ GET …/<role> ─▶ keys
//!                       └─▶ GET meta-data/placement/region ─▶ region
//! ```

use std::time::Duration;

use fleetling_plugin_sdk::http::{self, HeaderValue, Limits, Method, Request, Response};
use fleetling_plugin_sdk::{Host, Problem, ProblemKind, retry};

use super::{Identity, Offered};
use crate::problem::from_status;

/// A service on the machine itself answers at once, or is not there.
pub(super) const NEARBY: Limits = Limits {
    connect: Duration::from_secs(1),
    first_byte: Duration::from_secs(1),
    between_bytes: Duration::from_secs(1),
    body: 64 * 1024,
};
const TOKEN_LIFE: HeaderValue = HeaderValue::from_static("300");

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Service {
    origin: String,
}

/// Nothing where the operator switched it off.
pub(crate) fn service(host: &dyn Host) -> Option<Service> {
    let is = |variable: &str, value: &str| {
        let written = host.variable(variable);
        written.is_some_and(|written| written.eq_ignore_ascii_case(value))
    };
    if is("AWS_EC2_METADATA_DISABLED", "true") {
        return None;
    }
    let default = match is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6") {
        true => "http://[fd00:ec2::254]",
        false => "http://169.254.169.254",
    };
    let written = host.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let origin = written.as_deref().unwrap_or(default);
    Some(Service {
        origin: origin.trim_end_matches('/').to_owned(),
    })
}

impl Service {
    pub(super) fn credentials(&self, host: &dyn Host) -> Result<Identity, Problem> {
        let roles = "/latest/meta-data/iam/security-credentials/";
        let no_role = || {
            Problem::new(
                ProblemKind::Unauthenticated,
                "instance metadata names no role of this machine; next: attach an instance profile to it",
            )
        };
        let listed = self.read(host, roles)?.ok_or_else(no_role)?;
        let listed = String::from_utf8_lossy(&listed);
        let role = listed.lines().next().unwrap_or_default().trim().to_owned();
        if role.is_empty() {
            return Err(no_role());
        }
        let body = self
            .read(host, &format!("{roles}{role}"))?
            .ok_or_else(no_role)?;
        let from = format!("instance metadata for role `{role}`");
        Ok(Identity {
            credentials: Offered::read(&body, &from, "metadata")?,
            whose: format!("role `{role}` of the manager's machine (instance metadata)"),
            mend: "check the machine's instance profile".into(),
        })
    }

    /// Whether this failure is one of a service that answers, or is known to: it passes, and says nothing of what the
    /// operator configured. Silence is the rule outside of AWS.
    pub(crate) fn passes(&self, problem: &Problem, is_known: bool) -> bool {
        let is_silent = problem.subject.as_deref() == Some(&*self.origin);
        matches!(
            problem.kind,
            ProblemKind::Unavailable | ProblemKind::Throttled
        ) && (is_known || !is_silent)
    }

    /// Where the manager's machine is.
    pub(crate) fn region(&self, host: &dyn Host) -> Result<String, Problem> {
        let region = self.read(host, "/latest/meta-data/placement/region")?;
        let region = region.unwrap_or_default();
        Ok(String::from_utf8_lossy(&region).trim().to_owned())
    }

    /// Nothing where the service knows nothing of this. A token that it does not take any more is asked for anew.
    fn read(&self, host: &dyn Host, path: &str) -> Result<Option<Vec<u8>>, Problem> {
        retry::read(host, || {
            let mut response = self.get(host, path, &self.token(host)?)?;
            if response.status() == http::StatusCode::UNAUTHORIZED {
                response = self.get(host, path, &self.token(host)?)?;
            }
            match response.status().as_u16() {
                200..300 => Ok(Some(response.into_body())),
                404 => Ok(None),
                _ => Err(from_status(
                    &response,
                    &format!("instance metadata at {}", self.origin),
                    "check the metadata options of the manager's machine",
                )),
            }
        })
    }

    fn get(&self, host: &dyn Host, path: &str, token: &HeaderValue) -> Result<Response, Problem> {
        let request = self.request(
            Method::GET,
            path,
            ("x-aws-ec2-metadata-token", token.clone()),
        )?;
        let sent = host.send(&request, &NEARBY);
        sent.map_err(|error| self.silent(error))
    }

    fn token(&self, host: &dyn Host) -> Result<HeaderValue, Problem> {
        let request = self.request(
            Method::PUT,
            "/latest/api/token",
            ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE),
        )?;
        let response = host.send(&request, &NEARBY).map_err(|error| match error {
            // Whoever is one network further away gets no answer to this request, whatever else it gets.
            http::Error::TimedOut(_) | http::Error::Cut => {
                let mut problem = self.silent(error);
                problem.message.push_str(
                    "; if the manager runs in a container on an EC2 instance, next: set the instance's \
                     HttpPutResponseHopLimit to 2",
                );
                problem
            }
            error => self.silent(error),
        })?;
        if !response.status().is_success() {
            return Err(from_status(
                &response,
                &format!("instance metadata at {}, asked for a token,", self.origin),
                "check the metadata options of the manager's machine",
            ));
        }
        let mut token = HeaderValue::from_bytes(response.body().trim_ascii()).map_err(|_| {
            let message = format!("{} answered with no token", self.origin);
            Problem::new(ProblemKind::Unavailable, message)
        })?;
        token.set_sensitive(true);
        Ok(token)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        (name, value): (&'static str, HeaderValue),
    ) -> Result<Request, Problem> {
        let mut request = Request::new(Vec::new());
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.origin).parse().map_err(|_| {
            let variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
            let message = format!("{variable} is no address; next: correct it");
            Problem::invalid_config(variable, message)
        })?;
        request.headers_mut().insert(name, value);
        Ok(request)
    }

    /// That it does not answer is the rule outside of AWS: whoever reads it must not look for a fault of the network.
    /// Only these problems are about the service's address.
    fn silent(&self, error: http::Error) -> Problem {
        let kind = match error {
            http::Error::Denied => ProblemKind::Forbidden,
            _ => ProblemKind::Unavailable,
        };
        let message = format!(
            "instance metadata does not answer at {}: {error}",
            self.origin
        );
        Problem::new(kind, message).about(&self.origin)
    }
}

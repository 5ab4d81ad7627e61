//! The credential service of a container: ECS tasks, and pods with EKS Pod Identity.

use fleetling_plugin_sdk::http::{self, HeaderValue, Method, Request, Uri, header};
use fleetling_plugin_sdk::{Host, Problem, ProblemKind, SecretProblem, retry};

use super::{Identity, Offered};
use crate::problem::from_status;

/// Where ECS answers relative addresses.
const ECS: &str = "http://169.254.170.2";
/// Where plaintext is spoken: ECS, EKS, EKS over IPv6, and this machine itself.
const PLAIN: [&str; 6] = [
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
    "127.0.0.1",
    "[::1]",
    "localhost",
];
/// The secret with the token that EKS renews.
const TOKEN: &str = "aws_container_token";

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Service {
    url: Uri,
    token: Token,
}

/// What proves to the service that the container asks. A value is told to nobody: there is no `Debug`.
#[derive(Clone, PartialEq, Eq)]
enum Token {
    None,
    Value(String),
    File,
}

/// What the environment offers.
pub(super) fn service(host: &dyn Host) -> Result<Option<Service>, Problem> {
    let relative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let (variable, url) = match (host.variable(relative), host.variable(full)) {
        (Some(path), _) => (relative, format!("{ECS}{path}")),
        (None, Some(url)) => (full, url),
        (None, None) => return Ok(None),
    };
    let wrong = |what: &str| {
        Problem::invalid_config(
            variable,
            format!("{variable} {what}; next: correct it in the manager's environment"),
        )
    };
    let url: Uri = url.parse().map_err(|_| wrong("is no address"))?;
    let host_name = url.host().unwrap_or_default();
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if PLAIN.contains(&host_name) => {}
        Some("http") => {
            return Err(wrong(&format!(
                "leads to http://{host_name}, where credentials would travel in clear"
            )));
        }
        _ => return Err(wrong("is no http or https address")),
    }
    let token = if host
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        .is_some()
    {
        Token::File
    } else {
        let value = host.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        value.map_or(Token::None, Token::Value)
    };
    Ok(Some(Service { url, token }))
}

impl Service {
    pub(super) fn credentials(&self, host: &dyn Host) -> Result<Identity, Problem> {
        let origin = http::origin(&self.url);
        let from = format!("the container's credential service {origin}");
        let token = self.token(host)?;
        let body = retry::read(host, || {
            let mut request = Request::new(Vec::new());
            *request.method_mut() = Method::GET;
            *request.uri_mut() = self.url.clone();
            if let Some(token) = &token {
                let headers = request.headers_mut();
                headers.insert(header::AUTHORIZATION, token.clone());
            }
            let response = host.send(&request, &super::metadata::NEARBY);
            let response = response.map_err(|error| error.into_problem(&origin))?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            Err(from_status(
                &response,
                &from,
                "check the role of the task or pod",
            ))
        })?;
        Ok(Identity {
            credentials: Offered::read(&body, &from, "container")?,
            whose: format!("the role of the manager's container ({origin})"),
            mend: "check the role of the task or pod".into(),
        })
    }

    fn token(&self, host: &dyn Host) -> Result<Option<HeaderValue>, Problem> {
        let fault = |kind, why: String| {
            let message =
                format!("the token for the container's credential service cannot be used: {why}");
            Problem::new(kind, message).about(TOKEN)
        };
        let value = match &self.token {
            Token::None => return Ok(None),
            Token::Value(value) => value.clone().into_bytes(),
            Token::File => host.secret(TOKEN).map_err(|problem| match problem {
                SecretProblem::NotGranted(why) => fault(ProblemKind::Forbidden, why),
                SecretProblem::Unreadable(why) => fault(ProblemKind::Unauthenticated, why),
            })?,
        };
        let mut value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_| {
            fault(
                ProblemKind::Unauthenticated,
                "it is not one line of text".into(),
            )
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

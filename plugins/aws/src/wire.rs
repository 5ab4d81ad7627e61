//! One exchange with a service of AWS: signed or not, in either protocol; and what it answers instead of a result.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::http::{self, HeaderValue, Request, Response, header};
use fleetling_plugin_sdk::{Host, Problem, ProblemKind};
use form_urlencoded::Serializer;
use serde::Deserialize;

use crate::endpoint::{Endpoints, Service};
use crate::problem::{Failure, Refusal};
use crate::sign;
use crate::xml;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const JSON: &str = "application/x-amz-json-1.1";

/// The way to AWS's services in one region.
#[derive(Clone, Copy)]
pub(crate) struct Wire<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) region: &'a str,
    /// Names plugin and manager to AWS.
    pub(crate) agent: &'a str,
}

impl Wire<'_> {
    /// The Query protocol: a form goes, XML comes.
    pub(crate) fn query(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, String)],
        signer: Option<&Credentials>,
        now: SystemTime,
    ) -> Result<Response, Failure> {
        let body = Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", service.version())
            .extend_pairs(parameters)
            .finish();
        let request = Request::new(body.into_bytes());
        self.send(service, action, FORM, request, signer, now)
    }

    /// The JSON protocol, of which only one action is used.
    pub(crate) fn json(
        &self,
        service: Service,
        action: &str,
        body: &serde_json::Value,
        signer: &Credentials,
        now: SystemTime,
    ) -> Result<Response, Failure> {
        let mut request = Request::new(body.to_string().into_bytes());
        let target = HeaderValue::from_static("AWSEC2InstanceConnectService.SendSSHPublicKey");
        request.headers_mut().insert("x-amz-target", target);
        self.send(service, action, JSON, request, Some(signer), now)
    }

    fn send(
        &self,
        service: Service,
        action: &str,
        content_type: &'static str,
        mut request: Request,
        signer: Option<&Credentials>,
        now: SystemTime,
    ) -> Result<Response, Failure> {
        let known = |message: String| Failure {
            problem: Box::new(
                Problem::new(ProblemKind::Other, message).about(permission(service, action)),
            ),
            outcome_unknown: false,
        };
        let endpoint = self.endpoints.of(service, self.region);
        *request.method_mut() = http::Method::POST;
        let uri = format!("{endpoint}/").parse();
        *request.uri_mut() = uri.map_err(|_| known(format!("`{endpoint}` is no URL")))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(agent) = HeaderValue::from_str(self.agent) {
            headers.insert(header::USER_AGENT, agent);
        }
        if let Some(signer) = signer {
            sign::sign(&mut request, service, self.region, signer, now)
                .map_err(|error| known(format!("{action} could not be signed: {error}")))?;
        }
        let origin = http::origin(request.uri());
        self.host
            .send(&request, &http::Limits::default())
            .map_err(|error| Failure {
                outcome_unknown: error.outcome_unknown(),
                problem: Box::new(error.into_problem(&origin)),
            })
    }

    /// What was answered instead of a result; nothing where it was one.
    pub(crate) fn refusal(service: Service, response: &Response) -> Option<Refusal> {
        if response.status().is_success() {
            return None;
        }
        let (code, message) = match service {
            Service::InstanceConnect => json_error(response.body()),
            _ => xml::error(response.body()),
        };
        let date = response.headers().get(header::DATE);
        Some(Refusal {
            status: response.status().as_u16(),
            code,
            message,
            retry_after: http::retry_after(response),
            date: date.and_then(|date| xml::http_date(date.to_str().ok()?)),
        })
    }
}

fn json_error(body: &[u8]) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        __type: String,
        #[serde(alias = "Message")]
        message: String,
    }
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let code = body.__type.rsplit('#').next().unwrap_or_default();
    (code.to_owned(), body.message)
}

/// An action as IAM policies name it.
pub(crate) fn permission(service: Service, action: &str) -> String {
    format!("{}:{action}", service.name())
}

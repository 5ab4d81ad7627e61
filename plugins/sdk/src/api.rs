//! An API that speaks JSON: where it is, how a plugin proves itself, what its refusals mean.
//!
//! ```text
//! get, put, delete, post ─▶ request ─▶ retry (what is safe to repeat) ─▶ Host::send_all ─▶ JSON, or a Problem
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::{HeaderName, HeaderValue, Limits, Method, Request, Response, Uri, header};
use crate::retry::{self, Repeat};
use crate::{Host, Problem, ProblemKind, http, json, problem};

/// Made for one call of the contract, so that a changed secret counts from the next one on.
pub struct Api<'a> {
    host: &'a dyn Host,
    /// Without a slash at its end.
    base: String,
    /// Sent with every request.
    headers: Vec<(HeaderName, HeaderValue)>,
    limits: Limits,
    explain: fn(&Response, Problem) -> Problem,
}

impl<'a> Api<'a> {
    /// `base` begins every request's address: `https://api.example.com/v1`.
    pub fn new(host: &'a dyn Host, base: &str) -> Self {
        Self {
            host,
            base: base.trim_end_matches('/').to_owned(),
            headers: Vec::new(),
            limits: Limits::default(),
            explain: |_, problem| problem,
        }
    }

    /// Proves itself with the text in a granted secret, as `Authorization: Bearer …`.
    ///
    /// # Errors
    /// If the secret is not granted, cannot be read or holds what no header can.
    pub fn bearer(self, secret: &str) -> Result<Self, Problem> {
        let content = self
            .host
            .secret(secret)
            .map_err(|problem| Problem::from(problem).about(secret))?;
        let token = String::from_utf8_lossy(&content);
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| {
            Problem::new(
                ProblemKind::Unauthenticated,
                format!("the secret `{secret}` is more than one line of plain text; next: put the token alone into its file"),
            )
            .about(secret)
        })?;
        value.set_sensitive(true);
        Ok(self.header(header::AUTHORIZATION, value))
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Waits and sizes other than [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What this API's refusals mean where the status alone does not tell: gets the answer, and the problem made from
    /// its status.
    #[must_use]
    pub fn explain(mut self, explain: fn(&Response, Problem) -> Problem) -> Self {
        self.explain = explain;
        self
    }

    /// Reads; tried again where that may help.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.call(self.request(Method::GET, path)?)
    }

    /// Removes; tried again where that may help, because what is gone stays gone.
    pub fn delete(&self, path: &str) -> Result<(), Problem> {
        self.done(self.request(Method::DELETE, path)?)
    }

    /// Sets a thing to a state; tried again where that may help, because setting it twice is setting it once.
    pub fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        self.call(self.filled(Method::PUT, path, body)?)
    }

    /// Makes or changes a thing; tried again only if surely nothing was done.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        self.call(self.filled(Method::POST, path, body)?)
    }

    /// A request to this API, for [`Api::all`]. `path` begins with a slash; what came from elsewhere stands in it as
    /// [`http::escape`] writes it.
    ///
    /// # Errors
    /// `invalid-config` if base and path together are no address.
    pub fn request(&self, method: Method, path: &str) -> Result<Request, Problem> {
        let address = format!("{}{path}", self.base);
        let uri: Uri = address.parse().map_err(|_| {
            Problem::invalid_config(
                &self.base,
                format!("`{address}` is no URL; next: correct it"),
            )
        })?;
        let is_whole = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_whole || uri.authority().is_none() {
            return Err(Problem::invalid_config(
                &self.base,
                format!(
                    "`{address}` does not begin with https://host or http://host; next: correct it"
                ),
            ));
        }
        let mut request = Request::new(Vec::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    /// The same with a JSON body.
    pub fn filled(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Request, Problem> {
        let mut request = self.request(method, path)?;
        json::fill(&mut request, body)?;
        Ok(request)
    }

    /// Sends all of these side by side, a few at a time: one answer for each, in their order. They are tried
    /// again as the most careful of their methods allows.
    pub fn all<T: DeserializeOwned>(&self, requests: &[Request]) -> Vec<Result<T, Problem>> {
        let repeat = if requests
            .iter()
            .all(|request| Repeat::of(request.method()) == Repeat::Harmless)
        {
            Repeat::Harmless
        } else {
            Repeat::IfUntouched
        };
        let outcomes = retry::send_all(self.host, requests, &self.limits, repeat);
        let both = requests.iter().zip(outcomes);
        both.map(|(request, outcome)| self.read(request, outcome))
            .collect()
    }

    fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T, Problem> {
        let outcome = self.sent(&request);
        self.read(&request, outcome)
    }

    /// What the answer says does not matter.
    fn done(&self, request: Request) -> Result<(), Problem> {
        let outcome = self.sent(&request);
        self.accepted(&request, outcome).map(drop)
    }

    fn sent(&self, request: &Request) -> http::Result {
        let repeat = Repeat::of(request.method());
        retry::send(self.host, request, &self.limits, repeat)
    }

    fn read<T: DeserializeOwned>(
        &self,
        request: &Request,
        outcome: http::Result,
    ) -> Result<T, Problem> {
        json::read(&self.accepted(request, outcome)?, &name(request))
    }

    fn accepted(&self, request: &Request, outcome: http::Result) -> Result<Response, Problem> {
        let response = outcome.map_err(|error| problem::unanswered(error, request.uri()))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let wait = http::retry_after_at(&response, self.host.now());
        let problem = Problem::of_answer(&response, &name(request), wait);
        Err((self.explain)(&response, problem))
    }
}

/// How an operator reads a call: without its query, which may hold anything.
fn name(request: &Request) -> String {
    format!("{} {}", request.method(), request.uri().path())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::script::Script;

    #[test]
    fn a_call_carries_the_secret_and_a_refusal_says_what_the_api_said() {
        let host = Script::default();
        host.set_secret("token", "s3cret\n");
        let api = Api::new(&host, "https://api.example.com/v1/")
            .bearer("token")
            .expect("it is granted")
            .explain(|_, problem| match problem.code.as_deref() {
                Some("limit") => Problem {
                    kind: ProblemKind::Quota,
                    ..problem
                },
                _ => problem,
            });
        host.answer(200, r#"{"id":"a"}"#);
        let made: Value = api
            .post("/servers", &json!({"name": "x"}))
            .expect("it is made");
        assert_eq!(made["id"], "a");
        let sent = host.requests();
        assert_eq!(sent[0].uri(), "https://api.example.com/v1/servers");
        assert_eq!(sent[0].headers()["authorization"], "Bearer s3cret");
        assert_eq!(sent[0].headers()["content-type"], "application/json");
        assert!(!format!("{:?}", sent[0]).contains("s3cret"));

        host.answer(
            409,
            r#"{"error":{"code":"limit","message":"no more than 3"}}"#,
        );
        let problem = api
            .post::<Value>("/servers?key=hidden", &json!({}))
            .expect_err("it is refused");
        assert_eq!(problem.kind, ProblemKind::Quota);
        assert_eq!(
            problem.message,
            "POST /v1/servers was answered 409 Conflict: no more than 3"
        );
    }

    #[test]
    fn what_is_gone_may_answer_with_anything() {
        let host = Script::default();
        let api = Api::new(&host, "https://api.example.com");
        host.answer(202, "<accepted/>");
        assert_eq!(api.delete("/servers/1"), Ok(()));
    }

    #[test]
    fn several_go_side_by_side_and_each_has_its_own_answer() {
        let host = Script::default();
        let api = Api::new(&host, "https://api.example.com");
        let requests: Vec<_> = (1..=3)
            .map(|n| {
                api.request(Method::GET, &format!("/servers/{n}"))
                    .expect("it is an address")
            })
            .collect();
        host.answer(200, "1");
        host.answer(404, "");
        host.answer(200, "3");
        let answers = api.all::<u32>(&requests);
        assert_eq!(answers[0], Ok(1));
        assert!(
            answers[1]
                .as_ref()
                .is_err_and(|p| p.kind == ProblemKind::NotFound)
        );
        assert_eq!(answers[2], Ok(3));
    }

    #[test]
    fn an_address_that_is_none_and_a_secret_that_is_missing_are_problems() {
        let host = Script::default();
        for base in ["", "example.com", "ftp://x", "http://a b"] {
            let problem = Api::new(&host, base)
                .get::<Value>("/x")
                .expect_err("it is no address");
            assert_eq!(problem.kind, ProblemKind::InvalidConfig, "{base}");
        }
        let Err(problem) = Api::new(&host, "https://x").bearer("token") else {
            panic!("it is not granted");
        };
        assert_eq!(problem.kind, ProblemKind::Forbidden);
        assert_eq!(problem.subject.as_deref(), Some("token"));
        host.set_secret("token", "two\nlines");
        assert!(Api::new(&host, "https://x").bearer("token").is_err());
    }
}

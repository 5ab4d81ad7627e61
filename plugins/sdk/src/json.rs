//! JSON in and out, with problems instead of panics.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::{HeaderValue, Request, Response, header};
use crate::{Problem, ProblemKind};

/// Sets a request's body and says that it is JSON.
///
/// # Errors
/// `other`, if `value` is a map whose keys are no text: a fault of the plugin.
pub fn fill(request: &mut Request, value: &impl Serialize) -> Result<(), Problem> {
    *request.body_mut() = serde_json::to_vec(value).map_err(|error| {
        Problem::new(
            ProblemKind::Other,
            format!("the request's body cannot be written as JSON: {error}"),
        )
    })?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(())
}

/// The answer's body as `T`; an empty one is `null`, so `()` and `Option` take it.
///
/// # Errors
/// `unavailable`: something else than the API answered, such as a proxy in between. `what` is the call's name.
pub fn read<T: DeserializeOwned>(response: &Response, what: &str) -> Result<T, Problem> {
    let body = match response.body().as_slice() {
        b"" => b"null",
        body => body,
    };
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            ProblemKind::Unavailable,
            format!(
                "{what} was answered with something else than expected: {error}; next: check what answers there"
            ),
        )
        .about(what)
    })
}

/// Code and message of a refusal in the shapes that APIs use: at the top, or in `error`; as `message`, `detail` or plain
/// text. Empty where there is nothing of the kind.
pub fn refusal(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let inner = match &body["error"] {
        inner @ Value::Object(_) => inner,
        _ => &body,
    };
    let first = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| match &inner[*key] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        found.unwrap_or_default()
    };
    (
        first(&["code", "status"]),
        first(&["message", "detail", "error"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_in_every_common_shape() {
        for (body, code, message) in [
            (
                r#"{"error":{"code":"resource_limit_exceeded","message":"no more"}}"#,
                "resource_limit_exceeded",
                "no more",
            ),
            (
                r#"{"code":"gone","message":"it is gone"}"#,
                "gone",
                "it is gone",
            ),
            (
                r#"{"error":{"code":403,"status":"x","message":"m"}}"#,
                "403",
                "m",
            ),
            (r#"{"error":"invalid_token"}"#, "", "invalid_token"),
            (r#"{"detail":"d"}"#, "", "d"),
            ("[1]", "", ""),
            ("<html>", "", ""),
            ("", "", ""),
        ] {
            let found = refusal(body.as_bytes());
            assert_eq!(found, (code.to_owned(), message.to_owned()), "{body}");
        }
    }

    #[test]
    fn nothing_is_read_as_nothing_and_garbage_is_a_problem() {
        let mut response = Response::new(Vec::new());
        assert_eq!(read::<()>(&response, "GET /x"), Ok(()));
        *response.body_mut() = b"<html>".to_vec();
        let problem = read::<Value>(&response, "GET /x").expect_err("that is no JSON");
        assert_eq!(problem.kind, ProblemKind::Unavailable);
        assert_eq!(problem.subject.as_deref(), Some("GET /x"));
    }
}

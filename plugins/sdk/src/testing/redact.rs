//! Taking secrets out of what is written to a file: by the name they go under, and by their own text.

use serde_json::Value;

use crate::http::Uri;

pub(super) const HIDDEN: &str = "REDACTED";
/// A shorter text occurs by chance.
const SHORTEST: usize = 6;

/// What a name must have in it, letters and digits only, in lower case.
const SECRET: &[&str] = &[
    "accesskey",
    "apikey",
    "auth",
    "cookie",
    "credential",
    "passphrase",
    "passw",
    "privatekey",
    "secret",
    "session",
    "signature",
    "token",
    "userdata",
];
/// Names that only sound like it: places in a list, marks against doing things twice.
const HARMLESS: &[&str] = &[
    "nexttoken",
    "pagetoken",
    "clienttoken",
    "clientrequesttoken",
    "continuationtoken",
    "nextpagetoken",
    "requesttoken",
    "idempotencytoken",
    "author",
    "authorizedkeys",
];

pub(super) fn is_secret(name: &str) -> bool {
    let bare: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    SECRET.iter().any(|word| bare.contains(word)) && !HARMLESS.contains(&bare.as_str())
}

/// Texts that must not be written, wherever they stand.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<String>);

impl Known {
    /// A secret's content, and each value in it: files such as `key = value` are taken apart.
    pub(super) fn learn(&mut self, content: &[u8]) {
        let content = String::from_utf8_lossy(content);
        let pieces = content.split(|c: char| c.is_whitespace() || "\"'=,:".contains(c));
        for piece in std::iter::once(content.trim()).chain(pieces) {
            if piece.len() >= SHORTEST && !self.0.iter().any(|known| known == piece) {
                self.0.push(piece.to_owned());
            }
        }
        // The longest first: a piece of it must not break it before it is found.
        self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for known in &self.0 {
            text = text.replace(known.as_str(), HIDDEN);
        }
        text
    }
}

/// An address without user, and without the values of secret parameters.
pub(super) fn address(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let mut text = match uri.scheme_str() {
        Some(scheme) => format!("{scheme}://{host}{}", uri.path()),
        None => uri.path().to_owned(),
    };
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(&form(query));
    }
    text
}

/// A body in whichever form it is: JSON, XML, a form; else as it is.
pub(super) fn body(text: &str) -> String {
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        json(&mut value);
        return value.to_string();
    }
    if text.trim_start().starts_with('<') {
        return xml(text);
    }
    let is_form = text.contains('=') && !text.contains(char::is_whitespace);
    if is_form { form(text) } else { text.to_owned() }
}

fn json(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret(name) && !value.is_null() && !value.is_object() {
                    *value = HIDDEN.into();
                } else {
                    json(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(json),
        _ => {}
    }
}

fn form(text: &str) -> String {
    let pairs = text.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// Elements that hold text alone.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        out.push('<');
        rest = after;
        let Some((tag, content)) = after.split_once('>') else {
            break;
        };
        let name = tag.split_whitespace().next().unwrap_or_default();
        let is_opening = !tag.starts_with(['/', '?', '!']) && !tag.ends_with('/');
        let end = content.find('<').unwrap_or(content.len());
        if is_opening && is_secret(name) && !content[..end].trim().is_empty() {
            out.push_str(tag);
            out.push('>');
            out.push_str(HIDDEN);
            rest = &content[end..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for secret in [
            "Authorization",
            "x-amz-security-token",
            "X-Auth-Token",
            "Set-Cookie",
            "SecretAccessKey",
            "api_key",
            "X-Amz-Signature",
            "password",
            "user_data",
            "private_key",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in [
            "NextToken",
            "next_page_token",
            "ClientToken",
            "id",
            "host",
            "content-type",
            "author",
        ] {
            assert!(!is_secret(plain), "{plain}");
        }
    }

    #[test]
    fn each_form_keeps_its_shape_and_loses_its_secrets() {
        for (text, expected) in [
            (
                r#"{"a":[{"token":"s3cret"}],"n":1,"auth":{"user":"x"}}"#,
                r#"{"a":[{"token":"REDACTED"}],"auth":{"user":"x"},"n":1}"#,
            ),
            (
                "Action=Do&Password=s3cret&N=1",
                "Action=Do&Password=REDACTED&N=1",
            ),
            (
                "<?xml version=\"1.0\"?><A><SecretAccessKey x=\"y\">s3cret</SecretAccessKey><B>b</B><Token/></A>",
                "<?xml version=\"1.0\"?><A><SecretAccessKey x=\"y\">REDACTED</SecretAccessKey><B>b</B><Token/></A>",
            ),
            ("plain words = plain", "plain words = plain"),
            ("<unfinished", "<unfinished"),
            ("", ""),
        ] {
            assert_eq!(body(text), expected);
        }
        let uri = Uri::from_static("https://me:s3cret@x.example:8/a?X-Amz-Signature=s3cret&n=1");
        assert_eq!(
            address(&uri),
            "https://x.example:8/a?X-Amz-Signature=REDACTED&n=1"
        );
    }

    #[test]
    fn what_was_a_secret_is_hidden_wherever_it_stands() {
        let mut known = Known::default();
        known.learn(b"[default]\naws_secret = longsecret\nregion = eu\n");
        assert_eq!(known.hide("a longsecret eu"), "a REDACTED eu");
    }
}

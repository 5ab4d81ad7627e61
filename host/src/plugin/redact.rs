//! What may be shown of an exchange: everything but what opens a door; and of a plugin's words. Pure.
//!
//! Nothing knows every cloud's API, so names decide: of headers, of query and form parameters, of JSON keys and of XML
//! elements. A name that sounds like a secret is one.

use serde_json::Value;

/// A plugin's words: they write no line and no column of their making, and nothing of a terminal's.
pub fn clean(text: &str) -> String {
    let shown = text.chars().map(|c| if c == '\n' { ' ' } else { c });
    shown.filter(|c| !c.is_control()).collect()
}

/// The same for a report, which keeps its lines.
pub fn clean_lines(report: &str) -> String {
    let lines = report.lines().map(clean);
    lines.collect::<Vec<_>>().join("\n")
}

/// In the place of a secret.
pub const REDACTED: &str = "(redacted)";

/// Pieces of a name, in lower case and without separators, that make its value a secret.
const TELLING: [&str; 15] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "privatekey",
    "apikey",
    "accesskey",
    "signature",
    "assertion",
    "sessionkey",
    "userdata",
];

/// Names that are a secret as a whole.
const WHOLE: [&str; 4] = ["key", "sig", "auth", "jwt"];

/// Such as `NextToken` and `pageToken`: a place in a list, which opens nothing.
const HARMLESS: [&str; 8] = [
    "nexttoken",
    "pagetoken",
    "nextpagetoken",
    "continuationtoken",
    "clienttoken",
    "metadatatokenttlseconds",
    "publickey",
    "sshpublickey",
];

/// Whether a value of this name is kept to oneself.
pub fn is_secret(name: &str) -> bool {
    let folded: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if HARMLESS.iter().any(|known| folded.ends_with(known)) {
        return false;
    }
    WHOLE.contains(&&*folded)
        || folded.ends_with("pass")
        || TELLING.iter().any(|piece| folded.contains(piece))
}

/// A header's value.
pub fn header<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) { REDACTED } else { value }
}

/// A URL, its user information and its query with what is secret replaced.
pub fn url(url: &url::Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() {
        // A URL that has a password can have another.
        let _ = shown.set_password(Some("redacted"));
    }
    let query = shown.query().map(form);
    shown.set_query(None);
    shown.set_fragment(None);
    match query {
        Some(query) => format!("{shown}?{query}"),
        None => shown.to_string(),
    }
}

/// A body of text: JSON, XML or a form, and failing these as it is.
pub fn body(text: &str) -> String {
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '['])
        && let Ok(mut value) = serde_json::from_str::<Value>(text)
    {
        json(&mut value);
        return value.to_string();
    }
    if trimmed.starts_with('<') {
        return xml(text);
    }
    if !trimmed.contains(char::is_whitespace) && trimmed.contains('=') {
        return form(text);
    }
    // Half a document, INI lines, anything: names before `:` and `=` are all there is to go by.
    loose(text)
}

/// Every value under a name that is secret, at any depth.
pub fn json(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if is_secret(name) && !value.is_boolean() && !value.is_null() {
                    *value = Value::String(REDACTED.to_owned());
                } else {
                    json(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(json),
        _ => {}
    }
}

/// `a=1&token=2`, as in a query or a form.
fn form(text: &str) -> String {
    let pairs = text.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={REDACTED}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// The content of elements, and of attributes, whose names are secret.
fn xml(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let Some(close) = tag_end(rest) else {
            // Cut within a tag: whatever it would have said is not shown.
            return out;
        };
        let (tag, after) = rest.split_at(close + 1);
        let name = tag[1..].split([' ', '>', '/', '\n', '\t']).next();
        let name = name.unwrap_or_default();
        let local = name.rsplit(':').next().unwrap_or(name);
        out.push_str(&attributes(tag));
        rest = after;
        if is_secret(local) && !tag.ends_with("/>") && !tag.starts_with("</") {
            out.push_str(REDACTED);
            let end = format!("</{name}");
            // Not closed, because it was cut: the rest is its content.
            rest = rest.find(&end).map_or("", |at| &rest[at..]);
        }
    }
    out.push_str(rest);
    out
}

/// Where a tag closes: a `>` within quotes does not.
fn tag_end(tag: &str) -> Option<usize> {
    let mut is_quoted = false;
    let end = tag.bytes().position(|byte| {
        is_quoted ^= byte == b'"';
        byte == b'>' && !is_quoted
    });
    end.or_else(|| tag.find('>').filter(|_| !tag.contains("=\"")))
}

fn attributes(tag: &str) -> String {
    let mut out = String::new();
    let mut rest = tag;
    while let Some(at) = rest.find("=\"") {
        let before = &rest[..at];
        let name = before.rsplit([' ', '\n', '\t']).next().unwrap_or_default();
        out.push_str(&rest[..at + 2]);
        rest = &rest[at + 2..];
        let end = rest.find('"').unwrap_or(rest.len());
        out.push_str(if is_secret(name) {
            REDACTED
        } else {
            &rest[..end]
        });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Anything with names before `:` and `=`: what lies behind a secret one goes, to its closing quote or the line's end.
fn loose(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find([':', '=']) {
        let before = rest[..at].trim_end_matches([' ', '"', '\'']);
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = &before[before.trim_end_matches(is_part).len()..];
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if is_secret(name) {
            let value = rest.trim_start_matches(' ');
            out.push_str(&rest[..rest.len() - value.len()]);
            out.push_str(REDACTED);
            rest = match value.chars().next() {
                Some('{' | '[') | None => "",
                Some(quote @ ('"' | '\'')) => after_quote(&value[1..], quote),
                Some(_) => value.find('\n').map_or("", |end| &value[end..]),
            };
        }
    }
    out.push_str(rest);
    out
}

fn after_quote(text: &str, quote: char) -> &str {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_decide() {
        for name in [
            "Authorization",
            "X-Amz-Security-Token",
            "Set-Cookie",
            "X-Auth-Token",
            "access_token",
            "client_secret",
            "SecretAccessKey",
            "adminPass",
            "X-Amz-Credential",
            "X-Amz-Signature",
            "private_key",
            "sig",
            "X-Api-Key",
            "passwordData",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "Content-Type",
            "NextToken",
            "nextPageToken",
            "ClientToken",
            "SSHPublicKey",
            "KeyName",
            "InstanceId",
            "x-amz-date",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn the_forms_of_apis_keep_their_shape_and_lose_their_secrets() {
        for (shown, expected) in [
            (
                r#"{"auth":{"password":{"user":{"name":"a","password":"s3cr3t"}}},"size":2}"#,
                r#"{"auth":"(redacted)","size":2}"#,
            ),
            (
                r#"{"servers":[{"id":1,"root_password":"s3cr3t"}]}"#,
                r#"{"servers":[{"id":1,"root_password":"(redacted)"}]}"#,
            ),
            (
                "<R><Credentials><SecretAccessKey>s3cr3t</SecretAccessKey></Credentials><Id>1</Id></R>",
                "<R><Credentials>(redacted)</Credentials><Id>1</Id></R>",
            ),
            (
                "<R><Id>1</Id><SessionToken>s3cr3t",
                "<R><Id>1</Id><SessionToken>(redacted)",
            ),
            (
                r#"<login user="a" password="s3cr3t"/>"#,
                r#"<login user="a" password="(redacted)"/>"#,
            ),
            (
                "Action=AssumeRole&WebIdentityToken=s3cr3t&RoleArn=r",
                "Action=AssumeRole&WebIdentityToken=(redacted)&RoleArn=r",
            ),
            (
                "{\"token\": \"s3\\\"cr3t\", \"cut",
                "{\"token\": (redacted), \"cut",
            ),
            (
                r#"<login password="s3>cr3t">x</login>"#,
                r#"<login password="(redacted)">x</login>"#,
            ),
            (
                "aws_secret_access_key = s3cr3t\nregion = r",
                "aws_secret_access_key = (redacted)\nregion = r",
            ),
            ("it works", "it works"),
        ] {
            assert_eq!(body(shown), expected);
        }
    }

    #[test]
    fn a_url_loses_its_signature() {
        let signed = "https://u:s3cr3t@h.example/p?X-Amz-Signature=s3cr3t&list=2#s3cr3t";
        let shown = url(&url::Url::parse(signed).expect("a URL"));
        assert_eq!(
            shown,
            "https://u:redacted@h.example/p?X-Amz-Signature=(redacted)&list=2"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_or_tells_a_secret_of_a_well_formed_one(
            before in "[a-z<>\"=&{}: ]{0,20}",
            secret in "[A-Z0-9]{12,24}",
            after in "[a-z<>\"=&{}: ]{0,20}",
        ) {
            body(&format!("{before}{secret}{after}"));
            let json = format!(r#"{{"a":[{{"accessToken":"{secret}"}}],"b":1}}"#);
            prop_assert!(!body(&json).contains(&secret));
            // However it is cut: what is shown of it shows no more.
            for end in 0..json.len() {
                let shown = body(&json[..end]);
                prop_assert!(!shown.contains(&secret[..6]), "{}", shown);
            }
            let xml = format!("<a><b:Password kind=\"x\">{secret}</b:Password></a>");
            for end in 0..=xml.len() {
                let shown = body(&xml[..end]);
                prop_assert!(!shown.contains(&secret[..6]), "{}", shown);
            }
        }
    }
}

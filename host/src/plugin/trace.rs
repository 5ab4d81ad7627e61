//! A tap that tells each exchange as text, with what opens a door left out.

use std::fmt::Write as _;
use std::time::Instant;

use async_trait::async_trait;
use wasmtime_wasi_http::Error;

use super::egress::tap::{Answer, Asked, Ending, Tap, Upstream};
use super::grants::Denial;
use super::redact;

/// Bytes shown of one body.
const SHOWN: usize = 8 << 10;

/// Tells every exchange, and every refusal, to `tell`.
pub struct Trace<F> {
    tell: F,
}

impl<F: Fn(String) + Send + Sync + 'static> Trace<F> {
    pub fn new(tell: F) -> Self {
        Self { tell }
    }
}

#[async_trait]
impl<F: Fn(String) + Send + Sync + 'static> Tap for Trace<F> {
    async fn exchange(&self, asked: Asked, upstream: Upstream<'_>) -> Result<Answer, Error> {
        (self.tell)(request(&asked));
        let began = Instant::now();
        let answer = upstream.await;
        let took = began.elapsed();
        (self.tell)(match &answer {
            Ok(answer) => response(answer, took.as_millis()),
            Err(problem) => format!("< no answer after {} ms: {problem:?}\n", took.as_millis()),
        });
        answer
    }

    fn denied(&self, denial: &Denial) {
        (self.tell)(format!("! not sent: {denial}\n"));
    }

    fn secret_denied(&self, name: &str) {
        (self.tell)(clean(&format!("! the secret `{name}` is not granted\n")));
    }
}

fn request(asked: &Asked) -> String {
    let mut told = format!("> {} {}\n", asked.method, redact::url(&asked.url));
    head(&mut told, '>', &asked.headers);
    body(&mut told, '>', &asked.body);
    clean(&told)
}

fn response(answer: &Answer, took_ms: u128) -> String {
    let mut told = format!(
        "< {} after {took_ms} ms, {} bytes{}\n",
        answer.status,
        answer.body.len(),
        match answer.ending {
            Ending::Cut => ", and the connection was lost",
            _ => "",
        }
    );
    head(&mut told, '<', &answer.headers);
    body(&mut told, '<', &answer.body);
    clean(&told)
}

fn head(told: &mut String, mark: char, headers: &http::HeaderMap) {
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = writeln!(
            told,
            "{mark} {name}: {}",
            redact::header(name.as_str(), &value)
        );
    }
}

fn body(told: &mut String, mark: char, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let shown = match std::str::from_utf8(bytes) {
        // Redacted before it is cut: half a document is harder to read right than a whole one.
        Ok(text) => redact::body(text),
        Err(_) => format!("({} bytes that are no text)", bytes.len()),
    };
    let end = shown.floor_char_boundary(SHOWN.min(shown.len()));
    for line in shown[..end].lines() {
        let _ = writeln!(told, "{mark}   {line}");
    }
    if end < shown.len() {
        let _ = writeln!(told, "{mark}   … {} bytes more", shown.len() - end);
    }
}

/// Cloud and plugin write none of the terminal's controls.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn an_exchange_is_told_without_its_secrets_and_passes_unchanged() {
        let told = Arc::new(Mutex::new(String::new()));
        let telling = told.clone();
        let trace = Trace::new(move |text: String| {
            telling.lock().expect("no test poisons it").push_str(&text);
        });
        let mut headers = http::HeaderMap::new();
        let value = |text: &'static str| http::HeaderValue::from_static(text);
        headers.insert("authorization", value("AWS4-HMAC-SHA256 s3cr3t"));
        headers.insert("x-amz-date", value("20261128T090000Z"));
        let asked = Asked {
            method: http::Method::POST,
            url: url::Url::parse("https://sts.example/?token=s3cr3t").expect("a URL"),
            headers,
            body: bytes::Bytes::from_static(b"Action=AssumeRole&SecretKey=s3cr3t"),
        };
        let text = "<Answer>\n <Token>s3cr3t</Token>\n <Id>\u{1b}[31m1</Id>\n</Answer>";
        let mut answer = Answer::new(http::StatusCode::OK, text);
        answer.headers.insert("set-cookie", value("s3cr3t"));
        let given = answer.clone();
        let upstream: Upstream<'_> = Box::pin(async move { Ok(answer) });
        let passed = trace.exchange(asked, upstream).await.expect("an answer");
        assert_eq!(passed.body, given.body);
        trace.secret_denied("to\u{7}ken");
        let told = told.lock().expect("no test poisons it").clone();
        let told = told.replace(|c: char| c.is_ascii_digit(), "#");
        insta::assert_snapshot!(told, @r"
        > POST https://sts.example/?token=(redacted)
        > authorization: (redacted)
        > x-amz-date: ########T######Z
        >   Action=AssumeRole&SecretKey=(redacted)
        < ### OK after # ms, ## bytes
        < set-cookie: (redacted)
        <   <Answer>
        <    <Token>(redacted)</Token>
        <    <Id>[##m#</Id>
        <   </Answer>
        ! the secret `token` is not granted
        ");
    }
}

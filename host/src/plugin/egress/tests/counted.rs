//! Every request is counted once, however it ends, and nothing of it that may be secret.

use std::sync::mpsc;

use super::*;

fn observed(toml: &str) -> (Egress, mpsc::Receiver<Exchange>) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let options = EgressOptions {
        observer: Arc::new(move |exchange: &Exchange| {
            lock(&tell)
                .send(exchange.clone())
                .expect("it is listened to");
        }),
        ..options(&[("inner.corp.example", "10.0.0.1")])
    };
    (Egress::new(options, policy(toml)), told)
}

#[tokio::test]
async fn each_request_is_told_with_its_bytes_and_its_end() {
    let server = Server::start(OK).await;
    let port = server.port;
    let toml = format!(
        "http = [\"http://127.0.0.1:{port}\", \"http://*.corp.example\"]\nplaintext = true\nloopback = true"
    );
    let (egress, told) = observed(&toml);
    let body = Full::new(Bytes::from("Action=x"));
    let request = http::Request::post(format!("http://127.0.0.1:{port}/q?token=s3cret"))
        .header("authorization", "s3cret")
        .body(body.map_err(Error::from).boxed_unsync())
        .expect("a request");
    let answer = egress.answer(request, RequestOptions::default()).await;
    text(answer.expect("it is granted")).await.expect("whole");
    let told = || {
        told.recv_timeout(Duration::from_secs(10))
            .expect("it is told")
    };
    let sent = told();
    assert_eq!(
        (sent.host.clone(), sent.method_label(), sent.outcome.class()),
        (format!("http://127.0.0.1:{port}"), "POST", "2xx")
    );
    assert_eq!((sent.sent, sent.received), (8, 2));
    assert!(sent.took > Duration::ZERO);
    assert_eq!(
        sent.to_string(),
        format!("POST http://127.0.0.1:{port}/q 200")
    );
    assert!(!format!("{sent:?}").contains("s3cret"));

    let denied = egress
        .answer(get("https://made.up.example/"), RequestOptions::default())
        .await;
    assert!(is_denied(&denied));
    let denied = told();
    assert_eq!(
        (denied.host.as_str(), denied.outcome),
        ("other", Outcome::Denied)
    );

    // Named by a wildcard, and led into a private network.
    let denied = egress
        .answer(get("http://inner.corp.example/"), RequestOptions::default())
        .await;
    assert!(is_denied(&denied));
    let denied = told();
    assert_eq!(
        (denied.host.as_str(), denied.outcome),
        ("http://*.corp.example", Outcome::Denied)
    );

    let lost = egress
        .answer(get("http://lost.corp.example/"), RequestOptions::default())
        .await;
    assert!(matches!(lost, Err(Error::DnsError { .. })), "{lost:?}");
    assert_eq!(told().outcome, Outcome::Failed);
}

#[tokio::test]
async fn a_request_that_its_call_gave_up_is_told_too() {
    let silent = Server::start("").await;
    let url = format!("http://127.0.0.1:{}", silent.port);
    let toml = format!("http = [\"{url}\"]\nplaintext = true\nloopback = true");
    let (egress, told) = observed(&toml);
    let asked = egress.answer(get(&url), RequestOptions::default());
    let cut = tokio::time::timeout(Duration::from_millis(50), asked).await;
    assert!(cut.is_err());
    let told = told.recv_timeout(Duration::from_secs(10));
    assert_eq!(told.expect("it is told").outcome, Outcome::Failed);
}

#[tokio::test]
async fn what_no_grant_could_name_is_denied_and_told_to_the_operator_once() {
    let egress = egress("allow_any_host = true", &[]);
    for url in [
        "https://user@a.example/",
        "https://a$b.example/",
        "https://*.example/",
        "ftp://a.example/",
    ] {
        assert!(
            is_denied(&egress.answer(get(url), RequestOptions::default()).await),
            "{url}"
        );
    }
    let hosts: Vec<String> = lock(&egress.hosts).keys().cloned().collect();
    assert_eq!(hosts, ["no host"], "they are told together");
}

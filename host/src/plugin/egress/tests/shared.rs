//! What all plugins share is nobody's to keep: neither an unread answer nor an unwritten request holds it.

use super::*;

/// Two plugins that share the right to one request.
fn two(toml: &str) -> [Egress; 2] {
    let all = Arc::new(Semaphore::new(1));
    [(); 2].map(|()| {
        let options = EgressOptions {
            all: all.clone(),
            ..options(&[])
        };
        Egress::new(options, policy(toml))
    })
}

#[tokio::test]
async fn a_body_that_nobody_reads_holds_up_no_other_plugin() {
    let (full, small) = (Server::start(large()).await, Server::start(OK).await);
    let urls = [full.port, small.port].map(|port| format!("http://127.0.0.1:{port}"));
    let toml = format!("http = {urls:?}\nplaintext = true\nloopback = true");
    let [idler, other] = two(&toml);
    let patient = RequestOptions::default();
    let unread = idler.answer(get(&urls[0]), patient).await;
    let unread = unread.expect("it is granted");
    let asked = other.answer(get(&urls[1]), patient);
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
    let answer = answer.expect("it is not held up").expect("it is granted");
    assert_eq!(text(answer).await.expect("whole"), b"hi");
    assert_eq!(idler.in_flight(), 1, "its own place it keeps");
    // The idler wakes up, and has its body after all.
    let read = text(unread).await.expect("it is whole");
    assert_eq!(read.len(), Limits::default().body / 2);
}

#[tokio::test]
async fn a_request_whose_body_is_not_written_holds_up_no_other_plugin() {
    let server = Server::start(OK).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let toml =
        format!("http = [\"{url}\"]\nplaintext = true\nloopback = true\nlimits.idle = \"300ms\"");
    let [idler, other] = two(&toml);
    let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<hyper::body::Frame<Bytes>, Error>,
    >());
    let unwritten = http::Request::post(&url)
        .body(never.boxed_unsync())
        .expect("a request");
    let pending = idler.answer(unwritten, RequestOptions::default());
    let asked = async {
        let answer = other.answer(get(&url), RequestOptions::default()).await;
        text(answer.expect("it is granted")).await.expect("whole")
    };
    let (pending, asked) = tokio::join!(pending, asked);
    assert_eq!(asked, b"hi");
    assert!(
        matches!(pending, Err(Error::ConnectionWriteTimeout)),
        "{pending:?}"
    );
    assert_eq!(idler.in_flight(), 0);
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn limits_are_the_operators_and_change_while_requests_are_under_way() {
    let silent = Server::start("").await;
    let url = format!("http://127.0.0.1:{}", silent.port);
    let toml = |limits: &str| {
        format!("http = [\"{url}\"]\nplaintext = true\nloopback = true\nlimits = {{ {limits} }}")
    };
    let egress = Arc::new(egress(&toml("concurrent_requests = 2"), &[]));
    let ask = || {
        let (egress, request) = (egress.clone(), get(&url));
        tokio::spawn(async move {
            egress
                .answer(request, RequestOptions::default())
                .await
                .is_ok()
        })
    };
    let reaches = async |wanted: usize| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while silent.seen() < wanted {
            assert!(tokio::time::Instant::now() < deadline, "{}", silent.seen());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut tasks: Vec<_> = (0..5).map(|_| ask()).collect();
    reaches(2).await;
    assert_eq!(egress.in_flight(), 2);
    egress.adopt(
        policy(&toml("concurrent_requests = 3, first_byte = \"50ms\"")),
        None,
    );
    tasks.extend((0..3).map(|_| ask()));
    reaches(5).await;
    assert_eq!(silent.seen(), 5, "three more under the new limit");
    for task in tasks {
        task.abort();
    }
}

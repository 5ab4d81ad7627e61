//! A call that is over has no requests: neither those that it sent nor those that waited.

use wasmtime_wasi_http::WasiHttpHooks;

use super::*;

#[tokio::test]
async fn what_a_call_leaves_behind_ends_with_it() {
    let (silent, large) = (Server::start("").await, Server::start(large()).await);
    let urls = [silent.port, large.port].map(|port| format!("http://127.0.0.1:{port}"));
    let toml = format!("http = {urls:?}\nplaintext = true\nloopback = true");
    let egress = Arc::new(egress(&toml, &[]));
    let mut hooks = EgressHooks::new(egress.clone());
    hooks.let_out();
    let mut sent = |url: &str| {
        let done = Box::new(async { Ok(()) });
        Box::into_pin(hooks.send_request(get(url), None, done))
    };
    let pending = tokio::spawn(sent(&urls[0]));
    let (unread, carrying) = sent(&urls[1]).await.expect("an answer");
    tokio::spawn(Box::into_pin(carrying));
    let next = sent(&urls[1]);
    hooks.end_call();
    until_idle(&egress).await;
    let pending = pending.await.expect("it does not panic");
    assert!(matches!(pending, Err(Error::ConnectionTerminated)));
    assert!(text(unread).await.is_err());
    assert!(next.await.is_err(), "it belongs to the call that is over");
    let (response, carrying) =
        Box::into_pin(hooks.send_request(get(&urls[1]), None, Box::new(async { Ok(()) })))
            .await
            .expect("the next call has its own");
    tokio::spawn(Box::into_pin(carrying));
    assert!(text(response).await.is_ok());
}

#[tokio::test]
async fn what_waits_takes_no_place_of_what_ended_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let url = format!("http://{address}");
    let toml = format!(
        "http = [\"{url}\"]\nplaintext = true\nloopback = true\nlimits.concurrent_requests = 1"
    );
    let mut hooks = EgressHooks::new(Arc::new(egress(&toml, &[])));
    hooks.let_out();
    let mut send = || {
        let done = Box::new(async { Ok(()) });
        tokio::spawn(Box::into_pin(hooks.send_request(get(&url), None, done)))
    };
    let sent: Vec<_> = (0..3).map(|_| send()).collect();
    let (first, _) = listener.accept().await.expect("one of them");
    drop(hooks);
    for request in sent {
        let ended = request.await.expect("it does not panic");
        assert!(matches!(ended, Err(Error::ConnectionTerminated)));
    }
    // Connections are accepted in the order in which they were made.
    let ours = tokio::net::TcpStream::connect(address).await;
    let ours = ours.expect("it listens").local_addr().expect("connected");
    let (_, next) = listener.accept().await.expect("ours");
    assert_eq!(next, ours, "another request followed the first");
    drop(first);
}

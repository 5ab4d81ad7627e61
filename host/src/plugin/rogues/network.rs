//! What a guest can ask of the network, with a real listener that says whether anybody came.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Street, ear};
use crate::fleet::group::{CallFailure, InstanceGroup};
use crate::plugin::egress::Resolver;
use crate::plugin::house::{increase, provider_on_the_web, unknown, until};

/// What `fetch` gives where the request was denied: 1000 and the number of `HTTP-request-denied`.
const DENIED: u32 = 1015;
const TERMINATED: u32 = 1007;
const TOO_LARGE_HEADER: u32 = 1026;
const BROKEN_BODY: u32 = 2000;

/// `increase` fetches, and tells what came of it as the count that was accepted.
const FETCH: &str = "(i32.store (i32.const 3000) (call $fetch)) (return (i32.const 3000))";

/// Answers every connection with the same bytes, and keeps it open.
struct Listener {
    authority: String,
    port: u16,
    seen: Arc<AtomicUsize>,
}

impl Listener {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 16 << 10];
                    // Only the client ends a connection, however it does: there is nothing to do about it.
                    if stream.read(&mut request).await.is_ok_and(|read| read > 0)
                        && stream.write_all(&answer).await.is_ok()
                    {
                        drop(stream.read(&mut request).await);
                    }
                });
            }
        });
        Self {
            authority: format!("127.0.0.1:{port}"),
            port,
            seen,
        }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// The name with the port of this listener, as a plugin's table grants it.
    fn granting(&self, plugin: &str, host: &str) -> String {
        format!(
            "[{plugin}]\nhttp = [\"http://{host}:{}\"]\nplaintext = true\nloopback = true\n",
            self.port
        )
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";

impl Street {
    /// What `name`, which fetches `authority`, made of the answer.
    async fn fetched(&self, name: &str, scheme: &str, authority: &str) -> u32 {
        let bytes = provider_on_the_web(scheme, authority, &[("increase", FETCH)]);
        let rogue = self.load(name, &bytes).await.expect("it loads");
        let outcome = self.beside(rogue.increase(increase())).await;
        outcome.expect("it answers").accepted
    }
}

/// A listener's port differs from run to run.
async fn heard_without(plugin: &str, port: u16, lines: usize) -> String {
    let text = ear::heard(plugin, lines).await;
    let text = text.replace(&port.to_string(), "PORT");
    let places = text.lines().map(|line| match line.split_once(" in /") {
        Some((before, after)) => {
            let after = after
                .split_once("plugins.toml")
                .map_or(after, |(_, rest)| rest);
            format!("{before} in …/plugins.toml{after}")
        }
        None => line.to_owned(),
    });
    places.collect::<Vec<_>>().join("\n")
}

fn leading(to: &'static [&'static str]) -> Resolver {
    let asked = AtomicUsize::new(0);
    Arc::new(move |_| {
        let turn = asked.fetch_add(1, Ordering::SeqCst).min(to.len() - 1);
        let address: IpAddr = to[turn].parse().expect("an address");
        Box::pin(async move { Ok(vec![address]) })
    })
}

#[tokio::test]
async fn asks_in_its_init() {
    let listener = Listener::start(OK).await;
    let grants = listener.granting("early", "127.0.0.1");
    let street = Street::with(&grants, |_| {}).await;
    let on_the_web =
        |places: &[(&str, &str)]| provider_on_the_web("http", &listener.authority, places);
    // It traps unless it is denied.
    let fetch = format!("(if (i32.ne (call $fetch) (i32.const {DENIED})) (then unreachable))");
    let refusing = format!("{fetch} (return (i32.const 512))");
    let failing = on_the_web(&[("describe", &fetch), ("init", &refusing)]);
    insta::assert_snapshot!(street.refused("early", &failing).await, @r"
    plugin `early` (plugins/early.wasm, sha256 e3b0c44298fc…) was not loaded
      `init` failed: unauthenticated: no key
      next: correct this runner's plugin_config, as the problem says
    ");
    insta::assert_snapshot!(heard_without("early", listener.port, 1).await, @r"
    warning: request denied: a plugin sends none before its `init` has ended, and no grant can allow it; next: report it to the plugin's author
      target: http://127.0.0.1:PORT
    ");

    // That nobody came to trust it keeps the next build from nothing; from then on that one alone is trusted.
    let next = on_the_web(&[("init", &fetch), ("increase", FETCH)]);
    let rogue = street.load("early", &next).await.expect("it loads");
    assert_eq!(listener.seen(), 0);
    let report = street.refused("early", &failing).await;
    assert!(report.contains("not the one trusted before"), "{report}");
    let outcome = street.beside(rogue.increase(increase())).await;
    assert_eq!(
        (outcome.expect("it answers").accepted, listener.seen()),
        (200, 1)
    );
}

#[tokio::test]
async fn asks_for_what_is_granted() {
    let listener = Listener::start(OK).await;
    let grants = listener.granting("asks", "127.0.0.1");
    let street = Street::with(&grants, |_| {}).await;
    let status = street.fetched("asks", "http", &listener.authority).await;
    assert_eq!(
        (status, listener.seen()),
        (200, 1),
        "the other tests prove nothing without this"
    );
}

#[tokio::test]
async fn asks_for_what_is_not_granted() {
    let listener = Listener::start(OK).await;
    let port = listener.port;
    let other = format!("http://127.0.0.1:{}", port ^ 1);
    let granted = format!("http://127.0.0.1:{port}");
    let table = |name: &str, entry: &str, more: &str| {
        format!("[{name}]\nhttp = [\"{entry}\"]\nloopback = true\n{more}\n")
    };
    let grants = [
        table("asks-port", &other, "plaintext = true"),
        table(
            "asks-scheme",
            &granted.replace("http:", "https:"),
            "plaintext = true",
        ),
        table("asks-plainly", &granted, ""),
    ];
    let street = Street::with(&grants.concat(), |_| {}).await;
    for name in ["asks-host", "asks-port", "asks-scheme", "asks-plainly"] {
        let code = street.fetched(name, "http", &listener.authority).await;
        assert_eq!(code, DENIED, "{name}");
    }
    assert_eq!(listener.seen(), 0);
    let mut told = Vec::new();
    for name in ["asks-host", "asks-port", "asks-scheme", "asks-plainly"] {
        told.push(heard_without(name, port, 1).await);
    }
    insta::assert_snapshot!(told.join("\n\n"), @r#"
    warning: request denied; to allow it, add under [asks-host] in …/plugins.toml (to the list `http` where there is one): `http = ["http://127.0.0.1:PORT"]` and `plaintext = true` and `loopback = true`
      denial: http://127.0.0.1:PORT is not granted

    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; to allow it, add under [asks-port] in …/plugins.toml (to the list `http` where there is one): `http = ["http://127.0.0.1:PORT"]`
      denial: http://127.0.0.1:PORT is not granted

    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; to allow it, add under [asks-scheme] in …/plugins.toml (to the list `http` where there is one): `http = ["http://127.0.0.1:PORT"]`
      denial: http://127.0.0.1:PORT is not granted

    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: request denied; to allow it, add under [asks-plainly] in …/plugins.toml (to the list `http` where there is one): `plaintext = true`
      denial: http://127.0.0.1:PORT is plaintext http, which is not granted
    "#);
}

#[tokio::test]
async fn is_granted_a_name_that_leads_inside() {
    let listener = Listener::start(OK).await;
    let mut told = Vec::new();
    for (name, to) in [
        ("leads-here", &["127.0.0.1"][..]),
        ("leads-to-keys", &["169.254.169.254"]),
        ("leads-mapped", &["::ffff:10.0.0.1"]),
    ] {
        // Whoever owns a name beneath a wildcard says where it leads.
        let grants = listener.granting(name, "*.example.com");
        let street = Street::with(&grants, |options| options.resolver = leading(to)).await;
        let authority = format!("rebound.example.com:{}", listener.port);
        let code = street.fetched(name, "http", &authority).await;
        assert_eq!(code, DENIED, "{name}");
        told.push(heard_without(name, listener.port, 1).await);
    }
    assert_eq!(listener.seen(), 0);
    insta::assert_snapshot!(told.join("\n\n"), @r#"
    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; no grant can allow it
      denial: http://rebound.example.com:PORT leads to 127.0.0.1, a loopback address

    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; no grant can allow it
      denial: http://rebound.example.com:PORT leads to 169.254.169.254, a metadata service address

    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; to allow it, add under [leads-mapped] in …/plugins.toml (to the list `http` where there is one): `http = ["http://rebound.example.com:PORT"]`
      denial: http://rebound.example.com:PORT leads to ::ffff:10.0.0.1, a private address
    "#);
}

#[tokio::test]
async fn is_granted_a_name_that_leads_elsewhere_the_second_time() {
    let listener = Listener::start(OK).await;
    let grants = listener.granting("leads-away", "localhost") + "private_addresses = \"never\"\n";
    let resolver = leading(&["127.0.0.1", "10.0.0.1"]);
    let street = Street::with(&grants, |options| options.resolver = resolver).await;
    let authority = format!("localhost:{}", listener.port);
    let bytes = provider_on_the_web("http", &authority, &[("increase", FETCH)]);
    let rogue = street.load("leads-away", &bytes).await.expect("it loads");
    let fetch = async || {
        let outcome = street.beside(rogue.increase(increase())).await;
        outcome.expect("it answers").accepted
    };
    // What was judged is what was dialled: one look at the name for each connection.
    assert_eq!((fetch().await, listener.seen()), (200, 1));
    assert_eq!((fetch().await, listener.seen()), (DENIED, 1));
    insta::assert_snapshot!(heard_without("leads-away", listener.port, 1).await, @r#"
    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; to allow it, add under [leads-away] in …/plugins.toml (to the list `http` where there is one): `private_addresses = "listed-names"`
      denial: http://localhost:PORT leads to 10.0.0.1, a private address
    "#);
}

#[tokio::test]
async fn is_redirected() {
    let target = Listener::start(OK).await;
    let answer = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        target.authority
    );
    let listener = Listener::start(answer).await;
    let grants =
        listener.granting("redirected", "127.0.0.1") + &listener.granting("follows", "127.0.0.1");
    let street = Street::with(&grants, |_| {}).await;
    let status = street
        .fetched("redirected", "http", &listener.authority)
        .await;
    assert_eq!((status, listener.seen(), target.seen()), (302, 1, 0));
    // It follows by itself, and is refused like any other.
    let code = street.fetched("follows", "http", &target.authority).await;
    assert_eq!((code, target.seen()), (DENIED, 0));
    insta::assert_snapshot!(heard_without("follows", target.port, 1).await, @r#"
    warning: plugin granted more than named hosts
      hazard: this machine's loopback may be reached
    warning: plugin granted more than named hosts
      hazard: plaintext http may be spoken
    warning: request denied; to allow it, add under [follows] in …/plugins.toml (to the list `http` where there is one): `http = ["http://127.0.0.1:PORT"]`
      denial: http://127.0.0.1:PORT is not granted
    "#);
}

#[tokio::test]
async fn is_answered_without_measure() {
    let header = |bytes: usize| {
        let long = "x".repeat(bytes);
        format!("HTTP/1.1 200 OK\r\nx-long: {long}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    endless.resize(17 << 20, b'x');
    for (name, answer, code) in [
        ("long-header", header(200 << 10), TOO_LARGE_HEADER),
        // What no buffer takes ends the connection before anybody counts it.
        ("longer-header", header(1 << 20), TERMINATED),
        ("endless", endless, BROKEN_BODY),
    ] {
        let listener = Listener::start(answer).await;
        let grants = listener.granting(name, "127.0.0.1");
        let street = Street::with(&grants, |_| {}).await;
        let told = street.fetched(name, "http", &listener.authority).await;
        assert_eq!(told, code, "{name}");
    }
    let dripping = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx";
    let listener = Listener::start(dripping).await;
    let grants = listener.granting("drips", "127.0.0.1");
    let street = Street::with(&grants, |options| {
        options.clocks.mutation = Duration::from_secs(3);
    })
    .await;
    let bytes = provider_on_the_web("http", &listener.authority, &[("increase", FETCH)]);
    let rogue = street.load("drips", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.increase(increase())).await);
    insta::assert_snapshot!(why, @"`increase` of `drips` did not return in 3s (1 requests in flight)");
}

#[tokio::test]
async fn asks_a_hundred_times_at_once() {
    let listener = Listener::start("").await;
    let grants = listener.granting("storms", "127.0.0.1");
    let street = Street::with(&grants, |options| {
        options.clocks.other = Duration::from_secs(5);
    })
    .await;
    let storm = "(loop $l
        (drop (call $send))
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (br_if $l (i32.lt_u (global.get $calls) (i32.const 100))))
        (call $block (call $after (i64.const 3600000000000)))";
    let bytes = provider_on_the_web("http", &listener.authority, &[("open", storm)]);
    let rogue = street.load("storms", &bytes).await.expect("it loads");
    let why = match street.beside(rogue.open()).await {
        Err(CallFailure::OutcomeUnknown(why)) => why,
        other => panic!("{other:?}"),
    };
    insta::assert_snapshot!(why, @"`open` of `storms` did not return in 5s (8 requests in flight)");
    assert!(listener.seen() <= 8, "{} connections", listener.seen());
    // The call is over, and so is what it asked for.
    let in_flight = || rogue.requests_in_flight();
    until("idle", || async { in_flight() == 0 }).await;
}

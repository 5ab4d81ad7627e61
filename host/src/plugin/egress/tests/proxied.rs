//! Requests through a real proxy on the loopback: the name alone decides, and this machine's own services stay out of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::secured::{Authority, Secured};
use super::*;

/// Tunnels every CONNECT to one port, answers every other request itself, and keeps the heads that it was sent.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(leads_to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = heads.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    let is_tunnel = head.starts_with("CONNECT ");
                    lock(&kept).push(head);
                    if !is_tunnel {
                        drop(stream.write_all(OK.as_bytes()).await);
                        return;
                    }
                    let mut to = tokio::net::TcpStream::connect(("127.0.0.1", leads_to))
                        .await
                        .unwrap();
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut to).await);
                });
            }
        });
        Self { port, heads }
    }

    fn heads(&self) -> Vec<String> {
        lock(&self.heads).clone()
    }
}

async fn hi(egress: &Egress, url: &str) {
    let answer = egress.answer(get(url), RequestOptions::default()).await;
    assert_eq!(text(answer.unwrap()).await.unwrap(), b"hi", "{url}");
}

#[tokio::test]
async fn a_granted_name_goes_through_the_proxy_and_is_resolved_there() {
    let authority = Authority::new();
    let server = Secured::start(&authority.signs("api.example"), None).await;
    let proxy = Proxy::start(server.port).await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), &authority.pem).unwrap();
    let toml = format!(
        "http = [\"https://*.example\", \"http://api.example\"]\nplaintext = true\n\
         proxy = \"http://ann:s3cret@127.0.0.1:{}\"\ntls.\"api.example\" = {{ ca = {:?} }}",
        proxy.port,
        ca.path()
    );
    // Here it would lead to an address that no wildcard may reach: through a proxy the name alone decides.
    let egress = egress(&toml, &[("api.example", "10.0.0.1")]);
    hi(&egress, "https://api.example/x?q").await;
    let [head] = &proxy.heads()[..] else {
        panic!("one tunnel: {:?}", proxy.heads());
    };
    assert!(
        head.starts_with("CONNECT api.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains(
            "proxy-authorization: basic yw5uonmzy3jldA=="
                .to_lowercase()
                .as_str()
        ),
        "{head}"
    );

    hi(&egress, "http://api.example/x?q").await;
    let head = proxy.heads().remove(1);
    assert!(
        head.starts_with("GET http://api.example/x?q HTTP/1.1\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn what_is_not_granted_never_reaches_the_proxy() {
    let proxy = Proxy::start(1).await;
    let toml = format!(
        "http = [\"https://api.example\", \"https://127.0.0.1\", \"https://localhost\"]\n\
         private_addresses = \"any\"\nproxy = \"http://127.0.0.1:{}\"",
        proxy.port
    );
    let egress = egress(&toml, &[("localhost", "127.0.0.1")]);
    for url in [
        "https://other.example",
        "http://api.example",
        "https://127.0.0.1",
        "https://localhost",
        "http://169.254.169.254",
        "https://224.0.0.1",
    ] {
        let answer = egress.answer(get(url), RequestOptions::default()).await;
        assert!(is_denied(&answer), "{url}: {answer:?}");
    }
    assert!(proxy.heads().is_empty(), "{:?}", proxy.heads());
}

#[tokio::test]
async fn this_machines_own_services_are_asked_directly() {
    let (proxy, server) = (Proxy::start(1).await, Server::start(OK).await);
    let url = format!("http://127.0.0.1:{}", server.port);
    let toml = format!(
        "http = [\"{url}\"]\nplaintext = true\nloopback = true\nproxy = \"http://127.0.0.1:{}\"",
        proxy.port
    );
    hi(&egress(&toml, &[]), &url).await;
    assert_eq!((server.seen(), proxy.heads().len()), (1, 0));
}

#[tokio::test]
async fn the_environments_proxy_and_its_exceptions_are_used_where_granted() {
    let proxy = Proxy::start(1).await;
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let with = |toml: &str| {
        let toml = format!(
            "http = [\"http://api.example\", \"http://in.corp.example\"]\nplaintext = true\n{toml}"
        );
        let variable = |name: &str| match name {
            "http_proxy" => Some(address.clone()),
            "NO_PROXY" => Some("corp.example".to_owned()),
            _ => None,
        };
        let policy = policy_in(&toml, &variable);
        Egress::new(options(&[("in.corp.example", "127.0.0.1")]), policy)
    };
    let granted = with("proxy = \"environment\"");
    hi(&granted, "http://api.example").await;
    assert_eq!(proxy.heads().len(), 1);
    // Directly, and so its address is judged.
    assert!(is_denied(
        &granted
            .answer(get("http://in.corp.example"), RequestOptions::default())
            .await
    ));
    let ambient = with("")
        .answer(get("http://api.example"), RequestOptions::default())
        .await;
    assert!(
        matches!(ambient, Err(Error::DnsError { .. })),
        "{ambient:?}"
    );
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_none_closes_every_host_and_falls_back_to_nothing() {
    let variable = |name: &str| (name == "ALL_PROXY").then(|| "socks5://ann:s3cret@p".to_owned());
    let granted = "http = [\"http://api.example\"]\nplaintext = true\nproxy = \"environment\"";
    let policy = policy_in(granted, &variable);
    let told = policy.problems().remove(0);
    assert!(
        told.starts_with(
            "no host is reached, because of `proxy`: ALL_PROXY of the environment is no proxy"
        ),
        "{told}"
    );
    assert!(!told.contains("s3cret"));
    let egress = Egress::new(options(&[("api.example", "8.8.8.8")]), policy);
    let answer = egress
        .answer(get("http://api.example"), RequestOptions::default())
        .await;
    assert!(
        matches!(answer, Err(Error::ConfigurationError)),
        "{answer:?}"
    );
}

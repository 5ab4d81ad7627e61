//! The ways to a daemon, on real sockets with certificates of each kind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::docker::client;

const PONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK";

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    fn signs(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// The directory as Docker's users have it.
    fn directory(&self, client_of: &Self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = client_of.signs("client");
        for (name, text) in [
            ("ca.pem", self.certificate.pem()),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }
}

/// Answers whoever shows a certificate of this authority; its address.
async fn serve(authority: &Authority) -> String {
    let mut clients = RootCertStore::empty();
    clients.add(authority.certificate.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(clients));
    let (certificate, key) = authority.signs("localhost");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A stranger's handshake fails.
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream).await;
            }
        }
    });
    format!("tcp://localhost:{port}")
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    stream.write_all(PONG).await.unwrap();
}

async fn pings(end: Result<End, DaemonProblem>) -> bool {
    let daemon = Arc::new(Daemon { end: end.unwrap() });
    let docker = client::over_own(&daemon).unwrap();
    docker.ping().await.is_ok()
}

fn path(of: &TempDir) -> Option<&str> {
    of.path().to_str()
}

#[tokio::test]
async fn the_daemon_and_its_client_know_each_other_by_the_directory_alone() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let host = serve(&ours).await;
    let known = ours.directory(&ours);
    assert!(pings(end(&host, path(&known))).await);
    let strange_client = ours.directory(&theirs);
    assert!(!pings(end(&host, path(&strange_client))).await);
    let strange_daemon = theirs.directory(&ours);
    assert!(!pings(end(&host, path(&strange_daemon))).await);
    assert!(!pings(end(&host, None)).await);
}

#[tokio::test]
async fn a_socket_file_needs_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream).await;
    });
    let host = format!("unix://{}", socket.display());
    assert!(pings(end(&host, Some("/nowhere"))).await);
}

fn problem(host: &str, certificates: Option<&str>) -> String {
    match end(host, certificates) {
        Ok(_) => panic!("{host:?} is taken"),
        Err(problem) => problem.to_string(),
    }
}

#[test]
fn what_cannot_be_used_is_named_with_what_to_do() {
    for host in [
        "localhost:2375",
        "ssh://elsewhere",
        "tcp://name",
        "tcp://name:port",
    ] {
        let told = problem(host, None);
        assert!(
            told.contains(host) && told.contains("next: correct `host`"),
            "{told}"
        );
    }
    let dir = Authority::new();
    let dir = dir.directory(&dir);
    fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
    let told = problem("tcp://localhost:2376", path(&dir));
    assert!(
        told.contains("cert.pem: it holds no certificate; next: put"),
        "{told}"
    );
    fs::remove_file(dir.path().join("key.pem")).unwrap();
    let told = problem("tcp://localhost:2376", path(&dir));
    assert!(told.contains("key.pem: No such file"), "{told}");
}

#[test]
fn the_environment_counts_only_without_a_configured_host() {
    let environment = |name: &str| match name {
        "DOCKER_HOST" => Some("tcp://from-environment:2375".to_owned()),
        _ => None,
    };
    let none = |_: &str| None;
    let configured = Choice {
        host: Some("tcp://configured:2375"),
        tls_verify: false,
        tls_cert_path: None,
    };
    let address = |choice, env| Daemon::chosen(choice, env).unwrap().address();
    assert_eq!(address(configured, &environment), "tcp://configured:2375");
    let nothing = Choice {
        host: None,
        ..configured
    };
    assert_eq!(
        address(nothing, &environment),
        "tcp://from-environment:2375"
    );
    assert_eq!(address(nothing, &none), "unix:///var/run/docker.sock");
}

//! GitLab with TLS: whose certificates are accepted, which are shown, what is said where they are not, and what jobs get.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use secrecy::ExposeSecret as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::server_tls::{Authority, ClientCertificate};

/// One that signs others.
struct Signer(rcgen::Certificate, Issuer<'static, KeyPair>);

/// A certificate with its key.
struct Signed(rcgen::Certificate, KeyPair);

impl Signer {
    fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        Self(params.self_signed(&key).unwrap(), Issuer::new(params, key))
    }

    /// One below this one.
    fn below(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.1).unwrap();
        Self(certificate, Issuer::new(params, key))
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn signs(&self, name: &str) -> Signed {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Signed(params.signed_by(&key, &self.1).unwrap(), key)
    }
}

/// What a server makes for itself, as `openssl req -x509` does: a CA's.
fn own(name: &str, until: i32) -> Signed {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    Signed(params.self_signed(&key).unwrap(), key)
}

/// Stands before a GitLab, which answers 204 to everything, as often as is asked; it demands a certificate signed by
/// `clients`, where given.
struct Front {
    _behind: Gitlab,
    url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn front(shown: &Signed, clients: Option<&Signer>) -> Front {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(signer) => {
            let mut roots = RootCertStore::empty();
            roots.add(signer.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(shown.1.serialize_der()).into();
    let config = config.with_single_cert(vec![shown.0.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let gitlab = Gitlab::saying((0..9).map(|_| said(204))).await;
    let behind = gitlab.client.shared.url.clone();
    let behind = behind
        .trim_start_matches("http://")
        .trim_end_matches("/base/ci")
        .to_owned();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let mut outer = acceptor.accept(stream).await?;
                let mut inner = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    Front {
        _behind: gitlab,
        url,
        server,
    }
}

fn trusting(pem: &[String]) -> ServerTls {
    let authority = Authority::parse(PathBuf::from("/certs/ca.pem"), pem.concat());
    ServerTls {
        authority: Some(authority.unwrap()),
        ..trusting_nobody()
    }
}

fn trusting_nobody() -> ServerTls {
    ServerTls {
        default_authority: Some("/etc/fleetling/certs/gitlab.example.crt".into()),
        ..ServerTls::default()
    }
}

fn showing(signed: &Signed) -> ClientCertificate {
    let (file, key_file) = (
        PathBuf::from("/certs/me.pem"),
        PathBuf::from("/certs/me.key"),
    );
    let key = signed.1.serialize_pem().into();
    ClientCertificate::parse(file, signed.0.pem(), key_file, key).unwrap()
}

/// Its port is another each time.
async fn asked(front: &Front, server_tls: ServerTls) -> String {
    let client = Client::new(Settings {
        server_tls,
        ..settings(&front.url)
    });
    match client.unwrap().request_job().await.asked {
        Asked::Nothing => "an answer".to_owned(),
        Asked::Failed(text) => text.replace(&front.url, "URL"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_is_accepted_if_its_signer_or_it_itself_is_named() {
    let (ours, theirs) = (Signer::new("ours"), Signer::new("theirs"));
    let shown = ours.signs("127.0.0.1");
    let at = front(&shown, None).await;
    let both = [theirs.0.pem(), "stray text\n".to_owned(), ours.0.pem()];
    assert_eq!(asked(&at, trusting(&both)).await, "an answer");
    // As `openssl s_client` shows it.
    assert_eq!(asked(&at, trusting(&[shown.0.pem()])).await, "an answer");
    let nobody = asked(&at, trusting_nobody()).await;
    insta::assert_snapshot!(nobody, @"GitLab at URL has a certificate that is signed by nobody whom this machine trusts; next: put the certificate of its CA, as PEM, into /etc/fleetling/certs/gitlab.example.crt, or name its file with tls-ca-file in config.toml");
    let others = asked(&at, trusting(&[theirs.0.pem()])).await;
    insta::assert_snapshot!(others, @"GitLab at URL has a certificate that is signed by nobody in /certs/ca.pem and by nobody else whom this machine trusts; next: put the certificate of its CA, as PEM, there (tls-ca-file in config.toml)");
    // One that took the name of the right one, or had it before.
    let twin = asked(&at, trusting(&[Signer::new("ours").0.pem()])).await;
    assert_eq!(twin, others);
}

#[tokio::test]
async fn a_server_that_signed_its_own_certificate_is_trusted_by_it_alone_and_while_it_holds() {
    let shown = own("127.0.0.1", 4096);
    let at = front(&shown, None).await;
    assert_eq!(asked(&at, trusting(&[shown.0.pem()])).await, "an answer");
    let other = own("127.0.0.1", 4096);
    let refused = asked(&at, trusting(&[other.0.pem()])).await;
    insta::assert_snapshot!(refused, @"GitLab at URL has a certificate that is a CA's own; next: if it is meant, name it itself with tls-ca-file in config.toml");

    let elsewhere = own("gitlab.example", 4096);
    let at = front(&elsewhere, None).await;
    let refused = asked(&at, trusting(&[elsewhere.0.pem()])).await;
    assert!(
        refused.contains("does not hold: certificate not valid for name \"127.0.0.1\""),
        "{refused}"
    );

    let old = own("127.0.0.1", 2020);
    let at = front(&old, None).await;
    let refused = asked(&at, trusting(&[old.0.pem()])).await;
    assert!(
        refused.contains("does not hold: certificate expired"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_says_which() {
    let ours = Signer::new("ours");
    let at = front(&ours.signs("gitlab.example"), None).await;
    let refused = asked(&at, trusting(&[ours.0.pem()])).await;
    insta::assert_snapshot!(refused, @r#"GitLab at URL has a certificate that does not hold: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("gitlab.example"); next: renew it, or write the name that it is for as url in config.toml"#);
}

#[tokio::test]
async fn a_gitlab_that_asks_who_we_are_is_shown_the_client_certificate() {
    let (ours, clients) = (Signer::new("ours"), Signer::new("clients"));
    let at = front(&ours.signs("127.0.0.1"), Some(&clients)).await;
    let known = ServerTls {
        client: Some(showing(&clients.signs("me"))),
        ..trusting(&[ours.0.pem()])
    };
    assert_eq!(asked(&at, known).await, "an answer");
    let nobody = asked(&at, trusting(&[ours.0.pem()])).await;
    insta::assert_snapshot!(nobody, @"GitLab at URL refused the connection (CertificateRequired); next: if it demands a client certificate, name one with tls-cert-file and tls-key-file in config.toml");
    let stranger = ServerTls {
        client: Some(showing(&ours.signs("me"))),
        ..trusting(&[ours.0.pem()])
    };
    insta::assert_snapshot!(asked(&at, stranger).await, @"GitLab at URL refused the connection with the client certificate in /certs/me.pem (UnknownCA); next: name one that it accepts with tls-cert-file and tls-key-file in config.toml");
}

#[tokio::test]
async fn a_gitlab_without_tls_is_told_from_one_that_is_away() {
    let gitlab = Gitlab::saying([]).await;
    let url = gitlab.client.shared.url.replace("http://", "https://");
    let Asked::Failed(text) = client(&url).request_job().await.asked else {
        panic!("it speaks no TLS");
    };
    insta::assert_snapshot!(text.replace(&url, "URL"), @"GitLab at URL does not speak TLS; next: correct the port of url in config.toml, or write http:// if it may be spoken to in the clear");
}

#[tokio::test]
async fn new_files_serve_the_jobs_that_began_with_the_old_ones() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let at = front(&new.signs("127.0.0.1"), None).await;
    let of = |signer: &Signer| Settings {
        server_tls: trusting(&[signer.0.pem()]),
        ..settings(&at.url)
    };
    let first = Client::new(of(&old)).unwrap();
    let of_a_job = first.clone();
    let before = of_a_job.update(&key(), &Update::running(None)).await;
    assert!(
        matches!(before.verdict, Updated::Unreached(_)),
        "{before:?}"
    );
    first.under(of(&new)).unwrap();
    assert!(matches!(of_a_job.request_job().await.asked, Asked::Nothing));
    assert_eq!(of_a_job.server_files().authority, Some(new.0.pem()));
}

#[tokio::test]
async fn jobs_get_the_operators_files_as_they_are() {
    let (ours, clients) = (Signer::new("ours"), Signer::new("clients"));
    let (text, me) = (
        format!("# of the house\n{}", ours.0.pem()),
        clients.signs("me"),
    );
    let client = Client::new(Settings {
        server_tls: ServerTls {
            client: Some(showing(&me)),
            ..trusting(std::slice::from_ref(&text))
        },
        ..settings("https://gitlab.example")
    });
    let files = client.unwrap().server_files();
    assert_eq!(files.authority.as_ref(), Some(&text));
    let shown = files.client.as_ref().unwrap();
    assert_eq!(shown.certificate, me.0.pem());
    assert_eq!(shown.key.expose_secret(), me.1.serialize_pem());
    let key = me.1.serialize_pem();
    let secret = files.secret_lines();
    assert!(
        !secret.is_empty() && secret.iter().all(|line| key.contains(line)),
        "{}",
        secret.len()
    );
    assert!(!secret.iter().any(|line| line.contains("-----")));
    let shown = format!("{files:?} {:?}", me.0.pem().len());
    assert!(!secret.iter().any(|line| shown.contains(line)), "{shown}");
    assert!(client_without_tls().server_files().authority.is_none());
}

fn client_without_tls() -> Client {
    client("http://gitlab.example")
}

#[test]
fn the_chain_for_jobs_ends_at_the_root_and_holds_nothing_else() {
    let root = Signer::new("root");
    let middle = root.below("middle");
    let leaf = middle.signs("gitlab.example");
    let (stranger, other_root) = (Signer::new("stranger"), Signer::new("other root"));
    let sent = [&stranger, &middle].map(|signer| signer.0.der().clone());
    let roots = [&other_root, &root].map(|signer| signer.0.der().clone());
    let found = trust::chain(leaf.0.der(), &sent, &roots).unwrap();
    let expected = [leaf.0.pem(), middle.0.pem(), root.0.pem()].concat();
    assert_eq!(found, expected.replace("\r\n", "\n"));
    assert_eq!(trust::chain(leaf.0.der(), &sent, &roots[..1]), None);
}

//! Registries with TLS: whose certificates are accepted, which are shown, and what is said where they are not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// One that signs others.
struct Authority(rcgen::Certificate, Issuer<'static, KeyPair>);

/// A certificate with its key.
struct Signed(rcgen::Certificate, KeyPair);

impl Authority {
    fn new(name: &str) -> Self {
        let (mut params, key) = (authority(Vec::new()), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, name);
        Self(params.self_signed(&key).unwrap(), Issuer::new(params, key))
    }

    fn signs(&self, name: &str) -> Signed {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Signed(params.signed_by(&key, &self.1).unwrap(), key)
    }
}

fn authority(names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// What stands before a registry; it demands a certificate signed by `clients`, where given. Answers its address.
async fn front(registry: &Registry, own: &Signed, clients: Option<&Authority>) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(own.1.serialize_der()).into();
    let config = config.with_single_cert(vec![own.0.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let behind = registry.address.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let mut outer = acceptor.accept(stream).await?;
                let mut inner = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    address
}

/// A folder that has `certs.d`, with these files for the registry.
fn kept(address: &str, files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("certs.d").join(address);
    std::fs::create_dir_all(&own).unwrap();
    for (name, text) in files {
        std::fs::write(own.join(name), text).unwrap();
    }
    folder
}

/// The repository's tags, asked for with a login and what is kept in the folder.
async fn tags(address: &str, folder: &Path) -> Result<Vec<String>, String> {
    let certificates = Certificates::read(address, [folder.to_owned()]).unwrap();
    let remote = Remote::parse(&format!("{address}/{REPOSITORY}")).unwrap();
    let login = password(PASSWORD);
    let client = Client::new(&remote, login, certificates, Access::Read, false).unwrap();
    let tags = client.tags().await;
    tags.map_err(|problem| problem.to_string().replace(address, "REGISTRY"))
}

#[tokio::test]
async fn a_certificate_is_accepted_if_its_signer_is_kept_as_for_docker() {
    let registry = Registry::start(Guard::Basic).await;
    registry.plugin("1.0.0", b"wasm");
    let (ours, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let address = front(&registry, &ours.signs("127.0.0.1"), None).await;
    // Several, as Docker reads all of them.
    let files = [("a.crt", stranger.0.pem()), ("ca.crt", ours.0.pem())];
    let folder = kept(&address, &files);
    assert_eq!(
        tags(&address, folder.path()).await,
        Ok(vec!["1.0.0".to_owned()])
    );
    let folder = kept(&address, &files[..1]);
    let untrusted = tags(&address, folder.path()).await.unwrap_err();
    // One that took the name of the right one, or had it before.
    let twin = kept(&address, &[("ca.crt", Authority::new("ours").0.pem())]);
    assert_eq!(tags(&address, twin.path()).await.unwrap_err(), untrusted);
    insta::assert_snapshot!(untrusted, @"registry REGISTRY has a certificate that is signed by nobody whom this machine trusts; next: put the certificate of its CA into /etc/docker/certs.d/REGISTRY/ca.crt, as for Docker, or name a bundle with SSL_CERT_FILE");

    let elsewhere = front(&registry, &ours.signs("r.example"), None).await;
    let folder = kept(&elsewhere, &[("ca.crt", ours.0.pem())]);
    let other_name = tags(&elsewhere, folder.path()).await.unwrap_err();
    insta::assert_snapshot!(other_name, @r#"registry REGISTRY has a certificate that does not hold: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("r.example"); next: ask its keeper for one that does"#);

    let key = KeyPair::generate().unwrap();
    let own = authority(vec!["127.0.0.1".to_owned()]);
    let own = Signed(own.self_signed(&key).unwrap(), key);
    let address = front(&registry, &own, None).await;
    let folder = kept(&address, &[("ca.crt", own.0.pem())]);
    let ca = tags(&address, folder.path()).await.unwrap_err();
    insta::assert_snapshot!(ca, @"registry REGISTRY has a certificate that does not hold: it is a CA's own, and no server's; next: ask its keeper for one that does");
}

#[tokio::test]
async fn a_registry_that_asks_who_we_are_is_shown_what_is_kept_as_for_docker() {
    let registry = Registry::start(Guard::Basic).await;
    let (ours, clients) = (Authority::new("ours"), Authority::new("theirs"));
    let address = front(&registry, &ours.signs("127.0.0.1"), Some(&clients)).await;
    let me = clients.signs("me");
    let files = [
        ("ca.crt", ours.0.pem()),
        ("client.cert", me.0.pem()),
        ("client.key", me.1.serialize_pem()),
    ];
    let folder = kept(&address, &files);
    assert_eq!(tags(&address, folder.path()).await, Ok(Vec::new()));
    let folder = kept(&address, &files[..1]);
    let not_known = tags(&address, folder.path()).await.unwrap_err();
    insta::assert_snapshot!(not_known, @"registry REGISTRY refused the connection (CertificateRequired); next: if it wants a client certificate, put client.cert and client.key into /etc/docker/certs.d/REGISTRY, as for Docker");
}

#[tokio::test]
async fn tls_and_plain_http_that_meet_the_other_say_so() {
    let registry = Registry::start(Guard::Nobody).await;
    let folder = kept(
        &registry.address,
        &[("ca.crt", Authority::new("ours").0.pem())],
    );
    let no_tls = tags(&registry.address, folder.path()).await.unwrap_err();
    insta::assert_snapshot!(no_tls, @"registry REGISTRY does not speak TLS; next: --plain-http, if it may be spoken to in the clear");
    registry.instead("tags/list", || {
        said(
            400,
            &[],
            "Client sent an HTTP request to an HTTPS server.\n",
        )
    });
    let plain = registry.client("", None, Access::Read);
    let not_plain = told(plain.tags().await).replace(&registry.address, "REGISTRY");
    insta::assert_snapshot!(not_plain, @"registry REGISTRY does not take plain http; next: leave --plain-http out; on loopback TLS is spoken if /etc/docker/certs.d/REGISTRY/ca.crt has the certificate of its CA");
}

#[test]
fn a_file_of_no_use_is_named() {
    let read = |files: &[(&str, String)]| {
        let folder = kept("r.example", files);
        let read = Certificates::read("r.example", [folder.path().to_owned()]);
        let told = read.map(|found| found.are_kept());
        told.map_err(|problem| {
            let folder = folder.path().display().to_string();
            problem.to_string().replace(&folder, "/etc/docker")
        })
    };
    assert_eq!(read(&[]), Ok(false));
    assert_eq!(read(&[("README", "no certificate".to_owned())]), Ok(false));
    assert_eq!(
        read(&[("ca.crt", Authority::new("ours").0.pem())]),
        Ok(true)
    );
    insta::assert_snapshot!(read(&[("ca.crt", "no PEM".to_owned())]).unwrap_err(), @"/etc/docker/certs.d/r.example/ca.crt holds no PEM certificate; next: put the CA's there as PEM, or remove the file");
    let cert = ("client.cert", Authority::new("ours").signs("me").0.pem());
    insta::assert_snapshot!(read(std::slice::from_ref(&cert)).unwrap_err(), @"/etc/docker/certs.d/r.example/client.key cannot be read: No such file or directory (os error 2); next: put it there, readable for whoever runs this");
    let key = ("client.key", "no key".to_owned());
    insta::assert_snapshot!(read(&[cert, key]).unwrap_err(), @"/etc/docker/certs.d/r.example/client.cert and the .key of the same name make no client certificate; next: both as PEM, the key not encrypted");
    let nowhere = Certificates::read("r.example", ["/nowhere".into()]);
    assert!(nowhere.is_ok_and(|found| !found.are_kept()));
}

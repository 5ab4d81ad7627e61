//! TLS as the operator wrote it for a host, against real servers with certificates of each kind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::Digest as _;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A certificate with its key.
pub(super) struct Identity {
    pem: String,
    key_pem: String,
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn sha256(&self) -> String {
        let digest = sha2::Sha256::digest(&self.der);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One that signs others.
pub(super) struct Authority {
    pub(super) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn signs(&self, name: &str) -> Identity {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        identity(&certificate, &key)
    }
}

fn self_signed(name: &str) -> Identity {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    identity(&params.self_signed(&key).unwrap(), &key)
}

fn identity(certificate: &rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        der: certificate.der().clone(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

/// Counts the requests that it understood, which is more than a connection.
pub(super) struct Secured {
    pub(super) port: u16,
    requests: Arc<AtomicUsize>,
}

impl Secured {
    /// Demands a certificate signed by `clients`, where given.
    pub(super) async fn start(identity: &Identity, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).unwrap();
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![identity.der.clone()];
        let config = config
            .with_single_cert(chain, identity.key.clone_key())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut request = vec![0; 64 << 10];
                    let Ok(1..) = stream.read(&mut request).await else {
                        return;
                    };
                    counted.fetch_add(1, Ordering::SeqCst);
                    drop(stream.write_all(OK.as_bytes()).await);
                    drop(stream.read(&mut request).await);
                });
            }
        });
        Self { port, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Asks it as `localhost`, with this `tls` table: the answer, and what the operator read.
    async fn asked(&self, tls: &str) -> (Result<Vec<u8>, Error>, String) {
        let egress = self.egress(tls);
        let url = self.url();
        let answer = match egress.answer(get(&url), RequestOptions::default()).await {
            Ok(response) => text(response).await,
            Err(problem) => Err(problem),
        };
        let told = lock(&egress.hosts)[&url].told.clone();
        (answer, told)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn egress(&self, tls: &str) -> Egress {
        let url = self.url();
        let toml = format!("http = [\"{url}\"]\nloopback = true\n{tls}");
        egress(&toml, &[("localhost", "127.0.0.1")])
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.at(name), text).unwrap();
        self.at(name)
    }
}

#[tokio::test]
async fn a_ca_of_the_operators_is_trusted_for_its_host_alone() {
    let (authority, files) = (Authority::new(), Files::new());
    let server = Secured::start(&authority.signs("localhost"), None).await;
    let (answer, told) = server.asked("").await;
    assert!(
        matches!(answer, Err(Error::TlsCertificateError)),
        "{answer:?}"
    );
    assert_eq!(
        told,
        "its certificate is signed by nobody whom this machine trusts; if its signer is meant, write \
         tls.\"localhost\" = { ca = \"/path/to/ca.pem\" }"
    );
    let ca = files.put("ca.pem", &authority.pem);
    for host in ["localhost".to_owned(), format!("LOCALHOST:{}", server.port)] {
        let (answer, told) = server
            .asked(&format!("tls.\"{host}\" = {{ ca = {ca:?} }}"))
            .await;
        assert_eq!(
            (answer.unwrap(), told),
            (b"hi".to_vec(), String::new()),
            "{host}"
        );
    }
    assert_eq!(server.requests(), 2);
    for elsewhere in ["other.example", "localhost:1"] {
        let (answer, _) = server
            .asked(&format!("tls.\"{elsewhere}\" = {{ ca = {ca:?} }}"))
            .await;
        assert!(
            matches!(answer, Err(Error::TlsCertificateError)),
            "{answer:?}"
        );
    }
    let another = files.put("another.pem", &Authority::new().pem);
    let (answer, _) = server
        .asked(&format!("tls.localhost = {{ ca = {another:?} }}"))
        .await;
    assert!(
        matches!(answer, Err(Error::TlsCertificateError)),
        "{answer:?}"
    );
    assert_eq!(
        server.requests(),
        2,
        "nothing was asked of a server that is not trusted"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_whoever_signed_it() {
    let (authority, files) = (Authority::new(), Files::new());
    let server = Secured::start(&authority.signs("other.example"), None).await;
    let ca = files.put("ca.pem", &authority.pem);
    let (answer, told) = server
        .asked(&format!("tls.localhost = {{ ca = {ca:?} }}"))
        .await;
    assert!(
        matches!(answer, Err(Error::TlsCertificateError)),
        "{answer:?}"
    );
    assert!(
        told.starts_with("its certificate is not accepted: "),
        "{told}"
    );
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_server_that_demands_a_certificate_is_given_one() {
    let (authority, files) = (Authority::new(), Files::new());
    let server = Secured::start(&authority.signs("localhost"), Some(&authority)).await;
    let ca = files.put("ca.pem", &authority.pem);
    let (answer, told) = server
        .asked(&format!("tls.localhost = {{ ca = {ca:?} }}"))
        .await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(
        told.contains(
            "if it demands a client certificate, write tls.\"localhost\" = { client_cert"
        ),
        "{told}"
    );
    let client = authority.signs("fleetling");
    let certificate = files.put("client.pem", &client.pem);
    let key = files.put("client.key", &client.key_pem);
    let both = files.put("both.pem", &format!("{}{}", client.key_pem, client.pem));
    for client in [
        format!("client_cert = {certificate:?}, client_key = {key:?}"),
        format!("client_cert = {both:?}"),
    ] {
        let tls = format!("tls.localhost = {{ ca = {ca:?}, {client} }}");
        assert_eq!(server.asked(&tls).await.0.unwrap(), b"hi", "{client}");
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_pinned_certificate_is_accepted_and_no_other() {
    let (authority, files) = (Authority::new(), Files::new());
    let (own, signed) = (self_signed("anything"), authority.signs("localhost"));
    let server = Secured::start(&own, None).await;
    let pinned = format!("tls.localhost = {{ sha256 = \"{}\" }}", own.sha256());
    assert_eq!(server.asked(&pinned).await.0.unwrap(), b"hi");
    assert_eq!(server.requests(), 1);

    let pinned = format!("tls.localhost = {{ sha256 = \"{}\" }}", signed.sha256());
    let (answer, told) = server.asked(&pinned).await;
    assert!(
        matches!(answer, Err(Error::TlsCertificateError)),
        "{answer:?}"
    );
    assert_eq!(
        told,
        format!(
            "its certificate has the SHA-256 {}, not the pinned {}; if the new one is meant, write it as sha256 of \
             tls.\"localhost\"",
            own.sha256(),
            signed.sha256()
        )
    );
    // Signed by the right one, and not the one that is meant.
    let server = Secured::start(&authority.signs("localhost"), None).await;
    let ca = files.put("ca.pem", &authority.pem);
    let both = |pin: &Identity| {
        format!(
            "tls.localhost = {{ ca = {ca:?}, sha256 = \"{}\" }}",
            pin.sha256()
        )
    };
    assert!(server.asked(&both(&signed)).await.0.is_err());
    assert_eq!(server.requests(), 0);
    let server = Secured::start(&signed, None).await;
    assert_eq!(server.asked(&both(&signed)).await.0.unwrap(), b"hi");
    // The one that is meant, and not signed by the right one.
    let another = files.put("ca.pem", &Authority::new().pem);
    assert_eq!(another, ca);
    assert!(server.asked(&both(&signed)).await.0.is_err());
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_closes_its_host_until_it_can() {
    let (authority, files) = (Authority::new(), Files::new());
    let server = Secured::start(&authority.signs("localhost"), None).await;
    let ca = files.at("ca.pem");
    let tls = format!("tls.localhost = {{ ca = {ca:?} }}");
    let egress = server.egress(&tls);
    let ask = || egress.answer(get(&server.url()), RequestOptions::default());
    let closed = |why: &str| {
        format!(
            "localhost is closed, because of its `tls`: {}: {why}; next: correct the file, or what names it",
            ca.display()
        )
    };
    let missing = closed("No such file or directory (os error 2)");
    assert_eq!(egress.policy().problems().join("\n"), missing);
    let answer = ask().await;
    assert!(
        matches!(answer, Err(Error::ConfigurationError)),
        "{answer:?}"
    );
    assert_eq!(lock(&egress.hosts)[&server.url()].told, missing);

    files.put("ca.pem", "-----BEGIN NOTHING-----");
    egress.reread().await;
    assert_eq!(
        egress.policy().problems(),
        [closed("it holds no PEM certificate")]
    );
    assert!(ask().await.is_err());

    files.put("ca.pem", &authority.pem);
    egress.reread().await;
    assert!(egress.policy().problems().is_empty());
    assert_eq!(text(ask().await.unwrap()).await.unwrap(), b"hi");

    // A connection that was made under the old file serves nothing under the new.
    files.put("ca.pem", &Authority::new().pem);
    egress.reread().await;
    let answer = ask().await;
    assert!(
        matches!(answer, Err(Error::TlsCertificateError)),
        "{answer:?}"
    );
}

#[test]
fn a_key_that_is_none_or_anothers_is_told_by_its_file_and_not_quoted() {
    let (authority, files) = (Authority::new(), Files::new());
    let (client, other) = (authority.signs("fleetling"), authority.signs("other"));
    let certificate = files.put("client.pem", &client.pem);
    let problem = |key: &str| {
        let key = files.put("client.key", key);
        let toml =
            format!("tls.localhost = {{ client_cert = {certificate:?}, client_key = {key:?} }}");
        policy(&toml).problems().remove(0)
    };
    let none = problem("s3cret");
    assert!(
        none.contains("client.key: it holds no PEM private key"),
        "{none}"
    );
    assert!(!none.contains("s3cret"));
    let anothers = problem(&other.key_pem);
    assert!(anothers.contains("do not belong together"), "{anothers}");
}

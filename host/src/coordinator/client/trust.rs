//! Whom a connection to GitLab trusts, and the chain of certificates that GitLab was last believed by.
//!
//! | written | accepted |
//! |---|---|
//! | nothing | a certificate for GitLab's name, signed by one of the machine's roots |
//! | `tls-ca-file` | the same, or signed by one in that file, or in that file itself |
//!
//! The last is what people make of a server that signed its own certificate, or copy from one.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::config::server_tls::ServerTls;

/// How TLS is spoken with GitLab at `host`, and what watches whom it is spoken with.
pub(super) fn client_config(
    host: &str,
    tls: &ServerTls,
) -> Result<(ClientConfig, Arc<Witness>), String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let witness = Arc::new(Witness::new(host, tls, &provider)?);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|problem| problem.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone());
    let identity = tls.client.as_ref();
    let identity = identity.and_then(|client| Some((client.chain(), client.private_key()?)));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|problem| format!("tls-cert-file and tls-key-file: {problem}"))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, witness))
}

/// Judges certificates, and remembers whom it believed.
#[derive(Debug)]
pub(super) struct Witness {
    /// A proxy that is spoken to with TLS is judged here, too, and is not GitLab.
    gitlab: ServerName<'static>,
    roots: Arc<WebPkiServerVerifier>,
    /// The operator's file.
    named: Vec<CertificateDer<'static>>,
    believed: Mutex<Option<Believed>>,
}

#[derive(Debug)]
struct Believed {
    certificate: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    /// In PEM, once it was asked for.
    chain: Option<String>,
}

impl Witness {
    fn new(host: &str, tls: &ServerTls, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let gitlab = ServerName::try_from(address);
        let gitlab =
            gitlab.map_err(|_| format!("{host} is no name that a certificate could be for"))?;
        let authority = tls.authority.as_ref();
        let named = authority.map_or_else(Vec::new, |authority| authority.certificates.clone());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(named.iter().cloned());
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let roots = roots.build().map_err(|_| {
            "this machine trusts nobody; next: install its CA certificates (ca-certificates), or name GitLab's with \
             tls-ca-file"
        })?;
        Ok(Self {
            gitlab,
            roots,
            named,
            believed: Mutex::default(),
        })
    }

    /// What GitLab showed when it was last believed, completed by the machine's root, in PEM. `None` before.
    pub(super) fn chain(&self) -> Option<String> {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = believed.as_mut()?;
        if believed.chain.is_none() {
            let roots = rustls_native_certs::load_native_certs().certs;
            believed.chain = chain(&believed.certificate, &believed.intermediates, &roots);
        }
        believed.chain.clone()
    }
}

fn is_about_signer(problem: &Error) -> bool {
    match problem {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => true,
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
        }
        _ => false,
    }
}

/// From the server's certificate to one of the roots; whatever else the server sent is left out.
pub(super) fn chain(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Option<String> {
    let known = |root| Some((root, anchor_from_trusted_cert(root).ok()?));
    let (roots, anchors): (Vec<&CertificateDer<'_>>, Vec<TrustAnchor<'_>>) =
        roots.iter().filter_map(known).unzip();
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let leaf = EndEntityCert::try_from(certificate).ok()?;
    let path = leaf.verify_for_usage(
        algorithms.all,
        &anchors,
        intermediates,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    let path = path.ok()?;
    let mut pem = pem(certificate);
    for intermediate in path.intermediate_certificates() {
        pem.push_str(&self::pem(&intermediate.der()));
    }
    let root = anchors.iter().position(|anchor| anchor == path.anchor())?;
    pem.push_str(&self::pem(roots[root]));
    Some(pem)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self
            .roots
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        let is_gitlab = *name == self.gitlab;
        let judged = match judged {
            // Named itself, it needs no signer. Its time was looked at before.
            Err(problem)
                if is_gitlab && is_about_signer(&problem) && self.named.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                ServerCertVerified::assertion()
            }
            judged => judged?,
        };
        if !is_gitlab {
            return Ok(judged);
        }
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = believed.as_ref().is_some_and(|known| {
            known.certificate == *certificate && known.intermediates == intermediates
        });
        if !is_known {
            *believed = Some(Believed {
                certificate: certificate.clone().into_owned(),
                intermediates: intermediates
                    .iter()
                    .map(|one| one.clone().into_owned())
                    .collect(),
                chain: None,
            });
        }
        Ok(judged)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}

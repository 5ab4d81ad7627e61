//! Whom a plugin's connections trust, host by host: the machine's roots, and what the operator wrote beside them.
//!
//! | written | accepted |
//! |---|---|
//! | nothing, or `client_cert` alone | a certificate for the name, signed by one of the machine's roots |
//! | `ca` | the same, or signed by one in that file |
//! | `sha256` | exactly that certificate, whoever signed it |
//! | `ca` and `sha256` | exactly that certificate, and only if it is signed |
//!
//! Invariants: the server proves that it holds the certificate's key whatever is written; a file that cannot be used
//! closes its host, and never falls back to less.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;
use sha2::Digest as _;

use crate::plugin::grants::{CertificateDigest, ClientCertificate, Target, Tls};
use crate::plugin::secrets::read_regular;
use crate::tls::refuses_client;

/// Reads the files that `tls` names. The problem says which file and why.
pub(super) fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = match &tls.ca {
        Some(file) => certificates(file)?,
        None => Vec::new(),
    };
    let chain = if tls.sha256.is_some() && tls.ca.is_none() {
        None
    } else {
        let verifier = Verifier::new_with_extra_roots(roots, provider.clone());
        Some(verifier.map_err(|problem| {
            let ca = tls
                .ca
                .as_deref()
                .unwrap_or(Path::new("the machine's roots"));
            format!("{}: {problem}", ca.display())
        })?)
    };
    let judge = Judge {
        chain,
        pin: tls.sha256,
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|problem| problem.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge));
    let mut config = match &tls.client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = identity(client)?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|problem| {
                    format!(
                        "{} and {} do not belong together: {problem}",
                        client.certificate.display(),
                        client.key.display()
                    )
                })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    read_regular(file).map_err(|problem| format!("{}: {problem}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(format!("{}: it holds no PEM certificate", file.display())),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(client: &ClientCertificate) -> Result<Identity, String> {
    let chain = certificates(&client.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&client.key)?).map_err(|_| {
        format!(
            "{}: it holds no PEM private key that is not encrypted",
            client.key.display()
        )
    })?;
    Ok((chain, key))
}

/// The certificate is not the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("its certificate has the SHA-256 {found}, not the pinned {wanted}")]
struct NotPinned {
    found: CertificateDigest,
    wanted: CertificateDigest,
}

/// Accepts the pinned certificate, one with a chain to a root, or what is both.
#[derive(Debug)]
struct Judge {
    chain: Option<Verifier>,
    pin: Option<CertificateDigest>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(wanted) = self.pin {
            let found = CertificateDigest(sha2::Sha256::digest(end_entity).into());
            if found != wanted {
                let problem = OtherError(Arc::new(NotPinned { found, wanted }));
                return Err(CertificateError::Other(problem).into());
            }
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// Why a handshake failed, and what the operator writes under the plugin's name; `None` where that is not known.
pub(super) fn told(problem: &rustls::Error, target: &Target) -> Option<String> {
    let host = &target.name;
    match problem {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(format!(
            "its certificate is signed by nobody whom this machine trusts; if its signer is meant, write \
             tls.\"{host}\" = {{ ca = \"/path/to/ca.pem\" }}"
        )),
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            let pin: &NotPinned = other.downcast_ref()?;
            Some(format!(
                "{pin}; if the new one is meant, write it as sha256 of tls.\"{host}\""
            ))
        }
        rustls::Error::InvalidCertificate(problem) => {
            Some(format!("its certificate is not accepted: {problem}"))
        }
        rustls::Error::AlertReceived(alert) if refuses_client(*alert) => Some(format!(
            "it refused the connection ({alert:?}); if it demands a client certificate, write \
             tls.\"{host}\" = {{ client_cert = \"…\", client_key = \"…\" }}"
        )),
        _ => None,
    }
}

//! What GitLab is reached with by TLS beside the machine's own roots: what the files of `tls-ca-file`, `tls-cert-file` and
//! `tls-key-file` hold. Reading them is the caller's.

use std::fmt;
use std::path::PathBuf;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};

/// Nothing of it by default.
#[derive(Clone, Debug, Default)]
pub struct ServerTls {
    pub authority: Option<Authority>,
    pub client: Option<ClientCertificate>,
    /// Where a file is found without being named; for messages.
    pub default_authority: Option<PathBuf>,
}

/// Whose signatures are accepted beside those that the machine knows, or the server's certificate itself.
#[derive(Clone)]
pub struct Authority {
    pub file: PathBuf,
    /// All of the file, which jobs get.
    pub pem: String,
    /// Those of it that can be read; at least one.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// What is shown to a GitLab that asks who we are.
#[derive(Clone)]
pub struct ClientCertificate {
    pub file: PathBuf,
    pub pem: String,
    pub key_file: PathBuf,
    pub key: SecretString,
}

/// A file's text is of no use, by whose fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    Certificate,
    Key,
    /// Each is good for itself.
    Pair,
}

impl Authority {
    /// `None` if no certificate is in the text; others of its parts are passed over, as Go does.
    pub fn parse(file: PathBuf, pem: String) -> Option<Self> {
        let usable = |found: &CertificateDer<'static>| {
            let mut store = RootCertStore::empty();
            store.add(found.clone()).is_ok()
        };
        let certificates: Vec<_> = certificates(&pem).into_iter().filter(usable).collect();
        (!certificates.is_empty()).then_some(Self {
            file,
            pem,
            certificates,
        })
    }
}

impl ClientCertificate {
    /// Only a key that belongs to the certificate.
    pub fn parse(
        file: PathBuf,
        pem: String,
        key_file: PathBuf,
        key: SecretString,
    ) -> Result<Self, Unusable> {
        let client = Self {
            file,
            pem,
            key_file,
            key,
        };
        if client.chain().is_empty() {
            return Err(Unusable::Certificate);
        }
        let key = client.private_key().ok_or(Unusable::Key)?;
        let key = any_supported_type(&key).map_err(|_| Unusable::Key)?;
        match CertifiedKey::new(client.chain(), key).keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(client),
            Err(Error::InconsistentKeys(_)) => Err(Unusable::Pair),
            Err(_) => Err(Unusable::Certificate),
        }
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        certificates(&self.pem)
    }

    /// `None` of one that never passed [`Self::parse`].
    pub fn private_key(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.expose_secret().as_bytes()).ok()
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes());
    found.filter_map(Result::ok).collect()
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.file).finish()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("file", &self.file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

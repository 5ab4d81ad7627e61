//! TLS before GitLab: a certificate of the lab's own authority, and a demand for one of that authority's from everybody.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::serve::Listener;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::registry::openssl;

/// The files of the lab's authority, and of what it signed.
#[derive(Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Made in a folder of their own, for a server with this address.
    pub(super) async fn make(folder: PathBuf, server: &SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        let signed =
            format!("{new} -CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE");
        let ip = server.ip();
        for arguments in [
            format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"),
            format!(
                "{signed} -subj /CN=gitlab -keyout server.key -out server.pem -addext subjectAltName=IP:{ip}"
            ),
            format!("{signed} -subj /CN=manager -keyout client.key -out client.pem"),
        ] {
            openssl(&folder, &arguments).await?;
        }
        Ok(Self { folder })
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// What the manager may show.
    pub fn client(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }

    fn acceptor(&self) -> Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority())?)?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(
                    self.folder.join("server.pem"),
                )?],
                PrivateKeyDer::from_pem_file(self.folder.join("server.key"))?,
            )?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Connections whose handshake is done; one that dawdles keeps no other waiting.
pub(super) struct Front {
    address: SocketAddr,
    done: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl Front {
    pub(super) fn before(listener: TcpListener, certificates: &Certificates) -> Result<Self> {
        let address = listener.local_addr()?;
        let acceptor = certificates.acceptor().context("the lab's certificates")?;
        let (sender, done) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = sender.closed() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, from)) = accepted else {
                    continue;
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        // Nobody is left to serve it once the server has ended.
                        let _ = sender.send((stream, from)).await;
                    }
                });
            }
        });
        Ok(Self { address, done })
    }
}

impl Listener for Front {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

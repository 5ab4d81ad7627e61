//! Another way to the cloud, which counts who comes and can be closed while the cloud itself stays as it is.
//!
//! ```text
//! client ──► detour ── Open ────► cloud
//!                   ├─ Silent     takes every connection and never answers
//!                   └─ Shut       hangs up
//! ```
//!
//! A change holds for connections that stand already, not for new ones alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cloud::Cloud;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    Silent,
    Shut,
}

/// It ends with this struct.
pub struct Detour {
    pub endpoint: String,
    /// The cloud's own endpoint.
    pub(crate) around: String,
    connections: Arc<AtomicUsize>,
    way: watch::Sender<Way>,
    listening: tokio::task::JoinHandle<()>,
}

impl Detour {
    /// Open to begin with.
    pub async fn to(cloud: &Cloud) -> Result<Self> {
        let around = cloud.access.endpoint.clone();
        let cloud: SocketAddr = around.replace("http://", "").parse()?;
        let listener = TcpListener::bind(SocketAddr::new(cloud.ip(), 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let connections = Arc::new(AtomicUsize::new(0));
        let (way, watched) = watch::channel(Way::Open);
        let counted = Arc::clone(&connections);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(client, cloud, watched.clone()));
            }
        });
        Ok(Self {
            endpoint,
            around,
            connections,
            way,
            listening,
        })
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Made so far, whatever became of them.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// One connection, until either side or the detour hangs up.
async fn carry(mut client: TcpStream, cloud: SocketAddr, mut way: watch::Receiver<Way>) {
    let both = async {
        let mut cloud = TcpStream::connect(cloud).await?;
        tokio::io::copy_bidirectional(&mut client, &mut cloud).await
    };
    tokio::select! {
        biased;
        closed = way.wait_for(|way| *way != Way::Open) => {
            if closed.is_err() {
                return;
            }
        }
        _ = both => return,
    }
    // What was swallowed is lost: the way's opening does not bring it back, and only then is the client hung up on.
    let _ = way.wait_for(|way| *way != Way::Silent).await;
}

//! The connector: reaches instances by SSH. The only place that knows the SSH library.
//!
//! ```text
//! Connector ──route(instance, authorise)──▶ Route ──dial(within)──▶ Link (one SSH connection)
//!   settings, identity, host keys             one authorisation,      streams to Docker, commands,
//!                                             shared by all dials     a watch that tells of its loss
//! ```
//! Invariants: no key leaves this module; a host key is checked before any credential is sent; every wait is bounded.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use russh::client::{self, DisconnectReason};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::group::{
    Address, CallFailure, Connection, InstanceId, Login, ProblemKind, Protocol, Reach,
};
use super::ready::Authorise;
use crate::config::usable;
use crate::store::Store;

mod hostkey;
mod identity;
mod link;

pub use identity::{Identity, IdentityProblem};
pub use link::{Finished, Link, LinkFailure, RemoteSession, Target, Tunnel};

use hostkey::HostKeys;

/// One try at TCP, key exchange and login.
const TRY: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An authorisation that ends within this time is asked for anew.
const NEAR_ITS_END: Duration = Duration::from_secs(5);
/// How long an instance may boot before its operator is told what it is waited for.
const SILENCE: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(3);
/// The library gives up at the interval after this many: with 2, after three intervals of silence.
const KEEPALIVE_MAX: usize = 2;

/// Why an instance could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialFailure {
    #[error("the provider gave no connection details: {0}")]
    NoConnection(CallFailure),
    #[error("the provider lists no address for instance {0}")]
    NoAddress(InstanceId),
    #[error(
        "no user name for instance {0}: the provider gave none; set `username` in connector_config"
    )]
    NoUsername(InstanceId),
    #[error("protocol winrm of instance {0} is not supported; set `protocol = \"ssh\"`")]
    NotSsh(InstanceId),
    #[error("{0}")]
    HostKey(String),
    #[error(
        "{user}@{address} refused the login; check `username`, and that the instance takes the key of this manager"
    )]
    LoginRefused { user: String, address: String },
    #[error("cannot reach {address}: {why}")]
    Unreachable { address: String, why: String },
}

impl DialFailure {
    /// Whether a booting instance may answer otherwise in a moment.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoConnection(CallFailure::Refused(problem)) => !matches!(
                problem.kind,
                ProblemKind::Unauthenticated
                    | ProblemKind::Forbidden
                    | ProblemKind::InvalidConfig
                    | ProblemKind::Unsupported
            ),
            Self::NoConnection(_)
            | Self::NoAddress(_)
            | Self::LoginRefused { .. }
            | Self::Unreachable { .. } => true,
            Self::NoUsername(_) | Self::NotSsh(_) | Self::HostKey(_) => false,
        }
    }
}

/// How the instances of one group are reached.
pub struct Connector {
    settings: usable::Connector,
    identity: Option<Identity>,
    host_keys: HostKeys,
}

impl Connector {
    /// `identity` is absent where a password alone is used.
    pub fn new(settings: usable::Connector, identity: Option<Identity>, store: Store) -> Arc<Self> {
        Arc::new(Self {
            settings,
            identity,
            host_keys: HostKeys::new(store),
        })
    }

    /// How long a fresh instance may take to answer.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The way to one instance; dials made over it share one authorisation.
    pub fn route(self: &Arc<Self>, instance: InstanceId, authorise: Arc<dyn Authorise>) -> Route {
        Route {
            connector: Arc::clone(self),
            instance,
            authorise,
            details: Mutex::new(None),
        }
    }

    /// Forgets the host key of an instance that no longer exists.
    pub fn forget(&self, instance: &InstanceId) {
        self.host_keys.forget(instance);
    }

    fn ssh(&self) -> Arc<client::Config> {
        let mut config = client::Config {
            keepalive_interval: Some(self.settings.keepalive.unwrap_or(KEEPALIVE)),
            keepalive_max: KEEPALIVE_MAX,
            ..client::Config::default()
        };
        config.preferred.cipher = vec![
            russh::cipher::AES_256_GCM,
            russh::cipher::AES_128_GCM,
            russh::cipher::CHACHA20_POLY1305,
        ]
        .into();
        Arc::new(config)
    }
}

/// The way to one instance.
pub struct Route {
    connector: Arc<Connector>,
    instance: InstanceId,
    authorise: Arc<dyn Authorise>,
    /// What the provider said last; held while it is asked, so that many dials ask once.
    details: Mutex<Option<Connection>>,
}

impl Route {
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Where the instance is, as the provider said for the last dial; it is asked again if that no longer holds.
    pub async fn addresses(&self) -> Result<Vec<Address>, DialFailure> {
        self.details().await.map(|details| details.addresses)
    }

    /// Dials with back-off until it succeeds or `within` has passed. Dropping the future abandons the dial.
    pub async fn dial(&self, within: Duration) -> Result<Link, DialFailure> {
        let begun = Instant::now();
        let until = begun + within;
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let failure = match self.once(until).await {
                Ok(link) => return Ok(link),
                Err(failure) => failure,
            };
            if !failure.may_pass() || Instant::now() + pause >= until {
                return Err(failure);
            }
            if !told && begun.elapsed() > SILENCE {
                told = true;
                warn!(instance = %self.instance, reason = %failure, until = ?within, "instance is not reached yet");
            }
            debug!(instance = %self.instance, reason = %failure, ?pause, "dial failed, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, until: Instant) -> Result<Link, DialFailure> {
        let details = self.details().await?;
        let result = self.connect(&details, until).await;
        if let Err(DialFailure::LoginRefused { .. } | DialFailure::Unreachable { .. }) = &result {
            // The address may be new and the authorisation old: ask again before the next try.
            *self.details.lock().await = None;
        }
        result
    }

    async fn details(&self) -> Result<Connection, DialFailure> {
        let mut kept = self.details.lock().await;
        if let Some(details) = kept.as_ref()
            && is_fresh(details, SystemTime::now())
        {
            return Ok(details.clone());
        }
        let details = self
            .authorise
            .connect_info()
            .await
            .map_err(DialFailure::NoConnection)?;
        *kept = Some(details.clone());
        Ok(details)
    }

    async fn connect(&self, details: &Connection, until: Instant) -> Result<Link, DialFailure> {
        let settings = &self.connector.settings;
        let protocol = settings.protocol.or(details.protocol);
        if protocol.is_some_and(|p| p != Protocol::Ssh) {
            return Err(DialFailure::NotSsh(self.instance.clone()));
        }
        let address = choose(&details.addresses, settings.use_external_addr)
            .ok_or_else(|| DialFailure::NoAddress(self.instance.clone()))?;
        let port = port(settings.protocol_port, address.port);
        let user = settings
            .username
            .clone()
            .or_else(|| details.username.clone())
            .ok_or_else(|| DialFailure::NoUsername(self.instance.clone()))?;
        let shown = format!("{}:{port}", address.host);
        let unreachable = |why: String| DialFailure::Unreachable {
            address: shown.clone(),
            why,
        };

        let deadline = (Instant::now() + TRY).min(until);
        let attempt = async {
            let (lost, watch_loss) = watch::channel(None);
            let (refusal, refused) = watch::channel(None);
            let guard = Guard {
                connector: Arc::clone(&self.connector),
                instance: self.instance.clone(),
                given: details.host_keys.clone(),
                refusal,
                lost,
            };
            let (stream, half_dialled) = connect(&address.host, port)
                .await
                .map_err(|e| unreachable(e.to_string()))?;
            let connected = client::connect_stream(self.connector.ssh(), stream, guard).await;
            let mut handle = match connected {
                Ok(handle) => handle,
                Err(error) => {
                    let refused = refused.borrow().clone();
                    return Err(refused
                        .map_or_else(|| unreachable(error.to_string()), DialFailure::HostKey));
                }
            };
            if !self
                .log_in(&mut handle, &user, &details.login)
                .await
                .map_err(|e| unreachable(e.to_string()))?
            {
                return Err(DialFailure::LoginRefused {
                    user,
                    address: shown.clone(),
                });
            }
            let mut link = Link::new(handle, watch_loss);
            link.note_session().await;
            half_dialled.complete();
            Ok(link)
        };
        tokio::time::timeout_at(deadline, attempt)
            .await
            .unwrap_or_else(|_| Err(unreachable("no answer in time".into())))
    }

    async fn log_in(
        &self,
        handle: &mut client::Handle<Guard>,
        user: &str,
        login: &Login,
    ) -> Result<bool, russh::Error> {
        if let Some(identity) = &self.connector.identity {
            let hash = if identity.is_rsa() {
                handle.best_supported_rsa_hash().await?.flatten()
            } else {
                None
            };
            let key = PrivateKeyWithHashAlg::new(identity.private(), hash);
            if handle.authenticate_publickey(user, key).await?.success() {
                return Ok(true);
            }
        }
        let password = match (&self.connector.settings.password, login) {
            (Some(password), _) => password.expose_secret(),
            (None, Login::Password(password)) => password.0.as_str(),
            (None, _) => return Ok(false),
        };
        Ok(handle
            .authenticate_password(user, password)
            .await?
            .success())
    }
}

/// Hangs up when it is dropped before the dial is whole: the library's own task would hold a connection open for as long
/// as the key exchange lasts, which a silent instance never ends.
struct HalfDialled(Option<std::net::TcpStream>);

impl HalfDialled {
    fn complete(mut self) {
        self.0 = None;
    }
}

impl Drop for HalfDialled {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            // One that is closed already needs no more.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

async fn connect(host: &str, port: u16) -> io::Result<(TcpStream, HalfDialled)> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let half_dialled = HalfDialled(Some(stream.try_clone()?));
    Ok((TcpStream::from_std(stream)?, half_dialled))
}

fn is_fresh(details: &Connection, now: SystemTime) -> bool {
    details
        .valid_until
        .is_none_or(|end| end > now + NEAR_ITS_END)
}

/// The operator's port, else the provider's, else the protocol's own; 0 is none, as older plugins say it.
fn port(configured: Option<u16>, provided: Option<u16>) -> u16 {
    let given = |port: &u16| *port != 0;
    configured
        .filter(given)
        .or(provided.filter(given))
        .unwrap_or(22)
}

/// The address of the wanted reach, else the first there is.
fn choose(addresses: &[Address], external: bool) -> Option<&Address> {
    let wanted = if external {
        Reach::External
    } else {
        Reach::Internal
    };
    addresses
        .iter()
        .find(|address| address.reach == wanted)
        .or_else(|| addresses.first())
}

/// Judges the host key and tells of the connection's end.
pub(crate) struct Guard {
    connector: Arc<Connector>,
    instance: InstanceId,
    given: Vec<String>,
    refusal: watch::Sender<Option<String>>,
    lost: watch::Sender<Option<String>>,
}

impl client::Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = presented else {
            return Ok(false);
        };
        match self
            .connector
            .host_keys
            .check(&self.instance, key, &self.given)
        {
            Ok(()) => Ok(true),
            Err(why) => {
                self.refusal.send_replace(Some(why));
                Ok(false)
            }
        }
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        let (why, result) = match reason {
            DisconnectReason::ReceivedDisconnect(_) => {
                ("the instance closed the connection".to_owned(), Ok(()))
            }
            DisconnectReason::Error(error) => (error.to_string(), Err(error)),
        };
        self.lost.send_replace(Some(why));
        result
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use async_trait::async_trait;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// An instance that listens here.
    struct Here(u16);

    #[async_trait]
    impl Authorise for Here {
        async fn connect_info(&self) -> Result<Connection, CallFailure> {
            let here = Address {
                port: Some(self.0),
                ..address(Reach::Internal, "127.0.0.1")
            };
            Ok(Connection {
                os: None,
                arch: None,
                protocol: None,
                username: Some("ec2-user".into()),
                login: Login::PublicKey,
                addresses: vec![here],
                host_keys: vec![],
                valid_until: None,
            })
        }
    }

    fn connector() -> Arc<Connector> {
        let settings = usable::Connector {
            os: None,
            arch: None,
            protocol: None,
            protocol_port: None,
            username: None,
            password: None,
            key_path: None,
            use_static_credentials: false,
            keepalive: None,
            timeout: TRY,
            use_external_addr: false,
        };
        Connector::new(settings, None, Store::in_memory())
    }

    /// Before the server has said who it is, and in the midst of the key exchange.
    #[tokio::test]
    async fn a_dial_that_is_given_up_hangs_up() {
        for said in ["", "SSH-2.0-slow\r\n"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let here = Arc::new(Here(listener.local_addr().unwrap().port()));
            let route = connector().route(InstanceId("i-1".into()), here);
            let dialling = tokio::spawn(async move { route.dial(TRY).await.map(drop) });
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let begin = if said.is_empty() { 8 } else { 64 };
            stream.read_exact(&mut vec![0; begin]).await.unwrap();
            dialling.abort();
            let mut rest = Vec::new();
            let hung_up = tokio::time::timeout(TRY / 2, stream.read_to_end(&mut rest));
            // Reset or closed, whichever.
            assert!(hung_up.await.is_ok(), "it goes on behind {said:?}");
        }
    }

    fn address(reach: Reach, host: &str) -> Address {
        Address {
            reach,
            host: host.into(),
            port: None,
        }
    }

    #[test]
    fn the_wanted_reach_comes_first_and_the_only_one_will_do() {
        let both = [
            address(Reach::Internal, "10.0.0.1"),
            address(Reach::External, "192.0.2.1"),
        ];
        let host =
            |addresses: &[Address], external| choose(addresses, external).map(|a| a.host.clone());
        assert_eq!(host(&both, true).as_deref(), Some("192.0.2.1"));
        assert_eq!(host(&both, false).as_deref(), Some("10.0.0.1"));
        assert_eq!(host(&both[..1], true).as_deref(), Some("10.0.0.1"));
        assert_eq!(host(&[], true), None);
    }

    #[test]
    fn complaint_20_no_port_and_port_0_are_the_protocols_own() {
        for (configured, provided, dialled) in [
            (None, None, 22),
            (None, Some(0), 22),
            (None, Some(2222), 2222),
            (Some(0), Some(2222), 2222),
            (Some(22022), Some(2222), 22022),
            (Some(0), Some(0), 22),
        ] {
            assert_eq!(port(configured, provided), dialled);
        }
    }

    #[test]
    fn an_authorisation_near_its_end_is_asked_for_anew() {
        let now = SystemTime::now();
        let details = |valid_until| Connection {
            os: None,
            arch: None,
            protocol: None,
            username: None,
            login: Login::PublicKey,
            addresses: vec![],
            host_keys: vec![],
            valid_until,
        };
        assert!(is_fresh(&details(None), now));
        assert!(is_fresh(&details(Some(now + Duration::from_secs(30))), now));
        assert!(!is_fresh(&details(Some(now + Duration::from_secs(3))), now));
        assert!(!is_fresh(&details(Some(now - Duration::from_secs(3))), now));
    }
}

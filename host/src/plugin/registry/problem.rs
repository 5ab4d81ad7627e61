//! What goes wrong with a registry, in the operator's words: what, where, what next.

use super::artifact::NoArtifact;
use super::client::certificates::PLACE;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryProblem {
    #[error(
        "registry {registry} could not be reached: {cause}; next: check its name and the way there; proxies are read \
         from HTTPS_PROXY and NO_PROXY"
    )]
    Unreachable { registry: String, cause: String },
    #[error(
        "registry {to} has a certificate that is signed by nobody whom this machine trusts; next: put the certificate \
         of its CA into {PLACE}/{registry}/ca.crt, as for Docker, or name a bundle with SSL_CERT_FILE"
    )]
    Untrusted { to: String, registry: String },
    #[error(
        "registry {to} has a certificate that does not hold: {why}; next: ask its keeper for one that does"
    )]
    BadCertificate { to: String, why: String },
    #[error(
        "registry {to} refused the connection ({alert}); next: if it wants a client certificate, put client.cert and \
         client.key into {PLACE}/{registry}, as for Docker"
    )]
    NotKnown {
        to: String,
        alert: String,
        registry: String,
    },
    #[error(
        "registry {to} does not speak TLS; next: --plain-http, if it may be spoken to in the clear"
    )]
    NoTls { to: String },
    #[error(
        "registry {registry} does not take plain http; next: leave --plain-http out; on loopback TLS is spoken if \
         {PLACE}/{registry}/ca.crt has the certificate of its CA"
    )]
    NotPlain { registry: String },
    #[error("{what} broke off: {cause}; next: try again")]
    BrokenOff { what: String, cause: String },
    #[error(
        "registry {registry} asks for a login, and there is none; next: `docker login {registry}`"
    )]
    LoginNeeded { registry: String },
    #[error(
        "registry {registry} refuses the login from {source_name}; next: `docker login {registry}` with a login that \
         may do this"
    )]
    LoginRefused {
        registry: String,
        source_name: String,
    },
    #[error(
        "registry {registry} would send the login to {realm}, which is not https; next: ask its keeper"
    )]
    LoginExposed { registry: String, realm: String },
    #[error(
        "{what} is refused by the registry ({says}); next: ask its keeper for the right to do this"
    )]
    Forbidden { what: String, says: String },
    #[error("{what} is not there; next: check its name and tag")]
    Missing { what: String },
    #[error(
        "{what}: the registry answers {status} ({says}); next: try again later, else ask its keeper"
    )]
    Refused {
        what: String,
        status: u16,
        says: String,
    },
    #[error("{what} is larger than {limit} bytes; next: ask its publisher what it is")]
    TooLarge { what: String, limit: u64 },
    #[error(
        "{what} is not what its digest says: {expected} was expected and {found} came; next: try again, and if it \
         stays so, ask the registry's keeper who changes it"
    )]
    Changed {
        what: String,
        expected: String,
        found: String,
    },
    #[error(
        "{what} leads to {to}, where it is not followed: only https is, and at most {most} times; next: ask the \
         registry's keeper"
    )]
    Astray {
        what: String,
        to: String,
        most: usize,
    },
    #[error(
        "{what}: the registry's answer makes no sense ({why}); next: check that it is a registry"
    )]
    Senseless { what: String, why: String },
    #[error("{what}: {why}")]
    Artifact { what: String, why: NoArtifact },
    #[error("no HTTP client could be made: {0}")]
    Client(String),
}

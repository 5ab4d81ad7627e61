//! `tls-ca-file`, `tls-cert-file` and `tls-key-file`, else what lies for GitLab's host in `certs` beside `config.toml`.
//!
//! A file that is not there is passed over, as GitLab Runner does, but not silently; one that is of no use disables the
//! entry. What a file holds is never told.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Files;
use crate::config::raw::Table;
use crate::config::server_tls::{Authority, ClientCertificate, ServerTls, Unusable};
use crate::config::server_url::ServerUrl;

const CA: &str = "tls-ca-file";
const CERTIFICATE: &str = "tls-cert-file";
const KEY: &str = "tls-key-file";

/// A file that could be read, and the key that it stands for.
struct Held {
    file: PathBuf,
    text: String,
}

enum Found {
    Held(Held),
    /// What keeps it from use is said.
    Unusable,
    Nothing,
}

/// `certs` is the folder that is looked into for what no key names.
pub(super) fn server_tls(
    entry: &mut Table<'_>,
    url: Option<&ServerUrl>,
    certs: &Path,
    files: Files<'_>,
) -> ServerTls {
    let host = url.and_then(|url| url.with_login().host_str());
    let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    let default = |ending: &str| host.map(|host| certs.join(format!("{host}{ending}")));
    let authority = held(entry, CA, default(".crt"), files);
    let certificate = held(entry, CERTIFICATE, default(".auth.crt"), files);
    let key = held(entry, KEY, default(".auth.key"), files);
    ServerTls {
        authority: match authority {
            Found::Held(held) => self::authority(entry, held),
            Found::Unusable | Found::Nothing => None,
        },
        client: client(entry, certificate, key),
        default_authority: default(".crt"),
    }
}

fn held(
    entry: &mut Table<'_>,
    key: &'static str,
    default: Option<PathBuf>,
    files: Files<'_>,
) -> Found {
    let written = entry.text(key).map(PathBuf::from);
    let is_written = written.is_some();
    let Some(file) = written.or(default) else {
        return Found::Nothing;
    };
    let shown = file.display();
    match files(&file) {
        Ok(text) => return Found::Held(Held { file, text }),
        Err(why) => match why.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory if is_written => entry.warn(
                key,
                format!(
                    "{shown} is not there and the entry runs without it; put the file there, or remove the key"
                ),
            ),
            ErrorKind::NotFound | ErrorKind::NotADirectory => return Found::Nothing,
            // Binary.
            ErrorKind::InvalidData => entry.refuse(key, no_pem(key, &file)),
            _ => entry.refuse(
                key,
                format!("{shown} cannot be read: {why}; make it readable for the manager's user"),
            ),
        },
    }
    Found::Unusable
}

fn authority(entry: &Table<'_>, held: Held) -> Option<Authority> {
    let file = held.file.clone();
    let authority = Authority::parse(held.file, held.text);
    if authority.is_none() {
        entry.refuse(CA, no_pem(CA, &file));
    }
    authority
}

fn client(entry: &Table<'_>, certificate: Found, key: Found) -> Option<ClientCertificate> {
    let (certificate, key) = match (certificate, key) {
        (Found::Held(certificate), Found::Held(key)) => (certificate, key),
        (Found::Held(_), Found::Nothing) => {
            entry.warn(CERTIFICATE, without(KEY));
            return None;
        }
        (Found::Nothing, Found::Held(_)) => {
            entry.warn(KEY, without(CERTIFICATE));
            return None;
        }
        _ => return None,
    };
    let (file, key_file) = (certificate.file.clone(), key.file.clone());
    let client = ClientCertificate::parse(
        certificate.file,
        certificate.text,
        key.file,
        key.text.into(),
    );
    match client {
        Ok(client) => return Some(client),
        Err(Unusable::Certificate) => entry.refuse(CERTIFICATE, no_pem(CERTIFICATE, &file)),
        Err(Unusable::Key) => entry.refuse(KEY, no_pem(KEY, &key_file)),
        Err(Unusable::Pair) => entry.refuse(
            KEY,
            format!(
                "{} is not the key of the certificate in {}; name the two that belong together",
                key_file.display(),
                file.display()
            ),
        ),
    }
    None
}

fn without(other: &str) -> String {
    format!("has no effect without {other}; name both, or neither")
}

fn no_pem(key: &str, file: &Path) -> String {
    let (what, next) = match key {
        KEY => (
            "no private key in PEM that can be used",
            "put it there as PEM, not encrypted",
        ),
        _ => ("no certificate in PEM", "put it there as PEM"),
    };
    format!("{} holds {what}; {next}", file.display())
}

//! Whom a connection to a registry trusts beside the machine's roots: what Docker and Podman keep for that registry.
//!
//! ```text
//! certs.d/<registry>/*.crt                  roots beside the machine's, which SSL_CERT_FILE and SSL_CERT_DIR replace
//!                    NAME.cert, NAME.key    what is shown to a registry that asks who we are
//! ```
//! Looked for below `/etc/docker`, `/etc/containers`, and `docker` and `containers` in `$XDG_CONFIG_HOME` or `~/.config`:
//! where the daemons look, and those that run without root.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Identity};

/// Where one is put that every user of the machine is to trust.
pub const PLACE: &str = "/etc/docker/certs.d";

/// For one registry; none of both by default.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    pub roots: Vec<Certificate>,
    pub identity: Option<Identity>,
}

/// A file is there for this registry and of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    #[error(
        "{place} cannot be read: {problem}; next: put it there, readable for whoever runs this"
    )]
    Unreadable { place: String, problem: String },
    #[error("{file} holds no PEM certificate; next: put the CA's there as PEM, or remove the file")]
    NoCertificate { file: String },
    #[error(
        "{file} and the .key of the same name make no client certificate; next: both as PEM, the key not encrypted"
    )]
    NoIdentity { file: String },
}

impl Certificates {
    /// Those of this process and of its machine.
    pub fn of_process(registry: &str) -> Result<Self, CertificateProblem> {
        let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let own = own.or_else(|| Some(std::env::home_dir()?.join(".config")));
        let folders = std::iter::once(PathBuf::from("/etc")).chain(own);
        let folders = folders.flat_map(|folder| ["docker", "containers"].map(|of| folder.join(of)));
        Self::read(registry, folders)
    }

    /// What stands in `certs.d` of each of these folders, in their order.
    pub(super) fn read(
        registry: &str,
        folders: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self, CertificateProblem> {
        let mut found = Self::default();
        for folder in folders {
            let folder = folder.join("certs.d").join(registry);
            for file in files(&folder)? {
                match file.extension().and_then(|ending| ending.to_str()) {
                    Some("crt") => found.roots.extend(certificates(&file)?),
                    Some("cert") if found.identity.is_none() => {
                        found.identity = Some(identity(&file)?);
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Whether somebody expects TLS of this registry.
    pub fn are_kept(&self) -> bool {
        !self.roots.is_empty() || self.identity.is_some()
    }
}

/// Sorted; none if the folder is not there.
fn files(folder: &Path) -> Result<Vec<PathBuf>, CertificateProblem> {
    let unreadable = |problem| unreadable(folder, problem);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // A folder that this user may not look into holds nothing for it.
        Err(problem)
            if matches!(
                problem.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(problem) => return Err(unreadable(problem)),
    };
    let files: Result<Vec<_>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut files = files.map_err(unreadable)?;
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateProblem> {
    std::fs::read(file).map_err(|problem| unreadable(file, problem))
}

fn unreadable(place: &Path, problem: std::io::Error) -> CertificateProblem {
    CertificateProblem::Unreadable {
        place: place.display().to_string(),
        problem: problem.to_string(),
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, CertificateProblem> {
    match Certificate::from_pem_bundle(&read(file)?) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(CertificateProblem::NoCertificate {
            file: file.display().to_string(),
        }),
    }
}

fn identity(file: &Path) -> Result<Identity, CertificateProblem> {
    let mut pem = read(file)?;
    pem.push(b'\n');
    pem.extend(read(&file.with_extension("key"))?);
    // The parser's words could quote the key.
    Identity::from_pem(&pem).map_err(|_| CertificateProblem::NoIdentity {
        file: file.display().to_string(),
    })
}

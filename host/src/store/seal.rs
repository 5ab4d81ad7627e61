//! The key of a state directory, and sealing with it: AES-256-GCM, a random nonce, kind and name authenticated.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use super::{Result, StoreProblem, owner};

/// Begins every sealed record, so that a plain one is never taken for it.
const MAGIC: &[u8; 4] = b"FLS1";
const KEY_LEN: usize = 32;

/// Seals and opens records. Shows nothing of itself.
pub(super) struct Key(RandomizedNonceKey);

impl Key {
    /// The systemd credential where there is one, else the directory's own key file, which is made if missing.
    pub(super) fn load_or_create(dir: &Path, credentials: Option<&Path>) -> Result<Self> {
        if let Some(credential) = credentials.map(|dir| dir.join("fleetling-key"))
            && credential.exists()
        {
            // systemd guards its credentials itself; their mode shows group bits that are access-list masks.
            return Self::parse(&read(&credential)?, &credential);
        }
        let file = dir.join("key");
        match std::fs::metadata(&file) {
            Ok(facts) if facts.permissions().mode() & 0o077 != 0 => Err(StoreProblem(format!(
                "key file {} can be read by others (mode {:04o}); next: `chmod 600 {0}`, and replace the secrets it \
                 protected if someone else may have read it",
                file.display(),
                facts.permissions().mode() & 0o7777,
            ))),
            Ok(_) => match owner::exposure(&file).map_err(|e| unreadable(&file, &e))? {
                Some(exposure) => Err(StoreProblem(format!("key file {exposure}"))),
                None => Self::parse(&read(&file)?, &file),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => Self::create(dir, &file),
            Err(e) => Err(unreadable(&file, &e)),
        }
    }

    fn create(dir: &Path, file: &Path) -> Result<Self> {
        let mut bytes = [0u8; KEY_LEN];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| StoreProblem("no random numbers for a new key".into()))?;
        let problem = |e: &std::io::Error| {
            StoreProblem(format!(
                "cannot make key file {}: {e}; next: see that the manager's user may write there",
                file.display()
            ))
        };
        // tempfile makes files 0600.
        let mut temporary = tempfile::Builder::new()
            .prefix(super::directory::TEMPORARY)
            .tempfile_in(dir)
            .map_err(|e| problem(&e))?;
        temporary
            .write_all(&bytes)
            .and_then(|()| temporary.as_file().sync_all())
            .map_err(|e| problem(&e))?;
        temporary
            .persist_noclobber(file)
            .map_err(|e| problem(&e.error))?;
        super::directory::sync(dir)?;
        Self::parse(&bytes, file)
    }

    /// 32 bytes, raw or as 64 hexadecimal digits.
    fn parse(bytes: &[u8], from: &Path) -> Result<Self> {
        let key = if bytes.len() == KEY_LEN {
            bytes.to_vec()
        } else {
            std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| from_hex(text.trim()))
                .filter(|key| key.len() == KEY_LEN)
                .ok_or_else(|| {
                    StoreProblem(format!(
                        "key in {} is not {KEY_LEN} bytes (or {} hexadecimal digits); next: restore the key that sealed \
                         this state, or remove it together with the records beside it",
                        from.display(),
                        KEY_LEN * 2,
                    ))
                })?
        };
        RandomizedNonceKey::new(&AES_256_GCM, &key)
            .map(Self)
            .map_err(|_| StoreProblem(format!("key in {} is not usable", from.display())))
    }

    pub(super) fn seal(&self, label: &str, record: &[u8]) -> Result<Vec<u8>> {
        let mut body = record.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(label.as_bytes()), &mut body)
            .map_err(|_| StoreProblem(format!("record {label} could not be sealed")))?;
        let mut sealed = Vec::with_capacity(MAGIC.len() + NONCE_LEN + body.len());
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// `None`: it was altered, moved, cut short, or sealed with another key.
    pub(super) fn open(&self, label: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let rest = sealed.strip_prefix(MAGIC)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let length = self
            .0
            .open_in_place(nonce, Aad::from(label.as_bytes()), &mut body)
            .ok()?
            .len();
        body.truncate(length);
        Some(body)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, e: &std::io::Error) -> StoreProblem {
    StoreProblem(format!(
        "cannot read key file {}: {e}; next: see that the manager's user owns it",
        file.display()
    ))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

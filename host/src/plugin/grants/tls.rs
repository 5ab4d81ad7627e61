//! `tls` in a plugin's table: for one host a CA of the operator's, a client certificate, or the certificate itself.
//!
//! There is no way to switch checking off: a server whose certificate nobody signed is named by its digest.

use std::fmt;
use std::path::PathBuf;

use super::entry::{Name, Target, split_port};

/// The host that a table is for: `api.example.com`, or `api.example.com:8006` for that port alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsHost {
    name: Name,
    port: Option<u16>,
}

impl TlsHost {
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(['/', '?', '#', '@', '\\', '*']) {
            return None;
        }
        let (host, port) = split_port(text);
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port != 0)?)
            }
            Some(_) => return None,
        };
        Some(Self {
            name: Name::parse(host)?,
            port,
        })
    }

    /// What a request's target is looked up by: the more exact one first.
    pub fn of(target: &Target) -> [Self; 2] {
        [Some(target.port), None].map(|port| Self {
            name: target.name.clone(),
            port,
        })
    }
}

impl fmt::Display for TlsHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// What is written for one host. At least one of its parts is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file of certificates that may sign the host's, beside the machine's own.
    pub ca: Option<PathBuf>,
    pub client: Option<ClientCertificate>,
    /// The host's own certificate. Without `ca` it alone decides, whoever signed it.
    pub sha256: Option<CertificateDigest>,
}

/// PEM files of the certificate, with its chain, and of its key, which may be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// Every file it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let client = self.client.iter();
        let client = client.flat_map(|client| [&client.certificate, &client.key]);
        self.ca.iter().chain(client)
    }
}

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateDigest(pub [u8; 32]);

impl CertificateDigest {
    /// 64 hexadecimal digits, with or without colons between each two.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = if text.contains(':') {
            let mut pairs = text.split(':');
            pairs
                .all(|pair| pair.len() == 2)
                .then(|| text.replace(':', ""))?
        } else {
            text.to_owned()
        };
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (i, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_host_is_named_like_in_an_entry_without_scheme_and_wildcard() {
        let shown = |text| TlsHost::parse(text).map(|host| host.to_string());
        for (text, host) in [
            ("API.Example.com.", Some("api.example.com")),
            ("api.example.com:8006", Some("api.example.com:8006")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[fd00::1]:8006", Some("[fd00::1]:8006")),
            ("https://api.example.com", None),
            ("*.example.com", None),
            ("api.example.com:0", None),
            ("api.example.com:*", None),
            ("api.example.com/x", None),
            ("", None),
        ] {
            assert_eq!(shown(text).as_deref(), host, "{text}");
        }
        let target = Target::parse("https://api.example.com:8006").unwrap();
        let of = TlsHost::of(&target).map(|host| host.to_string());
        assert_eq!(of, ["api.example.com:8006", "api.example.com"]);
    }

    #[test]
    fn a_digest_is_read_as_tools_print_it() {
        let plain = "00ff".repeat(16);
        let colons = plain
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).unwrap().to_uppercase())
            .collect::<Vec<_>>()
            .join(":");
        let digest = CertificateDigest::parse(&plain).unwrap();
        assert_eq!(digest.to_string(), plain);
        assert_eq!(CertificateDigest::parse(&colons), Some(digest));
        for wrong in [
            "",
            "00ff",
            &plain[1..],
            &format!("{plain}0"),
            &"é".repeat(32),
            &colons[1..],
        ] {
            assert_eq!(CertificateDigest::parse(wrong), None, "{wrong}");
        }
    }
}

//! Platforms as jobs write them, `linux/arm64/v8`, by containerd's rules; pure.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    /// As Go names it: `amd64`, `arm64`. `None`: that of the instance.
    pub architecture: Option<String>,
    pub variant: Option<String>,
}

/// Systems that a word alone may name; any other word is an architecture.
const SYSTEMS: [&str; 15] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

impl Platform {
    /// `None` where there are too many parts or an empty one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let parts: Vec<_> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        let (os, architecture, variant) = match parts[..] {
            [os] if SYSTEMS.contains(&os) => (os, None, None),
            [architecture] => ("linux", Some(architecture), None),
            [os, architecture] => (os, Some(architecture), None),
            [os, architecture, variant] => (os, Some(architecture), Some(variant)),
            _ => return None,
        };
        let (architecture, implied) = match architecture {
            Some("x86_64" | "x86-64") => (Some("amd64"), None),
            Some("aarch64") => (Some("arm64"), None),
            Some("armhf") => (Some("arm"), Some("v7")),
            Some("armel") => (Some("arm"), Some("v6")),
            Some("i386") => (Some("386"), None),
            other => (other, None),
        };
        let os = if os == "macos" { "darwin" } else { os };
        Some(Self {
            os: os.to_owned(),
            architecture: architecture.map(str::to_owned),
            variant: variant.or(implied).map(str::to_owned),
        })
    }

    /// Whether an image made for `image` is what was asked for; what neither side says is no difference.
    pub(super) fn is_met_by(&self, image: &Self) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        self.os == image.os
            && !differ(&self.architecture, &image.architecture)
            && !differ(&self.variant, &image.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        for part in self.architecture.iter().chain(&self.variant) {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_containerd_does() {
        for (text, expected) in [
            ("arm64", Some("linux/arm64")),
            ("linux", Some("linux")),
            ("Linux/AMD64", Some("linux/amd64")),
            ("linux/x86_64", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("armhf", Some("linux/arm/v7")),
            ("macos/aarch64", Some("darwin/arm64")),
            ("", None),
            ("linux//v8", None),
            ("linux/arm/v7/more", None),
        ] {
            let read = Platform::parse(text).map(|platform| platform.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_image_of_another_platform_is_another_image() {
        for (asked, image, expected) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux", "linux/amd64", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm64", "linux/amd64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            let met = Platform::parse(asked)
                .zip(Platform::parse(image))
                .is_some_and(|(asked, image)| asked.is_met_by(&image));
            assert_eq!(met, expected, "{asked} {image}");
        }
    }
}

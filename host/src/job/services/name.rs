//! What a service's image is called: the names the service is found by are made of it.

/// An image's name in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageName {
    /// Registry and path, without the registry's port: `registry.example.com/group/postgres`.
    pub(super) service: String,
    /// The tag, or the digest of an image that has no tag, or `latest`.
    pub(super) version: String,
    digest: Option<String>,
}

impl ImageName {
    /// `None` if it is no image reference.
    pub(super) fn parse(image: &str) -> Option<Self> {
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return None,
            None => (image, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return None;
        }
        let service = match path.split_once('/') {
            Some((first, rest)) if rest.split('/').all(is_component) => {
                let (host, port) = first.split_once(':').unwrap_or((first, "0"));
                let is_host = is_host(host) && is_number(port);
                (is_host || is_component(first)).then(|| format!("{host}/{rest}"))?
            }
            None if is_component(path) => path.to_owned(),
            _ => return None,
        };
        let version = tag.or(digest.as_deref()).unwrap_or("latest").to_owned();
        Some(Self {
            service,
            version,
            digest,
        })
    }

    /// For the job's log: `postgres:16`, or with its digest.
    pub(super) fn title(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@{digest}", self.service),
            None => format!("{}:{}", self.service, self.version),
        }
    }

    /// The names every service has: one for each way to write a slash in a host's name.
    pub(super) fn derived(&self) -> Vec<String> {
        let mut names = vec![self.slug()];
        let hyphened = self.service.replace('/', "-");
        if !names.contains(&hyphened) {
            names.push(hyphened);
        }
        names
    }

    /// Part of its container's name.
    pub(super) fn slug(&self) -> String {
        self.service.replace('/', "__")
    }
}

/// A path component: words of small letters and digits, joined by `.`, `_`, `__` or hyphens.
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut joints = text.split(word).filter(|joint| !joint.is_empty());
    text.starts_with(word)
        && text.ends_with(word)
        && joints.all(|joint| {
            matches!(joint, "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-')
        })
}

fn is_host(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "+._-".contains(c);
        algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && algorithm.chars().all(letter)
            && hex.len() >= 32
            && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_service_has_a_name_for_each_way_to_write_a_slash() {
        let pinned = format!("group/app@{DIGEST}");
        let both = format!("app:2@{DIGEST}");
        let titles = [format!("group/app@{DIGEST}"), format!("app@{DIGEST}")];
        for (image, service, version, title, aliases) in [
            (
                "postgres",
                "postgres",
                "latest",
                "postgres:latest",
                vec!["postgres"],
            ),
            (
                "postgres:16",
                "postgres",
                "16",
                "postgres:16",
                vec!["postgres"],
            ),
            (
                "group/app:1.2-a_b",
                "group/app",
                "1.2-a_b",
                "group/app:1.2-a_b",
                vec!["group__app", "group-app"],
            ),
            (
                "Registry.example.com:5000/group/app",
                "Registry.example.com/group/app",
                "latest",
                "Registry.example.com/group/app:latest",
                vec![
                    "Registry.example.com__group__app",
                    "Registry.example.com-group-app",
                ],
            ),
            (
                "localhost:5000/app:1",
                "localhost/app",
                "1",
                "localhost/app:1",
                vec!["localhost__app", "localhost-app"],
            ),
            (
                "a--b/c__d.e",
                "a--b/c__d.e",
                "latest",
                "a--b/c__d.e:latest",
                vec!["a--b__c__d.e", "a--b-c__d.e"],
            ),
            (
                &pinned,
                "group/app",
                DIGEST,
                &titles[0],
                vec!["group__app", "group-app"],
            ),
            (&both, "app", "2", &titles[1], vec!["app"]),
        ] {
            let name = ImageName::parse(image).unwrap();
            assert_eq!(
                (name.service.as_str(), name.version.as_str()),
                (service, version),
                "{image}"
            );
            assert_eq!(name.title(), title);
            assert_eq!(name.derived(), aliases, "{image}");
        }
    }

    #[test]
    fn what_is_no_image_has_no_name() {
        let long = format!("a:{}", "t".repeat(129));
        for image in [
            "",
            " ",
            "UPPER",
            "a:",
            ":tag",
            "a b",
            "a/",
            "/a",
            "a//b",
            "a___b",
            "-a",
            "a.",
            "host:port/a",
            "a:-tag",
            "a@sha256:short",
            "a@",
            "-host/a",
            "a/B",
            &long,
        ] {
            assert_eq!(ImageName::parse(image), None, "{image:?}");
        }
    }
}

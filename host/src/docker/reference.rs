//! Image references: the tag they mean, and the credential that fits them best.

use super::stage::RegistryCredential;

/// The reference with the tag that is meant; a registry's port is none.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// The credential whose registry path is the longest prefix of the image's, path element by path element.
pub(super) fn credential<'a>(
    image: &str,
    known: &'a [RegistryCredential],
) -> Option<&'a RegistryCredential> {
    let path = repository(image);
    let fits = |key: &str| {
        path.strip_prefix(key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut best: Option<(usize, &RegistryCredential)> = None;
    for candidate in known {
        let key = normalised(&candidate.registry);
        // Of two equal ones the first source wins.
        if fits(&key) && best.is_none_or(|(length, _)| key.len() > length) {
            best = Some((key.len(), candidate));
        }
    }
    best.map(|(_, credential)| credential)
}

/// Registry and path of an image, without tag or digest; images of the hub begin with `docker.io`.
fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once('/') {
        Some((path, last)) => format!("{path}/{}", last.split(':').next().unwrap_or(last)),
        None => name.split(':').next().unwrap_or(name).to_owned(),
    };
    match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            format!("{}/{rest}", registry_host(host))
        }
        _ => format!("docker.io/{name}"),
    }
}

fn normalised(registry: &str) -> String {
    if let Some((_, rest)) = registry.split_once("://") {
        return registry_host(rest.split('/').next().unwrap_or(rest));
    }
    let key = registry.trim_matches('/');
    match key.split_once('/') {
        Some((host, path)) => format!("{}/{path}", registry_host(host)),
        None => registry_host(key),
    }
}

fn registry_host(host: &str) -> String {
    match host.to_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tag_is_latest() {
        for (name, expected) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("registry:5000/a/b", "registry:5000/a/b:latest"),
            ("registry:5000/a/b:2", "registry:5000/a/b:2"),
            ("a/b@sha256:00", "a/b@sha256:00"),
        ] {
            assert_eq!(tagged(name), expected);
        }
    }

    #[test]
    fn the_longest_prefix_gives_the_credential() {
        let known: Vec<_> = [
            "registry.example:5000",
            "registry.example:5000/group",
            "registry.example:5000/group/project",
            "https://index.docker.io/v1/",
        ]
        .iter()
        .map(|registry| RegistryCredential {
            registry: (*registry).into(),
            username: "u".into(),
            password: "p".to_owned().into(),
        })
        .collect();
        let found = |image| credential(image, &known).map(|c| c.registry.as_str());
        assert_eq!(
            found("registry.example:5000/group/project/app:1"),
            Some("registry.example:5000/group/project")
        );
        assert_eq!(
            found("registry.example:5000/group/other"),
            Some("registry.example:5000/group")
        );
        assert_eq!(
            found("registry.example:5000/groupie/app"),
            Some("registry.example:5000")
        );
        assert_eq!(found("busybox"), Some("https://index.docker.io/v1/"));
        assert_eq!(found("elsewhere.example/app"), None);
    }
}

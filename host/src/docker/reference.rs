//! Image references: the tag they mean, and the path by which registries' credentials are found; pure.

const HUB: &str = "docker.io";

/// The reference with the tag that is meant; a registry's port is none.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// Whether it names an image by its ID, which no registry knows.
pub(super) fn is_id(name: &str) -> bool {
    let hex = name.strip_prefix("sha256:");
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Registry and path of an image, without tag or digest; images of the hub begin with `docker.io`.
pub(super) fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = without_tag(name);
    match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            format!("{}/{rest}", registry(host))
        }
        _ => format!("{HUB}/{name}"),
    }
}

/// The same of a key in Docker's configuration: with a scheme it means the host alone.
pub(super) fn of_key(key: &str) -> String {
    if let Some((scheme, rest)) = key.split_once("://")
        && ["http", "https"].contains(&scheme.to_lowercase().as_str())
    {
        return registry(rest.split('/').next().unwrap_or(rest));
    }
    let key = key.trim_end_matches('/');
    match key.split_once('/') {
        Some((host, path)) => format!("{}/{}", registry(host), without_tag(path)),
        None => registry(key),
    }
}

/// Whether `key` is the image's registry, or a path there that the image is below; path element by path element.
pub(super) fn covers(key: &str, repository: &str) -> bool {
    let rest = repository.strip_prefix(key);
    !key.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn without_tag(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].find(':') {
        Some(colon) => &name[..last + colon],
        None => name,
    }
}

fn registry(host: &str) -> String {
    match host.to_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
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
            ("a/b:1@sha256:00", "a/b:1@sha256:00"),
        ] {
            assert_eq!(tagged(name), expected);
        }
        assert!(is_id(&format!("sha256:{}", "0a".repeat(32))));
        assert!(!is_id("sha256:1") && !is_id("busybox"));
    }

    #[test]
    fn an_image_s_registry_and_path() {
        for (image, expected) in [
            ("busybox", "docker.io/busybox"),
            ("busybox:1", "docker.io/busybox"),
            ("team/app:1", "docker.io/team/app"),
            ("index.docker.io/team/app", "docker.io/team/app"),
            ("localhost/app:1", "localhost/app"),
            ("foo.bar:123/asdf/baz:latest", "foo.bar:123/asdf/baz"),
            ("foo.bar/asdf/baz", "foo.bar/asdf/baz"),
            ("FOO.BAR:123/With/Case", "foo.bar:123/With/Case"),
            ("foo.bar/a/b@sha256:00", "foo.bar/a/b"),
            ("foo.bar/a/b:1@sha256:00", "foo.bar/a/b"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn a_key_s_registry_and_path() {
        for (key, expected) in [
            ("my.hostname", "my.hostname"),
            ("my.hostname:5000", "my.hostname:5000"),
            ("my.hostname/with/path/", "my.hostname/with/path"),
            ("MY.HOSTNAME/With/Path/CASE", "my.hostname/With/Path/CASE"),
            ("my.hostname/with/image:latest", "my.hostname/with/image"),
            ("my.hostname:5000/image:1", "my.hostname:5000/image"),
            ("https://my.hostname:5000/v1/", "my.hostname:5000"),
            ("http://index.docker.io/v1/", "docker.io"),
            ("HTTPS://INDEX.DOCKER.IO/V1/", "docker.io"),
            ("index.docker.io", "docker.io"),
        ] {
            assert_eq!(of_key(key), expected, "{key}");
        }
    }

    #[test]
    fn a_key_covers_what_is_below_it() {
        for (key, path, expected) in [
            ("r.example", "r.example/a", true),
            ("r.example/a", "r.example/a", true),
            ("r.example/a", "r.example/ab", false),
            ("r.example/a/b", "r.example/a", false),
            ("r.example", "r.example.evil/a", false),
            ("", "r.example/a", false),
        ] {
            assert_eq!(covers(key, path), expected, "{key:?} {path}");
        }
    }
}

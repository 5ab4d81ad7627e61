//! What is read of the environment, told in `describe`: a manager grants each by its name.

/// As the AWS SDKs call them.
const NAMES: [&str; 26] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_AUTO_SCALING",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// As the contract has them among `extras`.
pub(crate) fn named() -> Vec<(String, String)> {
    let pairs = NAMES.iter().map(|name| ("env".into(), (*name).into()));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::NAMES;

    /// Every text between quotes that begins as theirs do.
    fn written(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                written(&path, found);
            } else if !path.ends_with("variables.rs") {
                let text = std::fs::read_to_string(&path).expect("a source is text");
                let quoted = text.split('"').filter(|piece| piece.starts_with("AWS_"));
                let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                found.extend(
                    quoted
                        .filter(|piece| piece.chars().all(is_name))
                        .map(str::to_owned),
                );
            }
        }
    }

    #[test]
    fn whatever_is_read_is_told() {
        let mut found = Vec::new();
        written(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        assert!(found.len() > NAMES.len() / 2, "{found:?}");
        for name in found {
            assert!(
                NAMES.contains(&name.as_str()),
                "{name} is read and not told"
            );
        }
        assert!(NAMES.is_sorted());
    }
}

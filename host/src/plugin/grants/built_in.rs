//! What the plugins that ship may do without a word of the operator.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Grants, SecretSource, Template};

/// The services that the AWS plugin calls.
const AWS_SERVICES: [&str; 4] = ["autoscaling", "ec2", "ec2-instance-connect", "sts"];
/// Their domains, without and with IPv6. AWS GovCloud has those of AWS; what is closed to the world is left to the
/// operators there.
const AWS_DOMAINS: [&str; 4] = [
    "amazonaws.com",
    "api.aws",
    "amazonaws.com.cn",
    "api.amazonwebservices.com.cn",
];
/// The first of the domains, where services have validated twins.
const AWS_FIPS_DOMAINS: usize = 2;

/// What the AWS SDKs read from the environment.
const AWS_VARIABLES: [&str; 26] = [
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

/// What ships with built-in grants; effective only for a digest that `shipped.toml` lists under the same name.
pub fn built_in(plugin: &str) -> Option<Grants> {
    if plugin != "aws" {
        return None;
    }
    // The region mostly stands in the AWS profile and not in `plugin_config`, so a template could not be filled.
    let http = AWS_SERVICES.into_iter().flat_map(|service| {
        let plain = AWS_DOMAINS.map(|domain| format!("https://{service}.*.{domain}"));
        let fips = AWS_DOMAINS[..AWS_FIPS_DOMAINS].iter();
        let fips = fips.map(move |domain| format!("https://{service}-fips.*.{domain}"));
        plain.into_iter().chain(fips)
    });
    let secret = |name: &str, key: Option<&str>, variable: &str, default: &str| {
        let source = SecretSource::Variable {
            key: key.map(str::to_owned),
            variable: variable.to_owned(),
            default: Some(PathBuf::from(default)),
        };
        (name.to_owned(), source)
    };
    Some(Grants {
        http: http.map(Template).collect(),
        env: AWS_VARIABLES.map(str::to_owned).to_vec(),
        secrets: BTreeMap::from([
            secret(
                "aws_config",
                Some("config_file"),
                "AWS_CONFIG_FILE",
                "~/.aws/config",
            ),
            secret(
                "aws_credentials",
                Some("credentials_file"),
                "AWS_SHARED_CREDENTIALS_FILE",
                "~/.aws/credentials",
            ),
            secret(
                "aws_web_identity_token",
                Some("web_identity_token_file"),
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
            ),
            secret(
                "aws_container_token",
                None,
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
            ),
        ]),
        // The role of the manager's machine, task or pod: the last of the ways to keys.
        metadata: Some(true),
        ..Grants::default()
    })
}

#[cfg(test)]
mod tests {
    use super::AWS_VARIABLES;

    #[test]
    fn the_variables_are_those_that_the_plugin_reads() {
        let told = include_str!("../../../../plugins/aws/src/variables.rs");
        let names = told.lines().filter_map(|line| {
            let name = line.trim().strip_prefix('"')?.strip_suffix("\",")?;
            name.starts_with("AWS_").then_some(name)
        });
        assert_eq!(names.collect::<Vec<_>>(), AWS_VARIABLES);
    }
}

//! From the operator's words and the AWS files to a region, endpoints and keys.
//!
//! ```text
//! profile:  plugin_config.profile → AWS_PROFILE → "default"
//! region:   plugin_config.region → AWS_REGION → AWS_DEFAULT_REGION → the profile's
//! keys:     credentials file → config file          endpoint: [services …] of the profile → the profile's → AWS
//! ```
//!
//! The files are read anew for every call, so that corrected credentials heal without a restart.

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::{Host, Problem, ProblemKind, SecretProblem};

use crate::config::PluginConfig;
use crate::ini;

/// A service, with the name AWS gives it in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    AutoScaling,
    Ec2,
    InstanceConnect,
}

impl Service {
    /// In host names and signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AutoScaling => "autoscaling",
            Self::Ec2 => "ec2",
            Self::InstanceConnect => "ec2-instance-connect",
        }
    }

    /// In a `[services …]` section.
    fn key(self) -> &'static str {
        match self {
            Self::AutoScaling => "auto_scaling",
            Self::Ec2 => "ec2",
            Self::InstanceConnect => "ec2_instance_connect",
        }
    }
}

/// Who asks, and where.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) profile: String,
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
    /// The file the keys came from, as the operator wrote it.
    pub(crate) source: String,
    /// The profile's own, for every service that `services` has none for.
    pub(crate) endpoint_url: Option<String>,
    /// The `[services …]` section that the profile names.
    pub(crate) services: ini::Section,
}

impl Account {
    /// Reads the files and chooses.
    pub(crate) fn load(host: &dyn Host, config: &PluginConfig) -> Result<Self, Problem> {
        let profile = profile_name(host, config);
        let config_file = read(host, config, Source::Config)?;
        let credentials_file = read(host, config, Source::Credentials)?;

        let own = if profile == "default" {
            ini::named(&config_file.content, "profile", "default")
                .or_else(|| config_file.content.get("default"))
        } else {
            ini::named(&config_file.content, "profile", &profile)
        };
        let keys = credentials_file.content.get(&profile);
        if own.is_none() && keys.is_none() {
            return Err(no_profile(
                &profile,
                config,
                &config_file,
                &credentials_file,
            ));
        }
        let own = own.cloned().unwrap_or_default();
        let keys = keys.cloned().unwrap_or_default();

        let (credentials, source) = static_keys(&profile, config, &own, &keys)?;
        let region = region(host, config, &profile, &own)?;
        let services = own
            .get("services")
            .and_then(|name| ini::named(&config_file.content, "services", name))
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            profile,
            region,
            credentials,
            source,
            endpoint_url: own.get("endpoint_url").cloned(),
            services,
        })
    }

    /// Where a service answers, without a slash at the end.
    pub(crate) fn endpoint(&self, service: Service) -> String {
        let configured = self
            .services
            .get(service.key())
            .and_then(|settings| ini::nested(settings).remove("endpoint_url"))
            .or_else(|| self.endpoint_url.clone());
        if let Some(url) = configured.filter(|url| !url.is_empty()) {
            return url.trim_end_matches('/').to_owned();
        }
        let suffix = if self.region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        format!("https://{}.{}.{suffix}", service.name(), self.region)
    }
}

fn profile_name(host: &dyn Host, config: &PluginConfig) -> String {
    config
        .profile
        .clone()
        .or_else(|| host.variable("AWS_PROFILE"))
        .unwrap_or_else(|| "default".to_owned())
}

fn region(
    host: &dyn Host,
    config: &PluginConfig,
    profile: &str,
    own: &ini::Section,
) -> Result<String, Problem> {
    let region = config
        .region
        .clone()
        .or_else(|| host.variable("AWS_REGION"))
        .or_else(|| host.variable("AWS_DEFAULT_REGION"))
        .or_else(|| own.get("region").cloned())
        .filter(|region| !region.is_empty())
        .ok_or_else(|| {
            Problem::invalid_config(
                "plugin_config.region",
                format!(
                    "no region: plugin_config.region is not set, and profile `{profile}` in {} has none; \
                     next: set one of them",
                    config.config_path()
                ),
            )
        })?;
    // It becomes a part of a host name.
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !region.chars().all(is_label) {
        return Err(Problem::invalid_config(
            "plugin_config.region",
            format!("`{region}` is not an AWS region; next: write it as in `eu-west-1`"),
        ));
    }
    Ok(region)
}

/// Ways to credentials that the whole chain will know one day. What the AWS tools prefer to static keys comes first.
const BEFORE_KEYS: [&str; 6] = [
    "role_arn",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "login_session",
];

fn static_keys(
    profile: &str,
    config: &PluginConfig,
    own: &ini::Section,
    keys: &ini::Section,
) -> Result<(Credentials, String), Problem> {
    let unsupported = |key: &str| {
        Problem::invalid_config(
            key,
            format!(
                "profile `{profile}` has `{key}`, which this plugin does not support yet; next: use a \
                 profile with aws_access_key_id and aws_secret_access_key"
            ),
        )
    };
    let has = |section: &ini::Section, key: &str| section.contains_key(key);
    if let Some(key) = BEFORE_KEYS
        .into_iter()
        .find(|key| has(own, key) || has(keys, key))
    {
        return Err(unsupported(key));
    }
    if let Some(found) = pair(keys, profile, config.credentials_path())? {
        return Ok((found, config.credentials_path().to_owned()));
    }
    if has(own, "credential_process") || has(keys, "credential_process") {
        return Err(unsupported("credential_process"));
    }
    if let Some(found) = pair(own, profile, config.config_path())? {
        return Ok((found, config.config_path().to_owned()));
    }
    Err(Problem::new(
        ProblemKind::Unauthenticated,
        format!(
            "profile `{profile}` has no aws_access_key_id, neither in {} nor in {}; next: add it there, \
             with aws_secret_access_key",
            config.credentials_path(),
            config.config_path()
        ),
    )
    .about("plugin_config.profile"))
}

/// Both keys of a section, neither, or the complaint that one is missing.
fn pair(section: &ini::Section, profile: &str, path: &str) -> Result<Option<Credentials>, Problem> {
    let value = |key: &str| section.get(key).filter(|value| !value.is_empty());
    let missing = |key: &str| {
        Problem::new(
            ProblemKind::Unauthenticated,
            format!("profile `{profile}` in {path} has no {key}; next: add it there"),
        )
        .about(key)
    };
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing("aws_secret_access_key")),
        (None, Some(_)) => Err(missing("aws_access_key_id")),
        (Some(id), Some(secret)) => Ok(Some(Credentials::new(
            id,
            secret,
            value("aws_session_token").cloned(),
            None,
            "profile",
        ))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Config,
    Credentials,
}

/// A file's content, and why it has none.
struct Content {
    content: ini::File,
    absent: Option<String>,
}

/// A file that the operator named must be there; one that is only looked for by default may be missing.
///
/// A fault of the credentials file is `unauthenticated`, so that the host looks again when the file changes.
fn read(host: &dyn Host, config: &PluginConfig, source: Source) -> Result<Content, Problem> {
    let (secret, key, path, named, kind) = match source {
        Source::Config => (
            "aws_config",
            "plugin_config.config_file",
            config.config_path(),
            config.config_file.is_some(),
            ProblemKind::InvalidConfig,
        ),
        Source::Credentials => (
            "aws_credentials",
            "plugin_config.credentials_file",
            config.credentials_path(),
            config.credentials_file.is_some(),
            ProblemKind::Unauthenticated,
        ),
    };
    let fault = |kind, fault: String| Problem::new(kind, format!("{path}: {fault}"));
    let bytes = match host.secret(secret) {
        Ok(bytes) => bytes,
        Err(SecretProblem::NotGranted(why)) if named => {
            let message = format!("may not be read by this plugin: {why}");
            return Err(fault(ProblemKind::Forbidden, message).about(secret));
        }
        Err(SecretProblem::Unreadable(why)) if named => {
            let message = format!("could not be read: {why}; next: correct {key} or the file");
            return Err(fault(kind, message).about(key));
        }
        Err(SecretProblem::NotGranted(why) | SecretProblem::Unreadable(why)) => {
            return Ok(Content {
                content: ini::File::new(),
                absent: Some(why),
            });
        }
    };
    let malformed =
        |what: String| fault(kind, format!("{what}; next: correct the file")).about(key);
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8".into()))?;
    let content = ini::parse(&text).map_err(|error| malformed(error.to_string()))?;
    Ok(Content {
        content,
        absent: None,
    })
}

fn no_profile(
    profile: &str,
    config: &PluginConfig,
    config_file: &Content,
    credentials_file: &Content,
) -> Problem {
    let looked = |path: &str, file: &Content| match &file.absent {
        Some(why) => format!("{path} ({why})"),
        None => path.to_owned(),
    };
    let message = format!(
        "profile `{profile}` stands neither in {} nor in {}; next: add it, or correct plugin_config.profile",
        looked(config.credentials_path(), credentials_file),
        looked(config.config_path(), config_file),
    );
    if credentials_file.absent.is_some() {
        // Nothing is known to be wrong with the configuration: the file may be on its way.
        return Problem::new(ProblemKind::Unauthenticated, message).about("plugin_config.profile");
    }
    Problem::invalid_config("plugin_config.profile", message)
}

#[cfg(test)]
mod tests;

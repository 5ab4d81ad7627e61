//! `plugin_config`: what the operator writes about one Auto Scaling group.

use fleetling_plugin_sdk::{Notice, Problem};
use serde::Deserialize;

/// The JSON Schema of [`PluginConfig`], for the host to check before the plugin is asked.
pub(crate) const SCHEMA: &str = include_str!("config.schema.json");

/// Unknown keys are left to the host, which warns with the schema in hand.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PluginConfig {
    /// The Auto Scaling group.
    pub(crate) name: String,
    pub(crate) profile: Option<String>,
    /// Paths are for messages only: the content of these files comes from the host, as secrets.
    pub(crate) config_file: Option<String>,
    pub(crate) credentials_file: Option<String>,
    pub(crate) web_identity_token_file: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Option<String>,
    pub(crate) session_token: Option<String>,
}

impl PluginConfig {
    pub(crate) fn parse(json: &str) -> Result<Self, Problem> {
        let mut config: Self = serde_json::from_str(json).map_err(|error| {
            Problem::invalid_config(
                "plugin_config",
                format!("plugin_config is not what this plugin expects: {error}"),
            )
        })?;
        if config.name.trim().is_empty() {
            return Err(Problem::invalid_config(
                "plugin_config.name",
                "plugin_config.name is missing; next: set it to the name of the Auto Scaling group",
            ));
        }
        // An empty value is what a template leaves behind where nothing was filled in.
        for option in [
            &mut config.profile,
            &mut config.config_file,
            &mut config.credentials_file,
            &mut config.web_identity_token_file,
            &mut config.region,
            &mut config.access_key_id,
            &mut config.secret_access_key,
            &mut config.session_token,
        ] {
            *option = option.take().filter(|value| !value.trim().is_empty());
        }
        let keys = (&config.access_key_id, &config.secret_access_key);
        let missing = match keys {
            (Some(_), None) => Some(("secret_access_key", "access_key_id")),
            (None, Some(_)) => Some(("access_key_id", "secret_access_key")),
            _ => None,
        };
        if let Some((missing, present)) = missing {
            return Err(Problem::invalid_config(
                format!("plugin_config.{missing}"),
                format!(
                    "plugin_config.{present} stands without plugin_config.{missing}; next: add it, or better \
                     remove both and put them into the credentials file"
                ),
            ));
        }
        Ok(config)
    }

    /// What is said as long as keys stand in the configuration.
    pub(crate) fn notice(&self) -> Option<Notice> {
        self.secret_access_key.as_ref().map(|_| Notice {
            subject: "plugin_config.secret_access_key".into(),
            message: "AWS keys stand in plugin_config, where everybody who may read the configuration reads them; \
                      next: move them to the credentials file, or give the manager's machine a role"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use fleetling_plugin_sdk::ProblemKind;

    use super::*;

    #[test]
    fn the_documented_configuration_is_understood() {
        let config = PluginConfig::parse(
            r#"{"name":"my-docker-asg","profile":"default","config_file":"/home/user/.aws/config",
                "credentials_file":"/home/user/.aws/credentials","unknown":1,"region":""}"#,
        )
        .expect("it is the documented example");
        assert_eq!(config.name, "my-docker-asg");
        assert_eq!(
            config.credentials_file.as_deref(),
            Some("/home/user/.aws/credentials")
        );
        assert_eq!(config.region, None);
        assert_eq!(config.notice(), None);
    }

    #[test]
    fn a_missing_name_a_wrong_type_and_half_a_key_are_named() {
        for (json, subject, part) in [
            ("{}", "plugin_config.name", "is missing"),
            (r#"{"name":3}"#, "plugin_config", "expected a string"),
            (
                r#"{"name":"g","access_key_id":"AKIA"}"#,
                "plugin_config.secret_access_key",
                "stands without plugin_config.secret_access_key",
            ),
            (
                r#"{"name":"g","secret_access_key":"s3cret"}"#,
                "plugin_config.access_key_id",
                "stands without plugin_config.access_key_id",
            ),
        ] {
            let Err(problem) = PluginConfig::parse(json) else {
                panic!("{json} was accepted");
            };
            assert_eq!(problem.kind, ProblemKind::InvalidConfig);
            assert_eq!(problem.subject.as_deref(), Some(subject));
            assert!(problem.message.contains(part), "{problem:?}");
            assert!(!problem.message.contains("s3cret"), "{problem:?}");
        }
    }

    #[test]
    fn keys_in_the_configuration_are_remarked_on_without_being_told() {
        let json = r#"{"name":"g","access_key_id":"AKIA","secret_access_key":"s3cret"}"#;
        let Ok(config) = PluginConfig::parse(json) else {
            panic!("both keys are there");
        };
        let notice = config.notice().expect("they stand in clear");
        assert_eq!(notice.subject, "plugin_config.secret_access_key");
        assert!(!notice.message.contains("s3cret"));
    }

    #[test]
    fn the_schema_is_json_and_knows_every_key() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("it is JSON");
        for key in [
            "name",
            "profile",
            "config_file",
            "credentials_file",
            "web_identity_token_file",
            "region",
            "access_key_id",
            "secret_access_key",
            "session_token",
        ] {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
    }
}

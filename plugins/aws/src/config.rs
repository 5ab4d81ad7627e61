//! `plugin_config`: what the operator writes about one Auto Scaling group.

use fleetling_plugin_sdk::Problem;
use serde::Deserialize;

/// The JSON Schema of [`PluginConfig`], for the host to check before the plugin is asked.
pub(crate) const SCHEMA: &str = include_str!("config.schema.json");

/// Unknown keys are left to the host, which warns with the schema in hand.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PluginConfig {
    /// The Auto Scaling group.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) profile: Option<String>,
    /// Paths are for messages only: their content comes from the host, as the secrets `aws_config` and
    /// `aws_credentials`.
    pub(crate) config_file: Option<String>,
    pub(crate) credentials_file: Option<String>,
    pub(crate) region: Option<String>,
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
            &mut config.region,
        ] {
            *option = option.take().filter(|value| !value.trim().is_empty());
        }
        Ok(config)
    }

    /// The credentials file as the operator wrote it, or where it is by default.
    pub(crate) fn credentials_path(&self) -> &str {
        self.credentials_file
            .as_deref()
            .unwrap_or("~/.aws/credentials")
    }

    /// The config file as the operator wrote it, or where it is by default.
    pub(crate) fn config_path(&self) -> &str {
        self.config_file.as_deref().unwrap_or("~/.aws/config")
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
        assert_eq!(config.credentials_path(), "/home/user/.aws/credentials");
        assert_eq!(config.region, None);
    }

    #[test]
    fn a_missing_name_and_a_wrong_type_are_named() {
        let missing = PluginConfig::parse("{}").expect_err("there is no name");
        assert_eq!(missing.kind, ProblemKind::InvalidConfig);
        assert_eq!(missing.subject.as_deref(), Some("plugin_config.name"));
        let wrong = PluginConfig::parse(r#"{"name":3}"#).expect_err("3 is no name");
        assert!(wrong.message.contains("expected a string"), "{wrong:?}");
    }

    #[test]
    fn the_schema_is_json_and_knows_every_key() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("it is JSON");
        for key in [
            "name",
            "profile",
            "config_file",
            "credentials_file",
            "region",
        ] {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
    }
}

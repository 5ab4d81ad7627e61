//! `plugin_config`, from one Rust struct: the schema that the host checks it with, and problems that name the key.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Problem;

/// The table as the operator writes it, and the first part of every key in a problem.
const TABLE: &str = "plugin_config";

/// The JSON Schema of `T`, for `describe`: doc comments become descriptions, `Option` and `#[serde(default)]` make a
/// key optional.
///
/// Nothing in it refers elsewhere, so that what reads schemas simply, reads all of it.
pub fn schema<T: JsonSchema>() -> String {
    let settings = SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .with_transform(RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    // The struct's name says nothing to an operator.
    schema.remove("title");
    schema.as_value().to_string()
}

/// An operator writes TOML, which has no null: a key is there or it is not.
fn without_null(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    let Some(Value::Array(types)) = schema.get_mut("type") else {
        return;
    };
    types.retain(|one| one != "null");
    if let [one] = &types[..] {
        let one = one.clone();
        schema.insert("type".into(), one);
    }
}

/// What the operator wrote, as `T`.
///
/// # Errors
/// `invalid-config` with the key as subject: `plugin_config.instances.rack-1.port`.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // `?` stands for a place without a name.
        let mut key = match path.trim_end_matches(['.', '?']) {
            "" => TABLE.to_owned(),
            path => format!("{TABLE}.{path}"),
        };
        let said = error.into_inner().to_string();
        // Where in the JSON is of no use: the operator wrote TOML.
        let said = said.split(" at line ").next().unwrap_or_default();
        // Of a key that is not there, only the message knows the name.
        let missing = said
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        match missing {
            Some(name) => {
                key = format!("{key}.{name}");
                Problem::invalid_config(&key, format!("{key} is missing; next: set it"))
            }
            None => Problem::invalid_config(&key, format!("{key}: {said}; next: correct it")),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::ProblemKind;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Written {
        /// Where the API answers.
        endpoint: String,
        /// How many at most.
        #[serde(default)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        most: Option<u32>,
        #[serde(default)]
        machines: BTreeMap<String, Machine>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Machine {
        #[expect(dead_code, reason = "only its schema is looked at")]
        port: u16,
    }

    #[test]
    fn a_problem_names_the_key_as_the_operator_wrote_it() {
        for (json, key, words) in [
            ("{}", "plugin_config.endpoint", "is missing"),
            (
                r#"{"endpoint":3}"#,
                "plugin_config.endpoint",
                "expected a string",
            ),
            (
                r#"{"endpoint":"x","machines":{"a":{"port":70000}}}"#,
                "plugin_config.machines.a.port",
                "expected u16",
            ),
            (
                r#"{"endpoint":"x","machines":{"a":{}}}"#,
                "plugin_config.machines.a.port",
                "is missing",
            ),
            ("3", "plugin_config", "invalid type"),
            ("{", "plugin_config", "EOF"),
        ] {
            let problem = parse::<Written>(json).expect_err(json);
            assert_eq!(problem.kind, ProblemKind::InvalidConfig, "{json}");
            assert_eq!(problem.subject.as_deref(), Some(key), "{json}");
            assert!(
                problem.message.contains(words),
                "{json}: {}",
                problem.message
            );
            assert!(!problem.message.contains("line"), "{}", problem.message);
        }
        let written: Written = parse(r#"{"endpoint":"x","new":1}"#).expect("it is complete");
        assert_eq!((&*written.endpoint, written.machines.len()), ("x", 0));
    }

    #[test]
    fn the_schema_says_what_the_struct_says_and_refers_nowhere() {
        let text = schema::<Written>();
        let schema: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(schema["required"], serde_json::json!(["endpoint"]));
        assert_eq!(
            schema["properties"]["endpoint"],
            serde_json::json!({"type": "string", "description": "Where the API answers."})
        );
        assert_eq!(schema["properties"]["most"]["type"], "integer");
        assert!(!text.contains("null"), "{text}");
        let machine = &schema["properties"]["machines"]["additionalProperties"];
        assert_eq!(machine["properties"]["port"]["maximum"], 65535);
        assert!(
            !text.contains("$ref") && schema.get("title").is_none(),
            "{text}"
        );
    }
}

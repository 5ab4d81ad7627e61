//! Holds `plugin_config` against the schema a plugin publishes: warnings only, because the plugin's `init` decides.

use serde_json::Value;

/// Unknown keys with the nearest one, missing keys, wrong types, of the top level. A schema that cannot be read warns
/// of itself.
pub fn warnings(schema: &str, config: &Value) -> Vec<String> {
    if schema.trim().is_empty() {
        return Vec::new();
    }
    let Ok(schema) = serde_json::from_str::<Value>(schema) else {
        return vec!["the plugin's config schema is no JSON".to_owned()];
    };
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let config = config.as_object().unwrap_or(&empty);
    let mut warnings = Vec::new();
    for (key, value) in config {
        match properties.get(key) {
            Some(property) => {
                let wanted = &property["type"];
                if !is_of(wanted, value) {
                    warnings.push(format!(
                        "plugin_config.{key} should be of type {}",
                        wanted.to_string().replace('"', "")
                    ));
                }
            }
            None if schema["additionalProperties"] == Value::Bool(true) => {}
            None => {
                let nearest = properties
                    .keys()
                    .map(|known| (strsim::damerau_levenshtein(key, known), known))
                    .filter(|(distance, _)| *distance <= 2)
                    .min();
                let hint =
                    nearest.map_or(String::new(), |(_, known)| format!("; is it `{known}`?"));
                warnings.push(format!(
                    "plugin_config.{key} is not known to the plugin{hint}"
                ));
            }
        }
    }
    let required = schema["required"].as_array().into_iter().flatten();
    for key in required.filter_map(Value::as_str) {
        if !config.contains_key(key) {
            warnings.push(format!("plugin_config.{key} is missing"));
        }
    }
    warnings
}

fn is_of(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::String(wanted) => match (wanted.as_str(), value) {
            ("string", Value::String(_))
            | ("boolean", Value::Bool(_))
            | ("number", Value::Number(_))
            | ("array", Value::Array(_))
            | ("object", Value::Object(_))
            | ("null", Value::Null) => true,
            ("integer", Value::Number(number)) => number.is_i64() || number.is_u64(),
            _ => false,
        },
        Value::Array(any) => any.iter().any(|wanted| is_of(wanted, value)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_missing_and_mistyped_keys_are_named() {
        let schema = r#"{"properties": {"name": {"type": "string"}, "size": {"type": ["integer", "null"]}},
            "required": ["name"]}"#;
        assert_eq!(
            warnings(schema, &json!({"name": "x", "size": 1})),
            Vec::<String>::new()
        );
        assert_eq!(
            warnings(schema, &json!({"nmae": "x", "size": "big", "zone": 1})),
            [
                "plugin_config.nmae is not known to the plugin; is it `name`?",
                "plugin_config.size should be of type [integer,null]",
                "plugin_config.zone is not known to the plugin",
                "plugin_config.name is missing",
            ]
        );
        assert_eq!(warnings("{", &json!({})).len(), 1);
        assert_eq!(warnings("", &json!({"x": 1})), Vec::<String>::new());
    }
}

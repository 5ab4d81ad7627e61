//! Holds `plugin_config` against the JSON Schema that a plugin publishes: advice only, because its `init` decides.
//!
//! The schema is a plugin's word and not trusted: nothing it refers to is fetched, its patterns are matched in linear
//! time, and what it says is kept to one line. `plugin_config` may hold keys of a cloud: no value is ever told.

use std::collections::BTreeSet;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError};
use serde_json::Value;

/// What in `plugin_config` does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// Keys and indices on the way to the value, or to the table that lacks a key. Empty: `plugin_config` itself.
    pub path: Vec<String>,
    /// What is wrong with it and what would be right.
    pub text: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("plugin_config")?;
        for step in &self.path {
            write!(f, ".{}", one_line(step))?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Everything that does not fit, ordered by its path. A schema that cannot be used says so of itself.
pub fn mismatches(schema: &str, config: &Value) -> Vec<Mismatch> {
    if schema.trim().is_empty() {
        return Vec::new();
    }
    let unusable = |why: String| {
        let text = format!("the plugin's config schema cannot be used: {why}");
        vec![Mismatch {
            path: Vec::new(),
            text: one_line(&text),
        }]
    };
    if schema.len() > MOST_BYTES {
        return unusable(format!("it is larger than {} KiB", MOST_BYTES >> 10));
    }
    let schema = match serde_json::from_str(schema) {
        Ok(schema) => strict(schema),
        Err(problem) => return unusable(problem.to_string()),
    };
    if !is_bounded(&schema, &schema, DEEPEST, &mut MOST_PARTS.clone()) {
        return unusable("it refers to itself, or nests or grows beyond measure".to_owned());
    }
    let validator = jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .build(&schema);
    let validator = match validator {
        Ok(validator) => validator,
        Err(problem) => return unusable(problem.to_string()),
    };
    let empty = Value::Object(serde_json::Map::new());
    let config = if config.is_null() { &empty } else { config };
    let errors = validator.iter_errors(config);
    let found = errors
        .flat_map(|error| told(&error, &schema))
        .take(MOST_TOLD);
    let found: BTreeSet<Mismatch> = found.collect();
    found.into_iter().collect()
}

const MOST_BYTES: usize = 64 << 10;
const MOST_TOLD: usize = 50;
/// Of a schema with every reference in it replaced by what it refers to, which is how it is checked.
const MOST_PARTS: usize = 10_000;
const DEEPEST: u32 = 32;

/// Whether checking against `part` of `schema` ends soon, whatever it is held against.
fn is_bounded(part: &Value, schema: &Value, depth: u32, parts: &mut usize) -> bool {
    if depth == 0 || *parts == 0 {
        return false;
    }
    *parts -= 1;
    match part {
        Value::Array(all) => all
            .iter()
            .all(|one| is_bounded(one, schema, depth - 1, parts)),
        Value::Object(keys) => keys.iter().all(|(key, value)| match (key.as_str(), value) {
            // One that leads nowhere, or elsewhere, is refused when the schema is built.
            ("$ref", Value::String(to)) => {
                let to = to.strip_prefix('#').and_then(|to| schema.pointer(to));
                to.is_none_or(|to| is_bounded(to, schema, depth - 1, parts))
            }
            ("$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef" | "$id", _) => {
                part == schema && key == "$id"
            }
            _ => is_bounded(value, schema, depth - 1, parts),
        }),
        _ => true,
    }
}

/// A key that the schema does not list is mostly a slip, so it is told also where the author did not forbid others.
fn strict(mut schema: Value) -> Value {
    let composed = [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "$ref",
    ];
    if let Some(object) = schema.as_object_mut()
        && object.contains_key("properties")
        && !composed.iter().any(|key| object.contains_key(*key))
    {
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    schema
}

fn told(error: &ValidationError<'_>, schema: &Value) -> Vec<Mismatch> {
    let steps = error.instance_path().segments();
    let path: Vec<String> = steps.map(|step| step.to_string()).collect();
    let here = |text: String| {
        let text = one_line(&text);
        let path = path.clone();
        vec![Mismatch { path, text }]
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_keys(error, schema);
            let told = unexpected.iter().map(|key| Mismatch {
                path: path.iter().chain([key]).cloned().collect(),
                text: one_line(&unknown(key, &known)),
            });
            told.collect()
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            here(format!("`{key}` is missing"))
        }
        ValidationErrorKind::Type { kind } => here(format!("it should be {}", types(kind))),
        ValidationErrorKind::Enum { options } => {
            let options: Vec<_> = options.as_array().into_iter().flatten().collect();
            let options: Vec<_> = options.iter().map(ToString::to_string).collect();
            here(format!("it should be one of {}", options.join(", ")))
        }
        ValidationErrorKind::AnyOf { .. }
        | ValidationErrorKind::OneOfNotValid { .. }
        | ValidationErrorKind::OneOfMultipleValid { .. } => {
            here("it fits none, or more than one, of the forms that the plugin allows".to_owned())
        }
        _ => here(error.masked_with("the value").to_string()),
    }
}

/// The keys that the violated part of the schema lists.
fn known_keys<'a>(error: &ValidationError<'_>, schema: &'a Value) -> Vec<&'a str> {
    let keyword = error.schema_path().as_str();
    let table = keyword.rsplit_once('/').map_or("", |(table, _)| table);
    let properties = schema
        .pointer(table)
        .and_then(|table| table["properties"].as_object());
    let properties = properties.into_iter().flatten();
    properties.map(|(key, _)| key.as_str()).collect()
}

fn unknown(key: &str, known: &[&str]) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(&key.to_lowercase(), known);
    let nearest = known
        .iter()
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    match nearest {
        Some((_, nearest)) => format!("the plugin does not know this key; is it `{nearest}`?"),
        None if known.is_empty() => "the plugin does not know this key".to_owned(),
        None => format!(
            "the plugin does not know this key; it knows {}",
            known.join(", ")
        ),
    }
}

fn types(kind: &TypeKind) -> String {
    let types: Vec<_> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect(),
    };
    // `plugin_config` is written in TOML, whose word for an object is another, and which has no null.
    let types: Vec<_> = types
        .iter()
        .filter(|one| *one != "null")
        .map(|one| match one.as_str() {
            "object" => "a table".to_owned(),
            "array" | "integer" => format!("an {one}"),
            other => format!("a {other}"),
        })
        .collect();
    types.join(" or ")
}

fn one_line(text: &str) -> String {
    let cut: String = text.chars().take(400).collect();
    cut.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = r##"{
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "size": {"type": ["integer", "null"], "maximum": 10},
            "kind": {"enum": ["spot", "on-demand"]},
            "hosts": {"type": "object", "additionalProperties": {"$ref": "#/$defs/host"}}
        },
        "$defs": {"host": {"type": "object", "required": ["address"], "additionalProperties": false,
            "properties": {"address": {"type": "string", "pattern": "^[a-z.]+$"}, "port": {"type": "integer"}}}}
    }"##;

    fn told(config: Value) -> Vec<String> {
        let found = mismatches(SCHEMA, &config);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_fits_is_not_told() {
        let config =
            json!({"name": "x", "size": 1, "hosts": {"a": {"address": "a.b", "port": 22}}});
        assert_eq!(told(config), Vec::<String>::new());
        assert_eq!(mismatches("", &json!({"x": 1})), []);
    }

    #[test]
    fn unknown_missing_and_mistyped_keys_are_named_at_any_depth() {
        insta::assert_snapshot!(
            told(json!({
                "nmae": "x", "size": "big", "zone": 1, "kind": "secret-1",
                "hosts": {"a/b": {"Port": 1, "address": "secret-2"}, "c": 7},
            })).join("\n"),
            @r#"
        plugin_config: `name` is missing
        plugin_config.hosts.a/b.Port: the plugin does not know this key; is it `port`?
        plugin_config.hosts.a/b.address: the value does not match "^[a-z.]+$"
        plugin_config.hosts.c: it should be a table
        plugin_config.kind: it should be one of "spot", "on-demand"
        plugin_config.nmae: the plugin does not know this key; is it `name`?
        plugin_config.size: it should be an integer
        plugin_config.zone: the plugin does not know this key; it knows hosts, kind, name, size
        "#
        );
        insta::assert_snapshot!(told(json!({"name": "", "size": 11})).join("\n"), @r"
        plugin_config.name: the value is shorter than 1 character
        plugin_config.size: the value is greater than the maximum of 10
        ");
        assert_eq!(told(Value::Null), ["plugin_config: `name` is missing"]);
    }

    #[test]
    fn a_schema_that_cannot_be_used_says_so_and_fetches_nothing() {
        // Each part is checked twice for the one before: 2^30 in all.
        let parts = (1..31).map(|n| {
            let to = format!("{{\"$ref\": \"#/$defs/{}\"}}", n - 1);
            format!(", \"{n}\": {{\"allOf\": [{to}, {to}]}}")
        });
        let parts: String = parts.collect();
        let doubling = format!(
            "{{\"$ref\": \"#/$defs/30\", \"$defs\": {{\"0\": {{\"type\": \"object\"}}{parts}}}}}"
        );
        for schema in [
            "{",
            r#"{"$ref": "http://192.0.2.1/schema.json"}"#,
            r#"{"$ref": "file:///etc/passwd"}"#,
            r#"{"properties": {"a": {"pattern": "(a+)+$(?=b)"}}}"#,
            r#"{"type": "nonsense"}"#,
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}"##,
            r##"{"$ref": "#a", "$defs": {"a": {"$anchor": "a"}}}"##,
            &doubling,
            &format!("{{\"title\": \"{}\"}}", "x".repeat(MOST_BYTES)),
        ] {
            let found = mismatches(schema, &json!({"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"}));
            let [one] = &found[..] else {
                panic!("{schema}: {found:?}");
            };
            assert!(one.text.contains("schema cannot be used"), "{one}");
        }
    }
}

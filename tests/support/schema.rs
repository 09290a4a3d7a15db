//! As much of JSON Schema as the project's schemas use. A keyword that is not known here fails the test, so that no part
//! of a schema is passed over.

use serde_json::Value;
use std::path::Path;

/// A schema of `docs/schemas`.
pub fn named(name: &str) -> Value {
    read(&super::root().join("docs/schemas").join(name))
}

/// A schema in a file.
pub fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A part of a schema as one of its own.
pub fn part(schema: &Value, name: &str) -> Value {
    serde_json::json!({ "$ref": format!("#/$defs/{name}"), "$defs": schema["$defs"] })
}

/// What in `value` does not fit the schema; empty if it fits.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(schema, schema, value, "$", &mut found);
    found
}

fn visit(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, argument) in schema.as_object().unwrap_or_else(|| panic!("{at}: a schema is an object")) {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let name = argument.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                visit(root, &root["$defs"][name], value, at, found);
            }
            "type" => {
                if !is_type(argument.as_str().unwrap(), value) {
                    found.push(format!("{at}: {value} is no {argument}"));
                }
            }
            "const" if value != argument => found.push(format!("{at}: {value} is not {argument}")),
            "enum" if !argument.as_array().unwrap().contains(value) => {
                found.push(format!("{at}: {value} is none of {argument}"));
            }
            "const" | "enum" => {}
            "minimum" => {
                if value.as_f64().is_some_and(|v| v < argument.as_f64().unwrap()) {
                    found.push(format!("{at}: {value} is below {argument}"));
                }
            }
            "maximum" => {
                if value.as_f64().is_some_and(|v| v > argument.as_f64().unwrap()) {
                    found.push(format!("{at}: {value} is above {argument}"));
                }
            }
            "minLength" => {
                if value.as_str().is_some_and(|v| (v.chars().count() as u64) < argument.as_u64().unwrap()) {
                    found.push(format!("{at}: {value} is too short"));
                }
            }
            "required" => {
                for name in argument.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                    if value.is_object() && value.get(name).is_none() {
                        found.push(format!("{at}: `{name}` is missing"));
                    }
                }
            }
            "properties" => {
                for (name, schema) in argument.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        visit(root, schema, inner, &format!("{at}.{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(argument, &Value::Bool(false), "{at}: only `false` is known");
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    if schema["properties"].get(name).is_none() {
                        found.push(format!("{at}: `{name}` is not known"));
                    }
                }
            }
            "items" => {
                for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                    visit(root, argument, inner, &format!("{at}[{index}]"), found);
                }
            }
            "oneOf" => {
                let fits = argument.as_array().unwrap().iter().filter(|one| {
                    let mut inner = Vec::new();
                    visit(root, one, value, at, &mut inner);
                    inner.is_empty()
                });
                if fits.count() != 1 {
                    found.push(format!("{at}: {value} fits not exactly one alternative"));
                }
            }
            other => panic!("{at}: the keyword `{other}` is not known to this test"),
        }
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the type `{other}` is not known to this test"),
    }
}

//! The daemon's file described for editors and people: a JSON Schema, and docs/configuration.md made from it.
//!
//! Invariant: it is made from the types that read the file, so a field cannot be in one and not in the other. What those read
//! by hand (secrets, durations, concurrency, the type of a handler) is described here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::checks::HumanDuration;
use super::concurrency::RawConcurrency;
use super::secret::SecretSource;
use super::{builtin, command, daemon, http, worker};

/// The JSON Schema of the daemon's file.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(daemon::Raw);
    schema.insert("title".to_owned(), "The file of workyard-consumer".into());
    schema
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A duration such as \"250ms\", \"30s\", \"1m 30s\"." })
    }
}

impl JsonSchema for SecretSource {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |name: &str, what: &str| {
            json!({
                "type": "object",
                "properties": { name: { "type": "string", "description": what } },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A text, the name of a variable, or a file (its last newline is no part of it).",
            "anyOf": [
                { "type": "string" },
                one("env", "A variable of the daemon's environment."),
                one("file", "A file; relative to this one."),
            ],
        })
    }
}

impl JsonSchema for RawConcurrency {
    fn schema_name() -> Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or bounds between which it moves by measured latency (docs/balancing.md).",
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                {
                    "type": "object",
                    "properties": { "min": { "type": "integer", "minimum": 1 }, "max": { "type": "integer", "minimum": 1 } },
                    "required": ["min", "max"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// What every handler has; the rest is its type's.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes what handler.rs takes out of the table by hand")]
struct Shared {
    /// Most tasks of this kind at once in this daemon; default: as many as the daemon runs.
    concurrency: Option<RawConcurrency>,
    /// Whether it takes signed tasks only; others are dead letters before anything runs. Default false. It is then no function
    /// of map-reduce jobs.
    signed: Option<bool>,
    /// Longest one attempt may take, at most 30 d; the task's own timeout may be shorter.
    timeout: Option<HumanDuration>,
}

/// The tables `[handlers.KIND]`.
pub(super) struct Handlers;

impl JsonSchema for Handlers {
    fn schema_name() -> Cow<'static, str> {
        "Handlers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let types = [
            ("command", command::Raw::json_schema(generator)),
            ("worker", worker::Raw::json_schema(generator)),
            ("http", http::Raw::json_schema(generator)),
            ("builtin", builtin::Raw::json_schema(generator)),
        ];
        let shared = Shared::json_schema(generator);
        let types: Vec<Value> = types
            .into_iter()
            .map(|(name, fields)| handler(name, fields, &shared))
            .collect();
        json_schema!({ "type": "object", "additionalProperties": { "oneOf": types } })
    }
}

fn handler(name: &str, mut fields: Schema, shared: &Schema) -> Value {
    let mut properties: BTreeMap<String, Value> = BTreeMap::new();
    for part in [shared, &fields] {
        let part = part.get("properties").and_then(Value::as_object);
        properties.extend(
            part.into_iter()
                .flatten()
                .map(|(field, what)| (field.clone(), what.clone())),
        );
    }
    properties.insert("type".to_owned(), json!({ "const": name }));
    let required = fields.get("required").and_then(Value::as_array).cloned();
    let mut required = required.unwrap_or_default();
    required.insert(0, "type".into());
    fields.insert("title".to_owned(), name.into());
    fields.insert("properties".to_owned(), json!(properties));
    fields.insert("required".to_owned(), required.into());
    fields.to_value()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// `WORKYARD_WRITE_SCHEMA=1 cargo test -p workyard-consumer --lib reference` writes both files anew.
    fn in_docs(name: &str, made: &str) {
        let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("WORKYARD_WRITE_SCHEMA").is_some() {
            std::fs::write(&path, made).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(there, made, "write it anew as this test's comment says");
    }

    #[test]
    fn the_schema_in_docs_is_the_one_that_the_code_makes() {
        in_docs(
            "workyard-toml.schema.json",
            &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"),
        );
    }

    #[test]
    fn the_reference_in_docs_is_the_one_that_the_code_makes() {
        in_docs("configuration.md", &page(schema().as_value()));
    }

    /// Every field of the example's tables is in the schema, and none that the schema wants is missing there.
    #[test]
    fn the_example_uses_each_field_that_the_schema_has() {
        let text = include_str!("../../../examples/workyard.toml");
        let schema = schema().to_value();
        let mut fields: Vec<&str> = names(&schema);
        fields.extend(names(&schema["$defs"]["RawQueue"]));
        for table in ["keys", "telemetry"] {
            fields.extend(names(resolved(&schema["properties"][table], &schema["$defs"])));
        }
        for handler in handlers(&schema) {
            fields.extend(names(handler));
        }
        for field in fields {
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            assert!(
                text.split(word).any(|found| found == field),
                "{field} is not in the example"
            );
        }
    }

    fn names(object: &Value) -> Vec<&str> {
        object["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }

    fn handlers(schema: &Value) -> &Vec<Value> {
        schema["$defs"]["Handlers"]["additionalProperties"]["oneOf"]
            .as_array()
            .unwrap()
    }

    const HEAD: &str = "\
# The daemon's file

Made from the code by a test (`consumer/src/config/reference.rs`); do not edit it by hand. `workyard-consumer schema` prints the same as a JSON Schema,
which is also [workyard-toml.schema.json](workyard-toml.schema.json); many editors complete and check a file whose first line is

```toml
#:schema ./workyard-toml.schema.json
```

Unknown fields are errors, told with line and field. Relative paths are below the folder of the file. An example with every field is
`examples/workyard.toml`. Flags go before variables, variables before the file.
";

    fn page(schema: &Value) -> String {
        let mut page = String::from(HEAD);
        let defs = &schema["$defs"];
        table(&mut page, "Top level", schema, defs);
        table(&mut page, "`[[queues]]`", &defs["RawQueue"], defs);
        table(&mut page, "`[jobs]`", &schema["properties"]["jobs"], defs);
        table(&mut page, "`[keys]`", &schema["properties"]["keys"], defs);
        table(&mut page, "`[telemetry]`", &schema["properties"]["telemetry"], defs);
        for handler in handlers(schema) {
            let title = format!(
                "`[handlers.KIND]` with `type = \"{}\"`",
                handler["title"].as_str().unwrap()
            );
            table(&mut page, &title, handler, defs);
        }
        page
    }

    fn table(page: &mut String, title: &str, object: &Value, defs: &Value) {
        let object = resolved(object, defs);
        writeln!(page, "\n## {title}\n").unwrap();
        if let Some(what) = object["description"].as_str() {
            writeln!(page, "{}\n", what.replace('\n', " ")).unwrap();
        }
        writeln!(page, "| field | value | meaning |\n|---|---|---|").unwrap();
        for (name, field) in object["properties"].as_object().unwrap() {
            let wanted = object["required"]
                .as_array()
                .is_some_and(|all| all.contains(&json!(name)));
            let what = field["description"].as_str().unwrap_or_default().replace('\n', " ");
            let must = match &field["default"] {
                _ if wanted => " Required.".to_owned(),
                default @ (Value::Bool(_) | Value::String(_)) => format!(" Default `{default}`."),
                _ => String::new(),
            };
            let kind = kind(field, defs).replace('|', "\\|");
            writeln!(page, "| `{name}` | {kind} | {what}{must} |").unwrap();
        }
    }

    /// The object behind a reference.
    fn resolved<'a>(object: &'a Value, defs: &'a Value) -> &'a Value {
        match object["$ref"].as_str() {
            Some(path) => &defs[path.trim_start_matches("#/$defs/")],
            None => object,
        }
    }

    /// The form of a value, in words.
    fn kind(field: &Value, defs: &Value) -> String {
        if let Some(path) = field["$ref"].as_str() {
            let name = path.trim_start_matches("#/$defs/");
            return match name {
                "Duration" => "duration".to_owned(),
                "Secret" => "text, `{ env = \"NAME\" }` or `{ file = \"path\" }`".to_owned(),
                "Concurrency" => "number, or `{ min = 2, max = 32 }`".to_owned(),
                "Listen" => "port, or `\"ADDRESS:PORT\"`".to_owned(),
                "RawQueue" => "tables, below".to_owned(),
                _ => kind(&defs[name], defs),
            };
        }
        if let Some(value) = field["const"].as_str() {
            return format!("`\"{value}\"`");
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(choices) = field[choice].as_array() {
                let choices = choices.iter().filter(|choice| choice["type"] != "null");
                return choices.map(|choice| kind(choice, defs)).collect::<Vec<_>>().join(", ");
            }
        }
        let simple = match &field["type"] {
            Value::Array(types) => types.iter().find(|t| **t != "null").and_then(Value::as_str),
            one => one.as_str(),
        };
        match simple.unwrap_or_default() {
            "string" => match field["enum"].as_array() {
                Some(words) => words
                    .iter()
                    .map(|word| format!("`{word}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                None => "text".to_owned(),
            },
            "integer" | "number" => "number".to_owned(),
            "boolean" => "`true`, `false`".to_owned(),
            "array" => format!("list of {}", kind(&field["items"], defs)),
            "object" if field["properties"].is_object() => "table, below".to_owned(),
            "object" => "table".to_owned(),
            other => panic!("no words for {other}: {field}"),
        }
    }
}

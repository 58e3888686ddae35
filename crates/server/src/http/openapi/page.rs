//! docs/reference/api.md: the document for people. A test compares it, and `UPDATE_EXPECT=1` writes it.

use super::document;
use crate::{access::gate::Access, http::endpoints::endpoints};
use serde_json::{Map, Value};
use std::fmt::Write as _;

const HEAD: &str = "\
# HTTP API

Written by `UPDATE_EXPECT=1 cargo nextest run -E 'test(the_page_of_the_api)'`; programs read the same in [openapi.json](../openapi.json). Version 1:
fields are added, never changed, and whoever reads a message ignores fields that it does not know.

A server on a loopback address needs no token unless `auth` is `required`; elsewhere each caller shows one (`Authorization: Bearer l2p_…`), and its role decides what it may call
([operate.md](../operate.md#letting-others-in)). Whatever is refused is answered with an [`ApiError`](#apierror), whose codes are in
[codes.md](codes.md#answers-of-a-server).

## Endpoints

";

#[test]
fn the_page_of_the_api() {
    let document = document();
    let mut page = HEAD.to_owned();
    for endpoint in endpoints() {
        let method = endpoint.method.as_str();
        let operation = &document["paths"][endpoint.path][method.to_ascii_lowercase()];
        let roles = match endpoint.access {
            Access::Public => "anybody, without a token".to_owned(),
            Access::Known => "whoever has a token".to_owned(),
            Access::Only(roles) => {
                roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
            }
        };
        write!(page, "### `{method} {}`\n\n{}.\n\n", endpoint.path, endpoint.summary).unwrap();
        writeln!(page, "* Who: {roles}").unwrap();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
            writeln!(page, "* `{name}` in the {place}: {}", kind(&parameter["schema"])).unwrap();
        }
        if let Some(body) = operation["requestBody"]["content"].as_object() {
            writeln!(page, "* Takes {}", bodies(body)).unwrap();
        }
        for (code, answer) in operation["responses"].as_object().unwrap() {
            // Every endpoint may refuse.
            if code.ends_with("XX") {
                continue;
            }
            let body = answer["content"].as_object().map_or_else(|| "nothing".into(), bodies);
            writeln!(page, "* Answers {code}: {body}").unwrap();
        }
        page += "\n";
    }
    page += "## Messages\n";
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        write!(page, "\n### {name}\n\n{}\n", told(schema)).unwrap();
    }
    expect_test::expect_file!["../../../../../docs/reference/api.md"].assert_eq(&page);
}

/// The bodies of a request or an answer.
fn bodies(content: &Map<String, Value>) -> String {
    let one = |(media, body): (&String, &Value)| match (media.as_str(), body.get("schema")) {
        ("application/json", Some(schema)) => kind(schema),
        (media, _) => format!("`{media}`"),
    };
    content.iter().map(one).collect::<Vec<_>>().join(" or ")
}

/// What a message or one of its fields is, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or_default();
        return format!("[`{name}`](#{})", name.to_ascii_lowercase());
    }
    // A message with its name in `type`, or a reference with something beside it.
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().map(kind).collect::<Vec<_>>().join(" and ");
    }
    if let Some(several) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return several.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().map(|value| format!("`{}`", text(value)));
        return values.collect::<Vec<_>>().join(", ");
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().map(text).collect(),
        _ => return "anything".into(),
    };
    let types = types.into_iter().map(|name| match name {
        "array" if schema["items"].is_null() => "list".into(),
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if !schema["properties"].is_null() => {
            let fields = schema["properties"].as_object().unwrap().iter();
            let fields = fields.map(|(name, field)| format!("`{name}`: {}", kind(field)));
            format!("object with {}", fields.collect::<Vec<_>>().join(", "))
        }
        "null" => "`null`".into(),
        "string" if !schema["pattern"].is_null() => {
            format!("string `{}`", text(&schema["pattern"]))
        }
        name => name.to_owned(),
    });
    types.collect::<Vec<_>>().join(" or ")
}

/// A message as a whole: what it is for, and its fields or values.
fn told(schema: &Value) -> String {
    let mut told = String::new();
    if let Some(description) = schema["description"].as_str() {
        write!(told, "{}\n\n", description.replace('\n', " ")).unwrap();
    }
    if let Some(fields) = schema["properties"].as_object() {
        told += "| field | is | meaning |\n|---|---|---|\n";
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        for (name, field) in fields {
            let may =
                if required.contains(&&Value::from(name.as_str())) { "" } else { ", or left out" };
            let meaning = field["description"].as_str().unwrap_or_default();
            let row = format!("| `{name}` | {}{may} | {meaning} |", cell(&kind(field)));
            writeln!(told, "{}", row.replace('\n', " ")).unwrap();
        }
        return told.trim_end().to_owned();
    }
    let values = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    if let Some(values) =
        values.filter(|values| values.iter().any(|one| one["description"].is_string()))
    {
        told += "| is | meaning |\n|---|---|\n";
        for value in values {
            let meaning = value["description"].as_str().unwrap_or_default();
            let row = format!("| {} | {meaning} |", cell(&kind(value)));
            writeln!(told, "{}", row.replace('\n', " ")).unwrap();
        }
        return told.trim_end().to_owned();
    }
    write!(told, "Is {}.", kind(schema)).unwrap();
    told
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

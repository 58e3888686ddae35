//! The OpenAPI document: which endpoints there are, what they take and what they answer.
//!
//! * It shows the table of [`endpoints`], and the schemas are derived from the types that are read and written.
//! * A test compares the document with `docs/openapi.json`.

#[cfg(test)]
mod page;

use super::{
    endpoints::endpoints,
    schema::{Answers, Content, Takes, schema},
};
use protocol::{ApiError, ArtifactId, ClientId, JobId, JobState};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let error = json_body(schema!(ApiError)(&mut schemas));
    let refused = json!({ "description": "Refused; the body says why", "content": error });
    let mut paths = Map::new();
    for endpoint in endpoints() {
        let mut operation = json!({
            "summary": endpoint.summary,
            "responses": answers(endpoint.answers, &mut schemas),
        });
        operation["responses"]["4XX"] = refused.clone();
        operation["responses"]["5XX"] = refused.clone();
        let parameters = parameters(endpoint.path, &mut schemas);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let body = match endpoint.takes {
            Takes::Nothing => None,
            Takes::Message(body) => Some(body),
            Takes::Artifact => Some(Content::Bytes),
        };
        if let Some(body) = body {
            operation["requestBody"] =
                json!({ "required": true, "content": content(&[body], &mut schemas) });
        }
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Prover Server",
            "description": "Version 1. Fields are added, never changed; unknown fields are ignored by whoever reads a message.",
            "version": "1",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        // The empty one: a server on loopback may be open.
        "security": [{ "token": [] }, {}],
    });
    without_links(&mut document);
    document
}

fn answers(answers: Answers, schemas: &mut SchemaGenerator) -> Value {
    match answers {
        Answers::Ok(bodies) => {
            json!({ "200": { "description": "Done", "content": content(bodies, schemas) } })
        }
        Answers::Created => json!({ "201": { "description": "Stored, durably" } }),
        Answers::NoContent => json!({ "204": { "description": "Done" } }),
        Answers::OkOrNot(body) => {
            let content = content(&[body], schemas);
            json!({
                "200": { "description": "Every check passed", "content": content },
                "503": { "description": "A check failed", "content": content },
            })
        }
    }
}

fn content(bodies: &[Content], schemas: &mut SchemaGenerator) -> Value {
    let mut alternatives = Vec::new();
    for body in bodies {
        match body {
            Content::Message(name, of) => alternatives.push(json!({
                "type": "object",
                "properties": { "type": { "const": name } },
                "required": ["type"],
                "allOf": [of(schemas)],
            })),
            Content::Json(of) => alternatives.push(of(schemas).into()),
            Content::Bytes => return json!({ "application/octet-stream": {} }),
            Content::Text(kind) => return json!({ *kind: { "schema": { "type": "string" } } }),
        }
    }
    match <[Value; 1]>::try_from(alternatives) {
        Ok([one]) => json_body(one),
        Err(several) => json_body(json!({ "oneOf": several })),
    }
}

fn json_body(schema: impl Into<Value>) -> Value {
    json!({ "application/json": { "schema": schema.into() } })
}

fn parameters(path: &str, schemas: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters = Vec::new();
    for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let schema: Value = match name {
            "job" => schema!(JobId)(schemas).into(),
            "client" => schema!(ClientId)(schemas).into(),
            "sha256" => schema!(ArtifactId)(schemas).into(),
            "deed" => json!({ "enum": ["drain", "quarantine", "release"] }),
            _ => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    let mut query = |name: &str, schema: Value| {
        parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
    };
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer", "minimum": 0 }));
    if path == "/v1/jobs" {
        query("state", schema!(JobState)(schemas).into());
        query("troubled", json!({ "type": "boolean" }));
    }
    if path == "/v1/jobs/{job}/release" {
        query("client", schema!(ClientId)(schemas).into());
    }
    if path == "/v1/jobs" || path == "/v1/proofs" {
        query("kind", json!({ "enum": ["aggregate", "groth16"] }));
    }
    let names: &[(&str, &Value)] = match path {
        "/v1/jobs" => {
            &[("first", &number), ("last", &number), ("before", &number), ("limit", &number)]
        }
        "/v1/clients" | "/v1/audit" => &[("before", &text), ("limit", &number)],
        "/v1/proofs" => &[("after", &number), ("limit", &number)],
        _ => &[],
    };
    for (name, schema) in names {
        query(name, (*schema).clone());
    }
    parameters
}

/// Descriptions come from the types' docs, whose links lead nowhere here.
fn without_links(value: &mut Value) {
    match value {
        Value::String(text) => {
            *text = text.replace("[`", "`").replace("`]", "`");
            while let Some((before, (_, after))) = text
                .split_once("`(crate::")
                .and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
            {
                *text = format!("{before}`{after}");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(without_links),
        Value::Object(values) => values.values_mut().for_each(without_links),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_up_to_date() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        expect_test::expect_file!["../../../../docs/openapi.json"].assert_eq(&text);
    }
}

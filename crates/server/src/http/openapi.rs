//! The OpenAPI document: which endpoints there are, what they take and what they answer.
//!
//! * The messages' schemas are derived from the types that are read and written.
//! * A test compares the table below with the router, and the document with `docs/openapi.json`.

use protocol::{
    ApiError, ArtifactId, ClientId, ClientSummary, CollectGarbage, Fail, FailAck, Garbage,
    Heartbeat, HeartbeatAck, JobHistory, JobId, JobState, JobSummary, NoWork, Priority, Readiness,
    Request, Response, Status, Submit, SubmitAck,
};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// One method of one path.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    does: &'static str,
    takes: Option<Content>,
    answers: Answer,
}

enum Answer {
    /// 200 with a body.
    Ok(&'static [Content]),
    /// 201 without a body.
    Created,
    /// 204.
    NoContent,
    /// 200 or 503, both with a body.
    OkOrNot(Content),
}

enum Content {
    /// A message: JSON with its name in the field `type`.
    Message(&'static str, Of),
    Json(Of),
    Bytes,
    Text(&'static str),
}

type Of = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
macro_rules! of {
    ($type:ty) => {
        SchemaGenerator::subschema_for::<$type>
    };
}

macro_rules! message {
    ($type:ident) => {
        Content::Message(stringify!($type), of!($type))
    };
}

const fn get(path: &'static str, does: &'static str, answers: &'static [Content]) -> Endpoint {
    Endpoint { method: "get", path, does, takes: None, answers: Answer::Ok(answers) }
}

const fn deed(method: &'static str, path: &'static str, does: &'static str) -> Endpoint {
    Endpoint { method, path, does, takes: None, answers: Answer::NoContent }
}

const fn told(
    path: &'static str,
    does: &'static str,
    takes: Content,
    answers: &'static [Content],
) -> Endpoint {
    Endpoint { method: "post", path, does, takes: Some(takes), answers: Answer::Ok(answers) }
}

/// Every endpoint.
const ENDPOINTS: &[Endpoint] = &[
    told(
        "/v1/request",
        "Asks for a job. Held open until there is one, for `wait_ms` at most",
        message!(Request),
        &[message!(Response), message!(NoWork)],
    ),
    told(
        "/v1/jobs/{job}/heartbeat",
        "Keeps a lease alive",
        message!(Heartbeat),
        &[message!(HeartbeatAck)],
    ),
    told(
        "/v1/jobs/{job}/submit",
        "Hands in a proof whose bytes have been uploaded. Needs no living lease",
        message!(Submit),
        &[message!(SubmitAck)],
    ),
    told(
        "/v1/jobs/{job}/fail",
        "Gives a lease back without a proof",
        message!(Fail),
        &[message!(FailAck)],
    ),
    Endpoint {
        method: "put",
        path: "/v1/artifacts/{sha256}",
        does: "Uploads bytes, which must hash to the name",
        takes: Some(Content::Bytes),
        answers: Answer::Created,
    },
    get("/v1/artifacts/{sha256}", "Downloads bytes", &[Content::Bytes]),
    get("/v1/status", "A snapshot of the server", &[Content::Json(of!(Status))]),
    get(
        "/v1/jobs",
        "The newest jobs, the newest last; at most 1,000",
        &[Content::Json(of!(Vec<JobSummary>))],
    ),
    get(
        "/v1/jobs/{job}/history",
        "The leases of a job and the proofs handed in for it, oldest first",
        &[Content::Json(of!(JobHistory))],
    ),
    get("/v1/jobs/{job}", "One job", &[Content::Json(of!(JobSummary))]),
    deed("post", "/v1/jobs/{job}/requeue", "Gives a dead job fresh budgets"),
    deed("post", "/v1/jobs/{job}/cancel", "Gives a job up; its client is told to stop"),
    Endpoint {
        method: "post",
        path: "/v1/jobs/{job}/priority",
        does: "Serves a job before others, or after them",
        takes: Some(Content::Json(of!(Priority))),
        answers: Answer::NoContent,
    },
    get(
        "/v1/clients",
        "The clients that were heard latest, the latest first",
        &[Content::Json(of!(Vec<ClientSummary>))],
    ),
    deed("post", "/v1/clients/{client}/{deed}", "Decides about a client"),
    deed("post", "/v1/drain", "Grants no more leases, until the next start"),
    deed("delete", "/v1/drain", "Grants leases again"),
    told(
        "/v1/garbage",
        "Removes artifacts that nothing needs any more",
        Content::Json(of!(CollectGarbage)),
        &[Content::Json(of!(Garbage))],
    ),
    get("/livez", "Answers as long as the process lives", &[Content::Text("text/plain")]),
    Endpoint {
        method: "get",
        path: "/readyz",
        does: "Whether the server can do its work: 503 if a check fails",
        takes: None,
        answers: Answer::OkOrNot(Content::Json(of!(Readiness))),
    },
    get(
        "/metrics",
        "Metrics for Prometheus",
        &[Content::Text(crate::observe::metrics::CONTENT_TYPE)],
    ),
];

/// The path of an endpoint as the table has it, if there is such a one.
pub fn known(path: &str) -> Option<&'static str> {
    ENDPOINTS.iter().map(|endpoint| endpoint.path).find(|known| *known == path)
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let error = json_body(of!(ApiError)(&mut schemas));
    let refused = json!({ "description": "Refused; the body says why", "content": error });
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let mut operation = json!({
            "summary": endpoint.does,
            "responses": answers(&endpoint.answers, &mut schemas),
        });
        operation["responses"]["4XX"] = refused.clone();
        operation["responses"]["5XX"] = refused.clone();
        let parameters = parameters(endpoint.path, &mut schemas);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(takes) = &endpoint.takes {
            operation["requestBody"] =
                json!({ "required": true, "content": content(&[takes], &mut schemas) });
        }
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation;
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

fn answers(answer: &Answer, schemas: &mut SchemaGenerator) -> Value {
    match answer {
        Answer::Ok(bodies) => {
            let bodies: Vec<_> = bodies.iter().collect();
            json!({ "200": { "description": "Done", "content": content(&bodies, schemas) } })
        }
        Answer::Created => json!({ "201": { "description": "Stored, durably" } }),
        Answer::NoContent => json!({ "204": { "description": "Done" } }),
        Answer::OkOrNot(body) => {
            let content = content(&[body], schemas);
            json!({
                "200": { "description": "Every check passed", "content": content },
                "503": { "description": "A check failed", "content": content },
            })
        }
    }
}

fn content(bodies: &[&Content], schemas: &mut SchemaGenerator) -> Value {
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
            "job" => of!(JobId)(schemas).into(),
            "client" => of!(ClientId)(schemas).into(),
            "sha256" => of!(ArtifactId)(schemas).into(),
            "deed" => json!({ "enum": ["drain", "quarantine", "release"] }),
            _ => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    if path == "/v1/jobs" {
        let schema: Value = of!(JobState)(schemas).into();
        parameters.push(json!({ "name": "state", "in": "query", "schema": schema }));
        for name in ["first", "last"] {
            let schema: Value = of!(u64)(schemas).into();
            parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
        }
    }
    parameters
}

/// Descriptions come from the types' docs, whose links lead nowhere here.
fn without_links(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(values) => values.iter_mut().for_each(without_links),
        Value::Object(values) => values.values_mut().for_each(without_links),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_is_up_to_date() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        expect_test::expect_file!["../../../../docs/openapi.json"].assert_eq(&text);
    }

    #[test]
    fn every_route_is_in_the_table_and_nothing_else() {
        let routes: BTreeSet<_> = super::super::endpoints::endpoints()
            .into_iter()
            .map(|endpoint| (endpoint.path, endpoint.method.as_str().to_ascii_lowercase()))
            .collect();
        let known: BTreeSet<_> = ENDPOINTS.iter().map(|e| (e.path, e.method.to_owned())).collect();
        assert_eq!(routes, known);
    }
}

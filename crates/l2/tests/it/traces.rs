//! One trace from the block to the accepted proof, over server, client and a restart in between, as a collector gets it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use protocol::JobState;

use crate::common::{PATIENCE, Service, status_when, text};

/// A span as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    service: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    job: Option<String>,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// The text of an attribute.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// What a batch of spans says.
fn read(batch: &[u8]) -> Vec<Span> {
    let batch = ExportTraceServiceRequest::decode(batch).expect("a batch of spans");
    let mut spans = Vec::new();
    for group in batch.resource_spans {
        let resource = group.resource.expect("a service names itself");
        let service = attribute(&resource.attributes, "service.name").expect("its name");
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                job: attribute(&span.attributes, "job"),
            });
        }
    }
    spans
}

/// A collector: where it listens, and what it has got.
async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let got = spans.clone();
    let collect = async move |body: Bytes| {
        got.lock().expect("nobody panics").extend(read(&body));
        StatusCode::OK
    };
    let router = axum::Router::new().route("/v1/traces", post(collect));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, spans)
}

/// The spans of a job's trace, as soon as those with `names` are there.
async fn trace(spans: &Spans, job: &str, names: &[&str]) -> Vec<Span> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let all = spans.lock().expect("nobody panics").clone();
        let first = all.iter().find(|span| span.job.as_deref() == Some(job));
        let trace: Vec<_> = all
            .iter()
            .filter(|span| first.is_some_and(|first| first.trace == span.trace))
            .collect();
        let found: BTreeSet<_> = trace.iter().map(|span| span.name.as_str()).collect();
        if names.iter().all(|name| found.contains(name)) {
            return trace.into_iter().cloned().collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{names:?} are not all in {all:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_one_trace_across_a_killed_server_and_its_client() {
    let (collector, spans) = collector().await;
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (server_data, client_data) = (path("server"), path("client"));
    let (_node, started) = Service::start(&["node", "--node-port", "0", "--block-time", "500ms"]);
    let node = text(&started, "node");
    let serve = [
        "server",
        "--prover",
        "exec",
        "--danger-accept-exec",
        "--rpc-url",
        &node,
        "--listen-port",
        "0",
        "--data-dir",
        &server_data,
    ];
    let (mut server, started) = Service::start_with(&serve, &variables);
    let status = status_when(&text(&started, "server"), |status| !status.jobs.is_empty()).await;
    let job = status.jobs[0].job.to_string();
    trace(&spans, &job, &["block seen", "prepare", "enqueue"]).await;

    server.kill();
    let (mut server, started) = Service::start_with(&serve, &variables);
    let url = text(&started, "server");
    let client = ["client", "--prover", "exec", "--server", &url, "--data-dir", &client_data];
    let (mut client, _) = Service::start_with(&client, &variables);
    status_when(&url, |status| {
        status.jobs.iter().any(|one| one.job.to_string() == job && one.state == JobState::Proved)
    })
    .await;
    let names = [
        "block seen",
        "prepare",
        "enqueue",
        "lease",
        "download",
        "prove",
        "submit",
        "verify",
        "accept",
    ];
    let trace = trace(&spans, &job, &names).await;
    let only = |name: &str| {
        let found: Vec<_> = trace.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {trace:#?}");
        found[0]
    };
    let (first, lease) = (only("block seen"), only("lease"));
    assert!(first.parent.is_empty(), "{first:?}");
    for name in names {
        let span = only(name);
        let (service, parent) = match name {
            "block seen" => ("prover_server", &first.parent),
            "download" | "prove" | "submit" => ("prover_client", &lease.id),
            _ => ("prover_server", &first.id),
        };
        assert_eq!((span.service.as_str(), &span.parent), (service, parent), "{name}");
    }
    // What is left is sent at the end.
    assert_eq!((client.terminate(), server.terminate()), (Some(0), Some(0)));
}

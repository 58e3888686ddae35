//! The endpoints: one table that says of each its method and path, who may call it, what it does, what it takes and
//! answers, and which handler that is.
//!
//! There is no other way to add an endpoint, so there is none without roles. The router serves this table, and the OpenAPI
//! document shows it.

use super::{
    dashboard, handlers,
    limits::Budget,
    schema::{Answers, Content, Takes, json, message},
    service::Service,
};
use crate::{
    access::{gate::Access, tokens::Role},
    dashboard::page::{File, ICON, PAGE, PLOTS, SCRIPT, STYLE},
    observe::metrics,
};
use axum::{
    handler::Handler,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};
use protocol::{
    AuditEntry, ChangeJobs, ChangedJobs, ClientSummary, CollectGarbage, Delivered, Fail, FailAck,
    Garbage, Heartbeat, HeartbeatAck, JobHistory, JobSummary, NoWork, Priority, ProvedBatch,
    Readiness, Request, Response, Session, Status, Submit, SubmitAck,
};

/// An endpoint: what it is called, who may call it, and what it does.
#[derive(Debug)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with names in braces for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it does, in a sentence without a full stop.
    pub summary: &'static str,
    /// What the body of a request is.
    pub takes: Takes,
    /// What a caller hears.
    pub answers: Answers,
    /// What its requests are counted as.
    pub budget: Budget,
    pub(super) handler: MethodRouter<Service>,
}

/// All endpoints.
pub fn endpoints() -> Vec<Endpoint> {
    use Role::{Client, Consumer, Operator, Producer, Viewer};
    const PROVES: Access = Access::Only(&[Client]);
    const FETCHES: Access = Access::Only(&[Client, Consumer, Operator]);
    const STORES: Access = Access::Only(&[Client, Producer]);
    const TAKES: Access = Access::Only(&[Consumer]);
    const DECIDES: Access = Access::Only(&[Operator]);
    const FOLLOWS: Access = Access::Only(&[Producer, Consumer, Operator, Viewer]);
    const LOOKS: Access = Access::Only(&[Operator, Viewer]);
    vec![
        post("/v1/request", PROVES, handlers::request)
            .counts(Budget::Waiting)
            .does("Asks for a job. Held open until there is one, for `wait_ms` at most")
            .takes(message!(Request))
            .answers(&[message!(Response), message!(NoWork)]),
        post("/v1/jobs/{job}/heartbeat", PROVES, handlers::heartbeat)
            .counts(Budget::Heartbeat)
            .does("Keeps a lease alive")
            .takes(message!(Heartbeat))
            .answers(&[message!(HeartbeatAck)]),
        post("/v1/jobs/{job}/submit", PROVES, handlers::submit)
            .does("Hands in a proof whose bytes have been uploaded. Needs no living lease")
            .takes(message!(Submit))
            .answers(&[message!(SubmitAck)]),
        post("/v1/jobs/{job}/fail", PROVES, handlers::fail)
            .does("Gives a lease back without a proof")
            .takes(message!(Fail))
            .answers(&[message!(FailAck)]),
        Endpoint {
            takes: Takes::Artifact,
            answers: Answers::Created,
            ..endpoint(Method::PUT, "/v1/artifacts/{sha256}", STORES, handlers::upload)
        }
        .counts(Budget::Upload)
        .does("Uploads bytes, which must hash to the name"),
        get("/v1/artifacts/{sha256}", FETCHES, handlers::download)
            .does("Downloads bytes")
            .answers(&[Content::Bytes]),
        get("/v1/status", LOOKS, handlers::status)
            .does("A snapshot of the server")
            .answers(&[json!(Status)]),
        get("/v1/jobs", FOLLOWS, handlers::jobs)
            .does("The newest jobs, the newest last; at most 1,000. With `kind=aggregate` or `kind=groth16`, those that are made of accepted proofs. The header `Link` names the page before, if there may be one")
            .answers(&[json!(Vec<JobSummary>)]),
        post("/v1/jobs/change", DECIDES, handlers::change)
            .does("Requeues or cancels many jobs")
            .takes(json!(ChangeJobs))
            .answers(&[json!(ChangedJobs)]),
        get("/v1/jobs/{job}/history", FOLLOWS, handlers::history)
            .does("The leases of a job, the proofs handed in for it and the parts of its proof, oldest first")
            .answers(&[json!(JobHistory)]),
        get("/v1/jobs/{job}", FOLLOWS, handlers::job).does("One job").answers(&[json!(JobSummary)]),
        post("/v1/jobs/{job}/requeue", DECIDES, handlers::requeue)
            .does("Gives a dead job fresh budgets"),
        post("/v1/jobs/{job}/cancel", DECIDES, handlers::cancel)
            .does("Gives a job up; its client is told to stop"),
        post("/v1/jobs/{job}/release", DECIDES, handlers::release)
            .does("Takes a job from the client that has it, without blame; the client is told to stop. With `client`, only if that one has it"),
        post("/v1/jobs/{job}/priority", DECIDES, handlers::prioritise)
            .does("Serves a job before others, or after them")
            .takes(json!(Priority)),
        get("/v1/clients", LOOKS, handlers::clients)
            .does("The clients, those that were heard latest first; at most 1,000. The header `Link` names the next page")
            .answers(&[json!(Vec<ClientSummary>)]),
        post("/v1/clients/{client}/{deed}", DECIDES, handlers::decide)
            .does("Decides about a client"),
        post("/v1/drain", DECIDES, handlers::drain)
            .does("Grants no more leases, at no server of the database"),
        endpoint(Method::DELETE, "/v1/drain", DECIDES, handlers::undrain)
            .does("Grants leases again"),
        post("/v1/pause", DECIDES, handlers::pause)
            .does("Takes in no new batches, at no server of the database"),
        endpoint(Method::DELETE, "/v1/pause", DECIDES, handlers::unpause)
            .does("Takes in new batches again"),
        post("/v1/hand-over", DECIDES, handlers::hand_over)
            .does("Lets another server of the database follow its node instead of this one"),
        get("/v1/audit", LOOKS, handlers::audit)
            .does("What operators decided and what the server removed, the latest first; at most 1,000. The header `Link` names the next page")
            .answers(&[json!(Vec<AuditEntry>)]),
        get("/v1/proofs", FOLLOWS, handlers::proofs)
            .does("The batches after a block with their proofs, in the order of the chain, up to the first without; at most 1,000. With `kind=aggregate` or `kind=groth16`, those that are made of accepted proofs instead, each as one batch")
            .answers(&[json!(Vec<ProvedBatch>)]),
        post("/v1/proofs/delivered", TAKES, handlers::delivered)
            .does("Says that the caller has the proofs of all blocks up to one")
            .takes(json!(Delivered)),
        post("/v1/garbage", DECIDES, handlers::garbage)
            .does("Removes artifacts that nothing needs any more")
            .takes(json!(CollectGarbage))
            .answers(&[json!(Garbage)]),
        file("/", PAGE).does("The dashboard"),
        file("/dashboard.js", SCRIPT).does("What the dashboard does"),
        file("/plots.js", PLOTS).does("How the dashboard draws"),
        file("/dashboard.css", STYLE).does("How the dashboard looks"),
        file("/icon.svg", ICON).does("The dashboard's icon"),
        get("/v1/session", LOOKS, dashboard::session)
            .does("Who uses the dashboard. A session is its cookie and the header `x-csrf-token`, both with every request")
            .answers(&[json!(Session)]),
        post("/v1/session", LOOKS, dashboard::sign_in)
            .does("Signs a browser in: it gets a cookie in place of the token that it shows")
            .answers(&[json!(Session)]),
        endpoint(Method::DELETE, "/v1/session", LOOKS, dashboard::sign_out)
            .does("Signs a browser out"),
        get("/v1/events", LOOKS, dashboard::events)
            .counts(Budget::Stream)
            .does("What the dashboard shows, whole and then each change of it, as server-sent events. Its form is the page's own, and may change with every version")
            .answers(&[Content::Text(dashboard::EVENTS)]),
        get("/livez", Access::Public, handlers::live)
            .does("Answers as long as all parts of the server live")
            .answers(&[Content::Text("text/plain")]),
        Endpoint {
            answers: Answers::OkOrNot(json!(Readiness)),
            ..get("/readyz", LOOKS, handlers::ready)
        }
        .does("Whether the server can do its work: 503 if a check fails"),
        get("/metrics", LOOKS, handlers::metrics)
            .does("Metrics for Prometheus")
            .answers(&[Content::Text(metrics::CONTENT_TYPE)]),
    ]
}

fn get<H: Handler<T, Service>, T: 'static>(
    path: &'static str,
    access: Access,
    handler: H,
) -> Endpoint {
    endpoint(Method::GET, path, access, handler)
}

fn post<H: Handler<T, Service>, T: 'static>(
    path: &'static str,
    access: Access,
    handler: H,
) -> Endpoint {
    endpoint(Method::POST, path, access, handler)
}

/// A file of the dashboard. It has nothing that is not in every copy of this program.
fn file(path: &'static str, file: File) -> Endpoint {
    let answers = match file.kind.split(';').next() {
        Some("text/html") => &[Content::Text("text/html")],
        Some("text/css") => &[Content::Text("text/css")],
        Some("text/javascript") => &[Content::Text("text/javascript")],
        _ => &[Content::Text("image/svg+xml")],
    };
    get(path, Access::Public, move || async move { dashboard::file(file) }).answers(answers)
}

/// An endpoint that takes nothing and answers without a body.
fn endpoint<H: Handler<T, Service>, T: 'static>(
    method: Method,
    path: &'static str,
    access: Access,
    handler: H,
) -> Endpoint {
    let filter = MethodFilter::try_from(method.clone()).expect("it is a common method");
    let handler = on(filter, handler);
    let (takes, answers, budget) = (Takes::Nothing, Answers::NoContent, Budget::Other);
    Endpoint { method, path, access, summary: "", takes, answers, budget, handler }
}

impl Endpoint {
    fn does(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    fn counts(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    fn takes(self, content: Content) -> Self {
        Self { takes: Takes::Message(content), ..self }
    }

    fn answers(self, bodies: &'static [Content]) -> Self {
        Self { answers: Answers::Ok(bodies), ..self }
    }
}

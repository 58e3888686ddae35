//! HTTP: decodes, calls one function, encodes.
//!
//! An endpoint is a line in [`endpoints`], which says who may call it. `guard` stands before all of them: a caller is
//! let in by its headers, before its body is read.

use super::{
    connection::{Paced, With},
    limits::{TooSlow, Wait},
    service::Service,
};
use crate::{
    access::{
        gate::{Access, Caller, Denied, Peer},
        tokens::Role,
    },
    artifacts::ArtifactError,
    data_folder::NoRoom,
    dispatch::JobError,
    jobs::standing::Deed,
    observe::metrics,
    store::StoreError,
};
use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody as _},
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State,
        rejection::{BytesRejection, QueryRejection},
    },
    handler::Handler,
    http::{Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use futures::{StreamExt, TryStreamExt};
use protocol::{
    ApiError, ArtifactId, ClientId, CollectGarbage, ErrorCode, FailAck, HeartbeatAck, JobId,
    JobState, Priority, ProofData, SubmitAck,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{net::Ipv6Addr, str::FromStr};

/// A list of jobs has at most so many.
const MAX_LISTED: u32 = 1_000;

type Answer<T> = Result<T, Refusal>;

/// An endpoint: what it is called, and who may call it.
#[derive(Debug)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with names in braces for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    handler: MethodRouter<Service>,
    takes: Takes,
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// A message, or nothing.
    Message,
    /// An artifact: streamed, and limited by the store.
    Artifact,
}

/// All endpoints.
pub fn endpoints() -> Vec<Endpoint> {
    use Role::{Client, Consumer, Operator, Producer, Viewer};
    const PROVES: Access = Access::Only(&[Client]);
    const FETCHES: Access = Access::Only(&[Client, Consumer, Operator]);
    const STORES: Access = Access::Only(&[Client, Producer]);
    const DECIDES: Access = Access::Only(&[Operator]);
    const FOLLOWS: Access = Access::Only(&[Producer, Consumer, Operator, Viewer]);
    const LOOKS: Access = Access::Only(&[Operator, Viewer]);
    let (get, post) = (Method::GET, Method::POST);
    vec![
        endpoint(&post, "/v1/request", PROVES, request),
        endpoint(&post, "/v1/jobs/{job}/heartbeat", PROVES, heartbeat),
        endpoint(&post, "/v1/jobs/{job}/submit", PROVES, submit),
        endpoint(&post, "/v1/jobs/{job}/fail", PROVES, fail),
        endpoint(&post, "/v1/jobs/{job}/requeue", DECIDES, requeue),
        endpoint(&post, "/v1/jobs/{job}/cancel", DECIDES, cancel),
        endpoint(&post, "/v1/jobs/{job}/priority", DECIDES, prioritise),
        endpoint(&get, "/v1/jobs/{job}", FOLLOWS, job),
        endpoint(&get, "/v1/jobs/{job}/history", FOLLOWS, history),
        endpoint(&get, "/v1/jobs", FOLLOWS, jobs),
        endpoint(&get, "/v1/clients", LOOKS, clients),
        endpoint(&post, "/v1/clients/{client}/{deed}", DECIDES, decide),
        endpoint(&post, "/v1/drain", DECIDES, drain),
        endpoint(&Method::DELETE, "/v1/drain", DECIDES, undrain),
        endpoint(&post, "/v1/garbage", DECIDES, garbage),
        endpoint(&get, "/v1/status", LOOKS, status),
        endpoint(&get, "/v1/artifacts/{sha256}", FETCHES, download),
        Endpoint {
            takes: Takes::Artifact,
            ..endpoint(&Method::PUT, "/v1/artifacts/{sha256}", STORES, upload)
        },
        endpoint(&get, "/readyz", LOOKS, ready),
        endpoint(&get, "/metrics", LOOKS, metrics),
        endpoint(&get, "/livez", Access::Public, async || "ok\n"),
    ]
}

fn endpoint<H: Handler<T, Service>, T: 'static>(
    method: &Method,
    path: &'static str,
    access: Access,
    handler: H,
) -> Endpoint {
    let filter = MethodFilter::try_from(method.clone()).expect("it is a common method");
    let (method, handler) = (method.clone(), on(filter, handler));
    Endpoint { method, path, access, handler, takes: Takes::Message }
}

/// Serves the endpoints.
pub fn router(service: Service) -> Router {
    let message_bytes = service.limiter().limits().message_bytes;
    let mut router = Router::new();
    for Endpoint { path, access, handler, takes, .. } in endpoints() {
        let body = match takes {
            Takes::Message => DefaultBodyLimit::max(message_bytes),
            Takes::Artifact => DefaultBodyLimit::disable(),
        };
        let guard = from_fn_with_state((service.clone(), access, takes), guard);
        router = router.route(path, handler.layer(body).layer(guard));
    }
    // Strangers do not learn either what there is and what not.
    let stranger = from_fn_with_state((service.clone(), Access::Known, Takes::Message), guard);
    let nowhere = no_such_endpoint.layer(stranger);
    router
        .fallback(nowhere.clone())
        .method_not_allowed_fallback(nowhere)
        .layer(from_fn_with_state(service.metrics().clone(), metrics::count))
        .with_state(service)
}

/// Lets a request pass if its caller may do this now.
async fn guard(
    State((service, access, takes)): State<(Service, Access, Takes)>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let nobody = Peer { ip: Ipv6Addr::UNSPECIFIED.into(), certificate: None };
    let peer = request.extensions().get().copied().unwrap_or(nobody);
    let (who, caller) = service.gate().admit(access, &peer, request.headers());
    let limiter = service.limiter();
    limiter.rate(who)?;
    if let Err(denied) = &caller {
        // A caller's own words are not logged: they may be a token, mistyped.
        tracing::debug!(ip = %peer.ip, ?who, %denied, "a request was refused");
    }
    let caller = caller?;
    let open = limiter.open(who, takes == Takes::Artifact)?;
    let mut request = request.map(|body| Body::new(Paced::new(body, limiter.limits())));
    request.extensions_mut().insert(caller);
    let answer = next.run(request).await;
    Ok(answer.map(|body| Body::new(With::new(body, open))))
}

async fn request(State(service): State<Service>, Said(message): Said) -> Answer<Json<ProofData>> {
    let ProofData::Request(request) = message else { return Err(other_message("Request")) };
    Ok(Json(service.jobs().request(&request).await?))
}

async fn heartbeat(
    State(service): State<Service>,
    Path(job): Path<String>,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Heartbeat(beat) = message else { return Err(other_message("Heartbeat")) };
    let advice = service.jobs().heartbeat(id(&job)?, &beat).await?;
    Ok(Json(ProofData::HeartbeatAck(HeartbeatAck { advice })))
}

async fn submit(
    State(service): State<Service>,
    Path(job): Path<String>,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Submit(submit) = message else { return Err(other_message("Submit")) };
    let verdict = service.jobs().submit(id::<JobId>(&job)?, submit).await?;
    Ok(Json(ProofData::SubmitAck(SubmitAck { verdict })))
}

async fn fail(
    State(service): State<Service>,
    Path(job): Path<String>,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Fail(fail) = message else { return Err(other_message("Fail")) };
    service.jobs().fail(id(&job)?, &fail).await?;
    Ok(Json(ProofData::FailAck(FailAck {})))
}

async fn requeue(State(service): State<Service>, Path(job): Path<String>) -> Answer<StatusCode> {
    service.jobs().requeue(id(&job)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn cancel(State(service): State<Service>, Path(job): Path<String>) -> Answer<StatusCode> {
    service.jobs().cancel(id(&job)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prioritise(
    State(service): State<Service>,
    Path(job): Path<String>,
    WholeBody(body): WholeBody,
) -> Answer<StatusCode> {
    let body: Priority = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    service.jobs().prioritise(id(&job)?, body.priority).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn job(
    State(service): State<Service>,
    Path(job): Path<String>,
) -> Answer<Json<protocol::JobSummary>> {
    let job = service.jobs().store().job(id(&job)?).await;
    Ok(Json(job.map_err(JobError::from)?))
}

async fn history(
    State(service): State<Service>,
    Path(job): Path<String>,
) -> Answer<Json<protocol::JobHistory>> {
    let history = service.jobs().store().history(id(&job)?).await;
    Ok(Json(history.map_err(JobError::from)?))
}

async fn garbage(
    State(service): State<Service>,
    WholeBody(body): WholeBody,
) -> Answer<Json<protocol::Garbage>> {
    let asked: CollectGarbage = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    Ok(Json(service.collect_garbage(&asked).await?))
}

#[derive(Deserialize)]
struct Wanted {
    state: Option<JobState>,
    first: Option<u64>,
    last: Option<u64>,
}

async fn jobs(
    State(service): State<Service>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<Vec<protocol::JobSummary>>> {
    let Query(wanted) = query.map_err(|error| malformed(&error))?;
    let blocks = wanted.first.unwrap_or(0)..=wanted.last.unwrap_or(u64::MAX);
    let jobs = service.jobs().store().list(wanted.state, blocks, MAX_LISTED).await;
    Ok(Json(jobs.map_err(JobError::from)?))
}

async fn clients(State(service): State<Service>) -> Answer<Json<Vec<protocol::ClientSummary>>> {
    let now = service.jobs().now().await.map_err(JobError::from)?;
    Ok(Json(service.jobs().store().clients(now).await.map_err(JobError::from)?))
}

async fn decide(
    State(service): State<Service>,
    Path((client, deed)): Path<(String, String)>,
    request: Request,
) -> Answer<StatusCode> {
    let deed = match deed.as_str() {
        "drain" => Deed::Drain,
        "quarantine" => Deed::Quarantine,
        "release" => Deed::Release,
        _ => return Err(no_such_endpoint(request).await),
    };
    service.jobs().decide(id(&client)?, deed).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn drain(State(service): State<Service>) -> StatusCode {
    service.jobs().drain(true);
    StatusCode::NO_CONTENT
}

async fn undrain(State(service): State<Service>) -> StatusCode {
    service.jobs().drain(false);
    StatusCode::NO_CONTENT
}

async fn status(State(service): State<Service>) -> Answer<Json<protocol::Status>> {
    Ok(Json(service.status().await.map_err(JobError::from)?))
}

async fn ready(State(service): State<Service>) -> (StatusCode, Json<protocol::Readiness>) {
    let readiness = service.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn metrics(State(service): State<Service>) -> Answer<impl IntoResponse> {
    let text = service.metrics_text().await.map_err(JobError::from)?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

async fn download(State(service): State<Service>, Path(sha256): Path<String>) -> Answer<Response> {
    let (pieces, len) = service.artifacts().reader(id::<ArtifactId>(&sha256)?).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".into()),
        (header::CONTENT_LENGTH, len.to_string()),
    ];
    let metrics = service.metrics().clone();
    let pieces = pieces.inspect_ok(move |piece| metrics.sent(piece.len()));
    Ok((headers, Body::from_stream(pieces)).into_response())
}

async fn upload(
    State(service): State<Service>,
    Path(sha256): Path<String>,
    request: Request,
) -> Answer<StatusCode> {
    let id = id::<ArtifactId>(&sha256)?;
    let limit = service.artifacts().limit();
    if request.body().size_hint().lower() > limit {
        return Err(ArtifactError::TooLarge { limit }.into());
    }
    service.room().await?;
    let mut slow = None;
    let pieces = request.into_body().into_data_stream();
    let pieces = pieces.inspect_ok(|piece| service.metrics().received(piece.len()));
    let pieces = pieces.map(|piece| {
        piece.map_err(|error| {
            slow = too_slow(&error);
            error.to_string()
        })
    });
    let received = service.artifacts().receive(id, pieces).await;
    match slow {
        Some(slow) => Err(slow.into()),
        None => received.map(|_| StatusCode::CREATED).map_err(Refusal::from),
    }
}

async fn no_such_endpoint(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(80).collect();
    let message = format!(
        "there is no {} {path:?} here: this server speaks {}",
        request.method(),
        protocol::paths::V1
    );
    refuse(StatusCode::NOT_FOUND, ErrorCode::NoSuchEndpoint, message)
}

/// What varies in a path.
struct Path<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<Service> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Answer<Self> {
        let path = axum::extract::Path::from_request_parts(parts, service).await;
        path.map(|axum::extract::Path(path)| Self(path)).map_err(|error| malformed(&error))
    }
}

/// A message of a client that the caller may speak for.
struct Said(ProofData);

impl FromRequest<Service> for Said {
    type Rejection = Refusal;

    async fn from_request(request: Request, service: &Service) -> Answer<Self> {
        let bound = request.extensions().get::<Caller>().and_then(|caller| caller.client);
        let WholeBody(body) = WholeBody::from_request(request, service).await?;
        let message = message(&body)?;
        match (bound, speaker(&message)) {
            (Some(bound), Some(client)) if bound != client => {
                let message = format!("this token is client {bound}'s, and not client {client}'s");
                Err(retry_later(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message))
            }
            _ => Ok(Self(message)),
        }
    }
}

/// The client that says `message`, if a client does.
fn speaker(message: &ProofData) -> Option<ClientId> {
    match message {
        ProofData::Request(message) => Some(message.client),
        ProofData::Submit(message) => Some(message.client),
        ProofData::Heartbeat(message) => Some(message.client),
        ProofData::Fail(message) => Some(message.client),
        ProofData::Response(_)
        | ProofData::NoWork(_)
        | ProofData::SubmitAck(_)
        | ProofData::HeartbeatAck(_)
        | ProofData::FailAck(_) => None,
    }
}

/// A body that came whole and in time.
struct WholeBody(Bytes);

impl FromRequest<Service> for WholeBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, service: &Service) -> Answer<Self> {
        let limits = service.limiter().limits();
        let too_large = || {
            let message = format!("a message has at most {} bytes", limits.message_bytes);
            refuse(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, message)
        };
        if request.body().size_hint().lower() > limits.message_bytes as u64 {
            return Err(too_large());
        }
        let body = Bytes::from_request(request, service);
        let body = tokio::time::timeout(limits.message_time, body).await.map_err(|_elapsed| {
            let message = "the message did not arrive in time (message_time)".into();
            retry(StatusCode::REQUEST_TIMEOUT, ErrorCode::TooSlow, message)
        })?;
        body.map(Self).map_err(|error: BytesRejection| match too_slow(&error) {
            Some(slow) => slow.into(),
            None if error.status() == StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            None => malformed(&error),
        })
    }
}

/// Whether a body failed because its sender was too slow.
fn too_slow(error: &(dyn std::error::Error + 'static)) -> Option<TooSlow> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref().copied())
}

/// Reads a message, or says whether it is no JSON or no message of this version.
fn message(body: &[u8]) -> Answer<ProofData> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type")]
        _name: String,
    }
    serde_json::from_slice(body).map_err(|error| {
        // Error texts repeat what was sent; they are cut so that nobody can fill a log with them.
        let text: String = error.to_string().chars().take(300).collect();
        let unknown =
            text.starts_with("unknown variant") && serde_json::from_slice::<Named>(body).is_ok();
        let code = if unknown { ErrorCode::UnknownMessage } else { ErrorCode::Malformed };
        refuse(StatusCode::BAD_REQUEST, code, text)
    })
}

fn malformed(error: &dyn std::fmt::Display) -> Refusal {
    let text = error.to_string().chars().take(300).collect();
    refuse(StatusCode::BAD_REQUEST, ErrorCode::Malformed, text)
}

fn other_message(wanted: &str) -> Refusal {
    let message = format!("this endpoint takes a {wanted} message");
    refuse(StatusCode::BAD_REQUEST, ErrorCode::UnknownMessage, message)
}

fn id<T: FromStr<Err = protocol::InvalidId>>(text: &str) -> Answer<T> {
    text.parse().map_err(|error: protocol::InvalidId| {
        refuse(StatusCode::BAD_REQUEST, ErrorCode::Malformed, error.to_string())
    })
}

/// An [`ApiError`] with its HTTP status.
struct Refusal(StatusCode, Box<ApiError>);

fn refuse(status: StatusCode, code: ErrorCode, message: String) -> Refusal {
    Refusal(status, Box::new(ApiError { code, message, retryable: false, retry_after_ms: None }))
}

fn retry(status: StatusCode, code: ErrorCode, message: String) -> Refusal {
    Refusal(
        status,
        Box::new(ApiError { code, message, retryable: true, retry_after_ms: Some(1_000) }),
    )
}

/// Refuses what somebody has to mend first: a token, a disk.
fn retry_later(status: StatusCode, code: ErrorCode, message: String) -> Refusal {
    let retry_after_ms = Some(10_000);
    Refusal(status, Box::new(ApiError { code, message, retryable: true, retry_after_ms }))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        let seconds = error.retry_after_ms.map(|ms| ms.div_ceil(1_000).to_string());
        let mut answer = (status, Json(error)).into_response();
        let headers = answer.headers_mut();
        if let Some(seconds) = seconds.and_then(|seconds| seconds.parse().ok()) {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let (status, code) = match denied {
            Denied::Unknown => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated),
            Denied::Role(_) => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
        };
        retry_later(status, code, denied.to_string())
    }
}

impl From<Wait> for Refusal {
    fn from(wait: Wait) -> Self {
        let pause = crate::clock::millis(wait.pause()).max(1);
        let mut refusal =
            retry(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, wait.to_string());
        refusal.1.retry_after_ms = Some(pause);
        refusal
    }
}

impl From<TooSlow> for Refusal {
    fn from(slow: TooSlow) -> Self {
        retry(StatusCode::REQUEST_TIMEOUT, ErrorCode::TooSlow, slow.to_string())
    }
}

impl From<NoRoom> for Refusal {
    fn from(full: NoRoom) -> Self {
        retry_later(StatusCode::INSUFFICIENT_STORAGE, ErrorCode::DiskFull, full.to_string())
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        let text = error.to_string();
        match error {
            JobError::Malformed(_) | JobError::WrongLength { .. } => {
                refuse(StatusCode::BAD_REQUEST, ErrorCode::Malformed, text)
            }
            JobError::ProofMissing(_) => {
                retry(StatusCode::CONFLICT, ErrorCode::NoSuchArtifact, text)
            }
            JobError::NotVerified => {
                retry(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, text)
            }
            JobError::Artifacts(error) => error.into(),
            JobError::Store(StoreError::NoSuchJob(_)) => {
                refuse(StatusCode::NOT_FOUND, ErrorCode::NoSuchJob, text)
            }
            JobError::Store(StoreError::NoSuchClient(_)) => {
                refuse(StatusCode::NOT_FOUND, ErrorCode::NoSuchClient, text)
            }
            JobError::Store(StoreError::Refused { refused, .. }) => {
                use crate::jobs::state::Refused::NotTheLease;
                let code = if refused == NotTheLease {
                    ErrorCode::LeaseLost
                } else {
                    ErrorCode::WrongState
                };
                refuse(StatusCode::CONFLICT, code, text)
            }
            JobError::Store(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(code = "job_store_failed", error, "job store failed");
                retry(
                    StatusCode::SERVICE_UNAVAILABLE,
                    ErrorCode::Unavailable,
                    "the job store failed".into(),
                )
            }
        }
    }
}

impl From<ArtifactError> for Refusal {
    fn from(error: ArtifactError) -> Self {
        let text = error.to_string();
        match error {
            ArtifactError::Missing(_) => {
                refuse(StatusCode::NOT_FOUND, ErrorCode::NoSuchArtifact, text)
            }
            ArtifactError::TooLarge { .. } => {
                refuse(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, text)
            }
            ArtifactError::HashMismatch { .. } => {
                retry(StatusCode::BAD_REQUEST, ErrorCode::HashMismatch, text)
            }
            ArtifactError::Interrupted(_) => {
                retry(StatusCode::BAD_REQUEST, ErrorCode::Malformed, text)
            }
            ArtifactError::Damaged(_) | ArtifactError::Place { .. } | ArtifactError::Store(_) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(code = "artifact_store_failed", error, "artifact store failed");
                retry(
                    StatusCode::SERVICE_UNAVAILABLE,
                    ErrorCode::Unavailable,
                    "the artifact store failed".into(),
                )
            }
        }
    }
}

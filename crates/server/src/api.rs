//! HTTP: decodes, calls one function, encodes.

use crate::{
    artifacts::{self, ArtifactError},
    jobs::{JobError, StoreError, state::Deed},
    metrics,
    service::Service,
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Path, Query, Request, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, TryStreamExt};
use protocol::{
    ApiError, ArtifactId, ErrorCode, FailAck, HeartbeatAck, JobId, JobState, Priority, ProofData,
    SubmitAck,
};
use serde::Deserialize;
use std::str::FromStr;

/// A message is at most so long, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// A list of jobs has at most so many.
const MAX_LISTED: u32 = 1_000;

type Answer<T> = Result<T, Refusal>;

/// All endpoints.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/v1/request", post(request))
        .route("/v1/jobs/{job}/heartbeat", post(heartbeat))
        .route("/v1/jobs/{job}/submit", post(submit))
        .route("/v1/jobs/{job}/fail", post(fail))
        .route("/v1/jobs/{job}/requeue", post(requeue))
        .route("/v1/jobs/{job}/cancel", post(cancel))
        .route("/v1/jobs/{job}/priority", post(prioritise))
        .route("/v1/jobs/{job}", get(job))
        .route("/v1/jobs", get(jobs))
        .route("/v1/clients", get(clients))
        .route("/v1/clients/{client}/{deed}", post(decide))
        .route("/v1/drain", post(drain).delete(undrain))
        .route("/v1/status", get(status))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE))
        // Streamed, and limited by the store.
        .route(
            "/v1/artifacts/{sha256}",
            get(download).put(upload).layer(DefaultBodyLimit::disable()),
        )
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(no_such_endpoint)
        .layer(middleware::from_fn_with_state(service.metrics().clone(), metrics::count))
        .with_state(service)
}

async fn request(State(service): State<Service>, body: Body1) -> Answer<Json<ProofData>> {
    let ProofData::Request(request) = message(body)? else { return Err(other_message("Request")) };
    Ok(Json(service.jobs().request(&request).await?))
}

async fn heartbeat(
    State(service): State<Service>,
    Path(job): Path<String>,
    body: Body1,
) -> Answer<Json<ProofData>> {
    let ProofData::Heartbeat(beat) = message(body)? else { return Err(other_message("Heartbeat")) };
    let advice = service.jobs().heartbeat(id(&job)?, &beat).await?;
    Ok(Json(ProofData::HeartbeatAck(HeartbeatAck { advice })))
}

async fn submit(
    State(service): State<Service>,
    Path(job): Path<String>,
    body: Body1,
) -> Answer<Json<ProofData>> {
    let ProofData::Submit(submit) = message(body)? else { return Err(other_message("Submit")) };
    let verdict = service.jobs().submit(id::<JobId>(&job)?, submit).await?;
    Ok(Json(ProofData::SubmitAck(SubmitAck { verdict })))
}

async fn fail(
    State(service): State<Service>,
    Path(job): Path<String>,
    body: Body1,
) -> Answer<Json<ProofData>> {
    let ProofData::Fail(fail) = message(body)? else { return Err(other_message("Fail")) };
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
    body: Body1,
) -> Answer<StatusCode> {
    let body: Priority =
        serde_json::from_slice(&bytes(body)?).map_err(|error| malformed(&error))?;
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

#[derive(Deserialize)]
struct Wanted {
    state: Option<JobState>,
}

async fn jobs(
    State(service): State<Service>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<Vec<protocol::JobSummary>>> {
    let Query(wanted) = query.map_err(|error| malformed(&error))?;
    let jobs = service.jobs().store().list(wanted.state, MAX_LISTED).await;
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
    let (file, len) = service.artifacts().reader(id::<ArtifactId>(&sha256)?).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".into()),
        (header::CONTENT_LENGTH, len.to_string()),
    ];
    let metrics = service.metrics().clone();
    let pieces = artifacts::pieces(file).inspect_ok(move |piece| metrics.sent(piece.len()));
    Ok((headers, Body::from_stream(pieces)).into_response())
}

async fn upload(
    State(service): State<Service>,
    Path(sha256): Path<String>,
    request: Request,
) -> Answer<StatusCode> {
    let id = id::<ArtifactId>(&sha256)?;
    let pieces = request
        .into_body()
        .into_data_stream()
        .inspect_ok(|piece| service.metrics().received(piece.len()))
        .map(|piece| piece.map_err(|error| error.to_string()));
    service.artifacts().receive(id, pieces).await?;
    Ok(StatusCode::CREATED)
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

type Body1 = Result<Bytes, BytesRejection>;

/// Reads a message, or says whether it is too long, no JSON, or no message of this version.
fn message(body: Body1) -> Answer<ProofData> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type")]
        _name: String,
    }
    let body = bytes(body)?;
    serde_json::from_slice(&body).map_err(|error| {
        // Error texts repeat what was sent; they are cut so that nobody can fill a log with them.
        let text: String = error.to_string().chars().take(300).collect();
        let unknown =
            text.starts_with("unknown variant") && serde_json::from_slice::<Named>(&body).is_ok();
        let code = if unknown { ErrorCode::UnknownMessage } else { ErrorCode::Malformed };
        refuse(StatusCode::BAD_REQUEST, code, text)
    })
}

fn bytes(body: Body1) -> Answer<Bytes> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("a message has at most {MAX_MESSAGE} bytes");
            refuse(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, message)
        }
        _ => malformed(&error),
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

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
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
            ArtifactError::Damaged(_) | ArtifactError::Io { .. } => {
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

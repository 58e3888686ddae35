//! Handlers: each decodes, calls one function, encodes.

use super::{
    error::{Answer, Refusal, malformed, no_such_endpoint, other_message, retry_later},
    extract::{Path, Said, WholeBody, id, too_slow},
    service::Service,
};
use crate::{
    artifacts::ArtifactError, dispatch::JobError, jobs::standing::StandingEvent, observe::metrics,
};
use axum::{
    Json,
    body::{Body, HttpBody as _},
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt};
use protocol::{
    ArtifactId, CollectGarbage, ErrorCode, FailAck, HeartbeatAck, JobId, JobState, Priority,
    ProofData, SubmitAck,
};
use serde::Deserialize;
use std::time::Duration;

/// A list of jobs has at most so many.
const MAX_LISTED: u32 = 1_000;

pub(super) async fn request(
    State(service): State<Service>,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Request(request) = message else { return Err(other_message("Request")) };
    Ok(Json(service.jobs().request(&request).await?))
}

pub(super) async fn heartbeat(
    State(service): State<Service>,
    Path(job): Path<String>,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Heartbeat(beat) = message else { return Err(other_message("Heartbeat")) };
    let advice = service.jobs().heartbeat(id(&job)?, &beat).await?;
    Ok(Json(ProofData::HeartbeatAck(HeartbeatAck { advice })))
}

pub(super) async fn submit(
    State(service): State<Service>,
    Path(job): Path<String>,
    headers: HeaderMap,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Submit(submit) = message else { return Err(other_message("Submit")) };
    let verdict = service.jobs().submit(id::<JobId>(&job)?, submit, wanted_wait(&headers)).await?;
    Ok(Json(ProofData::SubmitAck(SubmitAck { verdict })))
}

/// How long the caller wants its request held open, if it says so: `Prefer: wait=SECONDS` (RFC 7240).
fn wanted_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut wishes = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    let seconds = wishes.find_map(|wish| wish.strip_prefix("wait="))?;
    Some(Duration::from_secs(seconds.trim_matches('"').parse::<u32>().ok()?.into()))
}

pub(super) async fn fail(
    State(service): State<Service>,
    Path(job): Path<String>,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Fail(fail) = message else { return Err(other_message("Fail")) };
    service.jobs().fail(id(&job)?, &fail).await?;
    Ok(Json(ProofData::FailAck(FailAck {})))
}

pub(super) async fn requeue(
    State(service): State<Service>,
    Path(job): Path<String>,
) -> Answer<StatusCode> {
    service.jobs().requeue(id(&job)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn cancel(
    State(service): State<Service>,
    Path(job): Path<String>,
) -> Answer<StatusCode> {
    service.jobs().cancel(id(&job)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn prioritise(
    State(service): State<Service>,
    Path(job): Path<String>,
    WholeBody(body): WholeBody,
) -> Answer<StatusCode> {
    let body: Priority = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    service.jobs().prioritise(id(&job)?, body.priority).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn job(
    State(service): State<Service>,
    Path(job): Path<String>,
) -> Answer<Json<protocol::JobSummary>> {
    let job = service.jobs().store().job(id(&job)?).await;
    Ok(Json(job.map_err(JobError::from)?))
}

pub(super) async fn history(
    State(service): State<Service>,
    Path(job): Path<String>,
) -> Answer<Json<protocol::JobHistory>> {
    let history = service.jobs().store().history(id(&job)?).await;
    Ok(Json(history.map_err(JobError::from)?))
}

pub(super) async fn garbage(
    State(service): State<Service>,
    WholeBody(body): WholeBody,
) -> Answer<Json<protocol::Garbage>> {
    let asked: CollectGarbage = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    Ok(Json(service.collect_garbage(&asked).await?))
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    state: Option<JobState>,
    first: Option<u64>,
    last: Option<u64>,
}

pub(super) async fn jobs(
    State(service): State<Service>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<Vec<protocol::JobSummary>>> {
    let Query(wanted) = query.map_err(|error| malformed(&error))?;
    let blocks = wanted.first.unwrap_or(0)..=wanted.last.unwrap_or(u64::MAX);
    let jobs = service.jobs().store().list(wanted.state, blocks, MAX_LISTED).await;
    Ok(Json(jobs.map_err(JobError::from)?))
}

pub(super) async fn clients(
    State(service): State<Service>,
) -> Answer<Json<Vec<protocol::ClientSummary>>> {
    let now = service.jobs().now().await.map_err(JobError::from)?;
    Ok(Json(service.jobs().store().clients(now).await.map_err(JobError::from)?))
}

pub(super) async fn decide(
    State(service): State<Service>,
    Path((client, deed)): Path<(String, String)>,
    request: Request,
) -> Answer<StatusCode> {
    let deed = match deed.as_str() {
        "drain" => StandingEvent::Drain,
        "quarantine" => StandingEvent::Quarantine,
        "release" => StandingEvent::Release,
        _ => return Err(no_such_endpoint(request).await),
    };
    service.jobs().decide(id(&client)?, deed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(State(service): State<Service>) -> StatusCode {
    service.jobs().drain(true);
    StatusCode::NO_CONTENT
}

pub(super) async fn undrain(State(service): State<Service>) -> StatusCode {
    service.jobs().drain(false);
    StatusCode::NO_CONTENT
}

pub(super) async fn status(State(service): State<Service>) -> Answer<Json<protocol::Status>> {
    Ok(Json(service.status().await.map_err(JobError::from)?))
}

pub(super) async fn ready(
    State(service): State<Service>,
) -> (StatusCode, Json<protocol::Readiness>) {
    let readiness = service.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

pub(super) async fn metrics(State(service): State<Service>) -> Answer<impl IntoResponse> {
    let text = service.metrics_text().await.map_err(JobError::from)?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

pub(super) async fn download(
    State(service): State<Service>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let id = id::<ArtifactId>(&sha256)?;
    let from = wanted_rest(&headers).unwrap_or_default();
    if from > 0 {
        let len = service.artifacts().len(id).await?;
        if from >= len {
            let range = [(header::CONTENT_RANGE, format!("bytes */{len}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    }
    let (pieces, len) = service.artifacts().reader_from(id, from).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".into()),
        (header::CONTENT_LENGTH, (len - from).to_string()),
        (header::ACCEPT_RANGES, "bytes".into()),
    ];
    let metrics = service.metrics().clone();
    let pieces = pieces.inspect_ok(move |piece| metrics.sent(piece.len()));
    let body = Body::from_stream(pieces);
    Ok(match from {
        0 => (headers, body).into_response(),
        _ => {
            let range = [(header::CONTENT_RANGE, format!("bytes {from}-{}/{len}", len - 1))];
            (StatusCode::PARTIAL_CONTENT, headers, range, body).into_response()
        }
    })
}

/// From where on the caller wants the bytes: `Range: bytes=N-`, for a download that broke. Other ranges are answered with the whole.
fn wanted_rest(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

pub(super) async fn upload(
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

pub(super) async fn live(State(service): State<Service>) -> Answer<&'static str> {
    match service.crashed() {
        None => Ok("ok\n"),
        Some(part) => {
            let message = format!("the server's part {part} has crashed: start it again");
            Err(retry_later(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message))
        }
    }
}

//! Handlers: each decodes, calls one function, encodes.

use super::{
    error::{Answer, Refusal, malformed, no_such_endpoint, other_message, retry_later},
    extract::{By, Path, Said, Shown, WholeBody, id, too_slow},
    peer::Who,
    service::Service,
};
use crate::{
    access::{gate::Caller, tokens::TokenId},
    artifacts::{self, ArtifactError},
    clock::Timestamp,
    dispatch::{JobError, Sender},
    jobs::{party::Party, standing::StandingEvent},
    observe::metrics,
    store::{Actor, JobFilter, Switch},
};
use axum::{
    Extension, Json,
    body::{Body, HttpBody as _},
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt};
use protocol::{
    ArtifactId, ChangeJobs, CollectGarbage, Delivered, ErrorCode, FailAck, HeartbeatAck, JobId,
    JobState, Priority, ProofData, ProofKind, SubmitAck, paths,
};
use serde::Deserialize;
use std::time::Duration;

/// A list has at most so many on a page.
const MAX_LISTED: u32 = 1_000;

pub(super) async fn request(
    State(service): State<Service>,
    Shown(token): Shown,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Request(request) = message else { return Err(other_message("Request")) };
    let party = Party::of(token.map(TokenId::number), request.client);
    Ok(Json(service.jobs().request(&request, party).await?))
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
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Said(message): Said,
) -> Answer<Json<ProofData>> {
    let ProofData::Submit(submit) = message else { return Err(other_message("Submit")) };
    let (job, wait, sender) = (id::<JobId>(&job)?, wanted_wait(&headers), Sender::of(&who));
    let verdict = service.jobs().submit(job, submit, wait, sender).await?;
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
    By(by): By,
) -> Answer<StatusCode> {
    service.jobs().requeue(id(&job)?, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn cancel(
    State(service): State<Service>,
    Path(job): Path<String>,
    By(by): By,
) -> Answer<StatusCode> {
    service.jobs().cancel(id(&job)?, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Meant {
    client: Option<String>,
}

pub(super) async fn release(
    State(service): State<Service>,
    Path(job): Path<String>,
    By(by): By,
    query: Result<Query<Meant>, QueryRejection>,
) -> Answer<StatusCode> {
    let Query(Meant { client }) = query.map_err(|error| malformed(&error))?;
    let meant = client.map(|client| id(&client)).transpose()?;
    service.jobs().release(id(&job)?, meant, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn hand_over(State(service): State<Service>, By(by): By) -> Answer<StatusCode> {
    service.hand_over(&by).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn prioritise(
    State(service): State<Service>,
    Path(job): Path<String>,
    By(by): By,
    WholeBody(body): WholeBody,
) -> Answer<StatusCode> {
    let body: Priority = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    service.jobs().prioritise(id(&job)?, body.priority, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn change(
    State(service): State<Service>,
    By(by): By,
    WholeBody(body): WholeBody,
) -> Answer<Json<protocol::ChangedJobs>> {
    let asked: ChangeJobs = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    Ok(Json(service.jobs().change(&asked, &by).await?))
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
    By(by): By,
    WholeBody(body): WholeBody,
) -> Answer<Json<protocol::Garbage>> {
    let asked: CollectGarbage = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    Ok(Json(service.collect_garbage(&asked, &by).await?))
}

/// A list that has more pages says where the next one is.
type Listed<T> = Answer<(Option<[(header::HeaderName, String); 1]>, Json<Vec<T>>)>;

/// How many items a page has at most.
fn page_of(limit: Option<u32>) -> u32 {
    limit.unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED)
}

fn listed<T>(items: Vec<T>, path: &str, next: Option<String>) -> Listed<T> {
    let link = next.map(|query| [(header::LINK, format!("<{path}?{query}>; rel=\"next\""))]);
    Ok((link, Json(items)))
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    state: Option<JobState>,
    first: Option<u64>,
    last: Option<u64>,
    #[serde(default)]
    troubled: bool,
    kind: Option<ProofKind>,
    before: Option<u64>,
    limit: Option<u32>,
}

pub(super) async fn jobs(
    State(service): State<Service>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Listed<protocol::JobSummary> {
    let Query(wanted) = query.map_err(|error| malformed(&error))?;
    let Wanted { state, first, last, troubled, kind, before, limit } = wanted;
    let made_of_proofs = made_of_proofs(kind)?;
    let filter = JobFilter {
        state,
        troubled,
        made_of_proofs,
        blocks: first.unwrap_or(0)..=last.unwrap_or(u64::MAX),
        before,
    };
    let limit = page_of(limit);
    let page = service.jobs().store().list(&filter, limit).await.map_err(JobError::from)?;
    let next = page.next.map(|next| {
        let mut query = format!("before={next}&limit={limit}");
        for (name, value) in [
            ("state", state.map(|state| state.name().to_owned())),
            ("first", first.map(|first| first.to_string())),
            ("last", last.map(|last| last.to_string())),
            ("troubled", troubled.then(|| "true".to_owned())),
            ("kind", kind.map(|kind| kind.to_string())),
        ] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={value}"));
            }
        }
        query
    });
    listed(page.items, paths::JOBS, next)
}

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn clients(
    State(service): State<Service>,
    query: Result<Query<Before>, QueryRejection>,
) -> Listed<protocol::ClientSummary> {
    let Query(Before { before, limit }) = query.map_err(|error| malformed(&error))?;
    let before = match before {
        None => None,
        Some(text) => {
            let (seen, client) = text.split_once('-').unwrap_or_default();
            let seen = seen.parse().map_err(|_| malformed(&"before is what a page's link says"))?;
            Some((Timestamp(seen), id(client)?))
        }
    };
    let limit = page_of(limit);
    let now = service.jobs().now().await.map_err(JobError::from)?;
    let clients = service.jobs().store().list_clients(before, limit, now).await;
    let clients = clients.map_err(JobError::from)?;
    let next = clients.last().filter(|_| clients.len() >= limit as usize);
    let next = next.map(|it| format!("before={}-{}&limit={limit}", it.last_seen, it.client));
    listed(clients, paths::CLIENTS, next)
}

pub(super) async fn audit(
    State(service): State<Service>,
    query: Result<Query<Before>, QueryRejection>,
) -> Listed<protocol::AuditEntry> {
    let Query(Before { before, limit }) = query.map_err(|error| malformed(&error))?;
    let before = before.map(|before| before.parse().map_err(|error| malformed(&error)));
    let limit = page_of(limit);
    let page = service.jobs().store().audit(before.transpose()?, limit).await;
    let page = page.map_err(JobError::from)?;
    listed(page.items, paths::AUDIT, page.next.map(|next| format!("before={next}&limit={limit}")))
}

#[derive(Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
    kind: Option<ProofKind>,
    limit: Option<u32>,
}

/// Which proofs that are made of others are asked for, instead of those of batches.
fn made_of_proofs(kind: Option<ProofKind>) -> Answer<Option<ProofKind>> {
    match kind {
        None => Ok(None),
        Some(made) if made.is_made_of_proofs() => Ok(kind),
        Some(other) => {
            Err(malformed(&format!("kind can only be aggregate or groth16, and not {other}")))
        }
    }
}

pub(super) async fn proofs(
    State(service): State<Service>,
    query: Result<Query<After>, QueryRejection>,
) -> Answer<Json<Vec<protocol::ProvedBatch>>> {
    let Query(After { after, kind, limit }) = query.map_err(|error| malformed(&error))?;
    let limit = page_of(limit.or(Some(100)));
    let store = service.jobs().store();
    let proofs = match made_of_proofs(kind)? {
        Some(kind) => store.folded_proofs(kind, after, limit).await,
        None => store.proofs(after, limit).await,
    };
    Ok(Json(proofs.map_err(JobError::from)?))
}

pub(super) async fn delivered(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    WholeBody(body): WholeBody,
) -> Answer<StatusCode> {
    let Delivered { through } = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    service.jobs().delivered(&caller.consumer(), through).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn decide(
    State(service): State<Service>,
    Path((client, deed)): Path<(String, String)>,
    By(by): By,
    request: Request,
) -> Answer<StatusCode> {
    let deed = match deed.as_str() {
        "drain" => StandingEvent::Drain,
        "quarantine" => StandingEvent::Quarantine,
        "release" => StandingEvent::Release,
        _ => return Err(no_such_endpoint(request).await),
    };
    service.jobs().decide(id(&client)?, deed, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(State(service): State<Service>, By(by): By) -> Answer<StatusCode> {
    switch(&service, Switch::Drain, true, &by).await
}

pub(super) async fn undrain(State(service): State<Service>, By(by): By) -> Answer<StatusCode> {
    switch(&service, Switch::Drain, false, &by).await
}

pub(super) async fn pause(State(service): State<Service>, By(by): By) -> Answer<StatusCode> {
    switch(&service, Switch::Pause, true, &by).await
}

pub(super) async fn unpause(State(service): State<Service>, By(by): By) -> Answer<StatusCode> {
    switch(&service, Switch::Pause, false, &by).await
}

async fn switch(service: &Service, what: Switch, on: bool, by: &Actor) -> Answer<StatusCode> {
    service.jobs().switch(what, on, by).await?;
    Ok(StatusCode::NO_CONTENT)
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
    let pieces = match from {
        0 => artifacts::watched(id, pieces),
        _ => pieces,
    };
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
    let announced = request.body().size_hint().lower();
    if announced > limit {
        return Err(ArtifactError::TooLarge { limit }.into());
    }
    let mut room = service.room(announced).await?;
    let (mut slow, mut full) = (None, None);
    let pieces = request.into_body().into_data_stream();
    let pieces = pieces.inspect_ok(|piece| service.metrics().received(piece.len()));
    let pieces = pieces.map(|piece| {
        let piece = piece.map_err(|error| {
            slow = too_slow(&error);
            error.to_string()
        })?;
        room.take(piece.len() as u64).map_err(|error| {
            full = Some(error);
            error.to_string()
        })?;
        Ok::<_, String>(piece)
    });
    let received = service.artifacts().receive(id, pieces).await;
    match (slow, full) {
        (Some(slow), _) => Err(slow.into()),
        (None, Some(full)) => Err(full.into()),
        (None, None) => received.map(|_| StatusCode::CREATED).map_err(Refusal::from),
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

//! The dashboard's files, its sessions and its events.

use super::{error::Answer, service::Service};
use crate::{
    access::gate::Caller,
    dashboard::{
        feed::Seat,
        page::{File, POLICY},
    },
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::Session;

/// The type of server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";

type Cookie = Option<[(HeaderName, String); 1]>;

pub(super) fn file(file: File) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, file.kind), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, file.text)
}

pub(super) async fn session(Extension(caller): Extension<Caller>) -> Json<Session> {
    Json(caller.session())
}

pub(super) async fn sign_in(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> (Cookie, Json<Session>) {
    let (cookie, session) = service.gate().sign_in(&caller, &headers);
    (cookie.map(|cookie| [(header::SET_COOKIE, cookie)]), Json(session))
}

pub(super) async fn sign_out(
    State(service): State<Service>,
    headers: HeaderMap,
) -> (StatusCode, Cookie, ()) {
    let cookie = service.gate().sign_out(&headers);
    (StatusCode::NO_CONTENT, cookie.map(|cookie| [(header::SET_COOKIE, cookie)]), ())
}

pub(super) async fn events(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
) -> Answer<Response> {
    let gate = service.gate().clone();
    let seat = if caller.operates() { Seat::Operators } else { Seat::Common };
    let events = service.feed().watch(seat, move || gate.still_admits(&caller))?;
    // Some proxies hold an answer back until it is complete, unless they are told.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    let headers = [(header::CONTENT_TYPE, EVENTS), (unbuffered, "no")];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// What browsers must not do with any answer: keep it, guess its type, show it inside another page, or tell others where it was.
pub(super) async fn with_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

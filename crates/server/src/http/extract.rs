//! What handlers take out of a request: its path, its message, its body.

use super::{
    error::{Answer, Refusal, malformed, refuse, retry, retry_later},
    limits::TooSlow,
    service::Service,
};
use crate::{
    access::{gate::Caller, tokens::TokenId},
    store::Actor,
};
use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
};
use protocol::{ClientId, ErrorCode, ProofData};
use serde::{Deserialize, de::DeserializeOwned};
use std::str::FromStr;

/// What varies in a path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Service> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Answer<Self> {
        let path = axum::extract::Path::from_request_parts(parts, service).await;
        path.map(|axum::extract::Path(path)| Self(path)).map_err(|error| malformed(&error))
    }
}

/// The caller, as what it does is recorded.
pub(super) struct By(pub(super) Actor);

impl FromRequestParts<Service> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _service: &Service) -> Answer<Self> {
        let caller = parts.extensions.get::<Caller>();
        Ok(Self(caller.map_or_else(Actor::anybody, Caller::actor)))
    }
}

/// The token that the caller showed, if it needed one.
pub(super) struct Shown(pub(super) Option<TokenId>);

impl FromRequestParts<Service> for Shown {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _service: &Service) -> Answer<Self> {
        Ok(Self(parts.extensions.get::<Caller>().and_then(Caller::token)))
    }
}

/// A message of a client that the caller may speak for.
pub(super) struct Said(pub(super) ProofData);

impl FromRequest<Service> for Said {
    type Rejection = Refusal;

    async fn from_request(request: Request, service: &Service) -> Answer<Self> {
        let caller = request.extensions().get::<Caller>().cloned();
        let WholeBody(body) = WholeBody::from_request(request, service).await?;
        let message = message(&body)?;
        match (caller, speaker(&message)) {
            (Some(caller), Some(client)) if !service.gate().may_speak(&caller, client) => {
                let message = match caller.client() {
                    Some(bound) => {
                        format!("this token is client {bound}'s, and not client {client}'s")
                    }
                    None => format!("client {client} has a token of its own, and this is another"),
                };
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
pub(super) struct WholeBody(pub(super) Bytes);

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
pub(super) fn too_slow(error: &(dyn std::error::Error + 'static)) -> Option<TooSlow> {
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

pub(super) fn id<T: FromStr<Err = protocol::InvalidId>>(text: &str) -> Answer<T> {
    text.parse().map_err(|error: protocol::InvalidId| {
        refuse(StatusCode::BAD_REQUEST, ErrorCode::Malformed, error.to_string())
    })
}

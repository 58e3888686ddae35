//! Refusals: every error becomes one answer, with its status, its code and whether to try again.

use super::limits::{TooSlow, Wait};
use crate::{
    access::gate::Denied,
    artifacts::ArtifactError,
    dashboard::feed::Crowded,
    data_folder::NoRoom,
    dispatch::{Busy, JobError},
    store::StoreError,
};
use axum::{
    Json,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{ApiError, ErrorCode};

pub(super) type Answer<T> = Result<T, Refusal>;

/// An [`ApiError`] with its HTTP status.
pub(super) struct Refusal(StatusCode, Box<ApiError>);

pub(super) fn refuse(status: StatusCode, code: ErrorCode, message: String) -> Refusal {
    Refusal(status, Box::new(ApiError { code, message, retryable: false, retry_after_ms: None }))
}

pub(super) fn retry(status: StatusCode, code: ErrorCode, message: String) -> Refusal {
    Refusal(
        status,
        Box::new(ApiError { code, message, retryable: true, retry_after_ms: Some(1_000) }),
    )
}

/// Refuses what somebody has to mend first: a token, a disk.
pub(super) fn retry_later(status: StatusCode, code: ErrorCode, message: String) -> Refusal {
    let retry_after_ms = Some(10_000);
    Refusal(status, Box::new(ApiError { code, message, retryable: true, retry_after_ms }))
}

pub(super) fn malformed(error: &dyn std::fmt::Display) -> Refusal {
    let text = error.to_string().chars().take(300).collect();
    refuse(StatusCode::BAD_REQUEST, ErrorCode::Malformed, text)
}

pub(super) fn other_message(wanted: &str) -> Refusal {
    let message = format!("this endpoint takes a {wanted} message");
    refuse(StatusCode::BAD_REQUEST, ErrorCode::UnknownMessage, message)
}

pub(super) async fn no_such_endpoint(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(80).collect();
    let message = format!(
        "there is no {} {path:?} here: this server speaks {}",
        request.method(),
        protocol::paths::V1
    );
    refuse(StatusCode::NOT_FOUND, ErrorCode::NoSuchEndpoint, message)
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
            Denied::Role(_) | Denied::Foreign(_) => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
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

impl From<Crowded> for Refusal {
    fn from(crowded: Crowded) -> Self {
        let code = ErrorCode::RateLimited;
        retry_later(StatusCode::SERVICE_UNAVAILABLE, code, crowded.to_string())
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
            JobError::Busy(busy) => {
                let (status, code) = match busy {
                    Busy::Full => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
                    Busy::Garbage { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited),
                };
                let mut refusal = retry(status, code, text);
                refusal.1.retry_after_ms = Some(crate::clock::millis(busy.pause()).max(1));
                refusal
            }
            JobError::Plan { .. } => {
                tracing::error!(code = "plan_unreadable", error = text, "a plan cannot be read");
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    ErrorCode::Internal,
                    "the server failed; its log says why".into(),
                )
            }
            JobError::NotHandedOver(_) => refuse(StatusCode::CONFLICT, ErrorCode::WrongState, text),
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

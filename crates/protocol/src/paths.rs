//! Where each message goes.

use crate::{ArtifactId, JobId};

/// Prefix of every path of this version.
pub const V1: &str = "/v1";
/// `POST` a [`Request`](crate::Request).
pub const REQUEST: &str = "/v1/request";
/// `GET` the [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";
/// `GET`: answers as long as the process lives.
pub const LIVEZ: &str = "/livez";

/// `GET` or `PUT` the bytes of an artifact.
pub fn artifact(id: &ArtifactId) -> String {
    format!("/v1/artifacts/{id}")
}

/// `POST` a [`Heartbeat`](crate::Heartbeat).
pub fn heartbeat(job: &JobId) -> String {
    format!("/v1/jobs/{job}/heartbeat")
}

/// `POST` a [`Submit`](crate::Submit).
pub fn submit(job: &JobId) -> String {
    format!("/v1/jobs/{job}/submit")
}

/// `POST` a [`Fail`](crate::Fail).
pub fn fail(job: &JobId) -> String {
    format!("/v1/jobs/{job}/fail")
}

/// `POST` nothing: gives a dead job fresh budgets.
pub fn requeue(job: &JobId) -> String {
    format!("/v1/jobs/{job}/requeue")
}

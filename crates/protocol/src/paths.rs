//! Where each message goes.

use crate::{ArtifactId, ClientId, JobId};

/// Prefix of every path of this version.
pub const V1: &str = "/v1";
/// `POST` a [`Request`](crate::Request).
pub const REQUEST: &str = "/v1/request";
/// `GET` the [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";
/// `GET`: answers as long as the process is alive.
pub const LIVEZ: &str = "/livez";
/// `GET` the [`Readiness`](crate::Readiness): status 200, or 503 if a check fails.
pub const READYZ: &str = "/readyz";
/// `POST` nothing, with a token: the answer is a [`Session`](crate::Session), and for a browser a cookie. With the cookie and the header
/// `x-csrf-token`, `GET`: whose it is. `DELETE`: the browser forgets it.
pub const SESSION: &str = "/v1/session";
/// `GET`: what the dashboard shows, and then what changes in it, as server-sent events.
pub const EVENTS: &str = "/v1/events";
/// `GET` the metrics, in the OpenMetrics text format.
pub const METRICS: &str = "/metrics";

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

/// `GET` the jobs as a list of [`JobSummary`](crate::JobSummary), newest last: at most `?limit=` (1,000), in
/// the state `?state=`, with a block from `?first=` to `?last=`; with `?troubled=true` those with which something went wrong. If
/// there may be more, the header `Link` names the next page (RFC 8288), also of a page that is short or empty.
pub const JOBS: &str = "/v1/jobs";
/// `POST` a [`ChangeJobs`](crate::ChangeJobs), get [`ChangedJobs`](crate::ChangedJobs).
pub const CHANGE_JOBS: &str = "/v1/jobs/change";
/// `GET` what operators decided as a list of [`AuditEntry`](crate::AuditEntry), the latest first, in pages like [`JOBS`].
pub const AUDIT: &str = "/v1/audit";
/// `GET` the proofs of the blocks after `?after=`, as a list of [`ProvedBatch`](crate::ProvedBatch) in the order of the chain: at
/// most `?limit=` (100), up to the first batch without a proof.
pub const PROOFS: &str = "/v1/proofs";
/// `POST` a [`Delivered`](crate::Delivered).
pub const DELIVERED: &str = "/v1/proofs/delivered";
/// `POST` nothing: no new batches are taken in. `DELETE`: they are again.
pub const PAUSE: &str = "/v1/pause";
/// `POST` nothing: another server of the database follows its node.
pub const HAND_OVER: &str = "/v1/hand-over";
/// `GET` the clients as a list of [`ClientSummary`](crate::ClientSummary), the latest first, in pages like [`JOBS`].
pub const CLIENTS: &str = "/v1/clients";
/// `POST` nothing: grants no more leases. `DELETE`: grants them again.
pub const DRAIN: &str = "/v1/drain";

/// `GET` a [`JobSummary`](crate::JobSummary).
pub fn job(job: &JobId) -> String {
    format!("/v1/jobs/{job}")
}

/// `POST` nothing: gives up a job.
pub fn cancel(job: &JobId) -> String {
    format!("/v1/jobs/{job}/cancel")
}

/// `POST` nothing: takes a job from the client that has it; with `?client=`, only if that is this one.
pub fn release(job: &JobId) -> String {
    format!("/v1/jobs/{job}/release")
}

/// `POST` a [`Priority`](crate::Priority).
pub fn priority(job: &JobId) -> String {
    format!("/v1/jobs/{job}/priority")
}

/// `POST` nothing. `deed` is `drain`, `quarantine` or `release`.
pub fn client(client: &ClientId, deed: &str) -> String {
    format!("/v1/clients/{client}/{deed}")
}

/// `POST` nothing: gives a dead job fresh budgets.
pub fn requeue(job: &JobId) -> String {
    format!("/v1/jobs/{job}/requeue")
}

/// `GET` a [`JobHistory`](crate::JobHistory).
pub fn history(job: &JobId) -> String {
    format!("/v1/jobs/{job}/history")
}

/// `POST` a [`CollectGarbage`](crate::CollectGarbage), get the [`Garbage`](crate::Garbage).
pub const GARBAGE: &str = "/v1/garbage";

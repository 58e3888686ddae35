//! A Prover Client's metrics over HTTP.

use axum::{Router, http::header, routing::get};
use client::Status;
use client::metrics::{CONTENT_TYPE, Metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Serves `/metrics` and `/livez` until the task is aborted.
pub(crate) fn serve(
    listener: TcpListener,
    metrics: Metrics,
    provers: Vec<watch::Receiver<Status>>,
) -> JoinHandle<()> {
    let text = move || {
        let now: Vec<Status> = provers.iter().map(|prover| prover.borrow().clone()).collect();
        let text = metrics.text(&now);
        std::future::ready(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
    };
    let router = Router::new().route("/metrics", get(text)).route("/livez", get(async || "ok\n"));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(code = "metrics_stopped", %error, "metrics are not served any more");
        }
    })
}

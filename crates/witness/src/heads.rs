//! Announcements of new blocks: `newHeads` over WebSocket.
//!
//! An announcement is only a reason to ask for the newest block: it is not trusted, and nothing is lost while the connection
//! is down.

use crate::{Error, ErrorSource, secrets::Secrets};
use jsonrpsee_core::{
    client::{Error as ClientError, Subscription, SubscriptionClientT},
    rpc_params,
};
use jsonrpsee_ws_client::{PingConfig, WsClient, WsClientBuilder};
use reqwest::Url;
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet};

/// The pause before the first attempt to reconnect.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A subscription that reconnects whenever it is lost.
#[derive(Debug)]
pub(crate) struct Heads {
    news: Arc<Notify>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Heads {
    /// Follows the node at `url`: `ws://…` or `wss://…`.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub(crate) fn follow(url: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Url { reason };
        let url: Url = url.parse().map_err(|error| invalid(format!("{error}")))?;
        if !["ws", "wss"].contains(&url.scheme()) {
            let scheme = url.scheme();
            return Err(invalid(format!(
                "new blocks are told over ws:// or wss://, not over {scheme}://"
            )));
        }
        let (news, mut task) = (Arc::new(Notify::new()), JoinSet::new());
        task.spawn(follow(url, news.clone()));
        Ok(Self { news, _task: task })
    }

    /// Returns when a block has been announced since the last call, or the connection was made.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

/// Whether the node at `url` takes a subscription to new blocks.
///
/// # Errors
/// Why not.
pub(crate) async fn subscribes(url: &str) -> Result<(), String> {
    let url: Url = url.parse().map_err(|error| format!("{error}"))?;
    subscribe(&url).await.map(drop).map_err(|error| said(&url, &error))
}

async fn follow(url: Url, news: Arc<Notify>) {
    let node = ErrorSource::Node(url.origin().ascii_serialization());
    let mut pause = FIRST_PAUSE;
    loop {
        match listen(&url, &news).await {
            // The node was reachable, so it may soon be reachable again.
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                let error = said(&url, &error);
                tracing::warn!(code = "no_new_heads", %node, error, "no newHeads: the head is asked for");
            }
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until the connection is lost.
async fn listen(url: &Url, news: &Notify) -> Result<(), ClientError> {
    let (_client, mut heads) = subscribe(url).await?;
    // Blocks may have come before the subscription.
    news.notify_one();
    while heads.next().await.is_some() {
        news.notify_one();
    }
    Ok(())
}

/// The subscription, which ends with its client.
async fn subscribe(url: &Url) -> Result<(WsClient, Subscription<Value>), ClientError> {
    // One attempt, and no redirect: the operator chose the node, and an internal address would be reached with the server's rights.
    let client = WsClientBuilder::default().max_redirections(1);
    let mut client = client.enable_ws_ping(PingConfig::default());
    if url.scheme() == "wss" {
        let authorities = authorities().map_err(|error| ClientError::Custom(error.to_string()))?;
        client = client.with_custom_cert_store(authorities);
    }
    let client = client.build(url.as_str()).await?;
    let params = rpc_params!["newHeads"];
    let heads = client.subscribe("eth_subscribe", params, "eth_unsubscribe").await?;
    Ok((client, heads))
}

/// The error's text, without what may be a key: the node may repeat its URL.
fn said(url: &Url, error: &ClientError) -> String {
    Secrets::of(url).quote(&error.to_string())
}

/// TLS that trusts the authorities that the system trusts.
fn authorities() -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_platform_verifier()?;
    Ok(config.with_no_client_auth())
}

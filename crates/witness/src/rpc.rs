//! One JSON-RPC endpoint: keeps within its limits, and turns its answers into our types.
//!
//! * A request that the node refuses because of its rate, or cannot serve just now, is retried after growing, random
//!   pauses.
//! * Nothing but scheme, host and port of its URL is ever shown: the rest may hold a key.

use crate::{
    Error, ErrorSource,
    transport::{Http, cut},
};
use alloy_provider::{
    Provider, ProviderBuilder, RootProvider,
    transport::{
        RpcError, TransportError, TransportErrorKind,
        layers::{RateLimitRetryPolicy, RetryPolicy},
    },
};
use alloy_rpc_client::{BatchRequest, RpcClient};
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// How long an answer may take that the node has ready, a block for example: then the next node is asked.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take that the node has to compute. Some nodes need minutes to make the witness of a large block.
const LONG_TIMEOUT: Duration = Duration::from_secs(180);
/// JSON-RPC's code for a method that does not exist.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
/// How often a request is sent to a node that is out of capacity.
const ATTEMPTS: u32 = 5;
/// The first pause before such a request is sent again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Limits on the requests sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of requests in flight; a batch is one.
    pub concurrency: usize,
    /// Maximum calls per second; each call of a batch counts. `None`: no limit.
    pub per_second: Option<u32>,
    /// Maximum number of calls in a batch; 1: no batches.
    pub batch: usize,
}

impl Default for Limits {
    /// Eight requests at once, of at most 64 calls.
    fn default() -> Self {
        Self { concurrency: 8, per_second: None, batch: 64 }
    }
}

/// One call: method and parameters.
pub(crate) type Call = (&'static str, Value);

/// Why a request had no answer.
pub(crate) enum Failure {
    NoSuchMethod,
    Other(Error),
}

impl Failure {
    /// The failure as an error, for a method that the node should have.
    pub(crate) fn into_error(self, rpc: &Rpc, method: &'static str) -> Error {
        match self {
            Self::NoSuchMethod => Error::Rpc {
                node: rpc.name(),
                method,
                code: METHOD_NOT_FOUND,
                message: "no such method".into(),
            },
            Self::Other(error) => error,
        }
    }
}

/// The endpoint. Clones share its limits.
#[derive(Clone, Debug)]
pub(crate) struct Rpc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: RootProvider,
    name: ErrorSource,
    /// Path and query of the URL. They may hold a key, so they are not shown.
    secrets: String,
    limits: Limits,
    slots: Semaphore,
    /// When the next call may be sent.
    next: Mutex<Instant>,
    calls: AtomicU64,
    no_batches: AtomicBool,
}

/// An HTTP client for `url`.
fn http(url: &Url) -> Result<reqwest::Client, Error> {
    // A default is installed already if this is not the first client: the same one, or the one that the application
    // chose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(TIMEOUT);
    // The system's certificate authorities are needed only for https; there may be none.
    let http = if url.scheme() == "https" { http } else { http.tls_certs_only([]) };
    http.build().map_err(|error| Error::Url { reason: error.to_string() })
}

impl Rpc {
    /// # Errors
    /// [`Error::Url`].
    pub(crate) fn new(url: &str, limits: Limits) -> Result<Self, Error> {
        let url: Url = url.parse().map_err(|error| Error::Url { reason: format!("{error}") })?;
        let (origin, mut quoted) = (url.origin().ascii_serialization(), url.clone());
        // The HTTP client leaves user name and password out when it quotes the URL.
        let _ = (quoted.set_username(""), quoted.set_password(None));
        let secrets = quoted.as_str().strip_prefix(&origin).unwrap_or_default().to_owned();
        Ok(Self(Arc::new(Inner {
            provider: ProviderBuilder::default()
                .connect_client(RpcClient::new(Http { client: http(&url)?, url }, false)),
            name: ErrorSource::Node(origin),
            secrets,
            limits,
            slots: Semaphore::new(limits.concurrency.max(1)),
            next: Mutex::new(Instant::now()),
            calls: AtomicU64::new(0),
            no_batches: AtomicBool::new(false),
        })))
    }

    /// The node's name.
    pub(crate) fn name(&self) -> ErrorSource {
        self.0.name.clone()
    }

    /// Calls sent so far.
    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn malformed(&self, reason: String) -> Error {
        Error::Malformed { culprit: self.name(), reason }
    }

    /// Sends one call.
    pub(crate) async fn request<R: Answer>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, Failure> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.send(method, &params).await? {
                Ok(answer) => return Ok(answer),
                Err(error) if may_pass(&error) => {
                    // Randomised, so that waiting requests do not all return at once.
                    let random = pause.mul_f64(rand::random_range(0.5..1.5));
                    let hint = RateLimitRetryPolicy::default().backoff_hint(&error);
                    // A node that wants a longer pause is asked once more, and then rests while another is asked.
                    tokio::time::sleep(hint.unwrap_or(random).min(LONGEST_PAUSE)).await;
                    pause = (pause * 3).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(self.failure(method, error)),
            }
        }
        self.send(method, &params).await?.map_err(|error| self.failure(method, error))
    }

    async fn send<R: Answer>(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Result<Result<R, TransportError>, Failure> {
        self.pace(1).await;
        let _slot = self.0.slots.acquire().await.expect("never closed");
        let answer = self.0.provider.raw_request(method.into(), params);
        let answer = tokio::time::timeout(time_for(method, 1), answer).await;
        answer.map_err(|_| Failure::Other(self.silent(method, 1)))
    }

    /// Sends many calls of one kind; the answers are in the order of `calls`.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) async fn request_all<R: Answer>(&self, calls: &[Call]) -> Result<Vec<R>, Error> {
        use futures::{StreamExt, TryStreamExt};
        let size = if self.0.no_batches.load(Ordering::Relaxed) { 1 } else { self.0.limits.batch };
        let requests: Vec<_> =
            calls.chunks(size.max(1)).map(|calls| self.request_some(calls)).collect();
        let answers: Vec<Vec<R>> = futures::stream::iter(requests)
            .buffered(self.0.limits.concurrency.max(1))
            .try_collect()
            .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn request_some<R: Answer>(&self, calls: &[Call]) -> Result<Vec<R>, Error> {
        if calls.len() > 1 {
            match self.batch(calls).await {
                Ok(answers) => return Ok(answers),
                // The node may refuse so large a batch, or all batches. Single calls show the real error.
                Err(error) if !matches!(error, Error::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut answers = Vec::with_capacity(calls.len());
        for (method, params) in calls {
            let answer = self.request(method, params.clone()).await;
            answers.push(answer.map_err(|failure| failure.into_error(self, method))?);
        }
        if calls.len() > 1 {
            self.0.no_batches.store(true, Ordering::Relaxed);
        }
        Ok(answers)
    }

    async fn batch<R: Answer>(&self, calls: &[Call]) -> Result<Vec<R>, Error> {
        let (method, _) = calls[0];
        let failed = |error| self.failure(method, error).into_error(self, method);
        self.pace(calls.len()).await;
        let _slot = self.0.slots.acquire().await.expect("never closed");
        let mut batch = BatchRequest::new(self.0.provider.client());
        let waiting = calls
            .iter()
            .map(|(method, params)| batch.add_call::<_, R>(*method, params))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        match tokio::time::timeout(time_for(method, calls.len()), batch.send()).await {
            Ok(sent) => sent.map_err(failed)?,
            Err(_) => return Err(self.silent(method, calls.len())),
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(answer.await.map_err(failed)?);
        }
        Ok(answers)
    }

    /// Waits until `calls` more calls may be sent.
    async fn pace(&self, calls: usize) {
        self.0.calls.fetch_add(calls as u64, Ordering::Relaxed);
        let Some(per_second) = self.0.limits.per_second else { return };
        let at = {
            let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            let calls = u32::try_from(calls).unwrap_or(u32::MAX);
            *next = at + Duration::from_secs(1) * calls / per_second.max(1);
            at
        };
        tokio::time::sleep_until(at).await;
    }

    fn silent(&self, method: &str, calls: usize) -> Error {
        let reason = format!("no answer to {method} in {} s", time_for(method, calls).as_secs());
        Error::Unreachable { node: self.name(), reason }
    }

    fn failure(&self, method: &'static str, error: TransportError) -> Failure {
        let node = self.name();
        match error {
            RpcError::ErrorResp(error)
                if error.code == METHOD_NOT_FOUND || unknown_method(&error.message) =>
            {
                Failure::NoSuchMethod
            }
            RpcError::ErrorResp(error) if pruned(&error.message) => {
                let message = cut(&error.message);
                Failure::Other(Error::Pruned { node, method, message })
            }
            RpcError::ErrorResp(error) => Failure::Other(Error::Rpc {
                node,
                method,
                code: error.code,
                message: cut(&error.message),
            }),
            RpcError::DeserError { err, .. } => {
                Failure::Other(self.malformed(cut(&format!("its answer to {method}: {err}"))))
            }
            RpcError::NullResp => {
                Failure::Other(self.malformed(format!("its answer to {method} is null")))
            }
            RpcError::Transport(TransportErrorKind::MissingBatchResponse(_)) => {
                Failure::Other(self.malformed(format!("its answer to a batch of {method} is cut")))
            }
            other => {
                // The message may quote the whole URL.
                let mut reason = chain(&other);
                if self.0.secrets.len() > 1 {
                    reason = reason.replace(&self.0.secrets, "/…");
                }
                Failure::Other(Error::Unreachable { node, reason: cut(&reason) })
            }
        }
    }
}

/// How long the node may take to answer `calls` calls of `method`.
fn time_for(method: &str, calls: usize) -> Duration {
    let computed = method.starts_with("debug_") || method == "eth_getProof" || calls > 1;
    if computed { LONG_TIMEOUT } else { TIMEOUT }
}

/// What an answer must be.
pub(crate) trait Answer: DeserializeOwned + Debug + Send + Sync + Unpin + 'static {}
impl<R: DeserializeOwned + Debug + Send + Sync + Unpin + 'static> Answer for R {}

/// Whether the node is only out of capacity just now.
fn may_pass(error: &TransportError) -> bool {
    !matches!(error, RpcError::NullResp) && RateLimitRetryPolicy::default().should_retry(error)
}

/// Whether this message, as gateways in front of nodes phrase it, means that a method is not offered.
fn unknown_method(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("method")
        && [
            "not found",
            "not supported",
            "not available",
            "not allowed",
            "not whitelisted",
            "unsupported",
        ]
        .iter()
        .chain(&["does not exist", "is disabled", "unknown"])
        .any(|words| message.contains(words))
}

/// Whether this message, as geth, reth, Nethermind, Erigon, ethrex or anvil phrase it, means that an old state is gone.
fn pruned(message: &str) -> bool {
    let message = message.to_lowercase();
    ["missing trie node", "proof window", "pruned", "historical state", "state not available"]
        .iter()
        .chain(&["state is not available", "no state available", "state histories", "out of range"])
        .any(|words| message.contains(words))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

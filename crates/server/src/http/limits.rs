//! What one peer may have of the server, so that something is left for the others.

use crate::access::gate::Who;
use governor::{
    Quota, RateLimiter, clock::Clock as _, clock::DefaultClock, state::keyed::HashMapStateStore,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// How often callers that have been quiet are forgotten.
const FORGET: Duration = Duration::from_secs(10);

/// Limits of a server. "Caller" is a token's owner, or the address of whoever has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest message, in bytes. Artifacts have a limit of their own, `max_artifact_bytes`.
    pub message_bytes: usize,
    /// The longest head of a request (request line and headers), in bytes.
    pub header_bytes: usize,
    /// The most headers of a request.
    pub headers: usize,
    /// A request's head has to be here so long after its first byte; a TLS handshake after its start.
    #[serde(with = "humantime_serde")]
    pub header_time: Duration,
    /// A message has to be here so long after its head.
    #[serde(with = "humantime_serde")]
    pub message_time: Duration,
    /// A connection without a request is closed after so long.
    #[serde(with = "humantime_serde")]
    pub idle_time: Duration,
    /// While the server waits for a peer to send or to take bytes, that many have to pass in a second.
    pub bytes_per_second: u64,
    /// Over so much of waiting.
    #[serde(with = "humantime_serde")]
    pub slow_time: Duration,
    /// The most connections.
    pub connections: usize,
    /// The most connections of one address.
    pub connections_per_address: usize,
    /// The most requests of one caller in a second.
    pub requests_per_second: NonZeroU32,
    /// The most that it may send at once after a pause.
    pub requests_at_once: NonZeroU32,
    /// The most requests of one caller that are being answered, those that wait for work included.
    pub requests_open: usize,
    /// The most artifacts that one caller uploads at the same time.
    pub uploads: usize,
    /// With less free space in the data folder, in bytes, no new batch is taken in.
    pub min_free_bytes: u64,
    /// With less than this, in bytes, no proof is taken either. What lies between is kept for proofs under way.
    pub reserved_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        Self {
            message_bytes: 64 << 10,
            header_bytes: 16 << 10,
            headers: 64,
            header_time: Duration::from_secs(10),
            message_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            bytes_per_second: 8 << 10,
            slow_time: Duration::from_secs(10),
            connections: 4_096,
            connections_per_address: 1_024,
            requests_per_second: number(1_000),
            requests_at_once: number(2_000),
            requests_open: 1_024,
            uploads: 32,
            min_free_bytes: 1 << 30,
            reserved_free_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// Names what cannot work: the key and what is wrong with it.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let zero = "must not be zero";
        [
            (self.message_bytes < 4_096, "limits.message_bytes", "must be at least 4096"),
            (self.header_bytes < 1_024, "limits.header_bytes", "must be at least 1024"),
            (self.headers < 16, "limits.headers", "must be at least 16"),
            (self.header_time.is_zero(), "limits.header_time", zero),
            (self.message_time.is_zero(), "limits.message_time", zero),
            (self.idle_time < self.header_time, "limits.idle_time", "must be at least header_time"),
            (self.slow_time.is_zero(), "limits.slow_time", zero),
            (self.connections == 0, "limits.connections", zero),
            (self.connections_per_address == 0, "limits.connections_per_address", zero),
            (self.requests_open == 0, "limits.requests_open", zero),
            (self.uploads == 0, "limits.uploads", zero),
            (
                self.reserved_free_bytes > self.min_free_bytes,
                "limits.reserved_free_bytes",
                "must not be more than min_free_bytes",
            ),
        ]
        .into_iter()
        .find_map(|(wrong, key, problem)| wrong.then_some((key, problem)))
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Too many in too short a time.
    #[error("too many requests: at most {per_second} a second (requests_per_second)")]
    Rate {
        /// The limit.
        per_second: NonZeroU32,
        /// How long to wait.
        pause: Duration,
    },
    /// Too many at the same time.
    #[error("{most} requests are being answered already (requests_open)")]
    Open {
        /// The limit.
        most: usize,
    },
    /// Too many uploads at the same time.
    #[error("{most} uploads are under way already (uploads)")]
    Uploads {
        /// The limit.
        most: usize,
    },
}

impl Wait {
    /// How long the caller should wait.
    pub fn pause(&self) -> Duration {
        match self {
            Self::Rate { pause, .. } => *pause,
            Self::Open { .. } | Self::Uploads { .. } => Duration::from_secs(1),
        }
    }
}

/// Counts things of each key.
#[derive(Debug)]
pub struct Counter<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Counter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + std::hash::Hash> Counter<K> {
    /// One more of `key`, until the result is dropped; none if there are `most` already.
    pub fn take(self: &Arc<Self>, key: K, most: usize) -> Option<Counted<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        (*count < most).then(|| {
            *count += 1;
            Counted { counter: self.clone(), key }
        })
    }
}

/// One that counts until it is dropped.
#[derive(Debug)]
pub struct Counted<K: Copy + Eq + std::hash::Hash> {
    counter: Arc<Counter<K>>,
    key: K,
}

impl<K: Copy + Eq + std::hash::Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counter.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// A request that counts until its answer has been sent.
pub type Open = (Counted<Who>, Option<Counted<Who>>);

/// Limits callers. Clones share the counts.
#[derive(Clone)]
pub struct Limiter {
    limits: Limits,
    rate: Arc<RateLimiter<Who, HashMapStateStore<Who>, DefaultClock>>,
    open: Arc<Counter<Who>>,
    uploads: Arc<Counter<Who>>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Limiter {
    /// A limiter that has counted nothing yet.
    pub fn new(limits: Limits) -> Self {
        let quota =
            Quota::per_second(limits.requests_per_second).allow_burst(limits.requests_at_once);
        let rate = Arc::new(RateLimiter::hashmap(quota));
        Self { limits, rate, open: Arc::default(), uploads: Arc::default() }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request of `who`, if it is not too many.
    ///
    /// # Errors
    /// [`Wait`].
    pub fn rate(&self, who: Who) -> Result<(), Wait> {
        self.rate.check_key(&who).map_err(|until| Wait::Rate {
            per_second: self.limits.requests_per_second,
            pause: until.wait_time_from(DefaultClock::default().now()),
        })
    }

    /// Opens a request of `who`, an upload or not, if there are not too many.
    ///
    /// # Errors
    /// [`Wait`].
    pub fn open(&self, who: Who, upload: bool) -> Result<Open, Wait> {
        let Limits { requests_open, uploads, .. } = self.limits;
        let open = self.open.take(who, requests_open);
        let open = open.ok_or(Wait::Open { most: requests_open })?;
        let upload = match upload {
            false => None,
            true => {
                let upload = self.uploads.take(who, uploads);
                Some(upload.ok_or(Wait::Uploads { most: uploads })?)
            }
        };
        Ok((open, upload))
    }

    /// Forgets callers that have been quiet, until `stopping`: there may be any number of addresses.
    pub async fn run(self, stopping: CancellationToken) {
        while stopping.run_until_cancelled(tokio::time::sleep(FORGET)).await.is_some() {
            self.rate.retain_recent();
        }
    }
}

/// The peer is slower than [`Limits::bytes_per_second`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes come too slowly: at least {0} a second (bytes_per_second)")]
pub struct TooSlow(pub u64);

/// Watches how fast bytes pass while somebody waits for them. Time in which nobody waits does not count.
#[derive(Debug)]
pub struct Pace {
    per_second: u64,
    window: Duration,
    /// Since the window began.
    waited: Duration,
    bytes: u64,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    /// A pace at which nothing has passed yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            per_second: limits.bytes_per_second,
            window: limits.slow_time,
            waited: Duration::ZERO,
            bytes: 0,
            waiting: None,
        }
    }

    /// Bytes have passed.
    pub fn passed(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// None pass now. Ready when that has gone on for too long.
    pub fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let left = self.window.saturating_sub(self.waited);
            let (_, timer) = self
                .waiting
                .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let wanted = self.window.as_millis() * u128::from(self.per_second) / 1_000;
            if u128::from(self.bytes) < wanted {
                return Poll::Ready(TooSlow(self.per_second));
            }
            (self.waiting, self.waited, self.bytes) = (None, Duration::ZERO, 0);
        }
    }
}

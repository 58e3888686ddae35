//! What one peer may have of the server, so that something is left for the others.

use super::peer::Who;
use crate::config::Limits;
use governor::{
    Quota, RateLimiter, clock::Clock as _, clock::DefaultClock, state::keyed::HashMapStateStore,
};
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
    /// Too many dashboards.
    #[error("{most} dashboards are open already (streams_per_caller)")]
    Streams {
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
            Self::Open { .. } | Self::Streams { .. } | Self::Uploads { .. } => {
                Duration::from_secs(1)
            }
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

/// What a caller's requests are counted as. Each has a budget of its own, so that requests that only wait for work leave room
/// for the heartbeats of leases that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Waits for work.
    Waiting,
    /// Keeps a lease alive.
    Heartbeat,
    /// Stores an artifact.
    Upload,
    /// Watches the dashboard.
    Stream,
    /// Everything else.
    Other,
}

/// A request that counts until its answer has been sent.
pub type Open = Counted<(Who, Budget)>;

type Key = (Who, Budget);

/// Limits callers. Clones share the counts.
#[derive(Clone)]
pub struct Limiter {
    limits: Limits,
    rate: Arc<RateLimiter<Key, HashMapStateStore<Key>, DefaultClock>>,
    open: Arc<Counter<Key>>,
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
        Self { limits, rate, open: Arc::default() }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request of `who`, if it is not too many of its budget.
    ///
    /// # Errors
    /// [`Wait`].
    pub fn rate(&self, who: Who, budget: Budget) -> Result<(), Wait> {
        self.rate.check_key(&(who, budget)).map_err(|until| Wait::Rate {
            per_second: self.limits.requests_per_second,
            pause: until.wait_time_from(DefaultClock::default().now()),
        })
    }

    /// Opens a request of `who`, if there are not too many of its budget.
    ///
    /// # Errors
    /// [`Wait`].
    pub fn open(&self, who: Who, budget: Budget) -> Result<Open, Wait> {
        let Limits { requests_open, uploads, streams_per_caller, .. } = self.limits;
        let (most, wait) = match budget {
            Budget::Upload if uploads < requests_open => (uploads, Wait::Uploads { most: uploads }),
            Budget::Stream => (streams_per_caller, Wait::Streams { most: streams_per_caller }),
            _ => (requests_open, Wait::Open { most: requests_open }),
        };
        self.open.take((who, budget), most).ok_or(wait)
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

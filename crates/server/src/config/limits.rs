//! What one peer may have of the server: the numbers.

use serde::{Deserialize, Serialize};
use std::{num::NonZeroU32, time::Duration};

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
    /// The most requests of one caller in a second, counted apart likewise.
    pub requests_per_second: NonZeroU32,
    /// The most that it may send at once after a pause.
    pub requests_at_once: NonZeroU32,
    /// The most requests of one caller that are being answered: so many that wait for work, so many heartbeats, so many uploads
    /// and so many others.
    pub requests_open: usize,
    /// The most dashboards that are open. An eighth of them is kept for operators.
    pub streams: usize,
    /// The most that one caller has open.
    pub streams_per_caller: usize,
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
            streams: 256,
            streams_per_caller: 16,
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

//! Time: wall-clock milliseconds that never run backwards while the process lives.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Timestamp {
    /// The time from now until `self`, or zero if that has passed.
    pub fn after(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

/// Whole milliseconds; a duration beyond half a billion years counts as that.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the wall clock says now.
pub fn wall() -> Timestamp {
    Timestamp(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// Tells the time. The wall clock is read once; a step of it while the server runs expires no lease.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock set to the wall clock's time, or to `latest` if the wall clock is behind that.
    pub fn start(latest: Timestamp) -> Self {
        Self { wall: wall().max(latest), start: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.wall + self.start.elapsed()
    }
}

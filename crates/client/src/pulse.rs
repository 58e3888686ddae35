//! Time between a client and its servers: how long a call has been silent, and how much of what a server says about time is believed.

use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::Instant};

/// When a call last got anywhere. Clones share it.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<watch::Sender<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Instant::now())))
    }
}

impl Pulse {
    /// A sign of life.
    pub fn beat(&self) {
        self.expect_within(Duration::ZERO);
    }

    /// A sign of life, and no other one is due for `pause`.
    pub fn expect_within(&self, pause: Duration) {
        self.0.send_replace(Instant::now() + pause);
    }

    /// Waits until there has been no sign of life for `patience`.
    pub async fn stalled(&self, patience: Duration) {
        loop {
            let until = *self.0.borrow() + patience;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A pause that a server asks for: never shorter than `floor` nor longer than `most`, and up to a quarter longer than asked for
/// by chance (`dice`), so that clients do not come back all at once. If `most` is below `floor`, it wins.
pub(crate) fn believed(said: Duration, floor: Duration, most: Duration, dice: u16) -> Duration {
    let pause = said.max(floor).min(most);
    pause.mul_f64(1.0 + 0.25 * f64::from(dice) / f64::from(u16::MAX))
}

/// A pause before the next attempt: doubling from a quarter second, and random (`dice`) between its half and its whole so
/// that clients do not come back all at once.
pub(crate) fn back_off(failures: u32, most: Duration, dice: u16) -> Duration {
    let full = (Duration::from_millis(250) * (1 << failures.min(16))).min(most);
    full.mul_f64(0.5 + 0.5 * f64::from(dice) / f64::from(u16::MAX))
}

/// What the header `Retry-After` asks for: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_a_server_says_about_time_has_a_floor_a_ceiling_and_jitter() {
        let most = 30 * SECOND;
        assert_eq!(believed(Duration::ZERO, SECOND, most, 0), SECOND);
        assert_eq!(believed(Duration::ZERO, SECOND, most, u16::MAX), SECOND.mul_f64(1.25));
        assert_eq!(believed(10 * SECOND, SECOND, most, 0), 10 * SECOND);
        assert_eq!(believed(Duration::from_millis(u64::MAX), SECOND, most, 0), most);
        assert_eq!(believed(SECOND, SECOND, SECOND / 10, 0), SECOND / 10, "a setting wins");
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_most() {
        let most = 30 * SECOND;
        assert_eq!(back_off(0, most, u16::MAX), Duration::from_millis(250));
        assert_eq!(back_off(0, most, 0), Duration::from_millis(125));
        assert_eq!(back_off(3, most, u16::MAX), 2 * SECOND);
        assert_eq!(back_off(u32::MAX, most, u16::MAX), most);
    }

    #[test]
    fn retry_after_is_read_in_both_of_its_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, wanted) in [
            ("7", Some(7 * SECOND)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60 * SECOND)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(Duration::ZERO)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), wanted, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[tokio::test]
    async fn a_pulse_stalls_after_the_last_sign_of_life() {
        let (pulse, patience) = (Pulse::default(), SECOND / 10);
        let begun = Instant::now();
        pulse.stalled(patience).await;
        assert!(begun.elapsed() >= patience);
        pulse.expect_within(2 * patience);
        let expected = Instant::now();
        pulse.stalled(patience).await;
        assert!(expected.elapsed() >= 3 * patience, "{:?}", expected.elapsed());
        let beating = pulse.clone();
        beating.beat();
        assert!(tokio::time::timeout(patience / 2, pulse.stalled(patience)).await.is_err());
    }
}

//! The clients that prove parts, how fast they are, and how much each should take at a time, so that all end together.
//!
//! Whoever asks gets half of its fair share of the segments that nobody has yet. So parts become smaller towards the end: a client that
//! comes late finds work, one that dies loses little, and nobody has to know before how fast anybody is.

use crate::clock::Timestamp;
use protocol::ClientId;
use std::{collections::HashMap, time::Duration};

/// A client counts as one of the crew for so long after it was heard.
const PRESENT: Duration = Duration::from_secs(120);

/// The more a proof weighs in a client's speed, the sooner a change is noticed.
const WEIGHT: f64 = 0.5;

/// Cycles that are executed in a second, about. Each part executes the whole run.
const EXECUTED_PER_SECOND: f64 = 60e6;

/// One proof makes a client count as so many times as fast as before, or as others usually are, at the most: it may have been made
/// beforehand.
const MOST_FASTER: f64 = 4.0;

/// Nobody takes more than this of a run at a time, since others may come; and less, as long as its speed is not known.
const MOST: f64 = 1.0 / 32.0;
const MOST_AT_FIRST: f64 = 1.0 / 128.0;

/// The sizes of segments that jobs are divided into, as powers of two of cycles.
pub const SIZES: std::ops::RangeInclusive<u32> = 16..=22;

/// So many clients that have proved nothing yet count fully.
const MOST_UNPROVEN: f64 = 64.0;

/// Of the time for a part, so much may go into executing, at the most.
const OVERHEAD: f64 = 0.02;

/// The clients that prove parts, as far as they were heard.
#[derive(Clone, Debug, Default)]
pub struct Crew(HashMap<ClientId, Member>);

#[derive(Clone, Copy, Debug)]
struct Member {
    heard: Timestamp,
    /// The largest segments that it can hold, as a power of two of cycles, if it says so.
    segment_po2: Option<u32>,
    /// Cycles a second, if it has proved something.
    speed: Option<f64>,
}

/// How much of what is ready a client should take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Of the segments that nobody has.
    fraction: f64,
    /// Of all segments of the run, at most.
    most: f64,
    /// Of all segments of the run, whatever that leaves to others.
    least: f64,
}

impl Share {
    /// All of it.
    pub const ALL: Self = Self { fraction: 1.0, most: 1.0, least: 0.0 };

    /// Segments to take of `ready` ones of a run of `all`: one at least.
    pub fn of(&self, ready: u32, all: u32) -> u32 {
        let (ready_segments, all) = (f64::from(ready), f64::from(all));
        let fair =
            (ready_segments * self.fraction).min(all * self.most).max(all * self.least).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is whole and not negative, and a number beyond `ready` is cut"
        )]
        let fair = fair as u32;
        fair.clamp(1, ready.max(1))
    }
}

impl Crew {
    /// A client that proves parts was heard.
    pub fn heard(&mut self, client: ClientId, segment_po2: Option<u32>, now: Timestamp) {
        let member =
            self.0.entry(client).or_insert(Member { heard: now, segment_po2, speed: None });
        member.heard = member.heard.max(now);
        member.segment_po2 = segment_po2;
        if self.0.len() > 10_000 {
            self.0.retain(|_, member| now.after(member.heard) < PRESENT);
        }
    }

    /// A client was heard that is at work: on a part, if it was one of the crew.
    pub fn heard_again(&mut self, client: ClientId, now: Timestamp) {
        if let Some(member) = self.0.get_mut(&client) {
            member.heard = member.heard.max(now);
        }
    }

    /// A client's proof of segments with so many cycles was accepted, so long after it got them.
    pub fn proved(&mut self, client: ClientId, cycles: u64, took: Duration) {
        let usual = median(self.0.values().filter_map(|member| member.speed));
        let Some(member) = self.0.get_mut(&client) else { return };
        let most = member.speed.or(usual).map_or(f64::INFINITY, |known| known * MOST_FASTER);
        let speed = (cycles as f64 / took.as_secs_f64().max(1e-3)).min(most);
        member.speed =
            Some(member.speed.map_or(speed, |before| before + WEIGHT * (speed - before)));
    }

    /// How many there are.
    pub fn len(&self, now: Timestamp) -> usize {
        self.present(now).count()
    }

    /// A client's speed in cycles a second, if it is known.
    pub fn speed(&self, client: ClientId) -> Option<f64> {
        self.0.get(&client)?.speed
    }

    /// Whether somebody can hold segments of this size.
    pub fn holds(&self, segment_po2: u32, now: Timestamp) -> bool {
        self.present(now).any(|member| member.segment_po2.is_none_or(|most| most >= segment_po2))
    }

    /// The median speed of those that are present, in cycles a second, if it is known of any.
    pub fn usual(&self, now: Timestamp) -> Option<f64> {
        median(self.present(now).filter_map(|member| member.speed))
    }

    /// How much `client` should take.
    pub fn share(&self, client: ClientId, now: Timestamp) -> Share {
        let usual = self.usual(now).unwrap_or(1.0);
        let proven: f64 = self.present(now).filter_map(|member| member.speed).sum();
        // Anybody can make clients up: beyond some, those that proved nothing yet count no more than those that did.
        let unproven = self.present(now).filter(|member| member.speed.is_none()).count() as f64;
        let all = proven + (unproven * usual).min(proven.max(MOST_UNPROVEN * usual));
        let known = self.speed(client);
        let its = known.unwrap_or(usual);
        // Who proved nothing yet may be slow, however fast others are.
        let (most, least) = known.map_or((MOST_AT_FIRST, 0.0), |speed| (MOST, least(speed)));
        Share { fraction: 0.5 * its / all.max(its), most, least }
    }

    /// Into how many parts to divide the batches of keccak permutations of a run: four for each client, but fewer for clients so fast
    /// that each would spend most of its time on executing the run.
    pub fn keccak_parts(&self, now: Timestamp) -> usize {
        let most = self.usual(now).map_or(f64::INFINITY, |usual| least(usual).recip());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and a number beyond what there is for each client is cut"
        )]
        let most = most as usize;
        most.clamp(1, 4 * self.len(now).max(1))
    }

    /// The size of segments with which the crew proves most: larger ones cost less, but not every client can hold them. None if nobody
    /// says what it can hold.
    pub fn segment_po2(&self, now: Timestamp) -> Option<u32> {
        // Anybody can make clients up: those that proved something decide, if there are any.
        let proven = self.present(now).any(|member| member.speed.is_some());
        let deciding = self.present(now).filter(|member| !proven || member.speed.is_some());
        let sizes: Vec<u32> = deciding
            .filter_map(|member| member.segment_po2)
            .map(|po2| po2.min(*SIZES.end()))
            .collect();
        let worth = |po2: u32| {
            let able = sizes.iter().filter(|most| **most >= po2).count();
            able as f64 / cost(po2)
        };
        sizes
            .iter()
            .copied()
            .max_by(|one, other| worth(*one).total_cmp(&worth(*other)).then(one.cmp(other)))
    }

    fn present(&self, now: Timestamp) -> impl Iterator<Item = &Member> {
        self.0.values().filter(move |member| now.after(member.heard) < PRESENT)
    }
}

/// The middle one, if there is one.
fn median(of: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// How much of a run a client of this speed must take at least, so that executing all of it is worth while.
fn least(speed: f64) -> f64 {
    speed / EXECUTED_PER_SECOND / OVERHEAD
}

/// What a gas of a real block costs with segments of this size, in cycles: pages are paid for in each segment. Those of 2^16, 2^17 and
/// 2^19 are estimates between the others (docs/benchmarks.md#proofs-in-parts).
fn cost(segment_po2: u32) -> f64 {
    match segment_po2 {
        ..=16 => 45.0,
        17 => 31.0,
        18 => 23.9,
        19 => 20.0,
        20 => 17.8,
        21 => 16.8,
        22.. => 16.2,
    }
}

//! What to do next about the batches on their way to L1, as a pure function.
//!
//! * What L1 says comes from one of its blocks, and is compared with what this server knows: nothing is signed on a chain that
//!   this server does not know.
//! * The first batch that is not settled is the only one for which something is signed. Those behind it wait: their turn comes
//!   with the next block of L1, and none of them can fail because of another.
//! * A nonce is the next that L1 expects from the wallet, and never a later one: no transaction waits for one that is lost.
//! * No row is needed to know what is settled. If all of them were lost, or if what L1 had called final were not, the batch
//!   after the contract's head is taken again.
//! * A clock that jumps, in either direction, does no more than replace or repeat a transaction early.
//!
//! ```text
//! ready --sign--> signed --L1 has it--> seen --finalized--> final
//!   ^               |  ^                 |
//!   +--another nonce+  +---reorg of L1---+        any but final --other blocks there--> dropped
//! ```

use crate::fees::{Caps, Market, TooHigh, offer};
use alloy_primitives::B256;
use server::{
    clock::{Timestamp, millis},
    jobs::settlement::{Fees, Settlement, SettlementEvent, SettlementState, SignedTx},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// The last block that a contract has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Whether it is on the chain of batches that this server knows.
    pub known: Known,
}

/// What this server has at a block's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The same block.
    Same,
    /// Another one.
    Other(B256),
    /// No batch begins or ends there.
    Nothing,
}

/// What L1 says, seen from one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The contract's head in the newest block.
    pub latest: Head,
    /// And in the newest finalized one, if the contract is there.
    pub finalized: Option<Head>,
    /// The nonce that the wallet's next transaction has, in the newest block.
    pub nonce: u64,
    /// The most that was offered for it so far.
    pub offered: Option<Fees>,
    /// What L1 asks for.
    pub market: Market,
}

/// The numbers by which it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A transaction that waits for so long is replaced.
    pub bump_after: Duration,
    /// And so often it is sent again.
    pub resend_after: Duration,
    /// The most that is offered.
    pub caps: Caps,
}

/// The batches on their way, and what is known of them beside their rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// All that are not over, in the order of the chain.
    pub open: &'a [Settlement],
    /// Those that the L2 has abandoned.
    pub stale: &'a BTreeSet<i64>,
    /// When each transaction was sent last by this process, by its hash.
    pub sent: &'a BTreeMap<B256, Timestamp>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Note what happened to a batch.
    Note(i64, SettlementEvent),
    /// Look whether the batch that begins with this block is proven.
    Take(u64),
    /// Check the batch, and sign a transaction for it.
    Sign {
        /// Its row.
        id: i64,
        /// With this nonce.
        nonce: u64,
        /// Offering this.
        fees: Fees,
        /// Whether the nonce before was used up.
        wasted: bool,
    },
    /// Send these rows' transactions, in this order.
    Send(Vec<i64>),
    /// Nothing, until L1 has something new, or time has passed.
    Wait,
}

/// What somebody should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The contract has another block than the L2.
    OtherHead {
        /// The block's number.
        number: u64,
        /// Its hash in the contract.
        settled: B256,
        /// Its hash here.
        here: B256,
    },
    /// The contract's head is no end of a batch here.
    UnknownHead {
        /// The head's number.
        number: u64,
    },
    /// L1 asks for more than is allowed.
    FeesTooHigh(TooHigh),
    /// A transaction waits although as much as is allowed was offered.
    Stuck {
        /// Its nonce.
        nonce: u64,
    },
    /// A nonce was used up, and the batch is not settled.
    NonceWasted {
        /// The nonce.
        nonce: u64,
        /// How often that happened before, in a row.
        before: u32,
    },
    /// Two RPCs say different things about what is settled, for longer than one may be behind.
    Disputed {
        /// The last settled block, as the one says whose turn it is.
        settled: u64,
        /// As another one says.
        other: u64,
    },
    /// A transaction before ours is gone: ours would wait for it for ever.
    NonceGap {
        /// Our nonce.
        nonce: u64,
        /// The one that L1 expects.
        expected: u64,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherHead { number, settled, here } => {
                write!(f, "the contract's block {number} is {settled}, and the L2's is {here}")
            }
            Self::UnknownHead { number } => {
                write!(
                    f,
                    "the contract's head is block {number}, and no batch ends there or goes on from it"
                )
            }
            Self::FeesTooHigh(TooHigh { needed }) => write!(
                f,
                "a transaction takes {} wei for each gas, of which {} are for the block's builder, and less is allowed",
                needed.max, needed.priority
            ),
            Self::Stuck { nonce } => {
                write!(
                    f,
                    "the transaction with nonce {nonce} waits, and offers as much as is allowed"
                )
            }
            Self::NonceWasted { nonce, .. } => write!(
                f,
                "nonce {nonce} was used up without settling the batch: by somebody else's transaction, or by ours, which failed"
            ),
            Self::Disputed { settled, other } => write!(
                f,
                "one RPC says that block {settled} is settled, and another one that nothing after block {other} is: one of them lies, or is behind"
            ),
            Self::NonceGap { nonce, expected } => {
                write!(
                    f,
                    "the transaction with nonce {nonce} waits for one with nonce {expected}, which is lost"
                )
            }
        }
    }
}

/// A step, and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// The alarm.
    pub alarm: Option<Alarm>,
}

impl Plan {
    const fn quietly(step: Step) -> Self {
        Self { step, alarm: None }
    }

    const fn loudly(step: Step, alarm: Alarm) -> Self {
        Self { step, alarm: Some(alarm) }
    }
}

/// No pause between two attempts is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What to do next.
pub fn next(rows: Rows<'_>, view: &View, now: Timestamp, rules: &Rules) -> Plan {
    let Head { number, hash, known } = view.latest;
    match known {
        Known::Same => {}
        Known::Other(here) => {
            return Plan::loudly(Step::Wait, Alarm::OtherHead { number, settled: hash, here });
        }
        Known::Nothing => return Plan::loudly(Step::Wait, Alarm::UnknownHead { number }),
    }
    for row in rows.open {
        if let Some(event) = happened(row, rows.stale, view) {
            return Plan::quietly(Step::Note(row.id, event));
        }
    }
    let next = number.saturating_add(1);
    let front = rows.open.iter().find(|row| row.state != SettlementState::Seen);
    let Some(front) = front.filter(|front| front.blocks.first() == next) else {
        return Plan::quietly(Step::Take(next));
    };
    // The L2 left this branch while nothing was settled of it.
    if front.parent_hash != hash {
        return Plan::quietly(Step::Note(front.id, SettlementEvent::Dropped));
    }
    let sign = |replaces, wasted| {
        let fees = offer(view.market, replaces, rules.caps)?;
        Ok(Step::Sign { id: front.id, nonce: view.nonce, fees, wasted })
    };
    let Some(tx) = front.tx.as_ref().filter(|_| front.state == SettlementState::Signed) else {
        return match sign(view.offered, false) {
            Ok(step) => Plan::quietly(step),
            Err(high) => Plan::loudly(Step::Wait, Alarm::FeesTooHigh(high)),
        };
    };
    // The time between two readings, whichever of both was later.
    let elapsed = now.0.abs_diff(tx.at.0);
    let send = || send(rows, view.nonce, now, rules);
    if tx.nonce == view.nonce {
        if elapsed < millis(rules.bump_after) {
            return Plan::quietly(send());
        }
        return match sign(Some(most(tx.fees, view.offered)), false) {
            Ok(step) => Plan::quietly(step),
            Err(_) => Plan::loudly(send(), Alarm::Stuck { nonce: tx.nonce }),
        };
    }
    let (alarm, wasted, pause) = if tx.nonce < view.nonce {
        let alarm = Alarm::NonceWasted { nonce: tx.nonce, before: front.wasted };
        (alarm, true, pause(front.wasted, rules))
    } else {
        let alarm = Alarm::NonceGap { nonce: tx.nonce, expected: view.nonce };
        (alarm, false, rules.bump_after)
    };
    if elapsed < millis(pause) {
        return Plan::loudly(send(), alarm);
    }
    match sign(view.offered, wasted) {
        Ok(step) => Plan::loudly(step, alarm),
        Err(high) => Plan::loudly(Step::Wait, Alarm::FeesTooHigh(high)),
    }
}

/// What has happened to a batch and does not stand in its row.
fn happened(row: &Settlement, stale: &BTreeSet<i64>, view: &View) -> Option<SettlementEvent> {
    let (first, last) = (row.blocks.first(), row.blocks.last());
    let is_settled = last <= view.latest.number;
    let is_final = view
        .finalized
        .is_some_and(|head| head.known == Known::Same && last <= head.number && is_settled);
    let other = last == view.latest.number && row.last_hash != view.latest.hash;
    match row.state {
        _ if other || stale.contains(&row.id) => Some(SettlementEvent::Dropped),
        // Somebody settled a part of it.
        _ if !is_settled && first <= view.latest.number => Some(SettlementEvent::Dropped),
        SettlementState::Seen if is_final => Some(SettlementEvent::Final),
        SettlementState::Seen if !is_settled => Some(SettlementEvent::Unseen),
        SettlementState::Ready | SettlementState::Signed if is_settled => {
            Some(SettlementEvent::Seen)
        }
        _ => None,
    }
}

/// Sends what has not been sent lately.
fn send(rows: Rows<'_>, nonce: u64, now: Timestamp, rules: &Rules) -> Step {
    let due = |tx: &SignedTx| {
        let sent = rows.sent.get(&tx.hash);
        tx.nonce >= nonce
            && sent.is_none_or(|sent| now.0.abs_diff(sent.0) >= millis(rules.resend_after))
    };
    let signed = rows.open.iter().filter(|row| row.state == SettlementState::Signed);
    let due = signed.filter(|row| row.tx.as_ref().is_some_and(due)).map(|row| row.id);
    match due.collect::<Vec<_>>() {
        none if none.is_empty() => Step::Wait,
        due => Step::Send(due),
    }
}

fn most(a: Fees, b: Option<Fees>) -> Fees {
    let b = b.unwrap_or_default();
    Fees { max: a.max.max(b.max), priority: a.priority.max(b.priority) }
}

/// How long to wait after a nonce was used up, if that happened `before` so often: the first time may be somebody else's
/// transaction, and each further one costs gas.
fn pause(before: u32, rules: &Rules) -> Duration {
    match before.checked_sub(1) {
        None => Duration::ZERO,
        Some(times) => {
            rules.bump_after.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_PAUSE)
        }
    }
}

#[cfg(test)]
mod tests;

//! A block's witness from `eth_getProof` and `eth_getCode`, for nodes whose `debug_executionWitness` does not work or lacks
//! something.
//!
//! ```text
//! senders, receivers, access lists ─▶ proofs at the parent ─▶ execute ─▶ what was missing ─┐
//!                                              ▲                  │                        │
//!                                              └──────────────────┼────────────────────────┘
//!                                                                 ▼ nothing was missing
//!                                                             siblings ─▶ execute as the program does ─▶ Recorded
//! ```
//!
//! * A witness that lacks something is where the rounds begin, in the place of the first guess; the rest is asked for.
//! * What is missing is treated as empty and the execution continues, so that one round finds what all transactions
//!   miss. Where each read depends on the one before, a round finds little: then the next execution asks for what it
//!   misses while it runs, twice as often as the last one that did. So a walk over any number of slots takes a few
//!   executions.
//! * Every proof is checked against the state root of the parent's header as it arrives.
//! * If a branch collapses, its last child has to be known, and no proof of what the block touches shows it: see
//!   [`siblings`].

mod history;
mod keys;
mod known;
mod ranges;
mod reads;
mod siblings;

use crate::{
    Error, ErrorSource, Node,
    assemble::{self, Witness},
    exchange::NOT_RECORDED,
    rpc::{Call, Rpc},
};
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, Sealed, U64, U256, keccak256, map::B256Map};
pub use keys::KnownKeys;
use known::{AccountProof, Answers, Block, Keys, Known, Wanted, number_of};
use reads::{Changes, Reads};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Maximum number of accounts and slots that a block may need. The most demanding block of 60 million gas needs a
/// tenth.
const MAX_KEYS: usize = 1 << 18;
/// How often the first execution that asks while it runs may ask.
const FIRST_QUESTIONS: usize = 16;

/// Collects witnesses from one node.
#[derive(Debug)]
pub(crate) struct Collector<'n> {
    node: &'n Node,
    rpc: &'n Rpc,
}

/// What the rounds of one block have taken so far.
#[derive(Debug, Default)]
struct Effort {
    rounds: usize,
    keys: usize,
    /// The shortest time in which the node answered.
    answer: Option<Duration>,
    /// How often the next execution may ask while it runs.
    questions: usize,
}

impl Effort {
    /// How often the next execution may ask while it runs, after one that took `executing` and missed `missed` things.
    ///
    /// A round costs an execution and an answer; it is worth that if asking for what it found, one after the other,
    /// would have taken longer.
    fn plan(&mut self, missed: usize, executing: Duration) {
        // What a witness that is completed lacks is asked for at once, whatever it is.
        let Some(answer) = self.answer else { return };
        let one_by_one = answer.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        self.questions = match one_by_one > executing + answer {
            true => 0,
            false => (2 * self.questions).max(FIRST_QUESTIONS),
        };
    }
}

impl<'n> Collector<'n> {
    /// A collector that asks `node` over `rpc`, its connection.
    pub(crate) fn new(node: &'n Node, rpc: &'n Rpc) -> Self {
        Self { node, rpc }
    }

    /// The witness of the block with this RLP, whose parent has this header: asks, executes and asks again until
    /// nothing is missing.
    ///
    /// # Errors
    /// Any error of a node; [`Error::Refused`] if it is no block or an invalid one; [`Error::UnknownNode`] if the node
    /// has no way to show what a collapsing branch needs.
    pub(crate) async fn collect(
        &self,
        rlp: &[u8],
        parent: Sealed<Header>,
    ) -> Result<Witness, Error> {
        let known = self.begin(rlp, parent)?;
        let guess = known.first_guess();
        self.finish(known, guess).await
    }

    /// The same, beginning with what is in this witness of the block, so that only what it lacks is asked for.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub(crate) async fn complete(
        &self,
        rlp: &[u8],
        parent: Sealed<Header>,
        witness: &Witness,
    ) -> Result<Witness, Error> {
        let mut known = self.begin(rlp, parent)?;
        known.learn_witness(witness);
        self.finish(known, Wanted::default()).await
    }

    /// The witness of the block of which this is known, and of which this is wanted first.
    async fn finish(&self, known: Known, wanted: Wanted) -> Result<Witness, Error> {
        let number = known.parent().number + 1;
        let (known, changes) = self.read(known, wanted).await?;
        let known = self.find_siblings(known, changes).await?;
        let recorded = work(move || known.record().map(|recorded| known.witness(recorded))).await;
        recorded.map_err(|error| self.refusal(number, error))
    }

    /// What is known of the block with this RLP before anything was asked.
    fn begin(&self, rlp: &[u8], parent: Sealed<Header>) -> Result<Known, Error> {
        let number = parent.number + 1;
        if let Some((index, kind)) = assemble::unknown_type(rlp) {
            return Err(Error::UnknownTransaction {
                culprit: self.name(),
                block: number,
                index,
                kind,
            });
        }
        let block = Block::decode(self.node.config(), rlp, parent)
            .map_err(|violation| self.refusal(number, violation.in_block(number)))?;
        Ok(Known::new(block, self.rpc.name()))
    }

    /// Everything that the block reads, and what it changes. Asks for `wanted` first.
    async fn read(&self, mut known: Known, mut wanted: Wanted) -> Result<(Known, Changes), Error> {
        let mut effort = Effort::default();
        loop {
            match self.learn(&mut known, wanted, &mut effort).await {
                // A recording has what was read, but not what is only guessed to be read.
                Err(Error::Rpc { code: NOT_RECORDED, .. }) => effort.questions = usize::MAX,
                learnt => learnt?,
            }
            let (after, Reads { missed, changes, executing }) =
                self.execute(known, &mut effort).await?;
            known = after;
            if missed.is_empty() {
                return Ok((known, changes));
            }
            effort.rounds += 1;
            effort.plan(missed.len(), executing);
            wanted = missed;
        }
    }

    /// Executes the block on a thread of its own, since that never awaits, and answers what it asks meanwhile.
    async fn execute(&self, known: Known, effort: &mut Effort) -> Result<(Known, Reads), Error> {
        // One question at a time. If nobody waits for the result any more, the next question ends the execution.
        let (asker, mut asked) = mpsc::channel(1);
        let (questions, parent) = (effort.questions, known.parent().number);
        let mut execution =
            tokio::task::spawn_blocking(move || reads::execute(known, questions, asker));
        loop {
            tokio::select! {
                Some(reads::Question { wanted, answer }) = asked.recv() => {
                    // Whoever asked waits for it.
                    let _ = answer.send(self.fetch(parent, &wanted, effort).await);
                }
                done = &mut execution => return done.expect("executing a block does not panic"),
            }
        }
    }

    /// Asks for what is wanted, and for the codes of the accounts in it.
    async fn learn(
        &self,
        known: &mut Known,
        wanted: Wanted,
        effort: &mut Effort,
    ) -> Result<(), Error> {
        let parent = known.parent().number;
        let codes = known.learn(self.fetch(parent, &wanted, effort).await?)?;
        if !codes.is_empty() {
            let wanted = Wanted { codes, ..Wanted::default() };
            known.learn(self.fetch(parent, &wanted, effort).await?)?;
        }
        Ok(())
    }

    /// Asks for what is wanted at the block `parent`.
    async fn fetch(
        &self,
        parent: u64,
        wanted: &Wanted,
        effort: &mut Effort,
    ) -> Result<Answers, Error> {
        effort.keys += number_of(&wanted.keys);
        if effort.keys > MAX_KEYS {
            let (node, block, keys, rounds) =
                (self.rpc.name(), parent + 1, effort.keys, effort.rounds);
            return Err(Error::Endless { node, block, keys, rounds });
        }
        let begun = Instant::now();
        let answers = Answers {
            proofs: self.proofs(&wanted.keys, parent).await?,
            keys: wanted.keys.clone(),
            codes: self.codes(&wanted.codes, parent).await?,
            headers: self.headers(wanted.headers.clone()).await?,
        };
        if !wanted.is_empty() {
            let took = begun.elapsed();
            effort.answer = Some(effort.answer.map_or(took, |least| least.min(took)));
        }
        Ok(answers)
    }

    async fn proofs(&self, keys: &Keys, block: u64) -> Result<Vec<AccountProof>, Error> {
        let call = |address: &Address, slots: &[U256]| -> Call {
            let slots: Vec<B256> = slots.iter().map(|slot| B256::from(*slot)).collect();
            ("eth_getProof", json!([address, slots, U64::from(block)]))
        };
        let longest = keys.iter().max_by_key(|(_, slots)| slots.len());
        let mut most = self.rpc.slots_in_a_proof();
        loop {
            let mut calls = Vec::new();
            for (address, slots) in keys {
                let slots: Vec<U256> = slots.iter().copied().collect();
                if slots.is_empty() {
                    calls.push(call(address, &[]));
                }
                calls.extend(slots.chunks(most).map(|slots| call(address, slots)));
            }
            let answers = self.rpc.request_all(&calls).await;
            // Some nodes take few slots in a call, and each says so in its own words. One that proves none at all is not asked again.
            let (Err(error), Some((address, slots))) = (&answers, longest) else { return answers };
            let asked = slots.len().min(most);
            if asked < 2 || !matches!(error, Error::Rpc { .. } | Error::Malformed { .. }) {
                return answers;
            }
            let (method, params) =
                call(address, &slots.iter().copied().take(1).collect::<Vec<_>>());
            if self.rpc.request::<AccountProof>(method, params).await.is_err() {
                return answers;
            }
            most = (asked / 4).max(1);
            self.rpc.limit_slots_in_a_proof(most);
        }
    }

    async fn codes(
        &self,
        codes: &B256Map<Address>,
        block: u64,
    ) -> Result<Vec<(B256, Bytes)>, Error> {
        let at = U64::from(block);
        let calls: Vec<Call> =
            codes.values().map(|address| ("eth_getCode", json!([address, at]))).collect();
        let answers: Vec<Bytes> = self.rpc.request_all(&calls).await?;
        for ((hash, address), code) in codes.iter().zip(&answers) {
            if keccak256(code) != *hash {
                return Err(self.rpc.malformed(format!(
                    "its code of {address} at block {block} does not have the hash {hash} that its proof shows"
                )));
            }
        }
        Ok(codes.keys().copied().zip(answers).collect())
    }

    /// The headers with these numbers, the newest first.
    async fn headers(&self, numbers: std::ops::Range<u64>) -> Result<Vec<Sealed<Header>>, Error> {
        let numbers: Vec<u64> = numbers.rev().collect();
        let call = |number: &u64| ("eth_getBlockByNumber", json!([U64::from(*number), false]));
        let calls: Vec<Call> = numbers.iter().map(call).collect();
        let headers: Vec<Option<Header>> = self.rpc.request_all(&calls).await?;
        let found = numbers.into_iter().zip(headers).map(|(number, header)| {
            let not_found = || Error::BlockNotFound { node: self.rpc.name(), number };
            header.map(Sealed::new).ok_or_else(not_found)
        });
        found.collect()
    }

    fn name(&self) -> ErrorSource {
        self.rpc.name()
    }

    fn refusal(&self, number: u64, error: program::Error) -> Error {
        assemble::refusal(&self.rpc.name(), number, error)
    }
}

/// Does on a thread of its own what takes long and never awaits.
async fn work<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_on_while_they_find_more_than_single_questions_would() {
        let ms = Duration::from_millis;
        let mut effort = Effort { answer: Some(ms(10)), ..Effort::default() };
        effort.plan(100, ms(300));
        assert_eq!(effort.questions, 0);
        for questions in [16, 32, 64] {
            effort.plan(3, ms(300));
            assert_eq!(effort.questions, questions);
        }
        // Now a round is worth its while again.
        effort.plan(32, ms(300));
        assert_eq!(effort.questions, 0);
    }
}

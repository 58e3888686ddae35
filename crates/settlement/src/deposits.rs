//! The deposits that the L2 has to consume, in their order: what the bridge on L1 has taken, as far as L1 has finalized it.
//!
//! Whoever produces the L2's blocks puts them into blocks as withdrawals (EIP-4895), 16 at most in each: with the Engine API, those are the
//! `withdrawals` of `payloadAttributes`. One that is in a block and not in the bridge's queue, or elsewhere in it, leaves blocks that L1
//! never settles. So nothing counts before it is final, and nothing that one of the RPCs denies.

use crate::{
    contract::IBridge,
    l1::{Block, L1Error, Rpc},
};
use alloy_eips::{BlockId, eip4895::Withdrawal};
use alloy_primitives::{Address, B256, U256};
use program::statement::DepositsChain;

/// So many blocks of L1 are searched for deposits at a time ...
const BLOCKS_AT_ONCE: u64 = 2_000;

/// ... and so many times, before what was found is returned.
const SEARCHES: u32 = 50;

/// Why it is not known which deposits come next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DepositsError {
    /// No RPC said anything useful.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// An RPC denies what it said before, or what another one says.
    #[error(
        "{rpc} contradicts what L1 is known to have: {what}; nothing is taken in before they agree"
    )]
    Contradiction {
        /// Which.
        rpc: String,
        /// What.
        what: String,
    },
}

/// Follows the bridge's queue.
#[derive(Debug)]
pub struct Deposits {
    rpcs: Vec<Rpc>,
    bridge: Address,
    /// How many deposits were returned, and the link after them.
    seen: u64,
    link: B256,
    /// The block of the last of them. What comes after it is searched again if an RPC turns out to have hidden something there.
    last: u64,
    /// L1's blocks up to this one are said to have no others.
    searched: u64,
}

impl Deposits {
    /// Those of the contract `bridge`, from the first on. What one of the RPCs shows counts unless one that answers
    /// denies it.
    pub fn new(rpcs: Vec<Rpc>, bridge: Address) -> Self {
        Self { rpcs, bridge, seen: 0, link: B256::ZERO, last: 0, searched: 0 }
    }

    /// The next deposits that L1 has finalized: none if there are no new ones, or none in the blocks that were searched now. Each is
    /// returned once.
    ///
    /// # Errors
    /// [`DepositsError`]. Then nothing is lost: ask again.
    pub async fn more(&mut self) -> Result<Vec<Withdrawal>, DepositsError> {
        let (mut failed, mut finalized) = (None, Vec::new());
        for at in 0..self.rpcs.len() {
            match self.rpcs[at].finalized().await {
                Ok(Some(block)) => finalized.push((at, block)),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        // Nobody is ahead of the others: who says so may have made it up.
        let end = finalized.iter().map(|(_, block)| block.number).min().unwrap_or_default();
        let mut nothing = None;
        for (at, block) in &finalized {
            let found = match self.search(&self.rpcs[*at], *block, end).await {
                Ok(found) => found,
                Err(DepositsError::L1(error)) => {
                    failed = Some(error);
                    continue;
                }
                Err(error) => {
                    // Something was hidden, now or before.
                    self.searched = self.last;
                    return Err(error);
                }
            };
            if found.deposits.is_empty() {
                // Another one may have what this one hides.
                nothing = nothing.or(Some(found.searched));
                continue;
            }
            self.confirm(*at, &finalized, &found).await?;
            let Found { deposits, link, last, searched } = found;
            self.seen += deposits.len() as u64;
            (self.link, self.searched) = (link, searched);
            self.last = last.unwrap_or(self.last);
            return Ok(deposits);
        }
        match (nothing, failed) {
            (None, Some(error)) => Err(error.into()),
            (searched, _) => {
                self.searched = searched.unwrap_or(self.searched);
                Ok(Vec::new())
            }
        }
    }

    /// What one RPC, whose newest finalized block is `newest`, says of the blocks up to `end`.
    async fn search(&self, rpc: &Rpc, newest: Block, end: u64) -> Result<Found, DepositsError> {
        let at = BlockId::hash(newest.hash);
        let there: u64 =
            rpc.call(self.bridge, IBridge::depositsCall {}, at, "the deposits").await?;
        if there < self.seen {
            let what = format!("{} deposits were final, and now {there} are", self.seen);
            return Err(contradiction(rpc, what));
        }
        let mut chain = DepositsChain::new(self.link);
        let (mut deposits, mut last, mut searched) = (Vec::new(), None, self.searched);
        let mut blocks = BLOCKS_AT_ONCE;
        for _ in 0..SEARCHES {
            if searched >= end || !deposits.is_empty() {
                break;
            }
            let to = end.min(searched.saturating_add(blocks));
            let events = match rpc.deposits(self.bridge, searched + 1, to).await {
                Ok(events) => events,
                // Many RPCs answer about some blocks at a time only.
                Err(_) if blocks > 1 => {
                    blocks = (blocks / 8).max(1);
                    continue;
                }
                Err(error) if searched == self.searched => return Err(error.into()),
                // What was found before is not searched again.
                Err(_) => break,
            };
            for event in events {
                let deposit = Withdrawal {
                    index: event.index,
                    validator_index: 0,
                    address: event.to,
                    amount: event.amountGwei,
                };
                chain.push(&deposit);
                let expected = self.seen + deposits.len() as u64;
                if event.index != expected || event.link != chain.link() {
                    let what = format!("deposit {expected} is another, or is missing");
                    return Err(contradiction(rpc, what));
                }
                deposits.push(deposit);
                last = Some(to);
            }
            searched = to;
        }
        let seen = self.seen + deposits.len() as u64;
        if searched >= newest.number && seen != there {
            let what = format!("{there} deposits are final, and it shows {seen} of them");
            return Err(contradiction(rpc, what));
        }
        Ok(Found { deposits, link: chain.link(), last, searched })
    }

    /// Whether every RPC that answers has what the one `by` found, the contract itself included.
    async fn confirm(
        &self,
        by: usize,
        finalized: &[(usize, Block)],
        found: &Found,
    ) -> Result<(), DepositsError> {
        let index = U256::from(self.seen + found.deposits.len() as u64);
        for (other, block) in finalized {
            let rpc = &self.rpcs[*other];
            let next = IBridge::nextCall { index, link: found.link };
            let at = BlockId::hash(block.hash);
            match rpc.view(self.bridge, next, at, "the next deposit").await {
                Ok(Ok(answer)) if !answer.is_empty() => {}
                Ok(_) => {
                    let what =
                        format!("its queue has no link {} after {index} deposits", found.link);
                    return Err(contradiction(rpc, what));
                }
                Err(error) if *other == by => return Err(error.into()),
                // Who does not answer contradicts nobody.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn contradiction(rpc: &Rpc, what: String) -> DepositsError {
    DepositsError::Contradiction { rpc: rpc.name().to_owned(), what }
}

/// What an RPC says comes next.
struct Found {
    deposits: Vec<Withdrawal>,
    /// The link after them.
    link: B256,
    /// Up to which block they were found, if there are any.
    last: Option<u64>,
    /// The last block that was searched.
    searched: u64,
}

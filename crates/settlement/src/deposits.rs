//! The deposits that the L2 has to consume, in their order: what the bridge on L1 has taken, as far as L1 has finalized it.
//!
//! Whoever produces the L2's blocks puts them into blocks as withdrawals (EIP-4895), 16 at most in each: with the Engine API, those are the
//! `withdrawals` of `payloadAttributes`. One that is in a block and not in the bridge's queue, or elsewhere in it, leaves blocks that L1
//! never settles. So nothing counts before it is final, and nothing that one of the RPCs denies.

use crate::{
    contract::IBridge,
    l1::{L1Error, Rpc},
};
use alloy_eips::{BlockId, eip4895::Withdrawal};
use alloy_primitives::{Address, B256, U256};
use program::statement::DepositsChain;

/// So many blocks of L1 are searched for deposits at a time.
const BLOCKS_AT_ONCE: u64 = 2_000;

/// So many deposits are returned at a time, or those of one search.
const AT_ONCE: usize = 1_000;

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
    /// L1's blocks up to this one have no others.
    searched: u64,
}

impl Deposits {
    /// Those of the contract `bridge`, from the first on. Each of the RPCs is asked, and the first that answers is believed unless
    /// another one contradicts it.
    pub fn new(rpcs: Vec<Rpc>, bridge: Address) -> Self {
        Self { rpcs, bridge, seen: 0, link: B256::ZERO, searched: 0 }
    }

    /// The next deposits that L1 has finalized: none if there are no new ones. Each is returned once.
    ///
    /// # Errors
    /// [`DepositsError`]. Then nothing is lost: ask again.
    pub async fn more(&mut self) -> Result<Vec<Withdrawal>, DepositsError> {
        let mut failed = None;
        for at in 0..self.rpcs.len() {
            match self.search(&self.rpcs[at]).await {
                Ok(Some(found)) => {
                    self.confirm(at, &found).await?;
                    let Found { deposits, link, searched } = found;
                    self.seen += deposits.len() as u64;
                    self.link = link;
                    self.searched = searched;
                    return Ok(deposits);
                }
                Ok(None) => return Ok(Vec::new()),
                Err(DepositsError::L1(error)) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| L1Error::Url("none is given".to_owned())).into())
    }

    /// What one RPC says. None if it has finalized no block.
    async fn search(&self, rpc: &Rpc) -> Result<Option<Found>, DepositsError> {
        let Some(last) = rpc.finalized().await? else { return Ok(None) };
        let at = BlockId::hash(last.hash);
        let there: u64 =
            rpc.call(self.bridge, IBridge::depositsCall {}, at, "the deposits").await?;
        if there < self.seen {
            let what = format!("{} deposits were final, and now {there} are", self.seen);
            return Err(self.contradiction(rpc, what));
        }
        let (mut searched, mut chain) = (self.searched, DepositsChain::new(self.link));
        let mut deposits = Vec::new();
        while searched < last.number && deposits.len() < AT_ONCE {
            let to = last.number.min(searched + BLOCKS_AT_ONCE);
            for event in rpc.deposits(self.bridge, searched + 1, to).await? {
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
                    return Err(self.contradiction(rpc, what));
                }
                deposits.push(deposit);
            }
            searched = to;
        }
        let seen = self.seen + deposits.len() as u64;
        if searched == last.number && seen != there {
            let what = format!("{there} deposits are final, and it shows {seen} of them");
            return Err(self.contradiction(rpc, what));
        }
        Ok(Some(Found { deposits, link: chain.link(), searched }))
    }

    /// Whether every RPC that answers has what the one `by` found, the contract itself included.
    async fn confirm(&self, by: usize, found: &Found) -> Result<(), DepositsError> {
        if found.deposits.is_empty() {
            return Ok(());
        }
        let index = U256::from(self.seen + found.deposits.len() as u64);
        for (other, rpc) in self.rpcs.iter().enumerate() {
            let asked = async {
                let Some(last) = rpc.finalized().await? else { return Ok(false) };
                let next = IBridge::nextCall { index, link: found.link };
                rpc.holds(self.bridge, next, BlockId::hash(last.hash)).await
            };
            match asked.await {
                Ok(true) => {}
                Ok(false) => {
                    let what =
                        format!("its queue has no link {} after {index} deposits", found.link);
                    return Err(self.contradiction(rpc, what));
                }
                Err(error) if other == by => return Err(error.into()),
                // Who does not answer contradicts nobody.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn contradiction(&self, rpc: &Rpc, what: String) -> DepositsError {
        DepositsError::Contradiction { rpc: rpc.name().to_owned(), what }
    }
}

/// What an RPC says comes next.
struct Found {
    deposits: Vec<Withdrawal>,
    /// The link after them.
    link: B256,
    /// The last block that was searched.
    searched: u64,
}

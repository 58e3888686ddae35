//! The transaction pool: transactions that were submitted and are not in a block yet.
//!
//! * A sender has one transaction for each nonce; a higher-paying one replaces it.
//! * Messages are geth's, because tools match on them.
//! * The pool rejects only what can never be mined; the executor decides whether a transaction is valid in a block
//!   when it builds the block.

use crate::Transaction;
use alloy_consensus::{Transaction as _, transaction::Recovered};
use alloy_eips::eip7825::MAX_TX_GAS_LIMIT_OSAKA;
use alloy_primitives::{Address, B256, U256};
use revm::{
    context::TxEnv, context_interface::cfg::gas::calculate_initial_tx_gas_for_tx,
    primitives::hardfork::SpecId,
};
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// Maximum number of transactions in the pool.
const CAPACITY: usize = 20_000;
/// A replacement must offer at least this many percent more of both fees.
const PRICE_BUMP: u128 = 10;

/// Why a transaction was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The bytes are not a signed transaction.
    #[error("rlp: transaction cannot be decoded: {0}")]
    Malformed(String),
    /// The signature recovers no sender.
    #[error("invalid sender: the signature is not valid")]
    BadSignature,
    /// Signed for another chain, or for any.
    #[error("invalid chain id for signer: have {} want {want}", have.map_or("none".into(), |id| id.to_string()))]
    WrongChain {
        /// The transaction's chain id.
        have: Option<u64>,
        /// This chain's.
        want: u64,
    },
    /// The sender has already used the nonce.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The sender's next nonce.
        next: u64,
        /// The transaction's nonce.
        nonce: u64,
    },
    /// The same transaction is in the pool or in a block already.
    #[error("already known")]
    AlreadyKnown,
    /// Another transaction has this nonce and pays about as much.
    #[error("replacement transaction underpriced: offer at least {PRICE_BUMP} % more of both fees")]
    Underpriced,
    /// The sender could not pay for it.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    InsufficientFunds {
        /// The sender's balance, in wei.
        balance: U256,
        /// The most that the transaction may cost, in wei.
        cost: U256,
    },
    /// It asks for more gas than a block has.
    #[error("exceeds block gas limit: tx {gas_limit}, block {block}")]
    ExceedsBlock {
        /// The transaction's gas limit.
        gas_limit: u64,
        /// The block's gas limit.
        block: u64,
    },
    /// It asks for more gas than EIP-7825 allows one transaction.
    #[error("transaction gas limit too high (cap: {MAX_TX_GAS_LIMIT_OSAKA}, tx: {0})")]
    ExceedsCap(u64),
    /// Its gas does not even pay for its bytes.
    #[error("intrinsic gas too low: gas {gas_limit}, minimum needed {needed}")]
    IntrinsicGas {
        /// The transaction's gas limit.
        gas_limit: u64,
        /// The least gas that it needs.
        needed: u64,
    },
    /// EIP-1559 fees that contradict each other.
    #[error("max priority fee per gas higher than max fee per gas: tip {tip}, max fee {max_fee}")]
    TipAboveFee {
        /// `maxPriorityFeePerGas`, in wei.
        tip: u128,
        /// `maxFeePerGas`, in wei.
        max_fee: u128,
    },
    /// The pool is full.
    #[error("txpool is full: wait for the next block")]
    Full,
}

/// What the pool must know about the chain to judge a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) chain_id: u64,
    pub(crate) spec: SpecId,
    pub(crate) block_gas_limit: u64,
}

/// What the pool must know about a sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
}

/// Transactions waiting for a block.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    senders: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    by_hash: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    transaction: Recovered<Transaction>,
    arrival: u64,
}

impl Pool {
    /// Adds `transaction`, or says why not.
    pub(crate) fn add(
        &mut self,
        transaction: Recovered<Transaction>,
        sender: Sender,
        rules: Rules,
    ) -> Result<B256, PoolError> {
        let hash = *transaction.tx_hash();
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        check(&transaction, sender, rules)?;
        let (from, nonce) = (transaction.signer(), transaction.nonce());
        if let Some(old) = self.senders.get(&from).and_then(|queue| queue.get(&nonce)) {
            let bumped = |fee: u128| {
                fee.saturating_add(fee / 100 * PRICE_BUMP + fee % 100 * PRICE_BUMP / 100)
            };
            if transaction.max_fee_per_gas() < bumped(old.transaction.max_fee_per_gas())
                || tip(&transaction) < bumped(tip(&old.transaction))
                || old.transaction.max_fee_per_gas() == transaction.max_fee_per_gas()
            {
                return Err(PoolError::Underpriced);
            }
            self.by_hash.remove(old.transaction.tx_hash());
        } else if self.by_hash.len() >= CAPACITY {
            return Err(PoolError::Full);
        }
        self.arrivals += 1;
        let waiting = Waiting { transaction, arrival: self.arrivals };
        self.senders.entry(from).or_default().insert(nonce, waiting);
        self.by_hash.insert(hash, (from, nonce));
        Ok(hash)
    }

    /// The waiting transaction `hash`.
    pub fn get(&self, hash: &B256) -> Option<&Recovered<Transaction>> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        Some(&self.senders.get(sender)?.get(nonce)?.transaction)
    }

    /// Number of waiting transactions.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether the pool is empty.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// All waiting transactions, by sender and nonce.
    pub fn iter(&self) -> impl Iterator<Item = &Recovered<Transaction>> {
        self.senders.values().flat_map(|queue| queue.values().map(|waiting| &waiting.transaction))
    }

    /// Every sender of a waiting transaction.
    pub(crate) fn senders(&self) -> Vec<Address> {
        self.senders.keys().copied().collect()
    }

    /// The nonce `sender` should use next, given that the chain expects `nonce`.
    pub(crate) fn next_nonce(&self, sender: &Address, nonce: u64) -> u64 {
        let Some(queue) = self.senders.get(sender) else { return nonce };
        (nonce..).find(|nonce| !queue.contains_key(nonce)).expect("a queue is finite")
    }

    /// The transactions that fit a block with `base_fee`, best-paying first; `nonce` returns the nonce that the chain
    /// expects of a sender.
    pub(crate) fn ready(&self, base_fee: u64, mut nonce: impl FnMut(&Address) -> u64) -> Ready<'_> {
        let mut ready = Ready { queues: HashMap::new(), heads: BinaryHeap::new(), base_fee };
        for (sender, queue) in &self.senders {
            ready.queues.insert(*sender, (queue, nonce(sender)));
            ready.promote(*sender);
        }
        ready
    }

    /// Removes one transaction.
    pub(crate) fn remove(&mut self, hash: &B256) {
        let Some((sender, nonce)) = self.by_hash.remove(hash) else { return };
        if let Some(queue) = self.senders.get_mut(&sender) {
            queue.remove(&nonce);
            if queue.is_empty() {
                self.senders.remove(&sender);
            }
        }
    }

    /// Removes the waiting transactions of `sender` below `nonce`.
    pub(crate) fn settle(&mut self, sender: &Address, nonce: u64) {
        let Some(queue) = self.senders.get_mut(sender) else { return };
        let rest = queue.split_off(&nonce);
        for old in std::mem::replace(queue, rest).values() {
            self.by_hash.remove(old.transaction.tx_hash());
        }
        if queue.is_empty() {
            self.senders.remove(sender);
        }
    }
}

/// Ready transactions, in the order in which a block should include them.
pub(crate) struct Ready<'a> {
    queues: HashMap<Address, (&'a BTreeMap<u64, Waiting>, u64)>,
    /// Tip per gas, then earliest arrival.
    heads: BinaryHeap<(u128, std::cmp::Reverse<u64>, Address)>,
    base_fee: u64,
}

impl<'a> Ready<'a> {
    /// The best of what is left. Its sender's next one becomes ready only after [`Ready::taken`].
    pub(crate) fn next(&mut self) -> Option<&'a Recovered<Transaction>> {
        let (_, _, sender) = self.heads.pop()?;
        let (queue, nonce) = self.queues[&sender];
        Some(&queue[&nonce].transaction)
    }

    /// Notes that `sender`'s transaction went into the block.
    pub(crate) fn taken(&mut self, sender: Address) {
        if let Some((_, nonce)) = self.queues.get_mut(&sender) {
            *nonce += 1;
        }
        self.promote(sender);
    }

    fn promote(&mut self, sender: Address) {
        let (queue, nonce) = self.queues[&sender];
        if let Some(waiting) = queue.get(&nonce)
            && let Some(tip) = waiting.transaction.effective_tip_per_gas(self.base_fee)
        {
            self.heads.push((tip, std::cmp::Reverse(waiting.arrival), sender));
        }
    }
}

fn tip(transaction: &Transaction) -> u128 {
    transaction.max_priority_fee_per_gas().unwrap_or_else(|| transaction.max_fee_per_gas())
}

fn check(
    transaction: &Recovered<Transaction>,
    sender: Sender,
    rules: Rules,
) -> Result<(), PoolError> {
    let Rules { chain_id, spec, block_gas_limit } = rules;
    if transaction.chain_id() != Some(chain_id)
        && !(transaction.is_legacy() && transaction.chain_id().is_none())
    {
        return Err(PoolError::WrongChain { have: transaction.chain_id(), want: chain_id });
    }
    let nonce = transaction.nonce();
    if nonce < sender.nonce {
        return Err(PoolError::NonceTooLow { next: sender.nonce, nonce });
    }
    let gas_limit = transaction.gas_limit();
    if gas_limit > block_gas_limit {
        return Err(PoolError::ExceedsBlock { gas_limit, block: block_gas_limit });
    }
    if spec.is_enabled_in(SpecId::OSAKA) && gas_limit > MAX_TX_GAS_LIMIT_OSAKA {
        return Err(PoolError::ExceedsCap(gas_limit));
    }
    let max_fee = transaction.max_fee_per_gas();
    if let Some(tip) = transaction.max_priority_fee_per_gas().filter(|tip| *tip > max_fee) {
        return Err(PoolError::TipAboveFee { tip, max_fee });
    }
    let environment: TxEnv = alloy_evm::ToTxEnv::to_tx_env(transaction);
    let gas = calculate_initial_tx_gas_for_tx(&environment, spec, None);
    let needed = gas.initial_total_gas().max(gas.floor_gas());
    if gas_limit < needed {
        return Err(PoolError::IntrinsicGas { gas_limit, needed });
    }
    let blob_fee = U256::from(transaction.max_fee_per_blob_gas().unwrap_or_default())
        * U256::from(transaction.blob_gas_used().unwrap_or_default());
    let cost = (U256::from(gas_limit) * U256::from(max_fee))
        .saturating_add(blob_fee)
        .saturating_add(transaction.value());
    if cost > sender.balance {
        return Err(PoolError::InsufficientFunds { balance: sender.balance, cost });
    }
    Ok(())
}

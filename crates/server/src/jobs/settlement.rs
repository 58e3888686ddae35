//! Settlements: what is on its way to a contract on L1. Plain values; what becomes of them is decided in the crate `settlement`.

use crate::clock::Timestamp;
use alloy_primitives::{Address, B256};
use protocol::{BlockRange, JobProof};
use std::fmt;

/// A contract on an L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rollup {
    /// L1's chain id.
    pub chain_id: u64,
    /// The contract.
    pub address: Address,
}

impl Rollup {
    /// Length of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 28;

    /// As it is stored: the chain id, big-endian, and the address.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.chain_id.to_be_bytes());
        bytes[8..].copy_from_slice(self.address.as_slice());
        bytes
    }

    /// What was stored.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let (mut chain_id, mut address) = ([0; 8], [0; 20]);
        chain_id.copy_from_slice(&bytes[..8]);
        address.copy_from_slice(&bytes[8..]);
        Self { chain_id: u64::from_be_bytes(chain_id), address: address.into() }
    }
}

impl fmt::Display for Rollup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on chain {}", self.address, self.chain_id)
    }
}

/// How far a batch is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettlementState {
    /// It is proven, and nothing is signed.
    Ready,
    /// A transaction is signed and durable. It may have been sent.
    Signed,
    /// The contract has it, in L1's newest block.
    Seen,
    /// The contract has it, in a finalized block.
    Final,
    /// It cannot be settled any more: the contract, or the L2, has other blocks there.
    Dropped,
}

impl SettlementState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ready, Self::Signed, Self::Seen, Self::Final, Self::Dropped];

    /// As it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Signed => "signed",
            Self::Seen => "seen",
            Self::Final => "final",
            Self::Dropped => "dropped",
        }
    }
}

/// What a transaction offers for its inclusion, in wei for each gas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// At most, all in all.
    pub max: u64,
    /// Of that, at most for the block's builder.
    pub priority: u64,
}

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTx {
    /// Its place among the wallet's transactions.
    pub nonce: u64,
    /// Its hash.
    pub hash: B256,
    /// Its bytes.
    pub raw: Vec<u8>,
    /// What it offers.
    pub fees: Fees,
    /// When it was signed.
    pub at: Timestamp,
}

/// A batch on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Its row.
    pub id: i64,
    /// Its blocks.
    pub blocks: BlockRange,
    /// Hash of the block before them.
    pub parent_hash: B256,
    /// Hash of the last one.
    pub last_hash: B256,
    /// How far it is.
    pub state: SettlementState,
    /// What the contract is called with.
    pub call: Vec<u8>,
    /// The transaction that was signed last, while it counts.
    pub tx: Option<SignedTx>,
    /// Nonces that were used up without settling it.
    pub wasted: u32,
}

/// A batch that is ready to be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSettlement {
    /// Its blocks.
    pub blocks: BlockRange,
    /// Hash of the block before them.
    pub parent_hash: B256,
    /// Hash of the last one.
    pub last_hash: B256,
    /// What the contract is called with.
    pub call: Vec<u8>,
}

/// What happens to a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettlementEvent {
    /// A transaction was signed. With another nonce than before, what was signed for later batches counts no more.
    Signed {
        /// The transaction.
        tx: SignedTx,
        /// Whether the nonce before was used up without settling it.
        wasted: bool,
    },
    /// The contract has it.
    Seen,
    /// A reorg of L1 took it away again.
    Unseen,
    /// It stays for good.
    Final,
    /// It cannot be settled any more.
    Dropped,
}

/// Accepted proofs of one run of blocks, for whoever settles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settleable {
    /// The blocks.
    pub blocks: BlockRange,
    /// What is proven: ABI bytes.
    pub statement: Vec<u8>,
    /// The proofs, one of each job.
    pub proofs: Vec<JobProof>,
}

/// How things stand on L1, as whoever sends saw it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The last block that is settled, in L1's newest block.
    pub settled: Option<u64>,
    /// And in its newest finalized one.
    pub finalized: Option<u64>,
    /// What the wallet has, in gwei.
    pub balance_gwei: Option<u64>,
    /// Since when a signed transaction waits.
    pub waiting_since: Option<Timestamp>,
    /// The log code of what keeps it from settling.
    pub alarm: Option<String>,
    /// When L1 said so.
    pub seen_at: Option<Timestamp>,
}

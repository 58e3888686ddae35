//! Why an input is refused.

use crate::{bound::Bound, consensus::Violation, trie::TrieError};
use alloc::string::String;
use alloy_primitives::B256;

/// Why an input cannot be proven, grouped by who can do something about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "std", derive(strum::VariantNames))]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not an encoded input: it has to be encoded again.
    #[error("malformed input: {what} at byte {offset}")]
    Input {
        /// What was expected there.
        what: &'static str,
        /// Where, in bytes from the start.
        offset: usize,
    },
    /// The chain config contradicts itself: the operator must correct it.
    #[error("invalid chain config: {0}")]
    ChainConfig(&'static str),
    /// The bytes are not a statement.
    #[error("malformed statement: {0}")]
    Statement(&'static str),
    /// The witness has no header of the first block's parent: ask the node for a complete one.
    #[error("the witness is incomplete: it has no header of the parent of block {number}")]
    MissingParent {
        /// The first block's number.
        number: u64,
    },
    /// The witness lacks a header that `BLOCKHASH` asks for.
    #[error("the witness is incomplete: it has no header of block {number}")]
    MissingHeader {
        /// The block asked for.
        number: u64,
    },
    /// The ancestors' headers are not one chain that ends in the first block's parent.
    #[error("ancestor header {index} does not link to its successor")]
    BrokenHeaderChain {
        /// Position among the ancestors, oldest first.
        index: usize,
    },
    /// The witness lacks a contract's code.
    #[error("the witness is incomplete: it has no code with hash {hash}")]
    MissingCode {
        /// Keccak-256 of the code.
        hash: B256,
    },
    /// The state trie, or one storage trie, is incomplete or malformed.
    #[error(transparent)]
    Trie(#[from] TrieError),
    /// An account in the state trie is not an RLP-encoded account.
    #[error("the account at {hashed_address} is not a valid RLP account")]
    Account {
        /// Keccak-256 of the address.
        hashed_address: B256,
    },
    /// A storage slot in a storage trie is not an RLP-encoded integer.
    #[error("the storage slot at {hashed_slot} is not a valid RLP integer")]
    Slot {
        /// Keccak-256 of the slot.
        hashed_slot: B256,
    },
    /// A block created an account where the state before it has storage: the executor failed.
    #[error("the account at {hashed_address} was created where there is storage")]
    CreatedOverStorage {
        /// Keccak-256 of the address.
        hashed_address: B256,
    },
    /// The input is outside the program's domain: the program decides neither that it is valid nor
    /// that it is invalid.
    #[error("cannot be proven: {0}")]
    Bound(#[from] Bound),
    /// The block is invalid under the chain's rules.
    #[error("block {number} is invalid: {violation}")]
    Block {
        /// The block's number.
        number: u64,
        /// The rule it breaks.
        violation: Violation,
    },
    /// The input claims that somebody else signed a transaction: it has to be encoded again.
    #[error("the hint for transaction {index} of block {number} is not its signer's key")]
    SenderHint {
        /// The block's number.
        number: u64,
        /// Position in the block.
        index: usize,
    },
    /// The executor failed for a reason that does not lie in the block.
    #[error("executing block {number} failed: {reason}")]
    Execution {
        /// The block's number.
        number: u64,
        /// The executor's message.
        reason: String,
    },
}

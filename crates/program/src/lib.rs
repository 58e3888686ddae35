//! What is proven: consecutive Ethereum blocks, executed from their witness alone.
//!
//! [`run`] reads an encoded [`Input`], executes its blocks again under the input's [`ChainConfig`]
//! and returns the [`Statement`] that a proof commits to. A zkVM guest does nothing else.
//!
//! * Nothing in the input is trusted: every header, node and code is hashed and tied, link by
//!   link, to a hash that the statement binds.
//! * What the witness lacks is an error, never an absence.
//! * The crate is `no_std`, deterministic (no clocks, no floats, no iteration over unordered
//!   maps that could reach a result) and names no zkVM.
//!
//! The feature `std` adds what a host needs: fast native cryptography and [`build`], with which a
//! node produces blocks on the same executor that checks them.
//!
//! # Example
//!
//! The public values of a real proof (`verifier::verify` returns them) are a statement. Its reader
//! compares it with what it knows of its own chain.
//!
//! ```
//! use alloy_primitives::keccak256;
//! use program::{ChainConfig, Error, Statement};
//!
//! # let proof = std::fs::read_to_string("../verifier/tests/fixtures/dev-block.json")?;
//! # let (_, text) = proof.split_once("\"public_values\": \"").ok_or("no public values")?;
//! # let public_values = alloy_primitives::hex::decode(text.split('"').next().unwrap_or_default())?;
//! let statement = Statement::abi_decode(&public_values)?;
//! assert_eq!(statement.chain_config_digest, ChainConfig::dev().digest());
//! assert_eq!((statement.first_number, statement.last_number), (1, 1));
//! assert_eq!(statement.digest(), keccak256(&public_values));
//!
//! // What is no valid input has no statement, natively and in a zkVM alike.
//! assert!(matches!(program::run(b"no input at all"), Err(Error::Input { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod batch;
pub mod bound;
pub mod chain;
mod code;
pub mod consensus;
mod error;
mod evm;
pub mod execute;
#[cfg(feature = "fold")]
pub mod fold;
mod hashes;
pub mod input;
mod interpreter;
mod overlay;
pub mod phase;
pub mod senders;
pub mod state;
pub mod statement;
pub mod trie;

#[cfg(feature = "std")]
pub mod build;
#[cfg(feature = "std")]
mod counts;
#[cfg(feature = "std")]
pub mod heap;

pub use batch::{
    AssumedParent, BlockSummary, Machine, Outcome, run, run_assuming_parent, run_detailed,
    run_in_place,
};
pub use bound::Bound;
pub use chain::{BlobFork, ChainConfig};
#[cfg(feature = "std")]
pub use counts::{Counts, Uses, run_counted};
pub use error::Error;
pub use input::{Input, Terms};
pub use interpreter::Product;
pub use statement::Statement;

/// A transaction as blocks contain it: blob transactions come without their sidecar.
pub type Transaction = alloy_consensus::EthereumTxEnvelope<alloy_consensus::transaction::TxEip4844>;
/// A receipt whose bloom has not been computed.
pub type Receipt = alloy_consensus::EthereumReceipt<alloy_consensus::TxType>;
/// A block in Ethereum's own types.
pub type Block = alloy_consensus::Block<Transaction>;

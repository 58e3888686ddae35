//! Turns what an L2 node, a block file or a state in memory says about blocks into the program's input.
//!
//! * Nothing that a node or a file says is trusted: the input is executed natively before it is returned.
//! * What is missing is an error that names it ([`Error::Incomplete`]), never a guess.
//! * The same blocks and witnesses give the same input, byte for byte, in whatever order a node lists them.
//!
//! [`Nodes`] prepares inputs from one or several nodes, [`file`](mod@file) from block files, [`record`] records witnesses of a state in
//! memory. [`cost`] estimates what a proof will cost, [`doctor`] says what a node can do.
//!
//! # Example
//!
//! A block is built on a small state while a recorder notes which nodes it touches. The resulting block
//! file becomes an input, whose statement is known before anybody proves it:
//!
//! ```
//! use alloy_consensus::{EMPTY_ROOT_HASH, Header, Sealed};
//! use alloy_eips::eip4895::Withdrawal;
//! use alloy_genesis::GenesisAccount;
//! use alloy_primitives::{Address, Bytes, U256};
//! use program::build::{Attributes, BlockBuilder};
//! use program::{ChainConfig, state::State};
//! use std::collections::BTreeMap;
//! use witness::record::{Recorded, Recorder, Store};
//!
//! // Shanghai's rules, so that no system contract is needed.
//! let config = ChainConfig {
//!     cancun_time: None,
//!     prague_time: None,
//!     osaka_time: None,
//!     blob_schedule: Vec::new(),
//!     ..ChainConfig::dev()
//! };
//! let address = Address::repeat_byte(1);
//! let account = GenesisAccount { balance: U256::from(1), ..Default::default() };
//! let (store, state_root) = Store::with_accounts(&BTreeMap::from([(address, account)]));
//! let parent = Sealed::new(Header {
//!     state_root,
//!     gas_limit: 30_000_000,
//!     base_fee_per_gas: Some(1_000_000_000),
//!     withdrawals_root: Some(EMPTY_ROOT_HASH),
//!     ..Default::default()
//! });
//!
//! let withdrawal = Withdrawal { address, amount: 5, ..Default::default() };
//! let attributes = Attributes {
//!     timestamp: 1,
//!     gas_limit: 30_000_000,
//!     withdrawals: vec![withdrawal].into(),
//!     ..Default::default()
//! };
//! let mut state = State::from_source(state_root, Recorder::new(&store));
//! let built = BlockBuilder::new(&config, &parent, &attributes, &mut state)?.finish()?;
//! let recorded = Recorded::new(state, 1);
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("block.json");
//! let file = serde_json::json!({
//!     "chain_id": config.chain_id,
//!     "number": 1,
//!     "block_hash": built.hash,
//!     "block_rlp": Bytes::from(alloy_rlp::encode(&built.block)),
//!     "witness": {
//!         "state": recorded.nodes,
//!         "codes": recorded.codes,
//!         "headers": [Bytes::from(alloy_rlp::encode(parent.inner()))],
//!     },
//! });
//! std::fs::write(&path, file.to_string())?;
//! let prepared = witness::file::read(&path)?.prepare(&config)?;
//! assert_eq!(prepared.statement.pre_state_root, state_root);
//! assert_eq!(prepared.statement.last_hash, built.hash);
//! assert_eq!(program::run(&prepared.input)?, prepared.statement);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![expect(
    clippy::result_large_err,
    reason = "an input takes seconds; callers match on what its error holds"
)]

mod assemble;
pub mod cost;
pub mod doctor;
mod error;
mod eth_config;
pub mod exchange;
pub mod file;
mod genesis;
mod heads;
mod inspect;
mod message;
mod node;
mod nodes;
mod proofs;
pub mod record;
mod rpc;
mod secrets;
mod transport;
mod trouble;

pub use alloy_eips::eip4895::Withdrawal;
pub use error::{Error, ErrorSource, MissingNode, with_causes};
pub use eth_config::chain_config;
pub use exchange::Recording;
pub use file::BlockFile;
pub use genesis::{Planned, RulesError, genesis_rules};
pub use inspect::{AccountSize, Inspection, inspect, place_deposits};
pub use node::{Depth, HeaderSummary, Node, NodeOptions, WitnessSource};
pub use nodes::{Fault, Nodes};
pub use program::BlockSummary;
pub use proofs::KnownKeys;
pub use rpc::Limits;
pub use secrets::Secrets;

use cost::Estimate;
use program::{ChainConfig, Statement, Terms};

/// What blocks are proven under.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'c> {
    /// The rules of their chain.
    pub config: &'c ChainConfig,
    /// Who is rewarded, and where the deposits start.
    pub terms: Terms,
}

/// Rewards nobody, and starts the deposits at the chain's first.
impl<'c> From<&'c ChainConfig> for Rules<'c> {
    fn from(config: &'c ChainConfig) -> Self {
        Self { config, terms: Terms::default() }
    }
}

/// An input that the program has accepted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The encoded [`program::Input`].
    pub input: Vec<u8>,
    /// What a proof of it will state.
    pub statement: Statement,
    /// The blocks, oldest first.
    pub blocks: Vec<BlockSummary>,
    /// The deposits that the blocks consume, if their chain has a bridge: all their withdrawals, in order.
    pub deposits: Option<Vec<Withdrawal>>,
    /// What a proof is expected to take: see [`cost::estimate`]. Nothing if there can be none, because the parent is assumed.
    pub estimate: Estimate,
}

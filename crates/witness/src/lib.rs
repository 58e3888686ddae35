//! From what an L2 node, a block file or a state at hand says about blocks to the program's input.
//!
//! * Nothing that a node or a file says is believed: the input is executed natively before it is returned.
//! * What is missing is an error that names it ([`Error::Incomplete`]), never a guess.
//! * The same blocks and witnesses give the same input, byte for byte, in whatever order a node lists them.
#![expect(
    clippy::result_large_err,
    reason = "an input takes seconds; callers match on what its error holds"
)]

mod assemble;
pub mod cost;
mod error;
mod eth_config;
pub mod file;
mod heads;
mod inspect;
mod node;
mod nodes;
mod proofs;
pub mod record;
mod rpc;

pub use error::{Culprit, Error};
pub use eth_config::chain_config;
pub use file::BlockFile;
pub use inspect::{AccountSize, Inspection, inspect};
pub use node::{Depth, Node, NodeOptions, Sketch, WitnessSource};
pub use nodes::{Fault, Nodes};
pub use program::BlockSummary;
pub use rpc::Limits;

use program::{ChainConfig, Statement, Terms};

/// What blocks are proven under.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'c> {
    /// The rules of their chain.
    pub config: &'c ChainConfig,
    /// Who is rewarded, and where the deposits start.
    pub terms: Terms,
}

/// Nobody is rewarded, and the deposits start at the chain's first.
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
    /// What a proof is expected to cost: see [`cost::estimate`]. Zero if there can be none, because the parent is assumed.
    pub estimated_cycles: u64,
}

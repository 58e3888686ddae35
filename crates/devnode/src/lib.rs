//! The embedded default L2: a small Ethereum chain in memory, with JSON-RPC.
//!
//! * [`DevNode`] is the node: a chain, its JSON-RPC server, and a clock that makes blocks.
//! * [`Chain`] is the chain alone, for tests: submit, mine, ask for the execution witness.
//! * [`replay::Replay`] answers as a recorded node did.
//! * [`Traffic`] makes honest work for provers.
//!
//! Blocks are made and re-executed by [`program`], on the same tries and the same executor that a
//! proof runs; there is no second implementation of the rules. Everything lives in memory and is
//! gone when the process ends.

pub mod accounts;
mod call;
mod chain;
pub mod genesis;
mod node;
mod pool;
pub mod replay;
mod rpc;
mod traffic;
pub mod worst;

pub use call::CallError;
pub use chain::{Chain, ChainError, DepositError, Mined};
pub use genesis::GenesisError;
pub use node::{Config, DevNode, Error, Mining, Running};
pub use pool::{Pool, PoolError};
pub use program::Transaction;
pub use traffic::{Kind, Traffic, TrafficConfig, UnknownKind};

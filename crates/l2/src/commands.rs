//! One file for each command.

pub mod bench;
pub mod client;
pub mod config;
pub mod conformance;
pub mod dev;
pub mod execute;
pub mod failures;
pub mod fsck;
pub mod gc;
pub mod inspect;
pub mod node;
pub mod operate;
pub mod proofs;
pub mod prove;
pub mod prover_process;
pub mod server;
pub mod tokens;
pub mod top;
pub mod verify;
pub mod witness;

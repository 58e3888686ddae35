//! One file for each command.

pub mod bench;
pub mod client;
pub mod conformance;
pub mod dev;
pub mod execute;
pub mod fsck;
pub mod inspect;
pub mod node;
pub mod operate;
pub mod prove;
pub mod prover_process;
pub mod server;
pub mod verify;
pub mod witness;

//! One file for each command.

pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod correct_clock;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod execute;
pub(crate) mod failures;
pub(crate) mod fold;
pub(crate) mod fsck;
pub(crate) mod gc;
pub(crate) mod inspect;
pub(crate) mod migrate;
pub(crate) mod node;
pub(crate) mod operate;
pub(crate) mod proofs;
pub(crate) mod prove;
pub(crate) mod prover_process;
pub(crate) mod replay;
pub(crate) mod server;
pub(crate) mod settle;
pub(crate) mod tokens;
pub(crate) mod top;
pub(crate) mod verify;
pub(crate) mod witness;

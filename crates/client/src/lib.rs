//! The Prover Client.

pub mod prover;

pub use prover::{Cancel, Cycles, Execution, Progress, ProveError, Prover};

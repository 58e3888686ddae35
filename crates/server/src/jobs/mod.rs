//! What a job is: its batch, its life, the standing of the clients that prove it, and what its proofs are checked against.
//!
//! Everything here is a value or a function of values: no SQL, no clock, no I/O. The store remembers, `dispatch` acts.

pub mod state;
pub mod verification;

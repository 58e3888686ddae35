//! The command `l2-prover` from outside: its processes, what they print and their exit codes.

mod common;
mod pipeline;
mod refusals;
mod settings;

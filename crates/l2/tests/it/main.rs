//! The command `l2-prover` from outside: its processes, what they print and their exit codes.

mod chaos;
mod clients;
mod common;
mod operate;
mod pipeline;
mod proxy;
mod refusals;
mod settings;

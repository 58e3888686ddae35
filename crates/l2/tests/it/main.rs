//! The command `l2-prover` from outside: its processes, what they print and their exit codes.

mod access;
mod book;
mod building;
mod chaos;
mod clients;
mod codes;
mod common;
mod deploy;
mod executables;
mod manual;
mod nodes;
mod operate;
mod pipeline;
mod proxy;
mod refusals;
mod settings;
mod traces;

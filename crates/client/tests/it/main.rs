//! The client's parts from outside, with real processes.

mod golden;
mod process;

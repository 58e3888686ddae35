//! Written by `cargo xtask guests`.

/// Image id of the program in `guests/risc0/pinned`: the program id of every real RISC Zero proof.
#[rustfmt::skip]
pub const RISC0_PROGRAM_ID: [u8; 32] = [0; 32];

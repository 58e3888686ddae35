//! In place of `risc0.rs` in a build without the feature `build_zkvm`.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use client::Prover;

use crate::args::ZkvmArgs;
use crate::commands::bench::Cost;

/// Whether this build can prove with RISC Zero.
pub const BUILT: bool = false;

/// Refuses, and says what to do.
pub fn prover(_args: &ZkvmArgs) -> anyhow::Result<Arc<dyn Prover>> {
    bail!(MISSING)
}

/// Refuses, and says what to do.
pub fn measure(
    _program: Option<&[u8]>,
    _input: &[u8],
    _segment_po2: u32,
    _profile: Option<&Path>,
) -> anyhow::Result<Cost> {
    bail!(MISSING)
}

const MISSING: &str = "this l2-prover was built without RISC Zero: build it with `cargo build --release -p l2 --features build_zkvm`, \
         or use --prover exec, which proves nothing";

//! RISC Zero as a prover. `no_risc0.rs` stands in its place in a build without the feature `build_zkvm`.

use std::sync::Arc;

use anyhow::Context as _;
use client::Prover;

/// Whether this build can prove with RISC Zero.
pub const BUILT: bool = true;

/// The prover, with segments of two to the `segment_po2` cycles.
pub fn prover(segment_po2: u32) -> anyhow::Result<Arc<dyn Prover>> {
    let prover = prover_risc0::Risc0Prover::new(prover_risc0::Config { segment_po2, ..Default::default() })
        .context("failed to set up RISC Zero")?;
    Ok(Arc::new(prover))
}

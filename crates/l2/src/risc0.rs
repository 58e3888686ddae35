//! RISC Zero as a prover. `no_risc0.rs` stands in its place in a build without the feature `build_zkvm`.

use std::sync::Arc;

use anyhow::Context as _;
use client::Prover;

use crate::args::ZkvmArgs;

/// Whether this build can prove with RISC Zero.
pub const BUILT: bool = true;

/// The prover on this machine.
pub fn prover(args: &ZkvmArgs) -> anyhow::Result<Arc<dyn Prover>> {
    let config = prover_risc0::Config { segment_po2: args.segment_po2, dev_mode: args.dev_mode };
    Ok(Arc::new(prover_risc0::Risc0Prover::new(config).context("failed to set up RISC Zero")?))
}

//! RISC Zero as a prover. `no_risc0.rs` stands in its place in a build without the feature `build_zkvm`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use client::Prover;

use crate::args::ZkvmArgs;
use crate::commands::bench::{Cost, PhaseCost};

/// Whether this build can prove with RISC Zero.
pub const BUILT: bool = true;

/// The prover on this machine.
pub fn prover(args: &ZkvmArgs) -> anyhow::Result<Arc<dyn Prover>> {
    let config = prover_risc0::Config { segment_po2: args.segment_po2, dev_mode: args.dev_mode };
    Ok(Arc::new(prover_risc0::Risc0Prover::new(config).context("failed to set up RISC Zero")?))
}

/// What an input costs in the zkVM; everything but the block's own figures.
pub fn measure(
    program: Option<&[u8]>,
    input: &[u8],
    segment_po2: u32,
    profile: Option<&Path>,
) -> anyhow::Result<Cost> {
    let measured = prover_risc0::measure(program, input, segment_po2, profile)?;
    let phases = measured.phases.iter().map(|(phase, cycles)| (phase.name(), *cycles));
    let phases = phases.chain([("outside", measured.outside)]);
    Ok(Cost {
        user_cycles: measured.user,
        paging_cycles: measured.paging,
        total_cycles: measured.total,
        segments: measured.segments,
        keccak_permutations: measured.keccak_permutations,
        keccak_cycles: measured.keccak_cycles(),
        sha256_calls: measured.sha256_calls,
        bigint_calls: measured.bigint_calls,
        software_calls: measured.software_calls,
        phases: phases
            .map(|(name, cycles)| (name, PhaseCost { user: cycles.user, paging: cycles.paging }))
            .collect(),
        public_values: measured.public_values,
        ..Cost::default()
    })
}

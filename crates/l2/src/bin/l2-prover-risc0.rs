//! `l2-prover-risc0`: proves with RISC Zero for `l2-prover`, which starts it and links no prover itself.

mod executable;

use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::BoolishValueParser;
use prover_risc0::{Config, Risc0Prover, SEGMENT_PO2};

/// How RISC Zero proves.
#[derive(Debug, clap::Args)]
struct Settings {
    /// Size of a segment as a power of two of cycles: 18 needs about 2.5 GB of memory, 20 about 9 GB
    #[arg(
        long,
        default_value_t = Config::default().segment_po2,
        value_parser = clap::value_parser!(u32)
            .range(i64::from(*SEGMENT_PO2.start())..=i64::from(*SEGMENT_PO2.end())),
        value_name = "PO2"
    )]
    segment_po2: u32,
    /// Mock the proofs: the guest runs, nothing is proven
    #[arg(long, env = "RISC0_DEV_MODE", value_parser = BoolishValueParser::new())]
    dev_mode: bool,
}

fn main() -> ExitCode {
    executable::main("l2-prover-risc0", |settings: Settings| {
        let Settings { segment_po2, dev_mode } = settings;
        Ok(Arc::new(Risc0Prover::new(Config { segment_po2, dev_mode })?))
    })
}

//! Flags of provers: which one, what kind of proof, and how a zkVM proves.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use url::Url;

/// Which prover runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProverArg {
    /// The program runs natively; proves nothing
    Exec,
    /// The zkVM of RISC Zero
    Risc0,
}

/// What kind of proof is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// One proof for each segment: fastest to make, largest
    Composite,
    /// One proof of constant size
    Succinct,
}

/// Which executable proves.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ExecutableArgs {
    /// The zkVM's executable, of the same version [default: l2-prover-risc0 beside this command]
    #[arg(long, env = "PROVER_CLIENT_EXECUTABLE", value_name = "FILE")]
    pub prover_executable: Option<PathBuf>,
}

/// How RISC Zero proves.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "RISC Zero")]
pub(crate) struct ZkvmArgs {
    /// Size of a segment as a power of two of cycles: 18 needs about 2.5 GB of memory, 20 about 9 GB. The larger, the fewer cycles a
    /// block costs [default: the largest that takes at most half of this machine's memory; 20 where nothing is proven]
    #[arg(
        long,
        env = "PROVER_CLIENT_SEGMENT_PO2",
        value_parser = clap::value_parser!(u32).range(16..=22),
        value_name = "PO2"
    )]
    pub segment_po2: Option<u32>,
    /// Mock the proofs: the guest runs, nothing is proven
    #[arg(long, env = "RISC0_DEV_MODE", value_parser = BoolishValueParser::new())]
    pub dev_mode: bool,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// Which engine proves.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine on other machines")]
pub(crate) struct EngineArgs {
    /// Have RISC Zero's proofs made by the engine with this REST API, through l2-prover-bonsai beside this command
    #[arg(long, env = "PROVER_CLIENT_ENGINE", value_name = "URL")]
    pub engine: Option<Url>,
    /// A file with the engine's key, which is read for each request
    #[arg(long, env = "PROVER_CLIENT_ENGINE_KEY_FILE", requires = "engine", value_name = "FILE")]
    pub engine_key_file: Option<PathBuf>,
    /// DANGER: talk to an engine on another machine without TLS: whoever is on the way reads key and inputs
    #[arg(
        long,
        env = "PROVER_CLIENT_DANGER_PLAIN_HTTP",
        requires = "engine",
        value_parser = BoolishValueParser::new()
    )]
    pub danger_plain_http: bool,
}

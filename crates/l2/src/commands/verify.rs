//! `l2-prover verify`: does this file prove anything, and what?

use std::fmt;
use std::path::PathBuf;

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use clap::Args;
use program::{ChainConfig, Statement};
use serde::Serialize;
use verifier::Policy;

use crate::args::ProverArg;
use crate::blocks::{StatementText, read_at_most};
use crate::chain::ChainArg;
use crate::output::{Output, thousands};

/// `l2-prover verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The proof
    #[arg(value_name = "PROOF")]
    pub proof: PathBuf,
    /// Proof system of the proof
    #[arg(
        long,
        value_enum,
        default_value_t = ProverArg::Risc0,
        default_value_if("danger_accept_exec", "true", "exec")
    )]
    pub prover: ProverArg,
    /// The chain whose blocks it must prove: mainnet, holesky, hoodi, sepolia, dev, anvil or a genesis file [default: any]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// Hash of the block after which its blocks must begin [default: any]
    #[arg(long, value_name = "HASH")]
    pub parent_hash: Option<B256>,
    /// Id of the program it must be a proof of, 32 bytes in hex [default: the pinned one, or the one pinned that folds its proofs]
    #[arg(long, value_name = "ID")]
    pub program_id: Option<B256>,
    /// DANGER: accept a proof of the exec prover, which proves nothing
    #[arg(long)]
    pub danger_accept_exec: bool,
    /// DANGER: accept a receipt of RISC Zero's dev mode, which proves nothing
    #[arg(long)]
    pub danger_accept_dev_mode: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Verify, output: &Output) -> anyhow::Result<()> {
    let file = args.proof.display();
    let proof = read_at_most(&args.proof, verifier::MAX_PROOF)?;
    let system = args.prover.verified_as();
    let policy = Policy {
        danger_accept_exec: args.danger_accept_exec,
        danger_accept_dev_mode: args.danger_accept_dev_mode,
    };
    let started = std::time::Instant::now();
    let verified = match args.program_id {
        Some(id) => verifier::verify(system, id.0, &proof, &policy).map(|it| (id.0, it)),
        None => verifier::verify_pinned(system, &proof, &policy),
    };
    let (program_id, verified) = verified.with_context(|| {
        let asked = args.program_id.unwrap_or(B256::new(system.program_id()));
        format!("{file} is no proof of program {asked}")
    })?;
    let program_id = B256::new(program_id);
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    let statement = Statement::abi_decode(&verified.public_values)
        .with_context(|| format!("{file} proves something else than a statement of ours"))?;
    expect(&statement, args)
        .with_context(|| format!("{file} is a proof, but not the one expected"))?;
    if matches!(verified.kind, verifier::Kind::Exec | verifier::Kind::DevMode) {
        output.warn(&format!(
            "{file} was accepted as asked, but it is of the kind `{}`: it proves NOTHING.",
            verified.kind
        ));
    }
    output.report(&Verified {
        file: file.to_string(),
        program_id,
        kind: verified.kind.to_string(),
        bytes: proof.len() as u64,
        milliseconds,
        statement,
    })
}

/// Whether the statement is about the chain and the blocks that the flags name.
fn expect(statement: &Statement, args: &Verify) -> anyhow::Result<()> {
    if let Some(chain) = &args.chain {
        on_chain(statement, &chain.config().context("cannot use --chain")?)?;
    }
    if let Some(parent) = args.parent_hash {
        // SOUNDNESS: a proof about blocks that continue another block says nothing about this one's.
        ensure!(
            statement.parent_hash == parent,
            "its blocks begin after block {}, not after {parent}",
            statement.parent_hash
        );
    }
    Ok(())
}

/// Whether the statement is about blocks that ran under the rules of `chain`.
///
/// # Errors
/// Says which rules they ran under.
pub(super) fn on_chain(statement: &Statement, chain: &ChainConfig) -> anyhow::Result<()> {
    let digest = chain.digest();
    // SOUNDNESS: under other rules (a chain of one's own) anything can be proven.
    ensure!(
        statement.chain_config_digest == digest,
        "its blocks ran under the config {}, and that of chain {} is {digest}",
        statement.chain_config_digest,
        chain.chain_id
    );
    Ok(())
}

#[derive(Serialize)]
struct Verified {
    file: String,
    program_id: B256,
    kind: String,
    bytes: u64,
    milliseconds: f64,
    statement: Statement,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, program_id, kind, bytes, milliseconds, statement } = self;
        writeln!(
            f,
            "{file} is valid ({kind}, {} bytes, verified in {milliseconds:.0} ms)",
            thousands(*bytes)
        )?;
        writeln!(f, "  program              {program_id}")?;
        write!(f, "{}", StatementText(statement))
    }
}

//! `l2-prover fold`: folds proofs of consecutive batches into one, without a server.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use alloy_primitives::B256;
use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use client::Cancel;
use program::Statement;
use program::fold::{self, FoldError, Member};
use protocol::ProofKind;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use verifier::{Policy, System, bundle};

use crate::args::{Global, ProverArg, ZkvmArgs};
use crate::blocks::{StatementText, read_at_most};
use crate::commands::proofs::save;
use crate::commands::prove::{Bar, finished};
use crate::output::{Output, thousands};
use crate::provers::{self, Workplace};
use crate::signals::unless_interrupted;

/// `l2-prover fold`
#[derive(Debug, Args)]
pub(crate) struct Fold {
    /// The proofs, in the order of their blocks: each continues the one before
    #[arg(required = true, value_name = "PROOF")]
    pub proofs: Vec<PathBuf>,
    /// Where the folded proof is written
    #[arg(long, default_value = "folded.proof", value_name = "FILE")]
    pub out: PathBuf,
    /// Which prover to use
    #[arg(long, value_enum, default_value_t = ProverArg::Risc0)]
    pub prover: ProverArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// Runs the command.
pub(crate) async fn run(
    args: Fold,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let prover = args.prover.build(&args.zkvm, Workplace::attended(folder.path()), global)?;
    let mocked = provers::warn_if_mocked(&*prover, output);
    provers::check_kind(&*prover, ProofKind::Aggregate)?;
    let policy = Policy { danger_accept_exec: mocked, danger_accept_dev_mode: mocked };
    let system = args.prover.verified_as();
    let files = args.proofs.clone();
    let reading = tokio::task::spawn_blocking(move || bundle(&files, system, &policy));
    let read = unless_interrupted(&shutdown, async { reading.await.context("reading failed")? });
    let (bundle, whole) = read.await?;

    let name = format!("{} proofs", args.proofs.len());
    let (cancel, bar) = (Cancel::new(), Bar::new(output, &name, ProofKind::Aggregate));
    let (stop, out) = (cancel.clone(), args.out.clone());
    let started = Instant::now();
    let folding = move || {
        let folded = prover.prove(&bundle, ProofKind::Aggregate, &stop, &|step| bar.update(step));
        bar.bar.finish_and_clear();
        folded
    };
    let proof = finished(folding, &cancel, output, &shutdown).await?;
    let proof = proof.context("failed to fold the proofs")?;
    let verified = verifier::verify(system, system.aggregate_id(), &proof, &policy)
        .context("the proof made here does not verify: this is a bug, please report it")?;
    ensure!(
        verified.public_values == whole.abi_encode(),
        "the proof states something else than the proofs together: this is a bug, please report it"
    );
    save(&out, &proof)?;
    output.report(&Folded {
        proofs: args.proofs.len(),
        out,
        program_id: B256::new(system.aggregate_id()),
        kind: verified.kind.to_string(),
        proves_nothing: mocked,
        bytes: proof.len() as u64,
        seconds: started.elapsed().as_secs_f64(),
        statement: whole,
    })
}

/// The proofs as one bundle, and what they state together. Each is verified here, so that a wrong one is named by its file.
fn bundle(
    files: &[PathBuf],
    system: System,
    policy: &Policy,
) -> anyhow::Result<(Vec<u8>, Statement)> {
    let (mut proofs, mut members) = (Vec::new(), Vec::new());
    for file in files {
        let proof = read_at_most(file, verifier::MAX_PROOF)?;
        let name = file.display();
        let verified = verifier::verify(system, system.program_id(), &proof, policy)
            .with_context(|| format!("{name} is no proof of the pinned program"))?;
        let statement = Statement::abi_decode(&verified.public_values)
            .with_context(|| format!("{name} proves something else than a statement of ours"))?;
        ensure!(
            statement.deposits_digest.is_zero(),
            "{name} is of a chain with a bridge: this command does not know the links of its deposits"
        );
        proofs.push((verified.public_values, proof));
        members.push(Member { statement, deposits: [B256::ZERO; 2] });
    }
    let whole = fold::fold(&members).map_err(|error| match error {
        FoldError::Broken { index, what } if index > 0 => anyhow!(
            "{} (blocks {}) does not continue {} (blocks {}): its {what} differs; name consecutive batches in the order of their blocks",
            files[index].display(),
            range(&members[index]),
            files[index - 1].display(),
            range(&members[index - 1])
        ),
        other => anyhow!(other).context("these proofs cannot be folded"),
    })?;
    let members = proofs.iter().map(|(public_values, proof)| bundle::Member {
        public_values,
        deposits: [[0; 32]; 2],
        proof,
    });
    Ok((bundle::encode(&members.collect::<Vec<_>>())?, whole))
}

fn range(member: &Member) -> String {
    format!("{} to {}", member.statement.first_number, member.statement.last_number)
}

#[derive(Serialize)]
struct Folded {
    proofs: usize,
    out: PathBuf,
    program_id: B256,
    kind: String,
    proves_nothing: bool,
    bytes: u64,
    seconds: f64,
    statement: Statement,
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out, bytes) = (self.out.display(), thousands(self.bytes));
        let done = if self.proves_nothing { "folded, but NOT proven (mocked)" } else { "folded" };
        let Self { proofs, seconds, kind, .. } = self;
        writeln!(f, "{proofs} proofs {done} in {seconds:.1} s: {out} ({kind}, {bytes} bytes)")?;
        writeln!(f, "  program              {}", self.program_id)?;
        write!(f, "{}", StatementText(&self.statement))
    }
}

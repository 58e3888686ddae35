//! `l2-prover execute`: runs the program without proving, and says what it costs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use client::{Cycles, ProveError, Prover, memory};
use program::{BlockSummary, Statement};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{Global, ProverArg, Source, ZkvmArgs};
use crate::blocks::{self, Parent, Prepared, StatementText};
use crate::output::{self, Output, thousands};
use crate::provers::Workplace;
use crate::signals::unless_interrupted;

/// `l2-prover execute`
#[derive(Debug, Args)]
pub(crate) struct Execute {
    /// Block files (.json or .json.zst), or inputs made by `l2-prover witness`
    #[arg(required_unless_present = "rpc_url", conflicts_with = "rpc_url", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
    /// What runs the program: exec natively, risc0 in the zkVM's executor
    #[arg(long, value_enum, default_value_t = ProverArg::Exec)]
    pub prover: ProverArg,
    /// Take block files without a parent header: skips exactly the rules of the header against its parent
    #[arg(long, conflicts_with = "rpc_url")]
    pub assume_parent: bool,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// Runs the command. Goes on after a refused file, and fails in the end if there was one.
pub(crate) async fn run(
    args: Execute,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let workplace = Workplace::without_proofs();
    let prover = args.prover.build(&args.zkvm, workplace, global)?;
    if args.source.rpc_url.is_some() {
        let prepared = unless_interrupted(&shutdown, blocks::from_node(&args.source)).await?;
        return output.report(&execute(prepared, args.prover, prover).await?);
    }
    let parent = if args.assume_parent { Parent::MayBeAssumed } else { Parent::Required };
    let mut refused = 0;
    for path in &args.files {
        if shutdown.is_cancelled() {
            bail!("interrupted");
        }
        match one(path, &args, parent, prover.clone()).await {
            Ok(executed) => output.report(&executed)?,
            Err(error) => {
                refused += 1;
                output.report(&Refused {
                    file: path.display().to_string(),
                    error: output::chain(&error),
                })?;
            }
        }
    }
    ensure!(refused == 0, "{refused} of {} files refused", args.files.len());
    Ok(())
}

async fn one(
    path: &Path,
    args: &Execute,
    parent: Parent,
    prover: Arc<dyn Prover>,
) -> anyhow::Result<Executed> {
    let (path, chain, terms) = (path.to_owned(), args.source.chain.clone(), args.source.terms);
    let second = prover.clone();
    let prepare = move || {
        if blocks::is_block_file(&path) {
            return blocks::from_file(&path, chain.as_ref(), Some(&terms), parent);
        }
        let input = blocks::read_input(&path, Some(&terms))?;
        match program::run_detailed(&input) {
            Ok(outcome) => Ok(Prepared::from_input(path.display().to_string(), input, outcome)),
            Err(reason) => Err(refused_twice(&reason, &input, &*second)),
        }
    };
    let prepared = tokio::task::spawn_blocking(prepare).await.context("preparing panicked")??;
    execute(prepared, args.prover, prover).await
}

/// Runs an input that is refused natively in the prover, which must refuse it with the same words.
fn refused_twice(reason: &program::Error, input: &[u8], prover: &dyn Prover) -> anyhow::Error {
    let (native, system) = (reason.to_string(), prover.system());
    match prover.execute(input) {
        Err(ProveError::BadInput(text)) if text.contains(&native) => {
            anyhow!("{native} (natively and in {system})")
        }
        Err(other) => {
            anyhow!("natively: {native}; but in {system}: {}", output::chain(&other.into()))
        }
        Ok(_) => anyhow!("natively: {native}; but {system} accepts it"),
    }
}

/// Runs the prepared input once more, measured.
async fn execute(
    prepared: Prepared,
    arg: ProverArg,
    prover: Arc<dyn Prover>,
) -> anyhow::Result<Executed> {
    tokio::task::spawn_blocking(move || {
        memory::reset_peak();
        let started = Instant::now();
        let (public_values, cycles) = match &prepared.assumed_parent {
            // A guest knows no assumptions: such an input runs natively only.
            Some(parent) => {
                ensure!(
                    arg == ProverArg::Exec,
                    "{} has no parent header: a zkVM can't run it",
                    prepared.name
                );
                let outcome = program::run_assuming_parent(&prepared.input, parent.clone())?;
                (outcome.statement.abi_encode(), None)
            }
            None => {
                let execution = prover.execute(&prepared.input)?;
                (execution.public_values, execution.cycles)
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let peak_memory_bytes = prover.peak_memory().or_else(memory::peak);
        ensure!(
            public_values == prepared.statement.abi_encode(),
            "{} states something else in {} than natively: this is a bug, please report it",
            prepared.name,
            prover.system(),
        );
        let gas_used = prepared.gas_used();
        Ok(Executed {
            name: prepared.name.clone(),
            prover: prover.system(),
            transactions: prepared.transactions(),
            gas_used,
            input_bytes: prepared.input.len(),
            milliseconds: seconds * 1e3,
            mgas_per_second: gas_used as f64 / 1e6 / seconds,
            cycles: cycles.map(CyclesReport::from),
            peak_memory_bytes,
            assumed_parent: prepared.assumed_parent.is_some(),
            statement: prepared.statement,
            blocks: prepared.blocks,
        })
    })
    .await
    .context("executing panicked")?
}

#[derive(Serialize)]
struct Executed {
    #[serde(rename = "file")]
    name: String,
    prover: protocol::ProofSystem,
    transactions: usize,
    gas_used: u64,
    input_bytes: usize,
    milliseconds: f64,
    mgas_per_second: f64,
    #[serde(flatten)]
    cycles: Option<CyclesReport>,
    peak_memory_bytes: Option<u64>,
    assumed_parent: bool,
    statement: Statement,
    blocks: Vec<BlockSummary>,
}

/// What a run costs in a zkVM.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CyclesReport {
    user_cycles: u64,
    total_cycles: u64,
    segments: u64,
    keccak_permutations: Option<u64>,
}

impl From<Cycles> for CyclesReport {
    fn from(cycles: Cycles) -> Self {
        let Cycles { user, total, segments, keccak_permutations, .. } = cycles;
        Self { user_cycles: user, total_cycles: total, segments, keccak_permutations }
    }
}

impl fmt::Display for CyclesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user_cycles, total_cycles, segments, keccak_permutations } = *self;
        let (user, total) = (thousands(user_cycles), thousands(total_cycles));
        write!(f, "{user} user, {total} total, {segments} segments")?;
        match keccak_permutations {
            Some(count) => write!(f, ", {} keccak permutations", thousands(count)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Executed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        if self.assumed_parent {
            writeln!(
                f,
                "  ASSUMED              the parent: no rule of the header against its parent was checked"
            )?;
        }
        writeln!(
            f,
            "  gas                  {} in {} transactions",
            thousands(self.gas_used),
            self.transactions
        )?;
        let (milliseconds, speed) = (self.milliseconds, self.mgas_per_second);
        // A zkVM's executor is a million times slower.
        let digits = if speed < 1.0 { 5 } else { 1 };
        writeln!(
            f,
            "  time                 {milliseconds:.1} ms in {}, {speed:.digits$} Mgas/s",
            self.prover
        )?;
        if let Some(cycles) = self.cycles {
            writeln!(f, "  cycles               {cycles}")?;
        }
        if let Some(peak) = self.peak_memory_bytes {
            writeln!(f, "  peak memory          {} MB", thousands(peak / 1_000_000))?;
        }
        write!(f, "{}", StatementText(&self.statement))
    }
}

#[derive(Serialize)]
struct Refused {
    file: String,
    error: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  REFUSED              {}", self.file, self.error)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use client::{Cancel, Execution, Progress};
    use expect_test::expect;
    use protocol::{ProofKind, ProofSystem};

    use super::*;

    /// A prover that says the same of every input.
    struct Says(fn() -> Result<Execution, ProveError>);

    impl Prover for Says {
        fn system(&self) -> ProofSystem {
            ProofSystem::Risc0
        }

        fn program_id(&self) -> B256 {
            B256::ZERO
        }

        fn danger(&self) -> Option<&str> {
            None
        }

        fn prove(
            &self,
            _input: &[u8],
            _kind: ProofKind,
            _cancel: &Cancel,
            _progress: &(dyn Fn(Progress) + Send + Sync),
        ) -> Result<Vec<u8>, ProveError> {
            Err(ProveError::Cancelled)
        }

        fn execute(&self, _input: &[u8]) -> Result<Execution, ProveError> {
            self.0()
        }
    }

    #[test]
    fn native_run_and_prover_must_refuse_an_input_for_the_same_reason() {
        let reason = program::Error::MissingParent { number: 7 };
        let provers = [
            Says(|| {
                Err(ProveError::BadInput(
                    "panicked at src/main.rs:1: the witness is incomplete: it has no header of the parent of block 7"
                        .into(),
                ))
            }),
            Says(|| Err(ProveError::BadInput("the state trie is malformed".into()))),
            Says(|| Err(ProveError::OutOfMemory("4 GB".into()))),
            Says(|| Ok(Execution { public_values: Vec::new(), cycles: None })),
        ];
        let texts = provers.map(|prover| refused_twice(&reason, &[], &prover).to_string());
        expect![[r#"
            the witness is incomplete: it has no header of the parent of block 7 (natively and in risc0)
            natively: the witness is incomplete: it has no header of the parent of block 7; but in risc0: input is not provable: the state trie is malformed
            natively: the witness is incomplete: it has no header of the parent of block 7; but in risc0: prover ran out of memory: 4 GB
            natively: the witness is incomplete: it has no header of the parent of block 7; but risc0 accepts it"#]]
        .assert_eq(&texts.join("\n"));
    }
}

//! `l2-prover bench cycles`: what blocks cost in a zkVM, and which part of the program costs it.

mod node;
mod price;
mod server;
mod worst;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use client::{Measurement, PERMUTATION_CYCLES, Prover};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{ExecutableArgs, Global, ProverArg, ZkvmArgs};
use crate::blocks::{self, Parent, Prepared};
use crate::chain::{self, ChainArg};
use crate::commands::bench::node::BenchNode;
use crate::commands::bench::price::BenchPrice;
use crate::commands::bench::server::BenchServer;
use crate::commands::bench::worst::BenchWorst;
use crate::output::{Output, thousands};
use crate::provers::Workplace;
use crate::signals::unless_interrupted;

/// `l2-prover bench`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Count the cycles that blocks cost in RISC Zero, by phase of the program
    Cycles(BenchCycles),
    /// Make a block of each opcode and each precompile, and count what its gas costs in RISC Zero
    Worst(BenchWorst),
    /// Prove a little, and say what a cycle and a keccak permutation cost on this machine
    Price(BenchPrice),
    /// Fetch blocks of a node one after the other, and say what their witnesses cost in calls, time and bytes
    Node(BenchNode),
    /// Measure the Prover Server's job engine: leases per second, memory, start, how fast a dead client's job goes on
    Server(BenchServer),
}

/// `l2-prover bench cycles`
#[derive(Debug, Args)]
pub(crate) struct BenchCycles {
    /// Block files (.json or .json.zst), or inputs made by `l2-prover witness`
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also measure all files as one batch: they must be block files of consecutive blocks
    #[arg(long)]
    pub batch: bool,
    /// Also tell how often each opcode and each precompile was used, and for how much gas; with --json it is always there
    #[arg(long)]
    pub counts: bool,
    /// Print a Markdown table
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// The chain: mainnet, holesky, hoodi, sepolia, dev or a genesis file [default: by the chain id]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// Size of a segment as a power of two of cycles
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(16..=22), value_name = "PO2")]
    pub segment_po2: u32,
    /// Cycles that cost as much to prove as a keccak permutation: `bench price` measures it
    #[arg(long, default_value_t = PERMUTATION_CYCLES, value_name = "CYCLES")]
    pub permutation_cycles: u64,
    /// Another program binary than the pinned one, for instance of `cargo xtask guests --symbols`
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Write a profile in pprof's format; the program binary must have symbols
    #[arg(long, value_name = "FILE", requires = "program")]
    pub profile: Option<PathBuf>,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// Runs the command.
pub(crate) async fn run(
    bench: Bench,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let args = match bench {
        Bench::Cycles(args) => args,
        Bench::Node(args) => {
            return unless_interrupted(&shutdown, node::run(args, output)).await;
        }
        Bench::Price(args) => return price::run(args, global, output, shutdown).await,
        Bench::Worst(args) => return worst::run(args, global, output, shutdown).await,
        Bench::Server(args) => return server::run(args, output, shutdown).await,
    };
    let (sender, mut costs) = tokio::sync::mpsc::channel(1);
    let markdown = args.markdown;
    let prover = prover(args.segment_po2, &args.executable, global)?;
    let worker =
        tokio::task::spawn_blocking(move || measure_all(&args, &*prover, &sender, &shutdown));
    if markdown {
        output.report(&TableHead)?;
    }
    while let Some(cost) = costs.recv().await {
        match markdown {
            true => output.report(&TableRow(cost))?,
            false => output.report(&cost)?,
        }
    }
    worker.await.context("measuring panicked")?
}

/// RISC Zero, which counts cycles.
fn prover(
    segment_po2: u32,
    executable: &ExecutableArgs,
    global: &Global,
) -> anyhow::Result<Arc<dyn Prover>> {
    let segment_po2 = Some(segment_po2);
    let zkvm = ZkvmArgs { segment_po2, dev_mode: false, executable: executable.clone() };
    ProverArg::Risc0.build(&zkvm, Workplace::without_proofs(), global)
}

fn measure_all(
    args: &BenchCycles,
    prover: &dyn Prover,
    sender: &tokio::sync::mpsc::Sender<Cost>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut inputs: Vec<Box<dyn Fn() -> anyhow::Result<Prepared>>> = Vec::new();
    for path in &args.files {
        let chain = args.chain.clone();
        let path = path.clone();
        inputs.push(Box::new(move || {
            blocks::from_file(&path, chain.as_ref(), None, Parent::Required)
        }));
    }
    if args.batch {
        inputs.push(Box::new(|| batch(&args.files, args)));
    }
    for prepare in inputs {
        ensure!(!shutdown.is_cancelled(), "interrupted");
        let prepared = prepare()?;
        let (program, profile) = (args.program.as_deref(), args.profile.as_deref());
        let mut cost = measure(prover, &prepared.name, &prepared.input, program, profile)?;
        cost.tells_counts = args.counts;
        cost.proving_cycles = cost.price(args.permutation_cycles);
        if sender.blocking_send(cost).is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs an input natively and in the zkVM, which must state the same.
fn measure(
    prover: &dyn Prover,
    name: &str,
    input: &[u8],
    program: Option<&Path>,
    profile: Option<&Path>,
) -> anyhow::Result<Cost> {
    let (outcome, counts) = program::run_counted(input)?;
    let estimate = witness::cost::estimate(&counts);
    let cost = Cost::from(prover.measure(input, program, profile)?);
    ensure!(
        cost.public_values == outcome.statement.abi_encode(),
        "{name} states something else in the zkVM than natively"
    );
    Ok(Cost {
        name: name.to_owned(),
        gas: outcome.blocks.iter().map(|block| block.gas_used).sum(),
        blocks: outcome.blocks.len(),
        transactions: outcome.blocks.iter().map(|block| block.transactions).sum(),
        input_bytes: input.len(),
        estimated_cycles: estimate.cycles,
        estimated_permutations: estimate.permutations,
        features: counts.features().collect(),
        ..cost
    })
}

/// The consecutive blocks of all files as one input.
fn batch(paths: &[PathBuf], args: &BenchCycles) -> anyhow::Result<Prepared> {
    let files: Vec<_> = paths.iter().map(witness::file::read).collect::<Result<_, _>>()?;
    let config = match &args.chain {
        Some(chain) => chain.config()?,
        None => chain::by_id(files[0].chain_id())?,
    };
    let prepared = witness::file::prepare_batch(&files, &config)?;
    let stem = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Prepared {
        name: paths.iter().map(|path| stem(path)).collect::<Vec<_>>().join(" + "),
        input: prepared.input,
        statement: prepared.statement,
        blocks: prepared.blocks,
        assumed_parent: None,
    })
}

/// What one input costs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// The file, or the files of a batch.
    pub name: String,
    /// Gas used.
    pub gas: u64,
    /// Number of blocks.
    pub blocks: usize,
    /// Number of transactions.
    pub transactions: usize,
    /// What was expected of `total_cycles` from a native run.
    pub estimated_cycles: u64,
    /// What was expected of `keccak_permutations` from it.
    pub estimated_permutations: u64,
    /// What the native run counted.
    pub features: BTreeMap<String, u64>,
    /// Whether people are told of it too.
    #[serde(skip)]
    pub tells_counts: bool,
    /// Length of the program's input in bytes.
    pub input_bytes: usize,
    /// Cycles of instructions and accelerators.
    pub user_cycles: u64,
    /// Cycles of paging.
    pub paging_cycles: u64,
    /// Segments padded to powers of two.
    pub total_cycles: u64,
    /// Number of segments.
    pub segments: u64,
    /// Keccak permutations left to the accelerator.
    pub keccak_permutations: u64,
    /// Rows of the keccak circuit.
    pub keccak_cycles: u64,
    /// The price in cycles: total cycles, and the permutations at what proving them costs.
    pub proving_cycles: u64,
    /// Calls of the SHA-256 accelerator.
    pub sha256_calls: u64,
    /// Calls of the big-integer accelerator.
    pub bigint_calls: u64,
    /// Precompile calls computed in software, by address.
    pub software_calls: BTreeMap<u8, u64>,
    /// By phase, in the order of a run; what stands in no phase is `outside`.
    pub phases: Vec<(String, client::PhaseCycles)>,
    /// What the guest committed.
    #[serde(skip)]
    pub public_values: Vec<u8>,
}

impl From<Measurement> for Cost {
    /// Everything but the block's own figures.
    fn from(measured: Measurement) -> Self {
        Self {
            user_cycles: measured.user,
            paging_cycles: measured.paging,
            total_cycles: measured.total,
            segments: measured.segments,
            keccak_permutations: measured.keccak_permutations,
            keccak_cycles: measured.keccak_cycles,
            sha256_calls: measured.sha256_calls,
            bigint_calls: measured.bigint_calls,
            software_calls: measured.software_calls,
            phases: measured.phases,
            public_values: measured.public_values,
            ..Self::default()
        }
    }
}

impl Cost {
    /// What costs as much to prove as this and its keccak permutations, each of which costs `permutation` cycles.
    fn price(&self, permutation: u64) -> u64 {
        self.total_cycles + self.keccak_permutations.saturating_mul(permutation)
    }

    /// All rows that a prover proves. One of the keccak circuit costs more than one of a segment.
    fn all(&self) -> u64 {
        self.total_cycles + self.keccak_cycles
    }

    fn per_gas(&self, cycles: u64) -> f64 {
        cycles as f64 / self.gas.max(1) as f64
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        writeln!(
            f,
            "  gas             {:>14}  {} blocks, {} transactions, {} bytes of input",
            thousands(self.gas),
            self.blocks,
            self.transactions,
            thousands(self.input_bytes as u64)
        )?;
        for (name, cycles) in [
            ("user", self.user_cycles),
            ("paging", self.paging_cycles),
            ("total", self.total_cycles),
            ("keccak circuit", self.keccak_cycles),
            ("all in", self.all()),
            ("price", self.proving_cycles),
        ] {
            writeln!(
                f,
                "  {name:<15} {:>14}  {:>6.2} a gas",
                thousands(cycles),
                self.per_gas(cycles)
            )?;
        }
        writeln!(
            f,
            "  segments {}, keccak permutations {}, SHA-256 calls {}, big-integer calls {}, precompiles in software {:?}",
            self.segments,
            thousands(self.keccak_permutations),
            self.sha256_calls,
            thousands(self.bigint_calls),
            self.software_calls
        )?;
        writeln!(
            f,
            "  estimated       {:>14}  {:+.1} % of total, from a native run",
            thousands(self.estimated_cycles),
            100.0 * (self.estimated_cycles as f64 / self.total_cycles.max(1) as f64 - 1.0)
        )?;
        for (index, (name, cost)) in self.phases.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "  {name:<15} {:>14} {:>5.1} % of user cycles, {:>12} paging",
                thousands(cost.user),
                100.0 * cost.user as f64 / self.user_cycles.max(1) as f64,
                thousands(cost.paging)
            )?;
        }
        for (name, count) in self.features.iter().filter(|_| self.tells_counts) {
            write!(f, "\n  {name:<28} {:>14}", thousands(*count))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct TableHead;

impl fmt::Display for TableHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = "| input | gas | user | paging | total | segments | keccak | user / gas | total / gas | all in / gas | price / gas |";
        write!(f, "{columns}\n|{}", "---|".repeat(11))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct TableRow(Cost);

impl fmt::Display for TableRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = &self.0;
        let name = cost.name.rsplit('/').next().unwrap_or_default().replace(".json.zst", "");
        write!(
            f,
            "| {name} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            thousands(cost.gas),
            thousands(cost.user_cycles),
            thousands(cost.paging_cycles),
            thousands(cost.total_cycles),
            cost.segments,
            thousands(cost.keccak_permutations),
            cost.per_gas(cost.user_cycles),
            cost.per_gas(cost.total_cycles),
            cost.per_gas(cost.all()),
            cost.per_gas(cost.proving_cycles),
        )
    }
}

//! `l2-prover bench worst`: blocks that do one thing as often as their gas lets them, and what they cost.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use client::{PERMUTATION_CYCLES, Prover};
use devnode::worst::WorstCase;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{ExecutableArgs, Global};
use crate::output::{Output, thousands};

/// `l2-prover bench worst`
#[derive(Debug, Args)]
pub(crate) struct BenchWorst {
    /// Only cases whose names hold all these words, for instance `modexp even`
    #[arg(value_name = "WORD")]
    pub only: Vec<String>,
    /// Gas of each block's transaction; more, if what it does once takes more
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(100_000..=16_777_216), value_name = "GAS")]
    pub gas: u64,
    /// Another program binary than the pinned one
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// Size of a segment as a power of two of cycles. It hardly matters here: padding is not counted.
const SEGMENT_PO2: u32 = 20;

/// Runs the command.
pub(super) async fn run(
    args: BenchWorst,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let prover = super::prover(SEGMENT_PO2, &args.executable, global)?;
    let worker = tokio::task::spawn_blocking(move || measure_all(&args, &*prover, &shutdown));
    output.report(&worker.await.context("measuring panicked")??)
}

fn measure_all(
    args: &BenchWorst,
    prover: &dyn Prover,
    shutdown: &CancellationToken,
) -> anyhow::Result<Table> {
    let mut costs = Vec::new();
    for case in WorstCase::all() {
        if !args.only.iter().all(|word| case.name.contains(word)) {
            continue;
        }
        ensure!(!shutdown.is_cancelled(), "interrupted");
        costs.push(measure(prover, &case, args.gas, args.program.as_deref())?);
    }
    costs.sort_by(|a, b| b.price_per_gas.total_cmp(&a.price_per_gas));
    Ok(Table(costs))
}

fn measure(
    prover: &dyn Prover,
    case: &WorstCase,
    gas: u64,
    program: Option<&Path>,
) -> anyhow::Result<WorstCost> {
    let chain = case.chain(gas).with_context(|| format!("failed to make {}", case.name))?;
    let (input, root) = chain.input(1..=1)?;
    let input = input.encode(root)?;
    let cost = super::measure(prover, &case.name, &input, program, None)?;
    let run = cost.user_cycles + cost.paging_cycles;
    let (cycles, price) =
        (run + cost.keccak_cycles, run + cost.keccak_permutations * PERMUTATION_CYCLES);
    Ok(WorstCost {
        name: cost.name,
        gas: cost.gas,
        user_cycles: cost.user_cycles,
        paging_cycles: cost.paging_cycles,
        cycles,
        per_gas: cycles as f64 / cost.gas as f64,
        price_per_gas: price as f64 / cost.gas as f64,
        input_bytes: cost.input_bytes,
        features: cost.features,
    })
}

/// What a block of one case costs.
#[derive(Debug, Serialize)]
struct WorstCost {
    name: String,
    gas: u64,
    user_cycles: u64,
    paging_cycles: u64,
    /// User cycles, paging and rows of the keccak circuit; no padding, which would hide small differences.
    cycles: u64,
    per_gas: f64,
    /// The same with the permutations at what proving them costs.
    price_per_gas: f64,
    input_bytes: usize,
    /// What the native run counted.
    features: BTreeMap<String, u64>,
}

/// The dearest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Table(Vec<WorstCost>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| block of | gas | cycles | cycles / gas | price / gas | input bytes |\n|---|---|---|---|---|---|"
        )?;
        for WorstCost { name, gas, cycles, per_gas, price_per_gas, input_bytes, .. } in &self.0 {
            let (gas, cycles) = (thousands(*gas), thousands(*cycles));
            let bytes = thousands(*input_bytes as u64);
            write!(
                f,
                "\n| {name} | {gas} | {cycles} | {per_gas:.1} | {price_per_gas:.1} | {bytes} |"
            )?;
        }
        Ok(())
    }
}

//! `l2-prover bench price`: what this machine takes to prove a cycle, and how many cycles cost as much as a keccak permutation.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use client::prover::{PartFiles, PartWork};
use client::{Cancel, Progress, Prover};
use devnode::{Chain, Traffic, TrafficConfig, genesis};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{ExecutableArgs, Global, ProverArg, ZkvmArgs};
use crate::commands::prove::finished;
use crate::output::{Output, thousands};
use crate::provers::Workplace;

/// `l2-prover bench price`
#[derive(Debug, Args)]
pub(crate) struct BenchPrice {
    /// Size of the segment that is proven, as a power of two of cycles: larger ones take longer, and say more about large blocks
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u32).range(16..=22), value_name = "PO2")]
    pub segment_po2: u32,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// Rows of the keccak circuit for a permutation.
const KECCAK_ROWS: u64 = 200;
/// The sizes that the circuit has here, as powers of two of rows.
const KECCAK_PO2: std::ops::RangeInclusive<u32> = 14..=18;

/// Runs the command.
pub(super) async fn run(
    args: BenchPrice,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let segment_po2 = Some(args.segment_po2);
    let zkvm = ZkvmArgs { segment_po2, dev_mode: false, executable: args.executable };
    let prover =
        ProverArg::Risc0.build(&zkvm, Workplace::attended(folder.path().join("prover")), global)?;
    output.note("this proves a segment and a batch of keccak permutations: leave the machine alone meanwhile");
    let (cancel, path) = (Cancel::new(), folder.path().to_owned());
    let stop = cancel.clone();
    let work = move || measure(&*prover, args.segment_po2, &path, &stop);
    let price = finished(work, &cancel, output, &shutdown).await??;
    output.report(&price)
}

/// Proves the first segment of a block, and its keccak permutations.
fn measure(
    prover: &dyn Prover,
    segment_po2: u32,
    folder: &Path,
    cancel: &Cancel,
) -> anyhow::Result<Price> {
    // Its permutations fill most of the circuit that real blocks use again and again.
    let mut chain = Chain::new(&genesis::dev())?;
    let mut traffic = Traffic::new(TrafficConfig { per_block: 8, ..TrafficConfig::default() });
    traffic.fill(&mut chain)?;
    chain.mine(chain.head().timestamp + 2)?;
    let (input, root) = chain.input(1..=1)?;
    let input = input.encode(root)?;
    let permutations = prover.measure(&input, None, None)?.keccak_permutations;
    let rows = KECCAK_PO2.map(|po2| 1_u64 << po2).find(|rows| permutations * KECCAK_ROWS <= *rows);
    let rows = rows.context("the block has more than one batch of permutations")?;

    let (input_file, plan_file) = (folder.join("input"), folder.join("plan"));
    std::fs::write(&input_file, input).context("failed to write the input")?;
    let plan = prover.plan(&input_file, segment_po2)?;
    let described = verifier::Plan::decode(&plan).context("the plan cannot be read")?;
    ensure!(
        described.segments() > 1 && described.keccak.len() == 1,
        "the block has {} segments and {} batches: choose smaller segments",
        described.segments(),
        described.keccak.len()
    );
    std::fs::write(&plan_file, plan).context("failed to write the plan")?;
    let timed = |work| {
        let part = PartFiles { work, segment_po2, plan: plan_file.clone(), proofs: Vec::new() };
        let seen = Mutex::new(Vec::new());
        let progress = |step| seen.lock().expect("nothing panics").push((step, Instant::now()));
        prover.prove_part(&input_file, &part, cancel, &progress)?;
        anyhow::Ok(seen.into_inner().expect("nothing panics"))
    };
    let segment = timed(PartWork::Segments { first: 0, end: 1 })?;
    let keccak = timed(PartWork::Keccak { first: 0, end: 1 })?;
    let proven = |step| matches!(step, Progress::Segment { done: 1, .. });
    let executed = |step| matches!(step, Progress::Executed { .. });
    let joined = |step| matches!(step, Progress::Joining { done: 1, .. });
    let segment_seconds = between(&segment, executed, proven)?;
    let lift_seconds = between(&segment, proven, joined)?;
    let keccak_seconds = between(&keccak, executed, joined)?;
    Ok(Price::new((1 << segment_po2, segment_seconds), lift_seconds, (rows, keccak_seconds)))
}

/// The seconds from one step to another.
fn between(
    steps: &[(Progress, Instant)],
    from: impl Fn(Progress) -> bool,
    to: impl Fn(Progress) -> bool,
) -> anyhow::Result<f64> {
    let at = |wanted: &dyn Fn(Progress) -> bool| {
        let step = steps.iter().find(|(step, _)| wanted(*step));
        Ok::<_, anyhow::Error>(step.context("the prover did not tell how far it was")?.1)
    };
    Ok(at(&to)?.duration_since(at(&from)?).as_secs_f64())
}

/// What this machine takes.
#[derive(Debug, Serialize)]
struct Price {
    segment_cycles: u64,
    segment_seconds: f64,
    lift_seconds: f64,
    /// Of the circuit, which costs the same however full it is.
    keccak_rows: u64,
    keccak_seconds: f64,
    /// Cycles that take as long as a permutation in a full circuit.
    permutation_cycles: f64,
}

impl Price {
    fn new(segment: (u64, f64), lift_seconds: f64, keccak: (u64, f64)) -> Self {
        let ((segment_cycles, segment_seconds), (keccak_rows, keccak_seconds)) = (segment, keccak);
        let permutations = keccak_rows / KECCAK_ROWS;
        let each = keccak_seconds / permutations as f64;
        let permutation_cycles = each * segment_cycles as f64 / segment_seconds;
        Self {
            segment_cycles,
            segment_seconds,
            lift_seconds,
            keccak_rows,
            keccak_seconds,
            permutation_cycles,
        }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment_cycles, segment_seconds, lift_seconds, .. } = self;
        let Self { keccak_rows, keccak_seconds, permutation_cycles, .. } = self;
        writeln!(
            f,
            "a segment of {} cycles: {segment_seconds:.1} s, {:.0} cycles a second, and {lift_seconds:.1} s to lift it",
            thousands(*segment_cycles),
            *segment_cycles as f64 / segment_seconds
        )?;
        writeln!(
            f,
            "a batch of keccak permutations, {} rows: {keccak_seconds:.1} s",
            thousands(*keccak_rows)
        )?;
        write!(
            f,
            "a permutation costs as much as {permutation_cycles:.0} cycles: see bench cycles --permutation-cycles"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_permutation_is_as_dear_as_the_cycles_that_take_as_long() {
        let price = Price::new((1 << 16, 56.0), 91.0, (1 << 16, 138.0));
        assert_eq!(price.permutation_cycles.round(), 494.0);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let steps = [
            (Progress::Segment { done: 0, total: 1 }, at(1)),
            (Progress::Segment { done: 1, total: 1 }, at(3)),
            (Progress::Joining { done: 1, total: 1 }, at(10)),
        ];
        let proven = |step| matches!(step, Progress::Segment { done: 1, .. });
        let joined = |step| matches!(step, Progress::Joining { done: 1, .. });
        assert_eq!(between(&steps, proven, joined).unwrap(), 7.0);
        assert!(between(&steps, |step| step == Progress::Compressing, joined).is_err());
    }
}

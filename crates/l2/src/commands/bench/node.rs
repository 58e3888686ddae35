//! `l2-prover bench node`: what the witnesses of a node's blocks cost, in calls, time and bytes.

use std::fmt;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::args::Source;
use crate::blocks;
use crate::output::{Output, thousands};

/// `l2-prover bench node`
#[derive(Debug, Args)]
pub(crate) struct BenchNode {
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
}

/// Runs the command.
pub(super) async fn run(args: BenchNode, output: &Output) -> anyhow::Result<()> {
    let (node, range) = blocks::connect(&args.source).await?;
    let mut blocks = Vec::new();
    for number in range.first()..=range.last() {
        let (before, begun) = (node.calls(), Instant::now());
        let file = node.fetch(number).await?;
        let (calls, fetched) = (node.calls() - before, begun.elapsed());
        let prepared = file.prepare(node.rules())?;
        blocks.push(BlockCost {
            number,
            gas: prepared.blocks.iter().map(|block| block.gas_used).sum(),
            calls,
            fetch_ms: milliseconds(fetched),
            prepare_ms: milliseconds(begun.elapsed() - fetched),
            witness_bytes: file.witness_bytes(),
            json_bytes: file.json()?.len() as u64,
            zstd_bytes: file.zstd()?.len() as u64,
            input_bytes: prepared.input.len() as u64,
        });
    }
    output.report(&Table(blocks))
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What one block costs.
#[derive(Debug, Default, Serialize)]
struct BlockCost {
    number: u64,
    gas: u64,
    /// JSON-RPC calls; those of a batch count singly.
    calls: u64,
    /// Until block and witness were there.
    fetch_ms: f64,
    /// Until the input was made and executed, after that.
    prepare_ms: f64,
    /// The nodes, codes and headers.
    witness_bytes: u64,
    /// Block and witness as JSON.
    json_bytes: u64,
    /// That, compressed.
    zstd_bytes: u64,
    input_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Table(Vec<BlockCost>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| block | gas | calls | fetch ms | prepare ms | witness | JSON | zstd | input | input / gas |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        )?;
        let mut sum = BlockCost::default();
        for block in &self.0 {
            row(f, &block.number.to_string(), block)?;
            sum.gas += block.gas;
            sum.calls += block.calls;
            sum.fetch_ms += block.fetch_ms;
            sum.prepare_ms += block.prepare_ms;
            sum.witness_bytes += block.witness_bytes;
            sum.json_bytes += block.json_bytes;
            sum.zstd_bytes += block.zstd_bytes;
            sum.input_bytes += block.input_bytes;
        }
        row(f, &format!("all {}", self.0.len()), &sum)
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, cost: &BlockCost) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
    let per_gas = cost.input_bytes as f64 / cost.gas.max(1) as f64;
    write!(
        f,
        "\n| {name} | {} | {} | {:.1} | {:.1} | {} | {} | {} | {} | {per_gas:.3} |",
        thousands(cost.gas),
        cost.calls,
        cost.fetch_ms,
        cost.prepare_ms,
        thousands(cost.witness_bytes),
        thousands(cost.json_bytes),
        thousands(cost.zstd_bytes),
        thousands(cost.input_bytes),
    )
}

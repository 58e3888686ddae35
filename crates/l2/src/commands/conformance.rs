//! `l2-prover conformance`: does the program obey Ethereum?

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use client::memory;
use comfy_table::{CellAlignment, Table, presets};
use conformance::{NotTests, Options, Report};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::{Global, ProverArg, ZkvmArgs};
use crate::output::{Output, thousands};
use crate::provers::Workplace;

/// `l2-prover conformance`
#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// Folders, JSON files or archives (.tar, .tar.zst) of `blockchain_tests`
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only tests of this network, e.g. `Prague` or `PragueToOsakaAtTime15k`
    #[arg(long, value_name = "NETWORK")]
    pub fork: Option<String>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only about one test in N, the same ones every time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub sample: u64,
    /// Tests run at the same time [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub jobs: Option<u16>,
    /// Skip files that hold no tests, count them and go on
    #[arg(long)]
    pub keep_going: bool,
    /// Run each input in this prover's executor too: it must say the same, or refuse for the same reason
    #[arg(long, value_enum, default_value_t = ProverArg::Exec)]
    pub prover: ProverArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// Runs the command. Fails if a test does.
pub(crate) fn run(args: &Conformance, global: &Global, output: &Output) -> anyhow::Result<()> {
    let workplace = Workplace::without_proofs();
    let prover = args.prover.build(&args.zkvm, workplace, global)?;
    let second = |input: &[u8]| match prover.execute(input) {
        Ok(execution) => Ok(execution.public_values),
        Err(error) => Err(error.to_string()),
    };
    let jobs = match args.jobs {
        Some(jobs) => usize::from(jobs),
        None => std::thread::available_parallelism().context("failed to count the cores")?.get(),
    };
    let style = ProgressStyle::with_template("{spinner} {human_pos} tests read, {elapsed}")?;
    let bar = output.bars().add(ProgressBar::new_spinner().with_style(style));
    let started = Instant::now();
    let report = conformance::run(
        &args.paths,
        &Options {
            network: args.fork.as_deref(),
            filter: args.filter.as_deref(),
            sample: args.sample,
            jobs,
            not_tests: match args.keep_going {
                true => NotTests::Skip,
                false => NotTests::Refuse,
            },
            second: (args.prover != ProverArg::Exec).then_some(&second),
            progress: &|tests| bar.inc(tests),
        },
    )?;
    bar.finish_and_clear();
    let total = report.total();
    output.report(&Ran {
        report,
        seconds: started.elapsed().as_secs_f64(),
        peak_memory_bytes: memory::peak(),
    })?;
    ensure!(total.failed == 0, "{} of {} tests failed", total.failed, total.failed + total.passed);
    ensure!(total.passed > 0, "no test was run: check --fork and --filter");
    Ok(())
}

#[derive(Serialize)]
struct Ran {
    #[serde(flatten)]
    report: Report,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failed in &self.report.failures {
            writeln!(f, "FAILED {} {}\n  {}", failed.network, failed.test, failed.reason)?;
        }
        let mut table = Table::new();
        table
            .load_preset(presets::ASCII_MARKDOWN)
            .set_header(["network", "passed", "failed", "blocks"]);
        let total = self.report.total();
        let networks = self.report.networks.iter().map(|(name, counts)| (name.as_str(), *counts));
        for (name, counts) in networks.chain([("all", total)]) {
            table.add_row([
                name.to_owned(),
                thousands(counts.passed),
                thousands(counts.failed),
                thousands(counts.blocks),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        for (reason, count) in &self.report.skipped {
            writeln!(f, "skipped {}: {reason}", thousands(*count))?;
        }
        if !self.report.not_tests.is_empty() {
            writeln!(f, "skipped {}: no tests", thousands(self.report.not_tests.len() as u64))?;
            for file in &self.report.not_tests {
                writeln!(f, "  {}: {}", file.path, file.reason)?;
            }
        }
        write!(f, "{:.0} s", self.seconds)?;
        match self.peak_memory_bytes {
            Some(peak) => write!(f, ", {} MB at most", thousands(peak / 1_000_000)),
            None => Ok(()),
        }
    }
}

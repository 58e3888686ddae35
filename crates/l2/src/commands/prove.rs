//! `l2-prover prove`: a proof without a server.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use clap::Args;
use client::{Cancel, Progress, Prover, memory};
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use program::Statement;
use protocol::ProofKind;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use verifier::Policy;

use crate::args::{EngineArgs, Global, KindArg, ProverArg, Source, ZkvmArgs};
use crate::blocks::{self, Prepared, StatementText};
use crate::commands::proofs::save;
use crate::machine::{self, Device};
use crate::output::{Output, thousands};
use crate::provers::{self, Workplace};
use crate::signals::unless_interrupted;
use crate::time_left::Work;

/// `l2-prover prove`
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// Block file (.json or .json.zst), or input made by `l2-prover witness`
    #[arg(required_unless_present = "rpc_url", conflicts_with = "rpc_url", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
    /// Where the proof is written
    #[arg(long, default_value = "proof.bin", value_name = "FILE")]
    pub out: PathBuf,
    /// Which prover to use
    #[arg(long, value_enum, default_value_t = ProverArg::Risc0)]
    pub prover: ProverArg,
    /// Kind of proof
    #[arg(long, value_enum, default_value_t = KindArg::Succinct)]
    pub kind: KindArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Runs the command.
pub(crate) async fn run(
    args: Prove,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let device = Device::of(&machine::cards_beside(&args.engine).await, 1, 1);
    let workplace = Workplace { device, engine: args.engine, ..Workplace::attended(folder.path()) };
    let prover = args.prover.build(&args.zkvm, workplace, global)?;
    let mocked = provers::warn_if_mocked(&*prover, output);
    let prepared = blocks::from_file_or_node(args.file.as_deref(), &args.source);
    let prepared = unless_interrupted(&shutdown, prepared).await?;

    let cancel = Cancel::new();
    let kind = ProofKind::from(args.kind);
    provers::check_kind(&*prover, kind)?;
    let (bar, stop) = (Bar::new(output, &prepared.name, kind), cancel.clone());
    let work = {
        let prover = prover.clone();
        move || prove(&prepared, args.prover, &prover, kind, mocked, &stop, &bar)
    };
    let (proof, mut proved) = finished(work, &cancel, output, &shutdown).await??;

    proved.out = args.out.display().to_string();
    save(&args.out, &proof)?;
    output.report(&proved)
}

/// What comes of `work`, which blocks. Ctrl-c sets `cancel`, and what comes of it then is waited for.
///
/// # Errors
/// If it panics.
pub(super) async fn finished<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    cancel: &Cancel,
    output: &Output,
    shutdown: &CancellationToken,
) -> anyhow::Result<T> {
    let mut working = tokio::task::spawn_blocking(work);
    let done = tokio::select! {
        done = &mut working => done,
        () = shutdown.cancelled() => {
            output.note("stopping; ctrl-c again to stop at once");
            cancel.set();
            working.await
        }
    };
    done.context("the prover panicked")
}

fn prove(
    prepared: &Prepared,
    arg: ProverArg,
    prover: &Arc<dyn Prover>,
    kind: ProofKind,
    mocked: bool,
    cancel: &Cancel,
    bar: &Bar,
) -> anyhow::Result<(Vec<u8>, Proved)> {
    memory::reset_peak();
    let started = Instant::now();
    let proof = prover
        .prove(&prepared.input, kind, cancel, &|progress| bar.update(progress))
        .with_context(|| format!("failed to prove {}", prepared.name))?;
    let (seconds, peak_memory_bytes) =
        (started.elapsed().as_secs_f64(), prover.peak_memory().or_else(memory::peak));
    bar.bar.finish_and_clear();

    // Checked as a stranger would: a proof that nobody accepts is not worth its file.
    let program_id = prover.program_id();
    let policy = Policy { danger_accept_exec: mocked, danger_accept_dev_mode: mocked };
    let verified = verifier::verify(arg.verified_as(), program_id.0, &proof, &policy)
        .context("the proof made here does not verify: this is a bug, please report it")?;
    ensure!(
        verified.public_values == prepared.statement.abi_encode(),
        "the proof states something else than the native run: this is a bug, please report it"
    );
    let proved = Proved {
        file: prepared.name.clone(),
        out: String::new(),
        program_id,
        kind: verified.kind.to_string(),
        proves_nothing: mocked,
        bytes: proof.len() as u64,
        gas_used: prepared.gas_used(),
        seconds,
        progress: *bar.executed.lock().unwrap_or_else(PoisonError::into_inner),
        peak_memory_bytes,
        statement: prepared.statement.clone(),
    };
    Ok((proof, proved))
}

/// The progress bar: as long as the work takes, whatever its parts are.
pub(super) struct Bar {
    pub(super) bar: ProgressBar,
    output: Output,
    kind: ProofKind,
    executed: Mutex<Option<Progress>>,
    /// What is done, since when, and when the last part was finished.
    work: Arc<Mutex<(Work, Instant, Instant)>>,
}

/// Steps of the bar.
const WHOLE: u64 = 1_000;

impl Bar {
    pub(super) fn new(output: &Output, name: &str, kind: ProofKind) -> Self {
        let bar = match output.live() {
            true => output.bars().add(ProgressBar::new_spinner()),
            false => ProgressBar::hidden(),
        };
        let now = Instant::now();
        let work = Arc::new(Mutex::new((Work::default(), now, now)));
        let counted = work.clone();
        let style = ProgressStyle::with_template(
            "{spinner} {prefix} {wide_bar} {percent}% {msg} {elapsed} ({left} left)",
        )
        .expect("the template is well-formed")
        .with_key("left", move |_: &ProgressState, text: &mut dyn fmt::Write| {
            // What cannot be written is not shown.
            let _ = text.write_str(&time_left(&counted));
        });
        bar.set_style(style);
        bar.set_length(WHOLE);
        bar.set_prefix(name.to_owned());
        bar.set_message("executing");
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        Self { bar, output: output.clone(), kind, executed: Mutex::new(None), work }
    }

    pub(super) fn update(&self, progress: Progress) {
        let executed = matches!(progress, Progress::Executed { .. });
        if executed {
            *self.executed.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        }
        let share = {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let finished = work.0.learn(progress, self.kind);
            let now = Instant::now();
            if executed {
                (work.1, work.2) = (now, now);
            } else if finished {
                work.2 = now;
            }
            work.0.share()
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1")]
        self.bar.set_position((share * WHOLE as f64) as u64);
        self.bar.set_message(progress.to_string());
        if !self.output.live() {
            self.output.note(&format!("{progress} ({} left)", time_left(&self.work)));
        }
    }
}

/// For people: how long the work still takes.
fn time_left(work: &Mutex<(Work, Instant, Instant)>) -> String {
    let (work, since, last) = *work.lock().unwrap_or_else(PoisonError::into_inner);
    match work.left(last.duration_since(since)) {
        Some(left) => HumanDuration(left.saturating_sub(last.elapsed())).to_string(),
        None => "unknown time".to_owned(),
    }
}

#[derive(Serialize)]
struct Proved {
    file: String,
    out: String,
    program_id: B256,
    kind: String,
    proves_nothing: bool,
    bytes: u64,
    gas_used: u64,
    seconds: f64,
    #[serde(rename = "executed")]
    progress: Option<Progress>,
    peak_memory_bytes: Option<u64>,
    statement: Statement,
}

impl fmt::Display for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, gas) = (thousands(self.bytes), thousands(self.gas_used));
        let done = if self.proves_nothing { "executed, but NOT proven (mocked)" } else { "proven" };
        writeln!(
            f,
            "{} {done} in {:.1} s: {} ({}, {bytes} bytes)",
            self.file, self.seconds, self.out, self.kind
        )?;
        writeln!(f, "  program              {}", self.program_id)?;
        writeln!(f, "  gas                  {gas}")?;
        if let Some(Progress::Executed { segments, user_cycles, total_cycles, .. }) = self.progress
        {
            let (user, total) = (thousands(user_cycles), thousands(total_cycles));
            writeln!(f, "  cycles               {user} user, {total} total, {segments} segments")?;
        }
        if let Some(peak) = self.peak_memory_bytes {
            writeln!(f, "  peak memory          {} MB", thousands(peak / 1_000_000))?;
        }
        write!(f, "{}", StatementText(&self.statement))
    }
}

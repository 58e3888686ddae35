//! What the executables of all zkVMs share: the flags of logs, ctrl-c, and the words for somebody who starts one by hand.

#[path = "../../logs.rs"]
mod logs;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use client::Prover;
use client::prover::BoxError;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use logs::LogFormat;

/// Exit code of a process that was called in a wrong way.
const MISUSED: u8 = 2;

/// A prover executable: `l2-prover` starts it for each piece of work and talks to it through pipes
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli<S: Args> {
    /// What to log to stderr, e.g. `info` or `client=debug,warn`
    #[arg(long, env = "L2_PROVER_LOG", default_value = "error", value_name = "FILTER")]
    log: String,
    /// How to log
    #[arg(long, env = "L2_PROVER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(flatten)]
    settings: S,
}

/// Serves the parent with the prover that `build` makes of the settings.
pub(crate) fn main<S: Args>(
    name: &'static str,
    build: impl FnOnce(S) -> Result<Arc<dyn Prover>, BoxError>,
) -> ExitCode {
    let matches = Cli::<S>::command().name(name).get_matches();
    let cli = Cli::<S>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if std::io::stdin().is_terminal() {
        return say(
            &format!("{name} is started by l2-prover: run for example `l2-prover prove`"),
            MISUSED,
        );
    }
    match run(name, cli, build) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say(&format!("{name}: {error:#}"), 1),
    }
}

fn run<S: Args>(
    name: &'static str,
    cli: Cli<S>,
    build: impl FnOnce(S) -> Result<Arc<dyn Prover>, BoxError>,
) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&cli.log)
        .with_context(|| format!("`{}` is no log filter; write for example `info`", cli.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Json => builder.json().init(),
        // No colours: stderr is a pipe.
        LogFormat::Text => {
            builder.with_ansi(false).with_target(false).fmt_fields(logs::OneLine).init();
        }
    }
    ignore_signals().context("failed to ignore signals")?;
    client::process::serve(name, || build(cli.settings)).context("failed to serve l2-prover")
}

/// From now on ctrl-c and SIGTERM do nothing: the parent decides when this process ends.
fn ignore_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listening once takes the default away for the rest of the process.
        let _interrupt = signal(SignalKind::interrupt())?;
        let _terminate = signal(SignalKind::terminate())?;
        Ok(())
    })
}

#[expect(clippy::print_stderr, reason = "nothing listens yet")]
fn say(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

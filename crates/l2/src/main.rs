//! The command `l2-prover`: flags, wiring, and everything a person or a script reads.
//!
//! * What is decided here is only which parts run with which settings; the parts live in their crates.
//! * Exit codes: 0 done, 1 failed, 2 called in a wrong way, 130 interrupted twice.

mod args;
mod blocks;
mod chain;
mod cli;
mod commands;
mod dotenv;
mod logs;
mod machine;
mod metrics;
mod output;
mod parse;
mod provers;
mod settings;
mod signals;
mod telemetry;
mod time_left;
mod view;

use std::{alloc::System, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};
use program::heap::Meter;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};
use crate::output::Output;
use crate::settings::Overrides;
use crate::signals::unless_interrupted;
use crate::telemetry::Telemetry;

/// Counts what native runs of the program allocate: what a guest's heap cannot hold is refused.
#[global_allocator]
static ALLOCATOR: Meter<System> = Meter(System);

fn main() -> ExitCode {
    // ORDER: the file fills variables, flags read variables, and both need a process without other threads.
    let dotenv = dotenv::load();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let output = Output::new(cli.global.json);
    match dotenv.and_then(|()| run(cli, &settings::overrides(&matches), &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, overrides: &Overrides, output: &Output) -> anyhow::Result<()> {
    let serves = matches!(
        cli.command,
        Command::Node(_)
            | Command::Replay(_)
            | Command::Server(_)
            | Command::Client(_)
            | Command::Deploy(_)
            | Command::Settle(_)
            | Command::Claim(_)
            | Command::ProverProcess
    );
    let filter = cli.global.log.as_deref().unwrap_or(if serves { "info" } else { "error" });
    output.init_logs(filter, cli.global.log_format())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    if matches!(cli.command, Command::ProverProcess) {
        runtime.block_on(async { signals::ignore() }).context("failed to ignore signals")?;
        // Outside of the async runtime, which a prover may want to have for itself.
        return commands::prover_process::run();
    }
    // For all HTTP of this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = runtime.block_on(async {
        let computes = matches!(
            cli.command,
            Command::Config(_)
                | Command::Verify(_)
                | Command::Inspect(_)
                | Command::Conformance(_)
                | Command::Completions(_)
                | Command::Man(_)
        );
        // A command that waits for nothing cannot be asked to stop: a signal ends its process.
        let shutdown = match computes {
            true => CancellationToken::new(),
            false => signals::shutdown().context("failed to listen for signals")?,
        };
        let telemetry = match &cli.command {
            Command::Server(_) => Telemetry::start("prover_server")?,
            Command::Client(_) => Telemetry::start("prover_client")?,
            Command::Dev(_) => Telemetry::start("l2_prover_dev")?,
            _ => Telemetry::off(),
        };
        let done = match cli.command {
            Command::Dev(args) => {
                Box::pin(commands::dev::run(args, &cli.global, output, shutdown)).await
            }
            Command::Node(args) => commands::node::run(args, output, shutdown).await,
            Command::Replay(args) => commands::replay::run(args, output, shutdown).await,
            Command::Server(args) => {
                Box::pin(commands::server::run(*args, overrides, &cli.global, output, shutdown))
                    .await
            }
            Command::Deploy(args) => Box::pin(commands::deploy::run(*args, output, shutdown)).await,
            Command::Settle(args) => {
                Box::pin(commands::settle::run(*args, overrides, output, shutdown)).await
            }
            Command::Claim(args) => Box::pin(commands::claim::run(*args, output, shutdown)).await,
            Command::Config(args) => commands::config::run(args, overrides, output),
            Command::Tokens(args) => {
                unless_interrupted(&shutdown, Box::pin(commands::tokens::run(args, output))).await
            }
            Command::Client(args) => {
                Box::pin(commands::client::run(args, &cli.global, output, shutdown)).await
            }
            Command::Status(operated) => {
                unless_interrupted(&shutdown, commands::top::once(&operated, output)).await
            }
            Command::Top(args) => commands::top::run(args, output, shutdown).await,
            Command::Jobs(args) => {
                unless_interrupted(&shutdown, commands::operate::jobs(args, output)).await
            }
            Command::Clients(args) => {
                unless_interrupted(&shutdown, commands::operate::clients(args, output)).await
            }
            Command::Intake(args) => {
                unless_interrupted(&shutdown, commands::operate::intake(args, output)).await
            }
            Command::Proofs(args) => {
                unless_interrupted(&shutdown, commands::proofs::run(args, output)).await
            }
            Command::Failures(args) => {
                unless_interrupted(
                    &shutdown,
                    Box::pin(commands::failures::run(args, &cli.global, output)),
                )
                .await
            }
            Command::Gc(args) => {
                unless_interrupted(&shutdown, commands::gc::gc(args, output)).await
            }
            Command::Backup(args) => {
                unless_interrupted(&shutdown, Box::pin(commands::gc::backup(args, output))).await
            }
            Command::Migrate(args) => {
                unless_interrupted(&shutdown, Box::pin(commands::migrate::run(args, output))).await
            }
            Command::CorrectClock(args) => {
                unless_interrupted(&shutdown, Box::pin(commands::correct_clock::run(args, output)))
                    .await
            }
            Command::Audit(args) => {
                unless_interrupted(&shutdown, commands::operate::audit(args, output)).await
            }
            Command::Fsck(args) => {
                unless_interrupted(&shutdown, Box::pin(commands::fsck::run(args, output))).await
            }
            Command::Doctor(args) => {
                unless_interrupted(
                    &shutdown,
                    Box::pin(commands::doctor::run(args, &cli.global, output)),
                )
                .await
            }
            Command::Fold(args) => {
                Box::pin(commands::fold::run(args, &cli.global, output, shutdown)).await
            }
            Command::Prove(args) => {
                Box::pin(commands::prove::run(args, &cli.global, output, shutdown)).await
            }
            Command::Execute(args) => {
                Box::pin(commands::execute::run(args, &cli.global, output, shutdown)).await
            }
            Command::Verify(args) => commands::verify::run(&args, output),
            Command::Witness(args) => {
                unless_interrupted(&shutdown, Box::pin(commands::witness::run(args, output))).await
            }
            Command::Inspect(args) => commands::inspect::run(args, output),
            Command::Conformance(args) => commands::conformance::run(&args, &cli.global, output),
            Command::Bench(args) => commands::bench::run(args, &cli.global, output, shutdown).await,
            Command::Completions(args) => commands::completions::run(&args, output),
            Command::Man(args) => commands::man::run(&args, output),
            Command::ProverProcess => commands::prover_process::run(),
        };
        telemetry.stop().await;
        done
    });
    // Not to wait for a thread whose result nobody waits for any more.
    runtime.shutdown_background();
    done
}

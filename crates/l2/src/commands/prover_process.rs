//! `l2-prover prover-process`: what a Prover Client starts for each proof, with the client's own prover and settings.

use std::ffi::OsString;

use anyhow::Context as _;
use client::process::{Setup, serve};

use crate::args::{Client, Global, LogFormat, ProverArg, ProverProcess};

/// Runs the command. Blocks.
pub fn run(args: &ProverProcess) -> anyhow::Result<()> {
    serve(|| args.prover.build(&args.zkvm).map_err(Into::into))
        .context("failed to serve a Prover Client; this command is for it alone")
}

/// How the client with these settings starts it.
pub fn setup(client: &Client, prover: ProverArg, global: &Global) -> Setup {
    let name = prover.system().to_string();
    let segment_po2 = client.zkvm.segment_po2.to_string();
    let mut arguments: Vec<OsString> =
        ["prover-process", "--prover", &name, "--segment-po2", &segment_po2]
            .map(OsString::from)
            .to_vec();
    if let Some(log) = &global.log {
        arguments.extend(["--log".into(), log.into()]);
    }
    if global.json {
        arguments.push("--json".into());
    }
    if global.log_format() == LogFormat::Json {
        arguments.extend(["--log-format".into(), "json".into()]);
    }
    Setup {
        // The very program that runs now, even if an upgrade has replaced its file.
        program: "/proc/self/exe".into(),
        arguments,
        // Said either way: the file .env may have changed since the client read it.
        environment: vec![
            ("RISC0_DEV_MODE".into(), client.zkvm.dev_mode.to_string().into()),
            // It talks to no server.
            ("L2_PROVER_TOKEN".into(), OsString::new()),
        ],
        folder: client.data_dir.join(client::journal::SCRATCH),
        stall: client.stall_limit,
        limit: client.prove_limit,
    }
}

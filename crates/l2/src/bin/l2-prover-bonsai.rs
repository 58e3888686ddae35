//! `l2-prover-bonsai`: has blocks proven by an engine on other machines, through the Bonsai REST dialect. `l2-prover` starts it when
//! `--engine` names one.

mod executable;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use prover_bonsai::{BonsaiProver, Config};
use url::Url;

/// How an engine is used. `l2-prover` gives the first four as its flags say; the others are set by their variables.
#[derive(Debug, clap::Args)]
struct Settings {
    /// The engine's REST API, for example http://127.0.0.1:8720
    #[arg(long, env = "PROVER_BONSAI_URL", value_name = "URL")]
    url: Url,
    /// A file with the engine's key, which is read for each request
    #[arg(long, env = "PROVER_BONSAI_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// DANGER: talk to an engine on another machine without TLS: whoever is on the way reads key and inputs
    #[arg(long, env = "PROVER_BONSAI_DANGER_PLAIN_HTTP", value_parser = clap::builder::BoolishValueParser::new())]
    danger_plain_http: bool,
    /// Where the ids of sessions are kept until their proofs are fetched
    #[arg(
        long,
        env = "PROVER_BONSAI_SESSIONS",
        default_value = ".l2-prover/engine-sessions",
        value_name = "FOLDER"
    )]
    sessions: PathBuf,
    /// Give a session up whose state stays the same for so long; r0vm shows no states: there, the time of a whole session
    #[arg(
        long,
        env = "PROVER_BONSAI_PROGRESS_DEADLINE",
        default_value = "1h",
        value_parser = humantime::parse_duration,
        value_name = "TIME"
    )]
    progress_deadline: Duration,
    /// Most sessions of one input, the first one included
    #[arg(long, env = "PROVER_BONSAI_MAX_SESSIONS", default_value_t = 3, value_name = "N")]
    max_sessions: u32,
    /// How long an engine may be unreachable or too busy
    #[arg(
        long,
        env = "PROVER_BONSAI_PATIENCE",
        default_value = "10m",
        value_parser = humantime::parse_duration,
        value_name = "TIME"
    )]
    patience: Duration,
    /// Longest pause between two questions
    #[arg(
        long,
        env = "PROVER_BONSAI_POLL_MAX",
        default_value = "15s",
        value_parser = humantime::parse_duration,
        value_name = "TIME"
    )]
    poll_max: Duration,
    /// Longest time for an upload, or the download of a receipt
    #[arg(
        long,
        env = "PROVER_BONSAI_TRANSFER_TIMEOUT",
        default_value = "15m",
        value_parser = humantime::parse_duration,
        value_name = "TIME"
    )]
    transfer_timeout: Duration,
    /// Longest receipt that is read
    #[arg(
        long,
        env = "PROVER_BONSAI_MAX_RECEIPT_BYTES",
        default_value_t = 16 << 20,
        value_name = "BYTES"
    )]
    max_receipt_bytes: usize,
}

fn main() -> ExitCode {
    executable::main("l2-prover-bonsai", |settings: Settings| {
        let config = Config {
            key_file: settings.key_file,
            danger_plain_http: settings.danger_plain_http,
            progress_deadline: settings.progress_deadline,
            max_sessions: settings.max_sessions,
            patience: settings.patience,
            poll_max: settings.poll_max,
            transfer_timeout: settings.transfer_timeout,
            max_receipt_bytes: settings.max_receipt_bytes,
            ..Config::new(settings.url, settings.sessions)
        };
        Ok(Arc::new(BonsaiProver::new(config)?))
    })
}

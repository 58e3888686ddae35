//! Flags about a Prover Server: how it is reached, and where it keeps what it has.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use url::Url;

use crate::settings;

/// The port of a server on this machine, unless its settings say otherwise, and where that server is.
pub(crate) const USUAL_PORT: u16 = 3900;
pub(crate) const USUAL_SERVER: &str = "http://127.0.0.1:3900";

/// What is shown to a server, and by what it is known. A token is not a flag: others can read a command line.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// File with the token to show the server; without it, the variable L2_PROVER_TOKEN counts
    #[arg(long, env = "L2_PROVER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities of the server's certificate, in PEM [default: the system's]
    #[arg(long, env = "L2_PROVER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show the server, and its key: both in one file, in PEM
    #[arg(long, env = "L2_PROVER_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
}

impl AccessArgs {
    /// As the client crate takes it.
    pub(crate) fn access(&self) -> client::Access {
        let token = std::env::var("L2_PROVER_TOKEN").ok().filter(|token| !token.is_empty());
        client::Access {
            token: token.map(|token| client::Secret::new(&token)),
            token_file: self.token_file.clone(),
            ca_file: self.ca_file.clone(),
            certificate: self.certificate.clone(),
        }
    }
}

/// The server that an operator talks to.
#[derive(Debug, Args)]
pub(crate) struct Operated {
    /// The Prover Server; of several on one database, any
    #[arg(
        long,
        env = "L2_PROVER_SERVER",
        default_value = USUAL_SERVER,
        value_name = "URL"
    )]
    pub server: String,
    /// The server's door
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Where a server keeps what it must not lose.
#[derive(Debug, Args)]
pub(crate) struct Kept {
    /// Its jobs
    #[command(flatten)]
    pub data: ServerData,
    /// The server's S3-compatible store of artifacts
    #[arg(long, env = "PROVER_SERVER_ARTIFACTS", value_name = "URL")]
    pub artifacts: Option<Url>,
}

impl Kept {
    /// The settings of that server, as far as they say where things are.
    ///
    /// # Errors
    /// Names what is wrong with the settings file.
    pub(crate) fn config(&self) -> anyhow::Result<server::Config> {
        let mut config = self.data.config()?;
        if self.artifacts.is_some() {
            config.artifacts = self.artifacts.clone();
        }
        Ok(config)
    }
}

/// Where a server keeps its jobs and tokens.
#[derive(Debug, Args)]
pub(crate) struct ServerData {
    /// The server's settings file, which says where the server keeps things unless a flag does
    #[arg(long, env = "PROVER_SERVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The server's folder [default: .l2-prover/server]
    #[arg(long, env = "PROVER_SERVER_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// The server's PostgreSQL database
    #[arg(long, env = "PROVER_SERVER_DATABASE", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
}

impl ServerData {
    /// The settings of that server, as far as they say where jobs and tokens are.
    ///
    /// # Errors
    /// Names what is wrong with the settings file.
    pub(crate) fn config(&self) -> anyhow::Result<server::Config> {
        let mut config = match &self.config {
            Some(file) => settings::places(file)?,
            None => server::Config::default(),
        };
        if let Some(folder) = &self.data_dir {
            config.data_dir = folder.clone();
        }
        if let Some(url) = &self.database {
            config.database = Some(server::DatabaseUrl::new(url.clone()));
        }
        Ok(config)
    }
}

/// What is made of accepted proofs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Proofs made of proofs")]
pub(crate) struct AggregateArgs {
    /// Fold the proofs of so many consecutive batches into one, which a client makes; the proofs must be succinct
    #[arg(
        long,
        env = "PROVER_SERVER_AGGREGATE",
        value_parser = clap::value_parser!(u32).range(2..=256),
        value_name = "N"
    )]
    pub aggregate: Option<u32>,
    /// Fold fewer when the first of them has waited for so long
    #[arg(
        long,
        env = "PROVER_SERVER_AGGREGATE_AFTER",
        value_parser = humantime::parse_duration,
        default_value = "1h",
        value_name = "TIME"
    )]
    pub aggregate_after: Duration,
    /// Turn each proof, folded if they are, into one of 256 bytes, which contracts verify; clients need a tool for that: `l2-prover doctor --prover`
    #[arg(long, env = "PROVER_SERVER_GROTH16", value_parser = BoolishValueParser::new())]
    pub groth16: bool,
}

/// How a proof is divided among clients.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Proofs in parts")]
pub(crate) struct SplitArgs {
    /// Divide each proof into parts, which several clients make; the proofs must be succinct
    #[arg(long, env = "PROVER_SERVER_SPLIT", value_parser = BoolishValueParser::new())]
    pub split: bool,
    /// Size of the parts' segments as a power of two of cycles [default: with which the clients that ask prove most]
    #[arg(
        long,
        env = "PROVER_SERVER_SPLIT_SEGMENT_PO2",
        value_parser = clap::value_parser!(u32).range(16..=22),
        value_name = "PO2"
    )]
    pub split_segment_po2: Option<u32>,
    /// A run with fewer segments is proven by one client
    #[arg(long, env = "PROVER_SERVER_SPLIT_LEAST_SEGMENTS", default_value_t = 4, value_name = "N")]
    pub split_least_segments: u32,
}

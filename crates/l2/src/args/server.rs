//! Flags about a Prover Server: how it is reached, and where it keeps what it has.

use std::path::PathBuf;

use clap::Args;
use url::Url;

/// What is shown to a server, and by what it is known. A token is not a flag: others can read a command line.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
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
    pub fn access(&self) -> client::Access {
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
pub struct Operated {
    /// The Prover Server; of several on one database, any
    #[arg(long, default_value = "http://127.0.0.1:3900", value_name = "URL")]
    pub server: String,
    /// The server's door
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Where a server keeps what it must not lose.
#[derive(Debug, Args)]
pub struct Kept {
    /// Its jobs
    #[command(flatten)]
    pub data: ServerData,
    /// The server's S3-compatible store of artifacts
    #[arg(long, env = "PROVER_SERVER_ARTIFACTS", value_name = "URL")]
    pub artifacts: Option<Url>,
}

impl Kept {
    /// The settings of that server, as far as they say where things are.
    pub fn config(&self) -> server::Config {
        server::Config {
            data_dir: self.data.data_dir.clone(),
            database: self.data.database.clone().map(server::DatabaseUrl::new),
            artifacts: self.artifacts.clone(),
            ..server::Config::default()
        }
    }
}

/// Where a server keeps its jobs and tokens.
#[derive(Debug, Args)]
pub struct ServerData {
    /// The server's folder
    #[arg(
        long,
        env = "PROVER_SERVER_DATA_DIR",
        default_value = ".l2-prover/server",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// The server's PostgreSQL database
    #[arg(long, env = "PROVER_SERVER_DATABASE", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
}

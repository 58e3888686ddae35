//! The command line: what every command understands, the commands, and groups of flags that several of them share. The flags of one
//! command stand with it, in [`crate::commands`].
//!
//! A setting of a long-running process also has an environment variable; a flag wins over it, and it wins over the file `.env` (see
//! [`crate::dotenv`]).

mod dev_node;
mod prover;
mod server;
mod source;

pub(crate) use self::server::{AccessArgs, Kept, Operated, ServerData};
pub(crate) use dev_node::NodeArgs;
pub(crate) use prover::{ExecutableArgs, KindArg, ProverArg, ZkvmArgs};
pub(crate) use source::{NodeAccess, Source, TermsArgs, WitnessFrom};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::bench::Bench;
use crate::commands::client::Client;
use crate::commands::config::Config;
use crate::commands::conformance::Conformance;
use crate::commands::dev::Dev;
use crate::commands::execute::Execute;
use crate::commands::failures::Failures;
use crate::commands::fsck::Fsck;
use crate::commands::gc::{Backup, Gc};
use crate::commands::inspect::Inspect;
use crate::commands::node::Node;
use crate::commands::operate::{Clients, Jobs};
use crate::commands::proofs::Proofs;
use crate::commands::prove::Prove;
use crate::commands::server::Server;
use crate::commands::tokens::TokensCommand;
use crate::commands::top::Top;
use crate::commands::verify::Verify;
use crate::commands::witness::Witness;

/// Proves the blocks of an Ethereum L2 with a zkVM.
#[derive(Debug, Parser)]
#[command(name = "l2-prover", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print JSON instead of text: one document, or one line for each event
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log to stderr, e.g. `info` or `server=debug,warn`
    #[arg(long, global = true, env = "L2_PROVER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: `text` or `json` [default: text, with --json json]
    #[arg(
        long,
        global = true,
        env = "L2_PROVER_LOG_FORMAT",
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub log_format: Option<LogFormat>,
}

impl Global {
    /// How to log.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or(if self.json { LogFormat::Json } else { LogFormat::Text })
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for each event
    Text,
    /// A line of JSON for each event
    Json,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: dev node, traffic, Prover Server and Prover Clients
    Dev(Dev),
    /// Run a dev node: a small EVM chain in memory with JSON-RPC
    Node(Node),
    /// Run a Prover Server: turns the blocks of a node into jobs and verifies the proofs
    Server(Box<Server>),
    /// Run a Prover Client: takes jobs from a Prover Server and proves them
    Client(Client),
    /// Say how things stand on a running Prover Server
    Status(Operated),
    /// Watch a running Prover Server: blocks, jobs, clients and what happened last
    Top(Top),
    /// Look at the jobs of a running Prover Server, and decide about them
    #[command(subcommand)]
    Jobs(Jobs),
    /// Look at the clients of a running Prover Server, and decide about them
    #[command(subcommand)]
    Clients(Clients),
    /// Take the accepted proofs of a running Prover Server, or verify them all
    #[command(subcommand)]
    Proofs(Proofs),
    /// Take what went wrong with a job to another machine, and try it again there
    #[command(subcommand)]
    Failures(Failures),
    /// Remove artifacts that a running Prover Server needs no more
    Gc(Gc),
    /// Copy the jobs and artifacts of a Prover Server, running or not, into a new folder
    Backup(Backup),
    /// Say who may do what with a Prover Server
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Look at the settings of a Prover Server before it runs
    #[command(subcommand)]
    Config(Config),
    /// Check the database and the artifacts of a Prover Server; changes nothing
    Fsck(Fsck),
    /// Prove blocks from a file or a node, without a server
    Prove(Prove),
    /// Run the program on blocks without proving, and say what it costs
    Execute(Execute),
    /// Verify a proof and print its statement
    Verify(Verify),
    /// Make the program's input from a block file or a node
    Witness(Witness),
    /// Say what inputs or block files hold, and what they take up
    Inspect(Inspect),
    /// Run Ethereum's official tests (execution-spec-tests) through witness and program
    Conformance(Conformance),
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
    /// Prove one job for the Prover Client that started this process
    #[command(hide = true)]
    ProverProcess,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}

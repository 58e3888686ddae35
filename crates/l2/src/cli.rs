//! The command line as a whole: the commands, in the order of the help. The flags of one command stand with it, in
//! [`crate::commands`], and groups of flags that several of them share in [`crate::args`].

use clap::{Parser, Subcommand};

use crate::args::{Global, Operated};
use crate::commands::bench::Bench;
use crate::commands::claim::Claim;
use crate::commands::client::Client;
use crate::commands::completions::Completions;
use crate::commands::config::Config;
use crate::commands::conformance::Conformance;
use crate::commands::correct_clock::CorrectClock;
use crate::commands::deploy::Deploy;
use crate::commands::dev::Dev;
use crate::commands::doctor::Doctor;
use crate::commands::execute::Execute;
use crate::commands::failures::Failures;
use crate::commands::fold::Fold;
use crate::commands::fsck::Fsck;
use crate::commands::gc::{Backup, Gc};
use crate::commands::inspect::Inspect;
use crate::commands::man::Man;
use crate::commands::migrate::Migrate;
use crate::commands::node::Node;
use crate::commands::operate::{Audit, Clients, Intake, Jobs};
use crate::commands::proofs::Proofs;
use crate::commands::prove::Prove;
use crate::commands::replay::Replay;
use crate::commands::server::Server;
use crate::commands::settle::Settle;
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

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: dev node, traffic, Prover Server and Prover Clients
    Dev(Dev),
    /// Run a dev node: a small EVM chain in memory with JSON-RPC
    Node(Node),
    /// Answer as nodes did that were recorded with --record
    Replay(Replay),
    /// Run a Prover Server: turns the blocks of a node into jobs and verifies the proofs
    Server(Box<Server>),
    /// Run a Prover Client: takes jobs from a Prover Server and proves them
    Client(Client),
    /// Make the contracts on L1 in which an L2 settles, after checking its genesis and its proofs
    Deploy(Box<Deploy>),
    /// Settle proven batches of a Prover Server in a contract on L1
    Settle(Box<Settle>),
    /// Have withdrawals of the L2 paid on L1, against a settled batch
    Claim(Box<Claim>),
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
    /// Pause and resume the intake of new batches of a running Prover Server
    #[command(subcommand)]
    Intake(Intake),
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
    /// Bring the database of a Prover Server to the schema of this version
    Migrate(Migrate),
    /// Set back times in the future, which a wrong clock left in the database of a Prover Server
    CorrectClock(CorrectClock),
    /// Say what operators of a Prover Server decided, and what it removed
    Audit(Audit),
    /// Check the database and the artifacts of a Prover Server; changes nothing
    Fsck(Fsck),
    /// Say what a node can do for a prover, or what a prover lacks on this machine, and what to change
    Doctor(Doctor),
    /// Prove blocks from a file or a node, without a server
    Prove(Prove),
    /// Fold proofs of consecutive batches into one, without a server
    Fold(Fold),
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
    /// Write completions for a shell to stdout
    Completions(Completions),
    /// Write a man page for each command
    Man(Man),
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

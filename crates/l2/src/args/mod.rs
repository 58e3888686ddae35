//! Flags: what every command understands, and groups of flags that several of them share. The flags of one command stand with it, in
//! [`crate::commands`]; [`crate::cli`] puts all together.
//!
//! A setting of a long-running process also has an environment variable; a flag wins over it, and it wins over the file `.env` (see
//! [`crate::dotenv`]).

mod dev_node;
mod prover;
mod server;
mod settle;
mod source;

pub(crate) use self::server::{
    AccessArgs, AggregateArgs, Kept, Operated, ServerData, SplitArgs, USUAL_PORT, USUAL_SERVER,
};
pub(crate) use dev_node::NodeArgs;
pub(crate) use prover::{EngineArgs, ExecutableArgs, KindArg, ProverArg, ZkvmArgs};
pub(crate) use settle::{SettleArgs, WalletArgs, rpc};
pub(crate) use source::{NodeAccess, Source, TermsArgs, WitnessFrom};

use clap::Args;

use crate::logs::LogFormat;

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

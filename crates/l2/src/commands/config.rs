//! `l2-prover config check`: the settings that a server would run with.

use anyhow::{Context as _, ensure};
use clap::Subcommand;

use crate::chain::ChainArg;
use crate::commands::server::Server;
use crate::output::Output;
use crate::settings::{Checked, Overrides, Settings};

/// `l2-prover config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check the settings of `l2-prover server`, and show those that count and where they come from
    Check(Box<Server>),
}

/// Runs the command.
pub(crate) fn run(args: Config, overrides: &Overrides, output: &Output) -> anyhow::Result<()> {
    let Config::Check(args) = args;
    let settings = Settings::new(&args, overrides)?;
    settings.config.check()?;
    settings.settle.check()?;
    server::tls::Tls::new(&settings.config)?;
    ensure!(
        args.dev_node || !settings.node.rpc_url.is_empty(),
        "setting rpc_url is missing: name the L2 node (--rpc-url)"
    );
    let chain: ChainArg =
        settings.node.chain.parse().expect("every text is a chain's name or file");
    // A node tells its chain when the server starts.
    if chain != ChainArg::Node {
        let config = chain.config().context("setting chain cannot be used")?;
        crate::settings::check_bridge(&settings.config, &config)?;
    }
    if let Some(why) = crate::settings::never_settled(&settings) {
        output.warn(&why);
    }
    output.report(&Checked::new(&settings, args.config)?)
}

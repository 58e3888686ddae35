//! `l2-prover server`: a Prover Server, with a node somewhere or the dev node in this process.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::Server;
use crate::chain::ChainArg;
use crate::commands::node::{self, Defaults};
use crate::output::Output;
use crate::settings::{Given, Origin, Settings};

/// Where jobs and proofs are kept if nothing else is asked for.
pub const DATA_DIR: &str = ".l2-prover/server";

/// Runs the command.
pub async fn run(
    args: Server,
    given: &Given,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Settings { mut config, rpc_url, chain, origins } = Settings::new(&args, given)?;
    if config.danger_accept_exec_proofs {
        output.warn("this server accepts exec proofs, which prove NOTHING.");
    }
    if config.danger_accept_dev_mode_proofs {
        output.warn("this server accepts dev-mode proofs, which prove NOTHING.");
    }
    let mocked = config.danger_accept_exec_proofs || config.danger_accept_dev_mode_proofs;
    let (dev_node, data) = if args.dev_node {
        let defaults = if mocked { Defaults::MOCKED } else { Defaults::PROVEN };
        let asked = origins.get("data_dir") != Some(&Origin::Default);
        let data = Data::for_a_new_chain(asked.then_some(config.data_dir))?;
        (Some(node::start(&args.node, None, &defaults).await?), data)
    } else {
        (None, Data::Kept(config.data_dir))
    };
    config.data_dir = data.path().to_owned();
    let (urls, chain) = match &dev_node {
        Some(node) => (vec![node.url()], node.chain_config().clone()),
        None => {
            ensure!(
                !rpc_url.is_empty(),
                "--rpc-url or --dev-node is needed, or rpc_url in the file"
            );
            let chain: ChainArg = chain.parse().expect("every text is a chain's name or file");
            let chain = chain.config_at(&rpc_url).await;
            (rpc_url, chain.context("failed to learn the chain (see --chain)")?)
        }
    };
    let (chain_id, chain_config_digest) = (chain.chain_id, chain.digest());
    let mut source = witness::Nodes::connect(&urls, chain, args.access.options(), args.follow)
        .await
        .context("failed to use the node (see --rpc-url, --chain)")?;
    // The dev node tells of its blocks at the same address.
    let told = dev_node.as_ref().map(|node| node.url().replacen("http", "ws", 1));
    if let Some(url) = args.ws_url.or(told) {
        source.listen(&url).context("failed to listen for new blocks (see --ws-url)")?;
    }
    let started = Started {
        event: "started",
        server: String::new(),
        node: source.to_string(),
        chain_id,
        chain_config_digest,
        data_dir: data.path().to_owned(),
        database: config.database.as_ref().map(ToString::to_string),
        artifacts: config.artifacts.as_ref().map(ToString::to_string),
        prover: config.system,
        program_id: config.wanted_program_id(),
    };
    let running = server::Server::start(config, Some(source))
        .await
        .context("failed to start the Prover Server")?;
    output.report(&Started { server: running.url(), ..started })?;
    shutdown.cancelled().await;
    running.stop().await;
    if let Some(node) = dev_node {
        node.stop().await;
    }
    Ok(())
}

/// Four heartbeats fit into a lease, so that a lost one or two cost nothing.
pub fn heartbeat_for(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_millis(1), Duration::from_secs(15))
}

/// The folder of jobs and artifacts.
#[derive(Debug)]
pub enum Data {
    /// Stays when the process ends.
    Kept(PathBuf),
    /// Removed when this value is dropped.
    Temporary(tempfile::TempDir),
}

impl Data {
    /// A folder for a chain that begins now: temporary, or the empty folder asked for.
    ///
    /// # Errors
    /// If the folder holds something: jobs of an earlier dev chain can't be continued.
    pub fn for_a_new_chain(asked: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = asked else {
            let folder = tempfile::Builder::new().prefix("l2-prover-").tempdir();
            return Ok(Self::Temporary(
                folder.context("failed to create a temporary folder; name one with --data-dir")?,
            ));
        };
        let text = path.display();
        std::fs::create_dir_all(&path).with_context(|| format!("failed to create {text}"))?;
        let mut entries =
            std::fs::read_dir(&path).with_context(|| format!("failed to list {text}"))?;
        ensure!(
            entries.next().is_none(),
            "{text} holds the jobs of an earlier chain, and a dev chain begins anew with each start: name an empty folder"
        );
        Ok(Self::Kept(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    server: String,
    node: String,
    chain_id: u64,
    chain_config_digest: B256,
    data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<String>,
    prover: protocol::ProofSystem,
    program_id: B256,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Prover Server at {}", self.server)?;
        writeln!(f, "  node       {} (chain {})", self.node, self.chain_id)?;
        writeln!(f, "  config     {}", self.chain_config_digest)?;
        writeln!(f, "  data       {}", self.data_dir.display())?;
        if let Some(database) = &self.database {
            writeln!(f, "  database   {database}")?;
        }
        if let Some(artifacts) = &self.artifacts {
            writeln!(f, "  artifacts  {artifacts}")?;
        }
        write!(f, "  asks for   {} proofs of program {}", self.prover, self.program_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_an_earlier_dev_chain_are_not_continued() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("new");
        assert_eq!(Data::for_a_new_chain(Some(path.clone())).expect("empty").path(), path);
        std::fs::write(path.join("jobs.sqlite"), "").expect("written");
        let error = Data::for_a_new_chain(Some(path)).expect_err("not empty").to_string();
        assert!(error.contains("name an empty folder"), "{error}");
    }

    #[test]
    fn a_heartbeat_or_two_may_be_lost() {
        for lease in [Duration::from_millis(4), Duration::from_secs(1), Duration::from_secs(60)] {
            assert!(heartbeat_for(lease) * 4 <= lease, "{lease:?}");
        }
    }
}

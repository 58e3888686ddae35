//! `l2-prover replay`: what nodes answered before, again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::output::Output;

/// `l2-prover replay`
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The folder of a recording, made with `--record`
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "IP")]
    pub node_ip: IpAddr,
    /// Port of the first node; the others get the ports after it. 0: any free ones
    #[arg(long, default_value_t = 8545, value_name = "PORT")]
    pub node_port: u16,
}

/// Runs the command.
pub(crate) async fn run(
    args: Replay,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let folder = args.folder.display();
    let recorded = witness::exchange::read(&args.folder)
        .with_context(|| format!("failed to read the recording {folder}"))?;
    ensure!(!recorded.is_empty(), "{folder} holds no recording (a file for each node, *.jsonl)");
    let (mut nodes, mut started) = (Vec::new(), Vec::new());
    for (at, (name, exchanges)) in (0..).zip(recorded) {
        let port = if args.node_port == 0 { Some(0) } else { args.node_port.checked_add(at) };
        let addr = SocketAddr::new(
            args.node_ip,
            port.context("there are too few ports (see --node-port)")?,
        );
        let count = exchanges.len();
        let node = devnode::replay::Replay::start(addr, exchanges).await;
        let node = node
            .with_context(|| format!("failed to listen on {addr} (see --node-ip, --node-port)"))?;
        started.push(Node { name, url: node.url(), exchanges: count });
        nodes.push(node);
    }
    output.report(&Started { event: "started", nodes: started })?;
    shutdown.cancelled().await;
    Ok(())
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    url: String,
    exchanges: usize,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.nodes.iter().map(|Node { name, url, exchanges }| {
            format!("{name} at {url}, as recorded: {exchanges} requests")
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

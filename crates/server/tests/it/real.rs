//! The real thing without a zkVM: a dev node's blocks, executed for their witness, proven by the exec prover.

use crate::common::{client_config, config, until};
use devnode::{DevNode, TrafficConfig};
use server::{Config, Server};
use std::sync::Arc;
use witness::{Depth, NodeOptions, Nodes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_a_dev_node_are_proven_by_the_exec_prover() {
    let dir = tempfile::tempdir().unwrap();
    let traffic = Some(TrafficConfig::default());
    let listen = ([127, 0, 0, 1], 0).into();
    let node = DevNode::start(devnode::Config { listen, traffic, ..devnode::Config::default() })
        .await
        .unwrap();
    node.mine(4).await.unwrap();
    let (urls, chain) = ([node.url()], node.chain_config().clone());
    let source = Nodes::connect(&urls, chain, NodeOptions::default(), Depth::Latest).await.unwrap();
    let server = Server::start(Config { batch_blocks: 2, ..config(dir.path()) }, Some(source))
        .await
        .unwrap();
    let client = client_config(dir.path(), "a", &server.url());
    let client = client::Client::start(client, Arc::new(client::ExecProver)).await.unwrap();
    until("both batches are proved", async || {
        let status = server.status().await.unwrap();
        assert!(
            !matches!(status.intake, protocol::IntakeStatus::Halted { .. }),
            "{:?}",
            status.intake
        );
        status.proved_through == Some(4)
    })
    .await;
    let jobs = server.status().await.unwrap().jobs;
    assert_eq!(jobs.len(), 2);
    assert!(
        jobs.iter().all(|job| job.transactions > 0 && job.gas_used > 21_000 && job.failures == 0),
        "{jobs:?}"
    );
    client.stop().await;
    server.stop().await;
    node.stop().await;
}

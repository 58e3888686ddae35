//! The real thing without a zkVM: a dev node's blocks, executed for their witness, proven by the exec prover.

use crate::common::{client_config, config, until};
use alloy_primitives::{Address, B256};
use devnode::{DevNode, TrafficConfig};
use program::{Statement, statement::DepositsChain};
use protocol::IntakeStatus;
use server::{Config, Server};
use std::sync::Arc;
use witness::{Depth, NodeOptions, Nodes, Withdrawal};

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
        assert!(!matches!(status.intake, IntakeStatus::Halted { .. }), "{:?}", status.intake);
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

fn deposit(index: u64) -> Withdrawal {
    let address = Address::with_last_byte(0xd0);
    Withdrawal { index, validator_index: 0, address, amount: 1_000 + index }
}

/// A dev node whose chain has a bridge, with blocks of 2, 0, 16, 4 and 1 deposits.
async fn bridged() -> devnode::Running {
    let mut genesis = devnode::genesis::dev();
    genesis.config.extra_fields.insert_value("bridge".into(), true).unwrap();
    let listen = ([127, 0, 0, 1], 0).into();
    let config = devnode::Config { listen, genesis, ..devnode::Config::default() };
    let node = DevNode::start(config).await.unwrap();
    for (from, to, blocks) in [(0, 2, 2), (2, 22, 2), (22, 23, 1)] {
        (from..to).for_each(|index| node.deposit(deposit(index)).unwrap());
        node.mine(blocks).await.unwrap();
    }
    node
}

fn links(count: u64) -> B256 {
    let mut chain = DepositsChain::new(B256::ZERO);
    (0..count).for_each(|index| chain.push(&deposit(index)));
    chain.link()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deposits_of_each_batch_follow_those_of_the_batch_before() {
    let dir = tempfile::tempdir().unwrap();
    let node = bridged().await;
    let refused = node.deposit(deposit(22)).unwrap_err();
    assert_eq!(refused, devnode::DepositError::Order { found: 22, expected: 23 });
    let nodes = async || {
        let (urls, chain) = ([node.url()], node.chain_config().clone());
        Nodes::connect(&urls, chain, NodeOptions::default(), Depth::Latest).await.unwrap()
    };
    let proved = async |config: Config, up_to| {
        let server = Server::start(config, Some(nodes().await)).await.unwrap();
        let client = client_config(dir.path(), "a", &server.url());
        let client = client::Client::start(client, Arc::new(client::ExecProver)).await.unwrap();
        until("all batches are proved", async || {
            server.status().await.unwrap().proved_through == Some(up_to)
        })
        .await;
        client.stop().await;
        server.stop().await;
    };
    // Twice the same, and a restart between batches does no harm.
    let config = || Config { batch_blocks: 2, ..config(dir.path()) };
    proved(config(), 4).await;
    proved(Config { batch_blocks: 1, ..config() }, 5).await;
    let path = format!("sqlite://{}", dir.path().join("server/jobs.sqlite").display());
    let database = sqlx::SqlitePool::connect(&path).await.unwrap();
    let statements: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT statement FROM batches ORDER BY first")
            .fetch_all(&database)
            .await
            .unwrap();
    let stated: Vec<_> = statements
        .iter()
        .map(|statement| Statement::abi_decode(statement).unwrap())
        .map(|it| (it.first_number, it.deposits_count, it.deposits_digest))
        .collect();
    let digest = |from, to| alloy_primitives::keccak256([links(from).0, links(to).0].concat());
    assert_eq!(stated, [(1, 2, digest(0, 2)), (3, 20, digest(2, 22)), (5, 1, digest(22, 23))]);

    // A server that begins later has to be told, and asks for it.
    let later = tempfile::tempdir().unwrap();
    let later = |deposits_start| Config {
        first_block: 3,
        batch_blocks: 3,
        deposits_start,
        ..crate::common::config(later.path())
    };
    let server = Server::start(later(None), Some(nodes().await)).await.unwrap();
    until("the intake says what is missing", async || {
        let said = server.status().await.unwrap().intake;
        matches!(&said, IntakeStatus::Retrying { error } if error.contains("deposits_start"))
    })
    .await;
    server.stop().await;
    let server = Server::start(later(Some(links(2))), Some(nodes().await)).await.unwrap();
    let client = client_config(dir.path(), "b", &server.url());
    let client = client::Client::start(client, Arc::new(client::ExecProver)).await.unwrap();
    until("the batch is proved", async || server.status().await.unwrap().proved_through == Some(5))
        .await;
    client.stop().await;
    server.stop().await;
    node.stop().await;
}

//! Clients that wait for work cost the database nothing, however many there are.

use crate::{
    common::{Chain, until},
    postgres::Postgres,
    store::{Place, batch, client},
};
use protocol::{Capability, ProofData, ProofSystem, Request};
use server::{
    artifacts::{self, Artifacts, Sharing},
    dispatch::{Jobs, JobsConfig},
    jobs::Party,
};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Jobs become ready one after the other while so many clients wait.
async fn few_transactions(place: &Place, waiting: u16) {
    const JOBS: u64 = 20;
    let (store, dir) = (place.open().await, tempfile::tempdir().unwrap());
    let database = store.database().clone();
    let folder = artifacts::Place::Folder(dir.path().into(), Sharing::Alone);
    let artifacts = Artifacts::open(&folder, 1 << 20).unwrap();
    let config = JobsConfig {
        folding: Vec::new(),
        targets: crate::store::TARGET.into(),
        lease: Duration::from_secs(60),
        heartbeat: Duration::from_secs(15),
        max_wait: Duration::from_secs(60),
        verify_threads: 1,
        max_proof_bytes: 1 << 20,
        policy: verifier::Policy { danger_accept_exec: true, danger_accept_dev_mode: false },
    };
    let stopping = CancellationToken::new();
    let jobs = Jobs::new(store, artifacts, config, stopping.clone());
    let calling = tokio::spawn(jobs.clone().call_waiting());

    // Every third proves something else.
    let mut clients = JoinSet::new();
    for n in 0..waiting {
        let system = if n % 3 == 0 { ProofSystem::Risc0 } else { ProofSystem::Exec };
        let program_id = alloy_primitives::B256::ZERO;
        let request = Request {
            client: protocol::ClientId::from_bytes(
                [n.to_be_bytes(); 8].concat().try_into().unwrap(),
            ),
            capabilities: vec![Capability::new(system, program_id, false)],
            wait_ms: 60_000,
            origin: None,
        };
        let jobs = jobs.clone();
        clients.spawn(async move {
            jobs.request(&request, Party::Client(request.client)).await.unwrap()
        });
    }
    // Each is written down once, and then waits.
    until("all wait", async || database.writes() >= u64::from(waiting)).await;
    let before = database.writes();
    let chain = Chain::new(JOBS);
    for number in 1..=JOBS {
        jobs.enqueue(&batch(&chain, number)).await.unwrap();
        let got = clients.join_next().await.unwrap().unwrap();
        assert!(matches!(got, ProofData::Response(_)), "{got:?}");
    }
    let each = (database.writes() - before) as f64 / JOBS as f64;
    assert!(each <= 3.0, "{each} transactions for each job");

    // Nothing is ready, and nothing is written. All are answered when the server stops.
    let before = database.writes();
    let (client, capabilities) = (client(200), Vec::new());
    let request = Request { client, capabilities, wait_ms: 0, origin: None };
    assert!(jobs.request(&request, Party::Client(client)).await.is_ok());
    assert!(database.writes() - before <= 2, "one for a client that nobody knew");
    stopping.cancel();
    while let Some(answer) = clients.join_next().await {
        assert!(matches!(answer.unwrap(), ProofData::NoWork(_)));
    }
    calling.await.unwrap();
    jobs.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_takes_three_transactions_however_many_clients_wait() {
    for waiting in [100, 500] {
        few_transactions(&Place::sqlite(), waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_takes_three_transactions_on_postgresql_too() {
    let Some(server) = Postgres::start().await else { return };
    few_transactions(&Place::Postgres(server), 100).await;
}

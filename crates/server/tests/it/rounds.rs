//! Whole rounds: a chain, a server and real clients over HTTP.

use crate::{
    common::{Chain, Echo, client_config, config, http, serve, until},
    store::RULES,
};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use client::{BoxError, Client, Phase, Prover};
use protocol::{
    Advice, BlockRange, Capability, ClientId, Heartbeat, InstanceId, IntakeStatus, JobState,
    ProofData, Request,
};
use server::{BatchSource, Config, PreparedBatch, Running, Server, store::JobStore};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use witness::HeaderSummary;

async fn proved(server: &Running) -> u64 {
    server.status().await.unwrap().counts.proved
}

fn echo(takes_ms: u64) -> Arc<Echo> {
    Arc::new(Echo { takes: Duration::from_millis(takes_ms), ..Echo::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_lags_now_and_then_halts_nothing() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(5));
    chain.lags.store(2, Ordering::SeqCst);
    let server = serve(config(dir.path()), &chain).await;
    let status = async || server.status().await.unwrap();
    until("all is in", async || status().await.last_enqueued == Some(5)).await;
    let looked = chain.looked.load(Ordering::SeqCst);
    let mut tried = false;
    until("it was asked again and again", async || {
        let intake = status().await.intake;
        assert!(!matches!(intake, IntakeStatus::Halted { .. }), "{intake:?}");
        tried |= matches!(intake, IntakeStatus::Retrying { .. });
        tried && chain.looked.load(Ordering::SeqCst) > looked + 10
    })
    .await;
    chain.head.store(7, Ordering::SeqCst);
    until("what is new is in", async || status().await.last_enqueued == Some(7)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_is_proven_once_by_several_clients() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(20);
    let server = serve(Config { ready_jobs: 3, ..config(dir.path()) }, &chain).await;
    let prover = echo(30);
    let mut clients = Vec::new();
    for name in ["a", "b", "c"] {
        let config = client_config(dir.path(), name, &server.url());
        clients.push(Client::start(config, prover.clone()).await.unwrap());
    }
    until("20 blocks are proved", async || {
        let counts = server.status().await.unwrap().counts;
        assert!(counts.ready <= 3, "{counts:?}");
        counts.proved == 20
    })
    .await;
    let proven = prover.proven.lock().unwrap().clone();
    assert_eq!(proven.len(), 20, "no block was proven twice");
    assert_eq!(proven.iter().collect::<HashSet<_>>().len(), 20);
    let status = server.status().await.unwrap();
    assert_eq!(
        (status.head, status.last_enqueued, status.proved_through),
        (Some(20), Some(20), Some(20))
    );
    assert_eq!(status.clients.len(), 3);
    assert_eq!(status.clients.iter().map(|client| client.proved).sum::<u64>(), 20);
    until("clients know", async || {
        clients.iter().map(|client| client.status().accepted).sum::<u64>() == 20
    })
    .await;
    for client in clients {
        client.stop().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_is_rejected_kept_on_both_sides_and_the_job_goes_to_an_honest_client() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let liar = Arc::new(Echo { lies: true, ..Echo::default() });
    let liar = Client::start(client_config(dir.path(), "liar", &server.url()), liar).await.unwrap();
    until("the lie is found out", async || liar.status().rejected == 1).await;
    let said = liar.status().last_error.unwrap();
    assert!(said.contains("of another statement"), "{said}");
    let kept = std::fs::read_dir(dir.path().join("liar/rejected")).unwrap().count();
    assert_eq!(kept, 2, "the proof and the reason");

    let status = server.status().await.unwrap();
    assert_eq!(status.jobs[0].state, JobState::Ready);
    assert!(status.clients[0].rests_until.is_some());
    let honest =
        Client::start(client_config(dir.path(), "honest", &server.url()), echo(0)).await.unwrap();
    until("the honest client proves it", async || proved(&server).await == 1).await;
    liar.stop().await;
    honest.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_prover_makes_another_kind_harms_no_job() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let other = Arc::new(Echo { succinct_only: true, ..Echo::default() });
    let able = client_config(dir.path(), "succinct", &server.url());
    let able = Client::start(able, other.clone()).await.unwrap();
    until("it has asked, and there is a job", async || {
        let status = server.status().await.unwrap();
        status.clients.len() == 1 && status.jobs.len() == 1
    })
    .await;
    let job = server.status().await.unwrap().jobs.remove(0);
    assert_eq!((job.state, job.failures, job.lost), (JobState::Ready, 0, 0), "{job:?}");
    assert_eq!(job.leased_at, None, "it is not lent what it does not make");
    let prover = client_config(dir.path(), "any", &server.url());
    let prover = Client::start(prover, echo(0)).await.unwrap();
    until("another one proves it", async || proved(&server).await == 1).await;
    assert!(other.proven.lock().unwrap().is_empty());
    able.stop().await;
    prover.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_proof_outlives_its_client_and_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let server = serve(config(dir.path()), &chain).await;
    let port = server.addr().port();
    let prover = echo(500);
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), prover.clone()).await.unwrap();
    until("it proves", async || matches!(client.status().phase, Phase::Proving(_))).await;
    // The server goes while the client finishes, then the client goes before anyone has heard of the proof.
    server.stop().await;
    let journal = dir.path().join("a/proofs");
    until("the proof is on disk", async || std::fs::read_dir(&journal).unwrap().count() == 2).await;
    client.stop().await;

    let server = serve(Config { listen_port: port, ..config(dir.path()) }, &chain).await;
    assert_eq!(
        server.status().await.unwrap().jobs[0].state,
        JobState::Leased,
        "restarting reassigns nothing"
    );
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), prover.clone()).await.unwrap();
    until("the proof is accepted", async || proved(&server).await == 1).await;
    assert_eq!(prover.proven.lock().unwrap().len(), 1, "nothing was proven twice");
    until("the client forgets it", async || std::fs::read_dir(&journal).unwrap().count() == 0)
        .await;
    client.stop().await;

    // An acknowledged proof is there after another restart.
    server.stop().await;
    let server = serve(config(dir.path()), &chain).await;
    let status = server.status().await.unwrap();
    assert_eq!((status.counts.proved, status.proved_through), (1, Some(1)));
    let proof = status.jobs[0].proof.unwrap();
    let bytes = reqwest::get(format!("{}/v1/artifacts/{}", server.url(), proof.sha256))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes, chain.statement(status.jobs[0].block_numbers));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_keep_a_job_through_proving_and_show_progress() {
    let dir = tempfile::tempdir().unwrap();
    let (lease, heartbeat) = (Duration::from_secs(2), Duration::from_millis(200));
    let server = serve(Config { lease, heartbeat, ..config(dir.path()) }, &Chain::new(1)).await;
    let slow = echo(6_000);
    let slow_client =
        Client::start(client_config(dir.path(), "slow", &server.url()), slow).await.unwrap();
    until("progress arrives", async || {
        server.status().await.unwrap().jobs.iter().any(|job| job.progress.is_some())
    })
    .await;
    let idle = echo(0);
    let idle_client = Client::start(client_config(dir.path(), "idle", &server.url()), idle.clone())
        .await
        .unwrap();
    until("it is proved", async || proved(&server).await == 1).await;
    assert!(
        idle.proven.lock().unwrap().is_empty(),
        "the job stayed where it was for three lease times"
    );
    assert_eq!(server.status().await.unwrap().jobs[0].lost, 0);
    slow_client.stop().await;
    idle_client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_under_one_lease_are_noticed_at_the_heartbeat() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let post = async |path: String, message: ProofData| -> ProofData {
        let url = format!("{}{path}", server.url());
        http().post(url).json(&message).send().await.unwrap().json().await.unwrap()
    };
    let me = ClientId::from_bytes([1; 16]);
    let capability = Capability::new(client::ProofSystem::Exec, B256::ZERO, false);
    let request =
        Request { client: me, capabilities: vec![capability], wait_ms: 20_000, origin: None };
    let answer = post(protocol::paths::REQUEST.into(), ProofData::Request(request)).await;
    let ProofData::Response(leased) = answer else { panic!("{answer:?}") };
    let beat = async |instance: Option<u8>| {
        let instance = instance.map(|n| InstanceId::from_bytes([n; 16]));
        let beat = Heartbeat { client: me, lease: leased.lease, progress: None, instance };
        let path = protocol::paths::heartbeat(&leased.job);
        match post(path, ProofData::Heartbeat(beat)).await {
            ProofData::HeartbeatAck(ack) => ack.advice,
            other => panic!("{other:?}"),
        }
    };
    // A process, and the one after its restart.
    assert_eq!(beat(Some(1)).await, Advice::Continue);
    assert_eq!(beat(Some(2)).await, Advice::Continue);
    assert_eq!(beat(None).await, Advice::Continue, "an older client does not say");
    // The first is still there: its folder was copied while it had the job.
    assert_eq!(beat(Some(1)).await, Advice::Lost);
    assert_eq!(beat(Some(2)).await, Advice::Continue, "the later one goes on");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_client_gives_its_job_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), echo(60_000)).await.unwrap();
    until("it proves", async || matches!(client.status().phase, Phase::Proving(_))).await;
    client.stop().await;
    let job = &server.status().await.unwrap().jobs[0];
    assert_eq!((job.state, job.failures, job.lost), (JobState::Ready, 0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_takes_a_job_from_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let lease = Duration::from_secs(2);
    let settings = Config { lease, heartbeat: lease / 4, ..config(dir.path()) };
    let server = serve(settings, &Chain::new(1)).await;
    let slow =
        Client::start(client_config(dir.path(), "a", &server.url()), echo(60_000)).await.unwrap();
    until("it proves", async || matches!(slow.status().phase, Phase::Proving(_))).await;
    let fast = Client::start(client_config(dir.path(), "b", &server.url()), echo(0)).await.unwrap();
    let job = server.status().await.unwrap().jobs[0].clone();
    let (job, holder) = (job.job, job.client.expect("a client has it"));
    let release = async |meant: &str| {
        let url = format!("{}{}{meant}", server.url(), protocol::paths::release(&job));
        http().post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(release(&format!("?client={}", "9".repeat(32))).await, 409, "another has it");
    assert_eq!(release("?client=nobody").await, 400);
    assert_eq!(release(&format!("?client={holder}")).await, 204);
    until("another client proves it", async || proved(&server).await == 1).await;
    until("the first is told to stop", async || matches!(slow.status().phase, Phase::Idle(_)))
        .await;
    let status = server.status().await.unwrap();
    assert_eq!((status.jobs[0].failures, status.jobs[0].lost), (0, 0), "nobody is to blame");
    assert_eq!(release("").await, 409, "no client has it");
    slow.stop().await;
    fast.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_client_finishes_its_job_and_takes_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(3)).await;
    let prover = echo(500);
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), prover.clone()).await.unwrap();
    until("it proves", async || matches!(client.status().phase, Phase::Proving(_))).await;
    client.drain(Duration::from_secs(60)).await;
    let counts = server.status().await.unwrap().counts;
    assert_eq!((counts.proved, counts.leased, counts.ready), (1, 0, 2));
    assert_eq!(prover.proven.lock().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("a/proofs")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_outlasts_the_grace_time_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), echo(60_000)).await.unwrap();
    until("it proves", async || matches!(client.status().phase, Phase::Proving(_))).await;
    client.drain(Duration::from_millis(300)).await;
    let job = &server.status().await.unwrap().jobs[0];
    assert_eq!((job.state, job.failures, job.lost), (JobState::Ready, 0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_prover_is_reported_by_class() {
    struct Broken;
    impl Prover for Broken {
        fn system(&self) -> client::ProofSystem {
            client::ProofSystem::Exec
        }
        fn program_id(&self) -> B256 {
            B256::ZERO
        }
        fn danger(&self) -> Option<&'static str> {
            None
        }
        fn prove(
            &self,
            _: &[u8],
            _: client::ProofKind,
            _: &client::Cancel,
            _: &(dyn Fn(client::Progress) + Send + Sync),
        ) -> Result<Vec<u8>, client::ProveError> {
            panic!("the GPU is on fire")
        }
        fn execute(&self, _: &[u8]) -> Result<client::Execution, client::ProveError> {
            Err(client::ProveError::Cancelled)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let client = Client::start(client_config(dir.path(), "a", &server.url()), Arc::new(Broken))
        .await
        .unwrap();
    until("the failure is reported", async || {
        server.status().await.unwrap().jobs.iter().any(|job| job.failures == 1)
    })
    .await;
    let status = server.status().await.unwrap();
    let error = status.jobs[0].last_error.clone().unwrap();
    assert!(error.contains("backend_failed") && error.contains("the GPU is on fire"), "{error}");
    assert_eq!(status.jobs[0].state, JobState::Ready);
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_prover_asks_for_no_work_until_its_self_test_passes() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(5)).await;
    let prover = Arc::new(Echo { broken: true.into(), ..Echo::default() });
    let config = client::Config {
        broken_failures: 1,
        broken_pause: Duration::from_millis(50),
        ..client_config(dir.path(), "a", &server.url())
    };
    let client = Client::start(config, prover.clone()).await.unwrap();
    until("it has tested itself twice", async || prover.tests.load(Ordering::SeqCst) >= 2).await;
    let Phase::Broken { error } = client.status().phase else { panic!("{:?}", client.status()) };
    assert!(error.contains("the GPU is on fire"), "{error}");
    until("all blocks have jobs", async || server.status().await.unwrap().last_enqueued == Some(5))
        .await;
    let jobs = server.status().await.unwrap().jobs;
    let failures: Vec<_> = jobs.iter().map(|job| job.failures).collect();
    assert_eq!(failures, [1, 0, 0, 0, 0], "one job was enough");
    prover.broken.store(false, Ordering::SeqCst);
    until("all is proved", async || proved(&server).await == 5).await;
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_another_chain_halts_the_intake_until_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(2);
    let server = serve(config(dir.path()), &chain).await;
    until("two blocks are in", async || server.status().await.unwrap().last_enqueued == Some(2))
        .await;

    *chain.name.lock().unwrap() = "fork";
    chain.head.store(3, Ordering::SeqCst);
    let halted =
        async || matches!(server.status().await.unwrap().intake, IntakeStatus::Halted { .. });
    until("it halts", halted).await;
    let status = server.status().await.unwrap();
    let IntakeStatus::Halted { error } = status.intake else { panic!() };
    assert!(
        error.contains("block 3 continues") && error.contains("but block 2 was enqueued as"),
        "{error}"
    );
    assert_eq!(status.last_enqueued, Some(2));

    // A node that started anew and has fewer blocks.
    chain.head.store(1, Ordering::SeqCst);
    until("it says so", async || {
        matches!(server.status().await.unwrap().intake, IntakeStatus::Halted { error } if error.contains("is at block 1"))
    })
    .await;

    *chain.name.lock().unwrap() = "main";
    chain.head.store(4, Ordering::SeqCst);
    until("it goes on", async || server.status().await.unwrap().last_enqueued == Some(4)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_supersedes_what_it_took_away_and_nothing_of_that_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(5);
    let server = serve(config(dir.path()), &chain).await;
    let slow = Arc::new(Echo { takes: Duration::from_secs(60), ..Echo::default() });
    until("all is enqueued", async || server.status().await.unwrap().last_enqueued == Some(5))
        .await;
    let prover = echo(0);
    let config = |name| client_config(dir.path(), name, &server.url());
    let client = Client::start(config("quick"), prover.clone()).await.unwrap();
    until("all is proved", async || proved(&server).await == 5).await;
    client.stop().await;
    chain.head.store(7, Ordering::SeqCst);
    let client = Client::start(config("slow"), slow.clone()).await.unwrap();
    until("6 is leased", async || server.status().await.unwrap().counts.leased == 1).await;
    until("7 is enqueued", async || server.status().await.unwrap().last_enqueued == Some(7)).await;

    // From block 4 on there is another branch, and a shorter one.
    chain.fork(4, "fork", 6);
    until("the old branch is superseded", async || {
        let status = server.status().await.unwrap();
        status.counts.superseded == 4 && status.last_enqueued == Some(6)
    })
    .await;
    assert_eq!(server.status().await.unwrap().proved_through, Some(3));
    client.stop().await;
    assert!(slow.proven.lock().unwrap().is_empty(), "nobody finished block 6 of the old branch");
    let before = prover.proven.lock().unwrap().len();
    let client = Client::start(config("quick"), prover.clone()).await.unwrap();
    until("the new branch is proved", async || {
        server.status().await.unwrap().proved_through == Some(6)
    })
    .await;
    let proven = prover.proven.lock().unwrap()[before..].to_vec();
    let wanted = (4..=6).map(|n| chain.statement(BlockRange::new(n, n).unwrap()));
    assert_eq!(proven, wanted.collect::<Vec<_>>(), "the new branch, in order, and nothing else");

    // And back: what was proved of the first branch is not proven again.
    chain.fork(0, "main", 7);
    until("the first branch is proved", async || {
        server.status().await.unwrap().proved_through == Some(7)
    })
    .await;
    assert_eq!(prover.proven.lock().unwrap().len(), before + 3 + 2, "only blocks 6 and 7");
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_that_is_too_long_halts_the_intake() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(5);
    let server = serve(Config { max_reorg_blocks: 2, ..config(dir.path()) }, &chain).await;
    until("all is in", async || server.status().await.unwrap().last_enqueued == Some(5)).await;
    chain.fork(3, "fork", 8);
    until("it halts", async || {
        matches!(server.status().await.unwrap().intake, IntakeStatus::Halted { .. })
    })
    .await;
    assert_eq!(server.status().await.unwrap().counts.superseded, 0);
    chain.fork(4, "fork", 8);
    until("it goes on", async || server.status().await.unwrap().last_enqueued == Some(8)).await;
    assert_eq!(server.status().await.unwrap().counts.superseded, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_merely_says_other_hashes_takes_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(5);
    let server = serve(config(dir.path()), &chain).await;
    until("all is in", async || server.status().await.unwrap().last_enqueued == Some(5)).await;
    chain.lies.store(true, Ordering::SeqCst);
    chain.head.store(7, Ordering::SeqCst);
    until("it is found out", async || {
        let intake = server.status().await.unwrap().intake;
        matches!(intake, IntakeStatus::Retrying { error } if error.contains("another hash of block 2"))
    })
    .await;
    chain.lies.store(false, Ordering::SeqCst);
    until("it goes on", async || server.status().await.unwrap().last_enqueued == Some(7)).await;
    assert_eq!(server.status().await.unwrap().counts.superseded, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_denies_and_another_has_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(5);
    let server = serve(config(dir.path()), &chain).await;
    until("all is in", async || server.status().await.unwrap().last_enqueued == Some(5)).await;
    chain.elsewhere.store(true, Ordering::SeqCst);
    chain.lies.store(true, Ordering::SeqCst);
    chain.head.store(7, Ordering::SeqCst);
    until("it goes on", async || server.status().await.unwrap().last_enqueued == Some(7)).await;
    assert_eq!(server.status().await.unwrap().counts.superseded, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_node_calls_final_stays_and_a_reorg_beneath_it_halts_the_intake() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(5);
    let config = Config { batch_blocks: 2, ..config(dir.path()) };
    let server = serve(config, &chain).await;
    let finalized = async || server.status().await.unwrap().finalized;
    until("two batches are in", async || server.status().await.unwrap().last_enqueued == Some(4))
        .await;
    assert_eq!(finalized().await, None, "the node says nothing of it");
    // Block 3 is final: so is the batch of blocks 1 and 2, and not that of 3 and 4.
    chain.finalized.store(3, Ordering::SeqCst);
    chain.head.store(6, Ordering::SeqCst);
    until("a batch is final", async || {
        let status = server.status().await.unwrap();
        status.finalized.is_some() && status.last_enqueued == Some(6)
    })
    .await;
    assert_eq!(finalized().await, Some(2));

    // A reorg above it is one like every other.
    chain.fork(3, "fork", 8);
    until("it follows", async || {
        let status = server.status().await.unwrap();
        status.counts.superseded == 2 && status.last_enqueued == Some(8)
    })
    .await;
    chain.finalized.store(4, Ordering::SeqCst);
    chain.head.store(9, Ordering::SeqCst);
    until("more is final", async || finalized().await == Some(4)).await;

    // Beneath it is another chain.
    chain.fork(3, "other", 10);
    let halted = async || match server.status().await.unwrap().intake {
        IntakeStatus::Halted { error } => Some(error),
        _ => None,
    };
    until("it halts", async || halted().await.is_some()).await;
    let error = halted().await.unwrap();
    assert!(error.contains("the batch of blocks 3-4, which the node has called final"), "{error}");
    assert_eq!(server.status().await.unwrap().counts.superseded, 2, "nothing else was taken away");
    chain.fork(3, "fork", 10);
    until("it goes on", async || server.status().await.unwrap().last_enqueued == Some(10)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_calls_final_what_it_does_not_have_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(4);
    let server = serve(Config { ready_jobs: 99, ..config(dir.path()) }, &chain).await;
    until("all is in", async || server.status().await.unwrap().last_enqueued == Some(4)).await;
    let asked = async |head: u64| {
        let before = chain.asked.load(Ordering::SeqCst);
        chain.head.store(head, Ordering::SeqCst);
        until("it is asked and the block is in", async || {
            let status = server.status().await.unwrap();
            chain.asked.load(Ordering::SeqCst) > before && status.last_enqueued == Some(head)
        })
        .await;
        server.status().await.unwrap().finalized
    };
    chain.finalized.store(99, Ordering::SeqCst);
    assert_eq!(asked(6).await, None, "it has no block 99");
    // It has block 3, but says another hash of the blocks that were enqueued. Its head is as it was.
    chain.finalized.store(3, Ordering::SeqCst);
    chain.lies_of.store(3, Ordering::SeqCst);
    assert_eq!(asked(8).await, None, "its block 3 is another");
    assert_eq!(asked(9).await, None, "and still is");
    chain.lies_of.store(0, Ordering::SeqCst);
    asked(10).await;
    until("block 3 is final", async || server.status().await.unwrap().finalized == Some(3)).await;
    assert_eq!(server.status().await.unwrap().intake, IntakeStatus::Following);
    server.stop().await;
}

/// A server whose eight jobs are of an old program, upgraded.
async fn upgraded(config: &Config, chain: &Chain) -> Running {
    let program_id = Some(B256::repeat_byte(7));
    let old = Config { program_id, ready_jobs: 8, ..config.clone() };
    let server = serve(old, &Chain::new(12)).await;
    until("it has enough", async || server.status().await.unwrap().intake == IntakeStatus::Full)
        .await;
    let counts = server.status().await.unwrap().counts;
    assert_eq!((counts.ready, counts.set_aside), (8, 0));
    server.stop().await;
    serve(config.clone(), chain).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_an_old_program_do_not_fill_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    // The new program reads no input of the old one: those batches are left alone, and new blocks get jobs.
    let chain = Chain { reads: false, ..Chain::new(12) };
    let server = upgraded(&config(dir.path()), &chain).await;
    until("new blocks have jobs", async || {
        server.status().await.unwrap().last_enqueued == Some(12)
    })
    .await;
    let status = server.status().await.unwrap();
    assert_eq!((status.counts.ready, status.counts.set_aside), (8 + 4, 8));
    assert_eq!(status.intake, IntakeStatus::Following);
    let client =
        Client::start(client_config(dir.path(), "new", &server.url()), echo(0)).await.unwrap();
    until("those are proved", async || proved(&server).await == 4).await;
    let status = server.status().await.unwrap();
    assert_eq!((status.counts.ready, status.counts.set_aside, status.proved_through), (8, 8, None));

    // What was cancelled is no longer there to be set aside.
    let cancel = format!("{}{}", server.url(), protocol::paths::cancel(&status.jobs[0].job));
    assert!(http().post(cancel).send().await.unwrap().status().is_success());
    let counts = server.status().await.unwrap().counts;
    assert_eq!((counts.set_aside, counts.dead), (7, 1));
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_leaves_no_hole_and_keeps_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(12);
    let config = Config { ready_jobs: 8, ..config(dir.path()) };
    // As many as there may be, and the oldest first.
    let server = upgraded(&Config { ready_jobs: 3, ..config.clone() }, &chain).await;
    until("three have new jobs", async || server.status().await.unwrap().counts.ready == 11).await;
    until("it waits", async || server.status().await.unwrap().intake == IntakeStatus::Full).await;
    let status = server.status().await.unwrap();
    let new = status.jobs.iter().filter(|job| job.program_id == B256::ZERO);
    assert_eq!(new.map(|job| job.block_numbers.first()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((status.last_enqueued, status.counts.set_aside), (Some(8), 8));
    server.stop().await;

    let server = serve(config, &chain).await;
    let prover = echo(0);
    let client = Client::start(client_config(dir.path(), "new", &server.url()), prover.clone())
        .await
        .unwrap();
    until("all blocks are proved", async || {
        server.status().await.unwrap().proved_through == Some(12)
    })
    .await;
    let counts = server.status().await.unwrap().counts;
    assert_eq!((counts.proved, counts.ready, counts.set_aside), (12, 8, 8));
    let proven = prover.proven.lock().unwrap().clone();
    let blocks = (1..=12).map(|n| chain.statement(BlockRange::new(n, n).unwrap()));
    assert_eq!(proven, blocks.collect::<Vec<_>>(), "each once, the oldest first");
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_has_waited_long_enough_goes_with_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(6);
    let age = Some(Duration::from_millis(300));
    let config = Config { batch_blocks: 4, max_batch_age: age, ..config(dir.path()) };
    let server = serve(Config { max_batch_gas: Some(42_000), ..config }, &chain).await;
    until("all is in", async || server.status().await.unwrap().last_enqueued == Some(6)).await;
    let jobs = server.status().await.unwrap().jobs;
    let mut blocks: Vec<_> = jobs.iter().map(|job| job.block_numbers.to_string()).collect();
    blocks.sort();
    // Of four blocks, two have as much gas as a batch may; the last two are all there is.
    assert_eq!(blocks, ["1-2", "3-4", "5-6"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_full_when_its_blocks_have_all_the_gas_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(6);
    let config = Config { batch_blocks: 100, max_batch_gas: Some(50_000), ..config(dir.path()) };
    let server = serve(config, &chain).await;
    until("1-2 and 3-4 are in", async || server.status().await.unwrap().last_enqueued == Some(4))
        .await;
    // There is room in 5-6, until it is known that the next block does not fit in.
    chain.head.store(7, Ordering::SeqCst);
    until("5-6 follows", async || server.status().await.unwrap().last_enqueued == Some(6)).await;
    assert_eq!(server.status().await.unwrap().counts.ready, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_several_blocks_wait_until_they_are_full() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(8);
    let server =
        serve(Config { batch_blocks: 3, first_block: 2, ..config(dir.path()) }, &chain).await;
    until("2-4 and 5-7 are in", async || server.status().await.unwrap().last_enqueued == Some(7))
        .await;
    let ranges: Vec<String> = server
        .status()
        .await
        .unwrap()
        .jobs
        .iter()
        .map(|job| job.block_numbers.to_string())
        .collect();
    assert_eq!(ranges, ["2-4", "5-7"]);
    chain.head.store(10, Ordering::SeqCst);
    until("8-10 follows", async || server.status().await.unwrap().last_enqueued == Some(10)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dear_block_shortens_its_batch_and_is_never_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(18);
    let config = Config { batch_blocks: 4, max_batch_cycles: 5_000, ..config(dir.path()) };
    let server = serve(config, &chain).await;
    until("all are in", async || server.status().await.unwrap().last_enqueued == Some(15)).await;
    let jobs = server.status().await.unwrap().jobs;
    let ranges: Vec<String> = jobs.iter().map(|job| job.block_numbers.to_string()).collect();
    assert_eq!(ranges, ["1-4", "5", "6-9", "10", "11-14", "15"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_program_does_not_take_is_made_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let too_much = |blocks: BlockRange| blocks.last() - blocks.first() >= 2;
    let chain = Chain { too_much, ..Chain::new(12) };
    let server = serve(Config { batch_blocks: 4, ..config(dir.path()) }, &chain).await;
    // The last ones wait for a batch to be full.
    until("10 are in", async || server.status().await.unwrap().last_enqueued == Some(10)).await;
    let jobs = server.status().await.unwrap().jobs;
    let ranges: Vec<String> = jobs.iter().map(|job| job.block_numbers.to_string()).collect();
    assert_eq!(ranges, ["1-2", "3-4", "5-6", "7-8", "9-10"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_the_program_does_not_take_halts_the_intake_and_those_before_are_in() {
    let dir = tempfile::tempdir().unwrap();
    let too_much = |blocks: BlockRange| blocks.first() <= 7 && 7 <= blocks.last();
    let chain = Chain { too_much, ..Chain::new(12) };
    let server = serve(Config { batch_blocks: 4, ..config(dir.path()) }, &chain).await;
    let halted = async || match server.status().await.unwrap().intake {
        IntakeStatus::Halted { error } => Some(error),
        _ => None,
    };
    until("it halts", async || halted().await.is_some()).await;
    let error = halted().await.unwrap();
    assert!(error.contains("block 7 cannot be proven: the input may take 4294967296"), "{error}");
    let status = server.status().await.unwrap();
    let ranges: Vec<String> = status.jobs.iter().map(|job| job.block_numbers.to_string()).collect();
    assert_eq!((ranges, status.last_enqueued), (vec!["1-4".into(), "5-6".into()], Some(6)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_trie_node_that_is_not_shown_waits_and_those_before_are_in() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(12);
    chain.lacks.store(7, Ordering::SeqCst);
    let server = serve(Config { batch_blocks: 4, ..config(dir.path()) }, &chain).await;
    let waits = async || match server.status().await.unwrap().intake {
        IntakeStatus::Retrying { error } => error.contains("blocks 7"),
        _ => false,
    };
    until("6 are in", async || server.status().await.unwrap().last_enqueued == Some(6)).await;
    until("it waits", waits).await;
    let IntakeStatus::Retrying { error } = server.status().await.unwrap().intake else {
        panic!("it goes on trying");
    };
    assert!(error.contains("path 0x12ab") && error.contains("--rpc-url"), "{error}");
    // Another node shows it.
    chain.lacks.store(0, Ordering::SeqCst);
    until("10 are in", async || server.status().await.unwrap().last_enqueued == Some(10)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_beneficiary_is_named_in_every_input() {
    let dir = tempfile::tempdir().unwrap();
    let beneficiary = Address::repeat_byte(0xbe);
    let config = Config { beneficiary: Some(beneficiary), ..config(dir.path()) };
    let server = serve(config, &Chain::new(5)).await;
    let prover = echo(0);
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), prover.clone()).await.unwrap();
    until("5 are proved", async || proved(&server).await == 5).await;
    let inputs = prover.proven.lock().unwrap().clone();
    assert!(inputs.iter().all(|input| input.ends_with(beneficiary.as_slice())), "{inputs:?}");
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_become_shorter_when_proofs_turn_out_dearer() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(4);
    let most = Config { max_batch_cycles: 10_000, ..config(dir.path()) };
    let server = serve(Config { batch_blocks: 1, ..most.clone() }, &chain).await;
    until("4 are in", async || server.status().await.unwrap().last_enqueued == Some(4)).await;
    chain.head.store(6, Ordering::SeqCst);
    until("6 are in", async || server.status().await.unwrap().last_enqueued == Some(6)).await;
    let jobs = server.status().await.unwrap().jobs;
    server.stop().await;
    let store = JobStore::open(&dir.path().join("server/jobs.sqlite"), RULES).await.unwrap();
    for job in jobs.iter().filter(|job| job.block_numbers.first() != 5) {
        let prover = job.client.unwrap_or(ClientId::from_bytes([0; 16]));
        store.record_shown(job.job, prover, Some(17_000_000), None).await.unwrap();
    }
    store.close().await;

    // Each thousand is expected to become four thousand: a proof counts for no more.
    chain.head.store(9, Ordering::SeqCst);
    let server = serve(Config { batch_blocks: 3, ..most }, &chain).await;
    until("8 are in", async || server.status().await.unwrap().last_enqueued == Some(8)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_the_server_cannot_take_is_reported_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 300_000;
    let chain = Chain::new(1);
    let server = Config { max_artifact_bytes: limit, max_failures: 1, ..config(dir.path()) };
    let server = serve(server, &chain).await;
    let prover = Arc::new(Echo { padding: 1_000_000, ..Echo::default() });
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), prover.clone()).await.unwrap();
    until("the job is given up", async || server.status().await.unwrap().counts.dead == 1).await;
    let error = server.status().await.unwrap().jobs[0].last_error.clone().unwrap();
    assert!(error.contains("proof_too_large") && error.contains("max_artifact_bytes"), "{error}");
    until("the client has put it aside", async || client.status().rejected == 1).await;
    let kept = std::fs::read_dir(dir.path().join("a/rejected")).unwrap().count();
    assert_eq!(kept, 2, "the proof and the reason");
    assert_eq!(prover.proven.lock().unwrap().len(), 1, "it was not tried again");
    client.stop().await;
    server.stop().await;
}

/// A node whose answers make the intake panic, once told to.
#[derive(Clone, Default)]
struct Broken(Arc<std::sync::atomic::AtomicBool>);

#[async_trait]
impl BatchSource for Broken {
    async fn head(&self) -> Result<u64, BoxError> {
        assert!(!self.0.load(Ordering::SeqCst), "on purpose");
        Ok(0)
    }

    async fn block(&self, _number: u64) -> Result<Option<HeaderSummary>, BoxError> {
        Ok(None)
    }

    async fn prepare(
        &self,
        blocks: BlockRange,
        _beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError> {
        Err(format!("there are no blocks {blocks}").into())
    }

    async fn finalized(&self) -> Result<Option<u64>, BoxError> {
        Ok(None)
    }

    async fn restate(&self, input: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        Ok(input)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_panics_is_noticed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let source = Broken::default();
    let server = Server::start(config(dir.path()), Some(source.clone())).await.unwrap();
    let live = || http().get(format!("{}/livez", server.url())).send();
    assert_eq!(live().await.unwrap().status(), 200);
    source.0.store(true, Ordering::SeqCst);
    assert_eq!(server.crashed().await, "intake");
    let answer = live().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("intake has crashed"));
    server.stop().await;
}

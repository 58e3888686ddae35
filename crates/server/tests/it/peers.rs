//! Several servers on one PostgreSQL database act as one.

use crate::{
    common::{Chain, client_config, config, http, serve, until},
    postgres::Postgres,
    store::{Place, at, client, lease, state, store, submit},
};
use protocol::{
    Advice, ArtifactRef, Capability, Heartbeat, HeartbeatAck, IntakeStatus, JobState, ProofData,
    ProofKind, ProofSystem, Request, Response, Submit, SubmitAck, Verdict,
};
use server::{
    Config, DatabaseUrl, Error, Running, Server, database::DatabaseError, dispatch::peers::Peers,
    store::StoreError,
};
use sqlx::{Connection, Executor};
use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Settings of the servers on one database.
fn shared(dir: &Path, url: &DatabaseUrl) -> Config {
    Config { database: Some(url.clone()), ..config(dir) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_job_is_leased_twice_by_two_stores_at_once() {
    const JOBS: u64 = 60;
    let Some(server) = Postgres::start().await else { return };
    let place = Place::Postgres(server);
    let stores = [store(&place, JOBS).await, place.open().await];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8u8 {
        let store = stores[usize::from(n) % 2].clone();
        tasks.spawn(async move {
            // Each time by another client: one client has one job.
            let mut jobs = Vec::new();
            for k in 0..20 {
                jobs.extend(lease(&store, n * 20 + k, at(0)).await.map(|leased| leased.job));
            }
            jobs
        });
    }
    let jobs = tasks.join_all().await.concat();
    assert_eq!(jobs.len() as u64, JOBS);
    assert_eq!(jobs.iter().collect::<HashSet<_>>().len() as u64, JOBS, "a job was leased twice");

    // One client that asks at both servers at once has one job.
    let (a, b) = tokio::join!(lease(&stores[0], 1, at(0)), lease(&stores[1], 1, at(0)));
    let (a, b) = (a.expect("it has one"), b.expect("it has one"));
    assert_eq!((a.job, a.lease.id), (b.job, b.lease.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_killed_in_the_middle_of_a_transaction_loses_nothing() {
    let Some(server) = Postgres::start().await else { return };
    let place = Place::Postgres(server);
    let Place::Postgres(server) = &place else { unreachable!() };
    let store = store(&place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    let proof = submit(&leased, b"proof");

    // The transaction has locked the job, and waits for the client's row.
    let mut admin = server.admin().await;
    let mut blocker = server.admin().await;
    let mut tx = blocker.begin().await.unwrap();
    tx.execute("SELECT * FROM clients FOR UPDATE").await.unwrap();
    let blocked = tokio::spawn({
        let (store, proof, job) = (store.clone(), proof.clone(), leased.job);
        async move { store.submit(job, &proof, at(1)).await }
    });
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'l2-prover' AND wait_event_type = 'Lock'";
    until("it is killed", async || {
        sqlx::query_scalar::<_, i64>(kill).fetch_one(&mut admin).await.unwrap() == 1
    })
    .await;
    let error = blocked.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Database(DatabaseError::Failed { .. })), "{error}");
    tx.rollback().await.unwrap();

    assert_eq!(state(&store, leased.job).await, JobState::Leased, "nothing was half done");
    assert_eq!(store.unjudged(at(9)).await.unwrap(), []);
    drop(store.submit(leased.job, &proof, at(2)).await.unwrap());
    assert_eq!(
        store.judge(leased.job, &proof, Ok(()), at(2)).await.unwrap().value,
        Verdict::Accepted
    );
}

async fn post(server: &Running, path: &str, message: &ProofData) -> ProofData {
    let url = format!("{}{path}", server.url());
    let answer = reqwest::Client::new().post(url).json(message).send().await.unwrap();
    answer.json().await.unwrap()
}

async fn request(server: &Running, n: u8) -> Option<Response> {
    let capability = Capability::new(ProofSystem::Exec, alloy_primitives::B256::ZERO, true);
    let request = Request {
        client: client(n),
        capabilities: vec![capability],
        wait_ms: 20_000,
        origin: None,
    };
    match post(server, protocol::paths::REQUEST, &ProofData::Request(request)).await {
        ProofData::Response(response) => Some(response),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_one_server_is_kept_and_its_proof_judged_by_the_other() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(0));
    let a = serve(shared(dir.path(), &postgres.url()), &chain).await;
    let b = serve(shared(dir.path(), &postgres.url()), &chain).await;
    // A client waits at one server, whichever of them hears of the block.
    let (response, ()) = tokio::join!(request(&a, 1), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        chain.head.store(1, Ordering::SeqCst);
    });
    let response = response.expect("there is a job");
    let beat =
        Heartbeat { client: client(1), lease: response.lease, progress: None, instance: None };
    let path = protocol::paths::heartbeat(&response.job);
    let ack = post(&b, &path, &ProofData::Heartbeat(beat.clone())).await;
    assert_eq!(ack, ProofData::HeartbeatAck(HeartbeatAck { advice: Advice::Continue }));

    let bytes = chain.statement(response.block_numbers);
    let proof = ArtifactRef::of(&bytes);
    let url = format!("{}{}", b.url(), protocol::paths::artifact(&proof.sha256));
    reqwest::Client::new().put(url).body(bytes).send().await.unwrap();
    let submit = ProofData::Submit(Submit {
        client: client(1),
        lease: response.lease,
        system: response.system,
        program_id: response.program_id,
        kind: ProofKind::Composite,
        proof,
    });
    let path = protocol::paths::submit(&response.job);
    let accepted = ProofData::SubmitAck(SubmitAck { verdict: Verdict::Accepted });
    assert_eq!(post(&b, &path, &submit).await, accepted);
    assert_eq!(post(&a, &path, &submit).await, accepted, "asked again elsewhere, the same answer");
    let ack =
        post(&a, &protocol::paths::heartbeat(&response.job), &ProofData::Heartbeat(beat)).await;
    assert_eq!(ack, ProofData::HeartbeatAck(HeartbeatAck { advice: Advice::Cancel }));
    assert_eq!(a.status().await.unwrap().proved_through, Some(1));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_disturbs_no_lease_while_another_server_runs_and_renews_all_if_none_did() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(2));
    let config = shared(dir.path(), &postgres.url());
    let (a, b) = (serve(config.clone(), &chain).await, serve(config.clone(), &chain).await);
    let (at_a, at_b) = (request(&a, 1).await.unwrap(), request(&b, 2).await.unwrap());
    assert_ne!(at_a.job, at_b.job);
    let mut admin = postgres.admin().await;
    let mut leases = async || -> Vec<(Vec<u8>, i64)> {
        let rows = sqlx::query_as(
            "SELECT lease, lease_expires_at FROM jobs WHERE state = 'leased' ORDER BY seq",
        );
        rows.fetch_all(&mut admin).await.unwrap()
    };
    let before = leases().await;
    assert_eq!(before.len(), 2);
    a.stop().await;
    let a = serve(config.clone(), &chain).await;
    assert_eq!(leases().await, before);
    a.stop().await;
    b.stop().await;

    let a = serve(config, &chain).await;
    let after = leases().await;
    for (before, after) in before.iter().zip(&after) {
        assert!(before.0 == after.0 && before.1 < after.1, "{before:?} {after:?}");
    }
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_follows_the_node_and_another_takes_over() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(10));
    let config = Config { ready_jobs: 1_000, ..shared(dir.path(), &postgres.url()) };
    let servers = [serve(config.clone(), &chain).await, serve(config.clone(), &chain).await];
    let enqueued = async |server: &Running, blocks| {
        until("the blocks are in", async || {
            server.status().await.unwrap().last_enqueued == Some(blocks)
        })
        .await;
    };
    enqueued(&servers[0], 10).await;
    let intakes = [servers[0].status().await.unwrap(), servers[1].status().await.unwrap()]
        .map(|status| status.intake);
    let leader = intakes.iter().position(|intake| *intake == IntakeStatus::Following).unwrap();
    assert_eq!(intakes[1 - leader], IntakeStatus::Standby);

    // The leader's lock is lost with its connection; somebody follows the node soon.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    assert!(
        sqlx::query_scalar::<_, i64>(kill).fetch_one(&mut postgres.admin().await).await.unwrap()
            > 0
    );
    chain.head.store(20, Ordering::SeqCst);
    enqueued(&servers[0], 20).await;

    // A whole leader goes.
    let [a, b] = servers;
    let follows = |running: &protocol::Status| running.intake == IntakeStatus::Following;
    let (leader, other) = if follows(&a.status().await.unwrap()) { (a, b) } else { (b, a) };
    leader.stop().await;
    chain.head.store(30, Ordering::SeqCst);
    enqueued(&other, 30).await;
    let blocks: Vec<_> =
        other.status().await.unwrap().jobs.iter().map(|job| job.block_numbers.first()).collect();
    assert_eq!(blocks, (1..=30).collect::<Vec<_>>(), "each block once, none skipped");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_node_fails_makes_way_for_one_whose_node_answers() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chains) = (tempfile::tempdir().unwrap(), [Chain::new(3), Chain::new(3)]);
    let config = Config { ready_jobs: 1_000, ..shared(dir.path(), &postgres.url()) };
    let a = serve(config.clone(), &chains[0]).await;
    let intake = async |server: &Running| server.status().await.unwrap().intake;
    until("a follows", async || intake(&a).await == IntakeStatus::Following).await;
    let b = serve(config, &chains[1]).await;
    until("b could follow", async || intake(&b).await == IntakeStatus::Standby).await;
    until("b has asked its node", async || chains[1].looked.load(Ordering::SeqCst) > 0).await;

    chains[0].down.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    chains[1].head.store(5, Ordering::SeqCst);
    until("b follows", async || b.status().await.unwrap().last_enqueued == Some(5)).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    until("a waits", async || intake(&a).await == IntakeStatus::Standby).await;

    // Nobody's node answers: it does not matter who leads, and the lead stays where it is.
    chains[1].down.store(true, Ordering::SeqCst);
    let retries = |intake: &IntakeStatus| matches!(intake, IntakeStatus::Retrying { .. });
    until("b tries", async || retries(&intake(&b).await)).await;
    for _ in 0..80 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let both = (intake(&a).await, intake(&b).await);
        assert!(both.0 == IntakeStatus::Standby && retries(&both.1), "{both:?}");
    }
    // The first whose node is back leads.
    chains[0].head.store(8, Ordering::SeqCst);
    chains[0].down.store(false, Ordering::SeqCst);
    until("a follows", async || a.status().await.unwrap().last_enqueued == Some(8)).await;
    until("b waits", async || intake(&b).await == IntakeStatus::Standby).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lets_another_server_lead() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chains) = (tempfile::tempdir().unwrap(), [Chain::new(3), Chain::new(3)]);
    let config = Config { ready_jobs: 1_000, ..shared(dir.path(), &postgres.url()) };
    let a = serve(config.clone(), &chains[0]).await;
    let intake = async |server: &Running| server.status().await.unwrap().intake;
    until("a follows", async || intake(&a).await == IntakeStatus::Following).await;
    let hand_over = async |server: &Running| {
        let answer = http().post(format!("{}{}", server.url(), protocol::paths::HAND_OVER));
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = hand_over(&a).await;
    assert!(status == 409 && text.contains("no other server"), "{status} {text}");
    assert_eq!(intake(&a).await, IntakeStatus::Following, "it goes on");

    let b = serve(config, &chains[1]).await;
    until("b could follow", async || intake(&b).await == IntakeStatus::Standby).await;
    until("b has asked its node", async || chains[1].looked.load(Ordering::SeqCst) > 0).await;
    let (status, text) = hand_over(&b).await;
    assert!(status == 409 && text.contains("does not follow"), "{status} {text}");
    assert_eq!(hand_over(&a).await, (204, String::new()));
    chains[1].head.store(5, Ordering::SeqCst);
    until("b follows", async || b.status().await.unwrap().last_enqueued == Some(5)).await;
    assert_eq!(intake(&a).await, IntakeStatus::Standby);
    assert_eq!(hand_over(&b).await.0, 409, "a does not lead for a minute");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn the_locks_of_a_server_that_is_stopped_are_freed() {
    let Some(postgres) = Postgres::start().await else { return };
    let mut admin = postgres.admin().await;
    let mut peers = Peers::join(&postgres.url()).await.unwrap();
    peers.welcome().await.unwrap();
    let mut locks = async || -> i64 {
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        sqlx::query_scalar(held).fetch_one(&mut admin).await.unwrap()
    };
    assert_eq!(locks().await, 1);
    // It is there, and says nothing, as a process after SIGSTOP: its pulse is not run.
    let begun = Instant::now();
    until("its session is ended", async || locks().await == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(peers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_left_unjudged_by_a_dead_server_is_judged_by_a_living_one() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(1));
    let lease = Duration::from_secs(2);
    let heartbeat = Duration::from_secs(1);
    let config = Config { lease, heartbeat, ..shared(dir.path(), &postgres.url()) };
    let living = serve(config, &chain).await;
    let response = request(&living, 1).await.unwrap();
    // What another server does before it dies: the proof is there, and recorded.
    let bytes = chain.statement(response.block_numbers);
    let proof = ArtifactRef::of(&bytes);
    let url = format!("{}{}", living.url(), protocol::paths::artifact(&proof.sha256));
    reqwest::Client::new().put(url).body(bytes).send().await.unwrap();
    let place = Place::Postgres(postgres);
    let dead = place.open().await;
    let submit = Submit {
        client: client(1),
        lease: response.lease,
        system: response.system,
        program_id: response.program_id,
        kind: ProofKind::Composite,
        proof,
    };
    drop(dead.submit(response.job, &submit, dead.now().await.unwrap()).await.unwrap());
    dead.close().await;
    until("it is proved", async || living.status().await.unwrap().counts.proved == 1).await;
    living.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_is_proven_once_by_clients_of_two_servers() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(20));
    let config = shared(dir.path(), &postgres.url());
    let (a, b) = (serve(config.clone(), &chain).await, serve(config, &chain).await);
    let prover =
        Arc::new(crate::common::Echo { takes: Duration::from_millis(20), ..Default::default() });
    let mut clients = Vec::new();
    for (name, server) in [("1", &a), ("2", &b), ("3", &a), ("4", &b)] {
        let config = client_config(dir.path(), name, &server.url());
        clients.push(client::Client::start(config, prover.clone()).await.unwrap());
    }
    until("20 blocks are proved", async || a.status().await.unwrap().counts.proved == 20).await;
    let proven = prover.proven.lock().unwrap().clone();
    assert_eq!((proven.len(), proven.iter().collect::<HashSet<_>>().len()), (20, 20));
    assert_eq!(b.status().await.unwrap().proved_through, Some(20));
    // While they run.
    let url = postgres.url();
    let checked = server::fsck::run(&shared(dir.path(), &url)).await.unwrap();
    assert_eq!((checked.jobs, checked.artifacts, checked.findings.len()), (20, 20, 0));
    for client in clients {
        client.stop().await;
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn what_cannot_work_is_refused() {
    let Some(postgres) = Postgres::start().await else { return };
    let (dir, chain, url) = (tempfile::tempdir().unwrap(), Chain::new(0), postgres.url());
    let mut admin = postgres.admin().await;
    let refused =
        async |dir: &Path| Server::start(shared(dir, &url), Some(chain.clone())).await.unwrap_err();
    admin.execute("CREATE TABLE cats (name TEXT)").await.unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(error, Error::Database(DatabaseError::Foreign(_))), "{error}");
    admin.execute("DROP TABLE cats").await.unwrap();

    admin.execute("ALTER DATABASE postgres SET synchronous_commit = off").await.unwrap();
    let error = refused(dir.path()).await;
    assert!(error.to_string().contains("its setting synchronous_commit is off"), "{error}");
    admin.execute("ALTER DATABASE postgres RESET synchronous_commit").await.unwrap();

    let running = serve(shared(dir.path(), &url), &chain).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let error = refused(elsewhere.path()).await;
    assert!(matches!(error, Error::OtherArtifacts { .. }), "{error}");
    // A server with SQLite would have the folder for itself.
    let error = Server::start(config(dir.path()), Some(chain.clone())).await.unwrap_err();
    assert!(matches!(error, Error::FolderInUse(_)), "{error}");
    running.stop().await;

    let later = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '', 0);
        UPDATE compatibility SET oldest = 9999";
    admin.execute(later).await.unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(error, Error::Database(DatabaseError::Version { .. })), "{error}");
}

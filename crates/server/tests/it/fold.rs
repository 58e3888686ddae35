//! Folded proofs: a server has accepted proofs of consecutive batches folded into one, clients do it, and whoever hands in something
//! else is refused.

use crate::common::{Chain, Echo, Hand, artifact_file, client_config, config, http, until};
use crate::postgres::Postgres;
use crate::store::RULES;
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use client::{
    BoxError, Cancel, Client, ExecProver, Execution, Progress, ProofSystem, ProveError, Prover,
};
use program::{ChainConfig, Statement, statement};
use protocol::{
    BlockRange, Capability, JobState, JobSummary, NoWork, ProofData, ProofKind, ProvedBatch,
    Request, Response, Verdict, paths,
};
use server::{
    BatchSource, Config, PreparedBatch, Running, Server,
    store::{JobStore, Retention},
};
use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use verifier::bundle;
use witness::HeaderSummary;

/// A chain whose statements are real ones.
#[derive(Clone)]
struct Stated(Chain);

impl Stated {
    fn statement(&self, blocks: BlockRange, beneficiary: Address) -> Statement {
        Statement {
            version: statement::VERSION,
            chain_config_digest: ChainConfig::dev().digest(),
            parent_hash: self.0.hash(blocks.first() - 1),
            last_hash: self.0.hash(blocks.last()),
            first_number: blocks.first(),
            last_number: blocks.last(),
            pre_state_root: self.0.hash(blocks.first() - 1),
            post_state_root: self.0.hash(blocks.last()),
            deposits_digest: B256::ZERO,
            deposits_count: 0,
            messages_root: B256::ZERO,
            last_timestamp: blocks.last(),
            data_commitment: B256::ZERO,
            beneficiary,
        }
    }
}

#[async_trait]
impl BatchSource for Stated {
    async fn head(&self) -> Result<u64, BoxError> {
        self.0.head().await
    }

    async fn any_has(&self, number: u64, hash: B256) -> bool {
        self.0.any_has(number, hash).await
    }

    async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, BoxError> {
        self.0.block(number).await
    }

    async fn prepare(
        &self,
        blocks: BlockRange,
        beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError> {
        let statement = self.statement(blocks, beneficiary).abi_encode();
        let prepared = self.0.prepared(blocks);
        Ok(PreparedBatch { statement: statement.clone(), input: statement, ..prepared })
    }

    async fn finalized(&self) -> Result<Option<u64>, BoxError> {
        self.0.finalized().await
    }

    async fn restate(&self, input: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        self.0.restate(input).await
    }
}

/// Proves batches as `Echo` does, folds proofs as the exec prover does, and writes down how many at a time.
#[derive(Default)]
struct Folder {
    echo: Echo,
    folded: Arc<Mutex<Vec<usize>>>,
}

impl Prover for Folder {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> B256 {
        B256::ZERO
    }

    fn danger(&self) -> Option<&str> {
        Some("exec")
    }

    fn kinds(&self) -> Vec<ProofKind> {
        vec![ProofKind::Succinct, ProofKind::Aggregate, ProofKind::Groth16]
    }

    fn aggregate_id(&self) -> Option<B256> {
        Some(B256::ZERO)
    }

    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        if kind == ProofKind::Succinct {
            return self.echo.prove(input, kind, cancel, progress);
        }
        if kind == ProofKind::Aggregate {
            self.folded.lock().unwrap().push(bundle::decode(input).unwrap().len());
        }
        ExecProver.prove(input, kind, cancel, progress)
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        self.echo.execute(input)
    }
}

fn folding(dir: &Path, most: u32) -> Config {
    Config { kind: ProofKind::Succinct, aggregate: Some(most), ..config(dir) }
}

async fn serve(config: Config, chain: &Chain) -> Running {
    Server::start(config, Some(Stated(chain.clone()))).await.unwrap()
}

async fn folder(dir: &Path, name: &str, url: &str) -> (client::Running, Arc<Mutex<Vec<usize>>>) {
    let prover = Folder::default();
    let folded = prover.folded.clone();
    let config = client_config(dir, name, url);
    (Client::start(config, Arc::new(prover)).await.unwrap(), folded)
}

async fn folded_proofs(server: &Running) -> Vec<ProvedBatch> {
    proofs_of(server, ProofKind::Aggregate).await
}

async fn proofs_of(server: &Running, kind: ProofKind) -> Vec<ProvedBatch> {
    let url = format!("{}{}?after=0&kind={kind}", server.url(), paths::PROOFS);
    http().get(url).send().await.unwrap().json().await.unwrap()
}

async fn jobs(server: &Running, query: &str) -> Vec<JobSummary> {
    let url = format!("{}{}{query}", server.url(), paths::JOBS);
    http().get(url).send().await.unwrap().json().await.unwrap()
}

fn ranges(batches: &[ProvedBatch]) -> Vec<(u64, u64)> {
    batches.iter().map(|it| (it.block_numbers.first(), it.block_numbers.last())).collect()
}

impl Hand {
    async fn ask_for(&self, kind: ProofKind) -> Result<Response, NoWork> {
        let able = Capability::new(ProofSystem::Exec, B256::ZERO, true);
        let able = Capability { kinds: vec![kind], ..able };
        let request =
            Request { client: self.client, capabilities: vec![able], wait_ms: 300, origin: None };
        match self.post(paths::REQUEST, ProofData::Request(request)).await {
            ProofData::Response(response) => Ok(response),
            ProofData::NoWork(none) => Err(none),
            other => panic!("{other:?}"),
        }
    }

    async fn take(&self, kind: ProofKind) -> Response {
        for _ in 0..50 {
            if let Ok(response) = self.ask_for(kind).await {
                return response;
            }
        }
        panic!("no job of the kind {kind} is lent");
    }

    /// Proves so many batches.
    async fn prove(&self, batches: usize) {
        for _ in 0..batches {
            let job = self.take(ProofKind::Succinct).await;
            let input = self.download(&job.prover_inputs).await;
            assert_eq!(self.hand_in(&job, input).await, Verdict::Accepted);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_are_folded_in_order_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(8);
    let server = serve(folding(dir.path(), 3), &chain).await;
    let (one, first) = folder(dir.path(), "one", &server.url()).await;
    let (two, second) = folder(dir.path(), "two", &server.url()).await;
    until("six blocks are folded", async || folded_proofs(&server).await.len() == 2).await;
    until("all is proved", async || server.status().await.unwrap().proved_through == Some(8)).await;
    let proofs = folded_proofs(&server).await;
    assert_eq!(ranges(&proofs), [(1, 3), (4, 6)], "two wait for a third");
    let hand = Hand::new(&server.url(), 9);
    for batch in &proofs {
        let [proof] = &batch.proofs[..] else { panic!("one proof: {batch:?}") };
        assert_eq!(proof.kind, ProofKind::Aggregate);
        let stated = Stated(chain.clone()).statement(batch.block_numbers, Address::ZERO);
        assert_eq!(hand.download(&proof.proof).await, stated.abi_encode());
    }
    assert_eq!(
        [&first, &second].map(|it| it.lock().unwrap().iter().sum::<usize>()).iter().sum::<usize>(),
        6
    );
    // They are asked for by name, and are no jobs for batches.
    let folds = jobs(&server, "?kind=aggregate").await;
    assert_eq!(folds.len(), 2);
    assert!(folds.iter().all(|job| job.state == JobState::Proved
        && job.gas_used == 63_000
        && job.transactions == 3));
    assert_eq!(jobs(&server, "").await.len(), 8);
    let status = server.status().await.unwrap();
    assert_eq!((status.counts.proved, status.counts.set_aside), (8, 0));
    one.stop().await;
    two.stop().await;
    server.stop().await;
    let report = server::fsck::run(&folding(dir.path(), 3)).await.unwrap();
    assert_eq!(report.findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_are_folded_when_the_first_has_waited_long_enough() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { aggregate_after: Duration::from_millis(100), ..folding(dir.path(), 100) };
    let server = serve(config, &Chain::new(2)).await;
    let (client, folded) = folder(dir.path(), "one", &server.url()).await;
    until("both blocks are folded", async || {
        folded_proofs(&server).await.last().is_some_and(|it| it.block_numbers.last() == 2)
    })
    .await;
    assert_eq!(folded.lock().unwrap().iter().sum::<usize>(), 2);
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folded_proof_of_something_else_is_refused_and_the_job_ends_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(2);
    let server = serve(folding(dir.path(), 2), &chain).await;
    Hand::new(&server.url(), 1).prove(2).await;
    let stated = |first, last| {
        Stated(chain.clone()).statement(BlockRange::new(first, last).unwrap(), Address::ZERO)
    };
    for (n, bad) in [
        stated(1, 1).abi_encode(),
        stated(2, 2).abi_encode(),
        stated(1, 3).abi_encode(),
        Statement { beneficiary: Address::repeat_byte(1), ..stated(1, 2) }.abi_encode(),
        Vec::new(),
    ]
    .into_iter()
    .enumerate()
    {
        let hand = Hand::new(&server.url(), u8::try_from(n + 2).unwrap());
        let job = hand.take(ProofKind::Aggregate).await;
        assert_eq!((job.block_numbers.first(), job.block_numbers.last()), (1, 2));
        let members = hand.download(&job.prover_inputs).await;
        assert_eq!(bundle::decode(&members).unwrap().len(), 2);
        let verdict = hand.hand_in(&job, bad).await;
        let Verdict::Rejected { reason } = verdict else { panic!("{n}: {verdict:?}") };
        assert!(reason.contains("another statement"), "{n}: {reason}");
        let clients = server.status().await.unwrap().clients;
        let client = clients.iter().find(|client| client.client == hand.client).unwrap();
        assert_eq!(client.rejected, 1, "its client gets the strike");
    }
    let (client, _) = folder(dir.path(), "honest", &server.url()).await;
    until("it is folded", async || folded_proofs(&server).await.len() == 1).await;
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_folds_nothing_gets_no_such_job() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(folding(dir.path(), 2), &Chain::new(2)).await;
    let hand = Hand::new(&server.url(), 1);
    hand.prove(2).await;
    until("a job waits", async || jobs(&server, "?kind=aggregate").await.len() == 1).await;
    assert!(hand.ask_for(ProofKind::Succinct).await.is_err());
    assert!(hand.ask_for(ProofKind::Composite).await.is_err());
    hand.take(ProofKind::Aggregate).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_lost_is_made_again_and_nobody_is_to_blame() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(folding(dir.path(), 2), &Chain::new(2)).await;
    Hand::new(&server.url(), 1).prove(2).await;
    until("a job waits", async || jobs(&server, "?kind=aggregate").await.len() == 1).await;
    let [job] = &jobs(&server, "?kind=aggregate").await[..] else { panic!("one job") };
    let lost = artifact_file(&folding(dir.path(), 2), &job.prover_inputs.sha256);
    std::fs::remove_file(lost).unwrap();
    let (client, folded) = folder(dir.path(), "one", &server.url()).await;
    until("it is folded", async || folded_proofs(&server).await.len() == 1).await;
    assert_eq!(*folded.lock().unwrap(), [2]);
    let clients = server.status().await.unwrap().clients;
    assert!(clients.iter().all(|client| client.failed == 0), "{clients:?}");
    client.stop().await;
    server.stop().await;
    let report = server::fsck::run(&folding(dir.path(), 2)).await.unwrap();
    assert_eq!(report.findings, []);
}

/// A reorg takes a folded proof away with the last of its blocks, and what takes their place is folded anew.
async fn through_a_reorg(dir: &Path, config: Config) {
    let chain = Chain::new(4);
    let server = serve(config.clone(), &chain).await;
    let (client, _) = folder(dir, "one", &server.url()).await;
    until("all is folded", async || folded_proofs(&server).await.len() == 2).await;
    let before = folded_proofs(&server).await;
    chain.fork(4, "other", 6);
    until("what is new is folded", async || {
        ranges(&folded_proofs(&server).await) == [(1, 2), (3, 4), (5, 6)]
    })
    .await;
    let after = folded_proofs(&server).await;
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1].proofs, before[1].proofs);
    // The blocks come back, and their folded proof with them.
    chain.fork(4, "main", 5);
    until("what was there is there again", async || {
        let now = folded_proofs(&server).await;
        ranges(&now) == [(1, 2), (3, 4)] && now == before
    })
    .await;
    client.stop().await;
    server.stop().await;
    let report = server::fsck::run(&config).await.unwrap();
    assert_eq!(report.findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_takes_folded_proofs_away_and_brings_them_back() {
    let dir = tempfile::tempdir().unwrap();
    through_a_reorg(dir.path(), folding(dir.path(), 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_takes_folded_proofs_away_and_brings_them_back_in_postgres() {
    let Some(postgres) = Postgres::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = Config { database: Some(postgres.url()), ..folding(dir.path(), 2) };
    through_a_reorg(dir.path(), config).await;
}

/// Blocks that are gone for a while may be folded otherwise meanwhile: what comes back does not overlap that, for either way to cut them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folded_proofs_never_overlap_whatever_a_reorg_takes_and_brings_back() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(3);
    let config = folding(dir.path(), 3);
    let server = serve(config.clone(), &chain).await;
    let (client, _) = folder(dir.path(), "one", &server.url()).await;
    until("all is folded", async || ranges(&folded_proofs(&server).await) == [(1, 3)]).await;
    client.stop().await;
    server.stop().await;
    // The third block is another one, which nobody proves yet: the first two are folded without it.
    chain.fork(3, "other", 3);
    let hasty = Config { aggregate_after: Duration::ZERO, ..config.clone() };
    let server = serve(hasty.clone(), &chain).await;
    until("a job for two waits", async || {
        let jobs = jobs(&server, "?kind=aggregate&state=ready").await;
        jobs.iter().any(|job| job.block_numbers.last() == 2)
    })
    .await;
    let (client, _) = folder(dir.path(), "one", &server.url()).await;
    until("two are folded by themselves", async || {
        ranges(&folded_proofs(&server).await).first() == Some(&(1, 2))
    })
    .await;
    chain.fork(3, "main", 5);
    until("the rest is folded", async || {
        ranges(&folded_proofs(&server).await).last().is_some_and(|(_, last)| *last == 5)
    })
    .await;
    let ranges = ranges(&folded_proofs(&server).await);
    assert!(ranges.windows(2).all(|pair| pair[1].0 == pair[0].1 + 1), "{ranges:?}");
    assert_eq!(ranges[0].0, 1);
    client.stop().await;
    server.stop().await;
    assert_eq!(server::fsck::run(&config).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_folded_outlives_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(3);
    let server = serve(folding(dir.path(), 2), &chain).await;
    let hand = Hand::new(&server.url(), 1);
    hand.prove(2).await;
    let job = hand.take(ProofKind::Aggregate).await;
    server.stop().await;
    chain.head.store(4, Ordering::SeqCst);
    let server = serve(folding(dir.path(), 2), &chain).await;
    let hand = Hand { url: server.url(), ..hand };
    let bundle = hand.download(&job.prover_inputs).await;
    let proof = ExecProver.prove(&bundle, ProofKind::Aggregate, &Cancel::new(), &|_| {}).unwrap();
    assert_eq!(hand.hand_in(&job, proof).await, Verdict::Accepted);
    hand.prove(2).await;
    let (client, folded) = folder(dir.path(), "one", &server.url()).await;
    until("the rest is folded", async || ranges(&folded_proofs(&server).await) == [(1, 2), (3, 4)])
        .await;
    assert_eq!(*folded.lock().unwrap(), [2], "what was folded is not folded again");
    client.stop().await;
    server.stop().await;
}

/// Each step takes what the one before it makes, whichever steps there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_for_contracts_are_made_of_folded_ones_or_of_each() {
    for (aggregate, of) in
        [(Some(2), vec![(1, 2), (3, 4)]), (None, vec![(1, 1), (2, 2), (3, 3), (4, 4)])]
    {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { aggregate, groth16: true, ..folding(dir.path(), 2) };
        let chain = Chain::new(4);
        let server = serve(config.clone(), &chain).await;
        let hand = Hand::new(&server.url(), 1);
        let (client, _) = folder(dir.path(), "one", &server.url()).await;
        until("all are made", async || {
            proofs_of(&server, ProofKind::Groth16).await.len() == of.len()
        })
        .await;
        let made = proofs_of(&server, ProofKind::Groth16).await;
        assert_eq!(ranges(&made), of);
        for batch in made {
            let stated = Stated(chain.clone()).statement(batch.block_numbers, Address::ZERO);
            assert_eq!(hand.download(&batch.proofs[0].proof).await, stated.abi_encode());
        }
        client.stop().await;
        server.stop().await;
        let report = server::fsck::run(&config).await.unwrap();
        assert_eq!(report.findings, []);
    }
}

impl Hand {
    /// Does a job that is made of proofs, which may take its time.
    async fn make(&self, job: &Response) {
        let bundle = self.download(&job.prover_inputs).await;
        let proof = ExecProver.prove(&bundle, job.kind, &Cancel::new(), &|_| {}).unwrap();
        assert_eq!(self.hand_in(job, proof).await, Verdict::Accepted);
    }
}

/// The first of two folded proofs is the last to be there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_for_contracts_is_made_of_each_folded_one_in_whatever_order_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { groth16: true, ..folding(dir.path(), 2) };
    let server = serve(config.clone(), &Chain::new(4)).await;
    let (slow, fast) = (Hand::new(&server.url(), 1), Hand::new(&server.url(), 2));
    fast.prove(4).await;
    let first = slow.take(ProofKind::Aggregate).await;
    assert_eq!(first.block_numbers.first(), 1);
    let second = fast.take(ProofKind::Aggregate).await;
    fast.make(&second).await;
    let made = fast.take(ProofKind::Groth16).await;
    fast.make(&made).await;
    assert_eq!(ranges(&proofs_of(&server, ProofKind::Groth16).await), [(3, 4)]);
    slow.make(&first).await;
    let made = fast.take(ProofKind::Groth16).await;
    fast.make(&made).await;
    assert_eq!(ranges(&proofs_of(&server, ProofKind::Groth16).await), [(1, 2), (3, 4)]);
    server.stop().await;
    assert_eq!(server::fsck::run(&config).await.unwrap().findings, []);
}

/// A bundle that is lost while later ones are there already leaves no gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_lost_behind_others_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(folding(dir.path(), 2), &Chain::new(6)).await;
    Hand::new(&server.url(), 1).prove(6).await;
    until("three jobs wait", async || jobs(&server, "?kind=aggregate").await.len() == 3).await;
    let waiting = jobs(&server, "?kind=aggregate").await;
    let lost = waiting.iter().find(|job| job.block_numbers.first() == 3).unwrap();
    let lost = artifact_file(&folding(dir.path(), 2), &lost.prover_inputs.sha256);
    std::fs::remove_file(lost).unwrap();
    let (client, _) = folder(dir.path(), "one", &server.url()).await;
    until("all is folded", async || {
        ranges(&folded_proofs(&server).await) == [(1, 2), (3, 4), (5, 6)]
    })
    .await;
    client.stop().await;
    server.stop().await;
    assert_eq!(server::fsck::run(&folding(dir.path(), 2)).await.unwrap().findings, []);
}

/// Batches that were proven in another kind meanwhile are left out, and what comes after them is folded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_without_such_a_proof_hold_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(2);
    let server = serve(folding(dir.path(), 2), &chain).await;
    let (client, _) = folder(dir.path(), "one", &server.url()).await;
    until("two are folded", async || folded_proofs(&server).await.len() == 1).await;
    client.stop().await;
    server.stop().await;
    chain.head.store(3, Ordering::SeqCst);
    let server = serve(config(dir.path()), &chain).await;
    let hand = Hand::new(&server.url(), 1);
    let job = hand.take(ProofKind::Composite).await;
    let input = hand.download(&job.prover_inputs).await;
    assert_eq!(hand.hand_in(&job, input).await, Verdict::Accepted);
    server.stop().await;
    chain.head.store(5, Ordering::SeqCst);
    let server = serve(folding(dir.path(), 2), &chain).await;
    let (client, _) = folder(dir.path(), "two", &server.url()).await;
    until("the others are folded", async || {
        ranges(&folded_proofs(&server).await) == [(1, 2), (4, 5)]
    })
    .await;
    client.stop().await;
    server.stop().await;
}

/// What is not folded yet is kept, whatever is folded after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_folded_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(8);
    chain.finalized.store(8, Ordering::SeqCst);
    let config = folding(dir.path(), 2);
    let server = serve(config.clone(), &chain).await;
    let hand = Hand::new(&server.url(), 1);
    hand.prove(8).await;
    // The first is folded, the second given up, the third at work, the fourth folded.
    let mut taken = Vec::new();
    for n in 2..6 {
        let hand = Hand::new(&server.url(), n);
        let job = hand.take(ProofKind::Aggregate).await;
        taken.push((hand, job));
    }
    taken[0].0.make(&taken[0].1).await;
    taken[3].0.make(&taken[3].1).await;
    let cancel = http().post(format!("{}{}", server.url(), paths::cancel(&taken[1].1.job)));
    assert!(cancel.send().await.unwrap().status().is_success());
    until("the blocks are final", async || {
        let url = format!("{}{}?after=0", server.url(), paths::PROOFS);
        let proofs: Vec<ProvedBatch> = http().get(url).send().await.unwrap().json().await.unwrap();
        proofs.len() == 8 && proofs.iter().all(|batch| batch.is_final)
    })
    .await;
    server.stop().await;
    // As if years had passed.
    let path = dir.path().join("server").join("jobs.sqlite");
    let store = JobStore::open(&path, RULES).await.unwrap().folding(config.folding());
    let keep = Retention { age: Duration::ZERO, until_delivered: false };
    let forgotten = store.forget(&keep, store.now().await.unwrap()).await.unwrap();
    assert_eq!(forgotten.batches, 2, "those of the first folded proof, and no others");
    store.close().await;
    let server = serve(config, &chain).await;
    let left: Vec<_> =
        jobs(&server, "").await.iter().map(|job| job.block_numbers.first()).collect();
    assert_eq!(left, [3, 4, 5, 6, 7, 8]);
    let folds = jobs(&server, "?kind=aggregate").await;
    assert!(folds.len() >= 3, "{folds:?}");
    let changed = jobs(&server, "?kind=aggregate&first=3&last=3").await;
    assert_eq!(changed.len(), 1, "it is found by any of its blocks");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_cannot_fold_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (config, says) in [
        (Config { kind: ProofKind::Composite, ..folding(dir.path(), 2) }, "needs succinct proofs"),
        (folding(dir.path(), 1), "must be from 2 to 256"),
        (folding(dir.path(), 257), "must be from 2 to 256"),
        (
            Config { program_id: Some(B256::repeat_byte(1)), ..folding(dir.path(), 2) },
            "needs the program pinned in this version",
        ),
    ] {
        let refused = Server::start(config, Some(Stated(Chain::new(1)))).await;
        let refused = refused.expect_err("it does not start").to_string();
        assert!(refused.contains(says), "{refused}: {says}");
    }
}

//! The job store, with the time as an argument. One suite for both databases.

use crate::{common::Chain, postgres::Postgres};
use alloy_primitives::{B256, keccak256};
use protocol::{
    ArtifactRef, BlockRange, Capability, ClientId, Counts, DeadCause, Fail, FailureClass, JobId,
    JobState, LeaseId, PartWork, ProofKind, ProofSystem, Submit, Verdict,
};
use server::{
    artifacts::{self, Artifacts, Sharing},
    clock::Timestamp,
    database::DatabaseError,
    fsck::Report,
    jobs::{
        NewBatch, Party, Rules, Target, Targets, Tip, Unlinked,
        crew::{Crew, Share},
        job_id,
        parts::{Run, Step, next_steps},
        standing::StandingEvent,
        state::Refused,
        verification::Rejection,
    },
    store::{
        Actor, JobFilter, JobStore, Leased, Offer, StoreError, Submitted,
        figures::{Figures, SettlementFigures},
    },
};
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;

pub(crate) const TARGET: Target =
    Target { system: ProofSystem::Exec, program_id: B256::ZERO, kind: ProofKind::Composite };
pub(crate) const RULES: Rules = Rules {
    lease: Duration::from_secs(60),
    max_hold: Duration::from_secs(86_400),
    max_failures: 3,
    max_lost: 5,
    max_rejected: 3,
    max_newcomers: 64,
};

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(1_000_000 + 1_000 * seconds)
}

pub(crate) fn client(n: u8) -> ClientId {
    ClientId::from_bytes([n; 16])
}

/// Whoever decides something in these tests.
pub(crate) fn by() -> Actor {
    Actor::new("a test")
}

pub(crate) fn batch(chain: &Chain, number: u64) -> NewBatch {
    let blocks = BlockRange::new(number, number).unwrap();
    let prepared = chain.prepared(blocks);
    NewBatch {
        blocks,
        parent_hash: prepared.parent_hash,
        last_hash: prepared.last_hash,
        statement_digest: keccak256(&prepared.statement),
        statement: prepared.statement,
        input: ArtifactRef::of(&prepared.input),
        gas_used: 0,
        transactions: 0,
        estimated_cycles: prepared.estimate.cycles,
        deposits: None,
    }
}

/// A database for one test.
pub(crate) enum Place {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(dir) => dir.path().join("jobs.sqlite"),
            Self::Postgres(_) => panic!("a PostgreSQL database is no file"),
        }
    }

    pub(crate) async fn open(&self) -> JobStore {
        match self {
            Self::Sqlite(_) => JobStore::open(&self.file(), RULES).await.unwrap(),
            Self::Postgres(server) => JobStore::connect(&server.url(), RULES).await.unwrap(),
        }
    }
}

/// Makes two tests of each function, one for each database.
macro_rules! on_both_stores {
    ($($claim:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(&$crate::store::Place::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $claim() {
                if let Some(server) = crate::postgres::Postgres::start().await {
                    super::$claim(&$crate::store::Place::Postgres(server)).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_stores;

on_both_stores! {
    a_living_lease_keeps_its_job_and_a_dead_client_loses_it_to_the_next_one
    jobs_go_only_to_clients_that_can_prove_them
    a_rejected_proof_frees_the_job_at_once_and_its_client_rests
    a_late_proof_is_used_and_the_one_after_it_is_a_duplicate
    proofs_that_cost_more_than_expected_correct_what_is_expected
    a_job_that_fails_everywhere_is_given_up_until_it_is_requeued
    no_block_is_skipped_and_no_other_chain_is_mixed_in
    a_restart_keeps_everything_and_gives_living_leases_their_time_again
    a_job_that_two_clients_fell_silent_on_is_quarantined
    a_cancelled_job_stops_its_client_and_a_proof_of_it_is_used_all_the_same
    an_urgent_job_is_served_first
    a_client_whose_proofs_are_rejected_is_quarantined_until_it_is_released
    a_quarantined_client_loses_its_job_although_it_is_heard
    a_draining_client_finishes_what_it_has
    figures_say_how_things_stand
    fsck_is_content_with_what_we_write_and_names_what_others_wrote
    a_reorg_takes_batches_off_the_chain_and_brings_them_back_with_what_came_of_them
    final_batches_and_a_chain_that_moved_meanwhile_are_not_superseded
    a_batch_has_a_job_for_each_proof_that_is_wanted_of_it
    a_batch_that_comes_back_brings_all_its_jobs_and_gets_those_it_lacks
    jobs_of_an_old_program_are_set_aside_and_their_batches_get_new_ones
    a_client_that_keeps_a_job_for_too_long_loses_it_although_it_is_heard
    a_lost_proof_frees_its_job_and_costs_its_client_nothing
    a_lost_input_costs_nobody_anything_and_another_of_the_statement_takes_its_place
    proofs_under_leases_come_before_those_of_strangers
    clients_that_a_token_makes_up_kill_no_job_and_take_few
    a_job_dies_by_the_failures_of_three_tokens_or_many_of_one
    a_job_is_quarantined_by_the_silence_of_two_tokens_or_much_of_one
    newcomers_get_room_again_when_a_proof_under_their_token_is_accepted
    what_a_server_of_the_version_before_wrote_is_blamed_on_clients
    a_proof_in_parts_comes_together_through_a_reorg
}

/// A store with jobs on blocks 1 to `blocks`.
pub(crate) async fn store(place: &Place, blocks: u64) -> JobStore {
    let (store, chain) = (place.open().await, Chain::new(blocks));
    for number in 1..=blocks {
        store.enqueue(&batch(&chain, number), &TARGET.into(), at(0)).await.unwrap();
    }
    store
}

pub(crate) async fn offer(store: &JobStore, n: u8, now: Timestamp) -> Offer {
    let capability = Capability::new(ProofSystem::Exec, B256::ZERO, true);
    let lease = LeaseId::from_bytes(rand::random());
    let party = Party::Client(client(n));
    store.lease(client(n), party, &[capability], lease, Share::ALL, now, now).await.unwrap().value
}

/// What a client finds that shows the token of id `token`.
pub(crate) async fn offer_under(
    store: &JobStore,
    token: u64,
    client: ClientId,
    now: Timestamp,
) -> Offer {
    let able = Capability::new(ProofSystem::Exec, B256::ZERO, true);
    let lease = LeaseId::from_bytes(rand::random());
    store
        .lease(client, Party::Token(token), &[able], lease, Share::ALL, now, now)
        .await
        .unwrap()
        .value
}

pub(crate) async fn lease_under(
    store: &JobStore,
    token: u64,
    client: ClientId,
    now: Timestamp,
) -> Option<Leased> {
    match offer_under(store, token, client, now).await {
        Offer::Job(leased) => Some(*leased),
        _ => None,
    }
}

/// Gives a job back that could not be proved.
pub(crate) async fn give_back(store: &JobStore, leased: &Leased, now: Timestamp) {
    let fail = Fail {
        client: leased.lease.client,
        lease: leased.lease.id,
        class: FailureClass::GuestPanic,
        message: "no".into(),
    };
    store.fail(leased.job, &fail, now).await.unwrap();
}

pub(crate) async fn lease(store: &JobStore, n: u8, now: Timestamp) -> Option<Leased> {
    match offer(store, n, now).await {
        Offer::Job(leased) => Some(*leased),
        _ => None,
    }
}

pub(crate) fn submit(leased: &Leased, proof: &[u8]) -> Submit {
    Submit {
        client: leased.lease.client,
        lease: leased.lease.id,
        system: ProofSystem::Exec,
        program_id: B256::ZERO,
        kind: ProofKind::Composite,
        proof: ArtifactRef::of(proof),
    }
}

pub(crate) async fn state(store: &JobStore, job: JobId) -> JobState {
    store.jobs().await.unwrap().iter().find(|summary| summary.job == job).unwrap().state
}

async fn a_living_lease_keeps_its_job_and_a_dead_client_loses_it_to_the_next_one(place: &Place) {
    let store = store(place, 2).await;
    let first = lease(&store, 1, at(0)).await.unwrap();
    assert_eq!(first.blocks, BlockRange::new(1, 1).unwrap());
    // The answer was lost: the same client asks again.
    let again = lease(&store, 1, at(0)).await.unwrap();
    assert_eq!((again.job, again.lease.id), (first.job, first.lease.id));
    let second = lease(&store, 2, at(0)).await.unwrap();
    assert_eq!(second.blocks, BlockRange::new(2, 2).unwrap());
    assert_eq!(
        offer(&store, 3, at(59)).await,
        Offer::Nothing { for_others: false, next: Some(Timestamp(at(60).0 + 1)) }
    );

    // Client 2 beats, client 1 is dead.
    store.heartbeat(second.job, second.lease.id, at(50)).await.unwrap();
    let taken_over = lease(&store, 3, at(61)).await.unwrap();
    assert_eq!(taken_over.job, first.job);
    assert!(lease(&store, 4, at(61)).await.is_none());

    // The old lease is worth nothing any more.
    let stale = store.heartbeat(first.job, first.lease.id, at(62)).await.unwrap_err();
    assert!(matches!(stale, StoreError::Refused { refused: Refused::NotTheLease, .. }), "{stale}");
    let message = Fail {
        client: client(1),
        lease: first.lease.id,
        class: FailureClass::Timeout,
        message: String::new(),
    };
    assert!(store.fail(first.job, &message, at(62)).await.is_err());
    assert_eq!(state(&store, first.job).await, JobState::Leased);
}

async fn jobs_go_only_to_clients_that_can_prove_them(place: &Place) {
    let store = store(place, 1).await;
    let other = Capability::new(ProofSystem::Exec, B256::repeat_byte(1), false);
    let offer = store
        .lease(
            client(1),
            Party::Client(client(1)),
            &[other],
            LeaseId::from_bytes([1; 16]),
            Share::ALL,
            at(0),
            at(0),
        )
        .await
        .unwrap()
        .value;
    assert_eq!(offer, Offer::Nothing { for_others: true, next: None });
    let offer = store
        .lease(
            client(1),
            Party::Client(client(1)),
            &[],
            LeaseId::from_bytes([1; 16]),
            Share::ALL,
            at(0),
            at(0),
        )
        .await
        .unwrap()
        .value;
    assert_eq!(offer, Offer::Nothing { for_others: true, next: None });
}

async fn a_rejected_proof_frees_the_job_at_once_and_its_client_rests(place: &Place) {
    let store = store(place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    let wrong = submit(&leased, b"wrong");
    let Submitted::Verify(wanted) = store.submit(leased.job, &wrong, at(1)).await.unwrap().value
    else {
        panic!()
    };
    assert_eq!(wanted.target, TARGET);
    assert_eq!(state(&store, leased.job).await, JobState::Verifying);
    // While it is being verified, time does not take the job from its client.
    assert!(lease(&store, 2, at(500)).await.is_none());

    let reason = Rejection::WrongStatement;
    let verdict =
        store.judge(leased.job, &wrong, Err(reason.clone()), at(500)).await.unwrap().value;
    assert_eq!(verdict, Verdict::Rejected { reason: reason.to_string() });
    // Asked again, the same answer, and no second strike.
    assert_eq!(
        store.submit(leased.job, &wrong, at(500)).await.unwrap().value,
        Submitted::Judged(verdict.clone())
    );
    assert_eq!(store.judge(leased.job, &wrong, Ok(()), at(500)).await.unwrap().value, verdict);
    let clients = store.clients(at(500)).await.unwrap();
    let blamed = clients.iter().find(|summary| summary.client == client(1)).unwrap();
    assert_eq!((blamed.rejected, blamed.rests_until), (1, Some(at(505).0)));
    let summary = &store.jobs().await.unwrap()[0];
    assert_eq!(summary.last_error, Some(format!("proof rejected: {reason}")));

    assert_eq!(offer(&store, 1, at(500)).await, Offer::Resting { until: at(505) });
    let next = lease(&store, 2, at(500)).await.unwrap();
    assert_eq!(next.job, leased.job);
    let right = submit(&next, b"right");
    assert!(matches!(
        store.submit(next.job, &right, at(501)).await.unwrap().value,
        Submitted::Verify(_)
    ));
    assert_eq!(
        store.judge(next.job, &right, Ok(()), at(501)).await.unwrap().value,
        Verdict::Accepted
    );
    assert_eq!(store.jobs().await.unwrap()[0].proof, Some(ArtifactRef::of(b"right")));
    assert_eq!(store.proved_through(&TARGET.into()).await.unwrap(), Some(1));
}

async fn proofs_that_cost_more_than_expected_correct_what_is_expected(place: &Place) {
    let store = store(place, 8).await;
    let expects = async || store.cost_correction().await.unwrap().correct(3_000);
    // Of a thousand cycles each, of which none counts more than four times. Small ones tell nothing.
    for proven in [1_000, 20_000_000, 900_000_000, 40_000_000, 20_000_000_000] {
        let leased = lease(&store, 1, at(1)).await.unwrap();
        let proof = submit(&leased, b"proof");
        drop(store.submit(leased.job, &proof, at(1)).await.unwrap());
        drop(store.judge(leased.job, &proof, Ok(()), at(1)).await.unwrap());
        store.record_shown(leased.job, client(1), Some(proven), None).await.unwrap();
        assert_eq!(expects().await, 3_000, "too few proofs");
    }
    let leased = lease(&store, 1, at(2)).await.unwrap();
    store.record_shown(leased.job, client(1), Some(30_000_000), None).await.unwrap();
    assert_eq!(expects().await, 12_000);
}

async fn a_late_proof_is_used_and_the_one_after_it_is_a_duplicate(place: &Place) {
    let store = store(place, 1).await;
    let slow = lease(&store, 1, at(0)).await.unwrap();
    let fast = lease(&store, 2, at(100)).await.unwrap();
    assert_eq!(slow.job, fast.job);

    // A stranger's garbage under a dead lease does not touch the living one.
    let garbage = submit(&slow, b"garbage");
    drop(store.submit(slow.job, &garbage, at(101)).await.unwrap());
    assert!(matches!(
        store
            .judge(slow.job, &garbage, Err(Rejection::WrongStatement), at(101))
            .await
            .unwrap()
            .value,
        Verdict::Rejected { .. }
    ));
    store.heartbeat(fast.job, fast.lease.id, at(102)).await.unwrap();

    let late = submit(&slow, b"late");
    drop(store.submit(slow.job, &late, at(103)).await.unwrap());
    assert_eq!(
        store.judge(slow.job, &late, Ok(()), at(103)).await.unwrap().value,
        Verdict::Accepted
    );
    let told = store.heartbeat(fast.job, fast.lease.id, at(104)).await.unwrap_err();
    assert!(matches!(told, StoreError::Refused { refused: Refused::Proved, .. }));
    let second = store.submit(fast.job, &submit(&fast, b"second"), at(105)).await.unwrap().value;
    assert_eq!(second, Submitted::Judged(Verdict::Duplicate));
    // The client that lost its answer still hears that its proof was accepted.
    assert_eq!(
        store.submit(slow.job, &late, at(106)).await.unwrap().value,
        Submitted::Judged(Verdict::Accepted)
    );
}

async fn a_job_that_fails_everywhere_is_given_up_until_it_is_requeued(place: &Place) {
    let store = store(place, 1).await;
    for n in 1..=3 {
        let now = at(1_000 * u64::from(n));
        let leased = lease(&store, n, now).await.unwrap();
        give_back(&store, &leased, now).await;
    }
    let summary = &store.jobs().await.unwrap()[0];
    assert_eq!((summary.state, summary.failures), (JobState::Dead, 3));
    assert_eq!(summary.last_error.as_deref(), Some("guest_panic: no"));
    assert!(lease(&store, 9, at(9_000)).await.is_none());
    store.requeue(summary.job, &by(), at(9_001)).await.unwrap();
    assert!(lease(&store, 9, at(9_001)).await.is_some());
    assert!(store.requeue(summary.job, &by(), at(9_002)).await.is_err());
}

fn made_up() -> ClientId {
    ClientId::from_bytes(rand::random())
}

async fn clients_that_a_token_makes_up_kill_no_job_and_take_few(place: &Place) {
    let store = store(place, 100).await;
    let mut took = Vec::new();
    for _ in 0..700 {
        match offer_under(&store, 1, made_up(), at(1)).await {
            Offer::Job(leased) => took.push(*leased),
            Offer::Resting { until } => assert_eq!(until, at(6)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(took.len(), 64, "max_newcomers");
    // Others go on, and so does a client of the token that has proved something.
    assert!(lease_under(&store, 2, client(9), at(1)).await.is_some());
    prove(&store, &took[0], at(2)).await;
    assert!(lease_under(&store, 1, took[0].lease.client, at(2)).await.is_some());

    // All others fall silent at once, and new ones are made up all the time.
    let mut took = 0;
    for second in 62..3_662 {
        for _ in 0..2 {
            match offer_under(&store, 1, made_up(), at(second)).await {
                Offer::Job(leased) if second % 2 == 0 => {
                    took += 1;
                    give_back(&store, &leased, at(second)).await;
                }
                Offer::Job(_) => took += 1,
                _ => {}
            }
        }
    }
    assert!((1..30).contains(&took), "{took} in an hour");
    let counts = store.counts(&TARGET.into()).await.unwrap();
    assert_eq!((counts.dead, counts.proved), (0, 1));
}

/// Hands a proof in that turns out to be valid.
async fn prove(store: &JobStore, leased: &Leased, now: Timestamp) {
    let proof = submit(leased, leased.job.as_bytes());
    drop(store.submit(leased.job, &proof, now).await.unwrap());
    let verdict = store.judge(leased.job, &proof, Ok(()), now).await.unwrap().value;
    assert_eq!(verdict, Verdict::Accepted);
}

async fn a_job_dies_by_the_failures_of_three_tokens_or_many_of_one(place: &Place) {
    let store = store(place, 1).await;
    let hour = |n: u64| at(3_600 * n);
    let dead = async || store.jobs().await.unwrap()[0].state == JobState::Dead;
    // Two clients of one token, and one of them again under another, which replaced it.
    for n in 1..=5 {
        let leased = lease_under(&store, 1, client((n % 2) as u8), hour(n)).await.unwrap();
        give_back(&store, &leased, hour(n)).await;
    }
    let leased = lease_under(&store, 2, client(1), hour(6)).await.unwrap();
    give_back(&store, &leased, hour(6)).await;
    assert!(!dead().await, "two tokens");
    let leased = lease_under(&store, 3, client(3), hour(7)).await.unwrap();
    give_back(&store, &leased, hour(7)).await;
    assert!(dead().await, "three tokens");
    assert_eq!(store.jobs().await.unwrap()[0].failures, 7);

    let job = store.jobs().await.unwrap()[0].job;
    store.requeue(job, &by(), hour(8)).await.unwrap();
    for n in 1..=12 {
        assert!(!dead().await, "{n} failures");
        let now = hour(10 + n);
        let leased = lease_under(&store, 1, made_up(), now).await.unwrap();
        give_back(&store, &leased, now).await;
    }
    assert!(dead().await, "four times max_failures");
}

async fn a_job_is_quarantined_by_the_silence_of_two_tokens_or_much_of_one(place: &Place) {
    let store = store(place, 1).await;
    let hour = |n: u64| at(3_600 * n);
    let found = async || {
        let job = &store.jobs().await.unwrap()[0];
        (job.state, job.cause, job.lost)
    };
    let job = lease_under(&store, 1, client(1), hour(1)).await.unwrap().job;
    lease_under(&store, 1, client(2), hour(2)).await.unwrap();
    // The second client, now with another token, is no second party.
    lease_under(&store, 2, client(2), hour(3)).await.unwrap();
    lease_under(&store, 2, client(3), hour(4)).await.unwrap();
    assert_eq!(found().await, (JobState::Leased, None, 3));
    lease_under(&store, 3, client(4), hour(5)).await.unwrap();
    assert!(lease_under(&store, 4, client(5), hour(6)).await.is_none());
    assert_eq!(found().await, (JobState::Dead, Some(DeadCause::Quarantined), 5));

    store.requeue(job, &by(), hour(7)).await.unwrap();
    for n in 0..20 {
        // The token's newcomers rest when the last loss is noticed.
        let mut found = lease_under(&store, 1, made_up(), hour(8 + n)).await;
        if found.is_none() {
            let rested = hour(8 + n) + Duration::from_secs(600);
            found = lease_under(&store, 1, made_up(), rested).await;
        }
        assert!(found.is_some(), "lost {n} times");
    }
    assert!(lease_under(&store, 4, client(5), hour(99)).await.is_none());
    assert_eq!(found().await, (JobState::Dead, Some(DeadCause::Budget), 20));
}

async fn newcomers_get_room_again_when_a_proof_under_their_token_is_accepted(place: &Place) {
    let store = store(place, 100).await;
    let room = async |now| {
        let mut leases = Vec::new();
        while let Some(leased) = lease_under(&store, 1, made_up(), now).await {
            leases.push(leased);
        }
        // As if an operator had sent them home, at no cost to anybody.
        for leased in &leases {
            let class = FailureClass::Cancelled;
            let lease = leased.lease.id;
            let fail = Fail { client: leased.lease.client, lease, class, message: "".into() };
            store.fail(leased.job, &fail, now).await.unwrap();
        }
        leases.len()
    };
    assert_eq!(room(at(1)).await, 64);
    // A failure, a rejected proof, silence, and a client that comes back without its job.
    let failing = lease_under(&store, 1, client(1), at(2)).await.unwrap();
    give_back(&store, &failing, at(2)).await;
    assert_eq!(room(at(3)).await, 32);
    let liar = lease_under(&store, 1, client(2), at(4)).await.unwrap();
    let wrong = submit(&liar, b"wrong");
    drop(store.submit(liar.job, &wrong, at(4)).await.unwrap());
    drop(store.judge(liar.job, &wrong, Err(Rejection::WrongStatement), at(4)).await.unwrap());
    assert_eq!(room(at(5)).await, 16);
    lease_under(&store, 1, client(3), at(6)).await.unwrap();
    assert_eq!(room(at(67)).await, 8);
    let died = lease_under(&store, 1, client(4), at(68)).await.unwrap();
    store.heartbeat(died.job, died.lease.id, at(69)).await.unwrap();
    let again = lease_under(&store, 1, client(4), at(70)).await.unwrap();
    assert_ne!(again.job, died.job);
    assert_eq!(room(at(71)).await, 3, "four, and one is held");
    prove(&store, &again, at(72)).await;
    assert_eq!(room(at(73)).await, 64);
    // Whoever has proved something costs the newcomers nothing when it fails, and where no tokens are asked for, nobody does.
    let failing = lease_under(&store, 1, client(4), at(74)).await.unwrap();
    give_back(&store, &failing, at(74)).await;
    assert_eq!(room(at(75)).await, 64);
    let mut alone = 0;
    while lease(&store, 100 + alone, at(76)).await.is_some() {
        alone += 1;
    }
    assert!(alone > 64, "{alone}");
}

async fn what_a_server_of_the_version_before_wrote_is_blamed_on_clients(place: &Place) {
    let store = store(place, 1).await;
    let leased = lease_under(&store, 1, client(1), at(1)).await.unwrap();
    let mut writer = store.database().begin().await.unwrap();
    for sql in
        ["UPDATE leases SET party = NULL", "UPDATE jobs SET failed_by = NULL, lost_by = NULL"]
    {
        sqlx::query(sql).execute(&mut *writer).await.unwrap();
    }
    writer.commit().await.unwrap();
    let again = lease_under(&store, 2, client(1), at(1)).await.unwrap();
    assert_eq!((again.lease.id, again.lease.party), (leased.lease.id, Party::Client(client(1))));
    give_back(&store, &again, at(2)).await;
    assert_eq!(store.job(leased.job).await.unwrap().failures, 1);
}

async fn no_block_is_skipped_and_no_other_chain_is_mixed_in(place: &Place) {
    let (store, chain) = (store(place, 2).await, Chain::new(9));
    let again = batch(&chain, 2);
    let known = store.enqueue(&again, &TARGET.into(), at(5)).await.unwrap();
    assert_eq!(known, [store.jobs().await.unwrap()[1].job]);
    assert_eq!(store.counts(&TARGET.into()).await.unwrap().ready, 2);

    let gap = store.enqueue(&batch(&chain, 4), &TARGET.into(), at(5)).await.unwrap_err();
    assert!(matches!(gap, StoreError::Unlinked(Unlinked::Gap { expected: 3, found: 4 })), "{gap}");
    let mut other = batch(&chain, 3);
    other.parent_hash = B256::repeat_byte(7);
    let parent = store.enqueue(&other, &TARGET.into(), at(5)).await.unwrap_err();
    assert!(matches!(parent, StoreError::Unlinked(Unlinked::Parent { first: 3, .. })), "{parent}");
    assert_eq!(store.tip().await.unwrap().unwrap().last, 2);
}

async fn a_restart_keeps_everything_and_gives_living_leases_their_time_again(place: &Place) {
    let before = store(place, 3).await;
    let held = lease(&before, 1, at(0)).await.unwrap();
    let handed_in = lease(&before, 2, at(0)).await.unwrap();
    let open_submission = submit(&handed_in, b"proof");
    drop(before.submit(handed_in.job, &open_submission, at(1)).await.unwrap());
    before.close().await;

    // An hour later.
    let after = place.open().await;
    after.restart(at(3_600)).await.unwrap();
    assert_eq!(after.unjudged(at(1)).await.unwrap(), [(handed_in.job, open_submission)]);
    assert_eq!(after.unjudged(at(0)).await.unwrap(), []);
    assert_eq!(lease(&after, 3, at(3_601)).await.unwrap().blocks, BlockRange::new(3, 3).unwrap());
    assert!(lease(&after, 4, at(3_659)).await.is_none());
    after.heartbeat(held.job, held.lease.id, at(3_659)).await.unwrap();
}

async fn a_job_that_two_clients_fell_silent_on_is_quarantined(place: &Place) {
    let store = store(place, 1).await;
    let first = lease(&store, 1, at(0)).await.unwrap();
    lease(&store, 2, at(61)).await.unwrap();
    assert!(lease(&store, 3, at(122)).await.is_none(), "it is not sent to a third");
    let summary = store.job(first.job).await.unwrap();
    assert_eq!((summary.state, summary.cause), (JobState::Dead, Some(DeadCause::Quarantined)));
    let listed = async |state, blocks| {
        let filter = JobFilter { state: Some(state), blocks, ..JobFilter::default() };
        store.list(&filter, 9).await.unwrap().items
    };
    assert_eq!(listed(JobState::Dead, 1..=1).await, [summary]);
    assert_eq!(listed(JobState::Ready, 0..=9).await, []);
    store.requeue(first.job, &by(), at(123)).await.unwrap();
    assert!(lease(&store, 3, at(123)).await.is_some());
}

async fn a_cancelled_job_stops_its_client_and_a_proof_of_it_is_used_all_the_same(place: &Place) {
    let store = store(place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    store.cancel(leased.job, &by(), at(1)).await.unwrap();
    let told = store.heartbeat(leased.job, leased.lease.id, at(2)).await.unwrap_err();
    assert!(matches!(told, StoreError::Refused { refused: Refused::Dead, .. }), "{told}");
    assert!(lease(&store, 1, at(2)).await.is_none());
    assert_eq!(store.job(leased.job).await.unwrap().cause, Some(DeadCause::Cancelled));
    // Whoever cancels it once more is told that somebody has, and it is not recorded again.
    let deeds = store.audit(None, 10).await.unwrap().items.len();
    let again = store.cancel(leased.job, &by(), at(2)).await.unwrap_err();
    assert!(matches!(again, StoreError::Refused { refused: Refused::Cancelled, .. }), "{again}");
    assert_eq!(store.audit(None, 10).await.unwrap().items.len(), deeds);

    let late = submit(&leased, b"late");
    assert!(matches!(
        store.submit(leased.job, &late, at(3)).await.unwrap().value,
        Submitted::Verify(_)
    ));
    assert_eq!(
        store.judge(leased.job, &late, Ok(()), at(3)).await.unwrap().value,
        Verdict::Accepted
    );
    let refused = store.cancel(leased.job, &by(), at(4)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { refused: Refused::Proved, .. }), "{refused}");
    let refused = store.prioritise(leased.job, 7, &by(), at(4)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { refused: Refused::Proved, .. }), "{refused}");
    assert_eq!(store.job(leased.job).await.unwrap().priority, 0);
}

async fn an_urgent_job_is_served_first(place: &Place) {
    let store = store(place, 3).await;
    let jobs: Vec<_> = store.jobs().await.unwrap().iter().map(|job| job.job).collect();
    store.prioritise(jobs[2], 1, &by(), at(0)).await.unwrap();
    store.prioritise(jobs[0], -1, &by(), at(0)).await.unwrap();
    assert_eq!(store.job(jobs[2]).await.unwrap().priority, 1);
    let mut served = Vec::new();
    for n in 1..=3 {
        served.push(lease(&store, n, at(0)).await.unwrap().job);
    }
    assert_eq!(served, [jobs[2], jobs[1], jobs[0]]);
    let missing = store.prioritise(JobId::from_bytes([9; 16]), 1, &by(), at(0)).await.unwrap_err();
    assert!(matches!(missing, StoreError::NoSuchJob(_)), "{missing}");
}

async fn a_client_whose_proofs_are_rejected_is_quarantined_until_it_is_released(place: &Place) {
    let store = store(place, 1).await;
    for n in 0..3 {
        let now = at(1_000 * n);
        let leased = lease(&store, 1, now).await.unwrap();
        let wrong = submit(&leased, format!("wrong {n}").as_bytes());
        drop(store.submit(leased.job, &wrong, now).await.unwrap());
        drop(store.judge(leased.job, &wrong, Err(Rejection::WrongStatement), now).await.unwrap());
    }
    assert_eq!(offer(&store, 1, at(9_000)).await, Offer::Quarantined);
    assert!(store.clients(at(9_000)).await.unwrap()[0].quarantined);
    // Its valid proofs are as good as any, and a stranger that names another does that one no harm.
    let leased = lease(&store, 2, at(9_000)).await.unwrap();
    for n in 0..3 {
        let strange = LeaseId::from_bytes([n; 16]);
        let wrong = Submit { lease: strange, ..submit(&leased, b"of a stranger") };
        drop(store.submit(leased.job, &wrong, at(9_000)).await.unwrap());
        drop(
            store
                .judge(leased.job, &wrong, Err(Rejection::WrongStatement), at(9_000))
                .await
                .unwrap(),
        );
    }
    let clients = store.clients(at(9_000)).await.unwrap();
    let named = clients.iter().find(|summary| summary.client == client(2)).unwrap();
    assert_eq!((named.rejected, named.quarantined, named.rests_until), (0, false, None));
    let right = Submit { client: client(1), ..submit(&leased, b"right") };
    drop(store.submit(leased.job, &right, at(9_001)).await.unwrap());
    assert_eq!(
        store.judge(leased.job, &right, Ok(()), at(9_001)).await.unwrap().value,
        Verdict::Accepted
    );
    assert_eq!(offer(&store, 1, at(9_002)).await, Offer::Quarantined);

    store.decide(client(1), StandingEvent::Release, &by(), at(9_003)).await.unwrap();
    assert!(matches!(offer(&store, 1, at(9_003)).await, Offer::Nothing { .. }));
    let unknown =
        store.decide(client(77), StandingEvent::Release, &by(), at(9_004)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NoSuchClient(_)), "{unknown}");
}

async fn a_quarantined_client_loses_its_job_although_it_is_heard(place: &Place) {
    let store = store(place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    store.heartbeat(leased.job, leased.lease.id, at(1)).await.unwrap();
    store.decide(client(1), StandingEvent::Quarantine, &by(), at(1)).await.unwrap();
    // It may hang, and never be heard again.
    let other = lease(&store, 2, at(1)).await.unwrap();
    assert_eq!(other.job, leased.job, "another has it at once");
    let told = store.heartbeat(leased.job, leased.lease.id, at(2)).await.unwrap_err();
    assert!(told.to_string().contains("not the job's live one"), "{told}");
    // Nobody failed on it.
    let job = &store.jobs().await.unwrap()[0];
    assert_eq!((job.failures, job.lost), (0, 0));
}

async fn a_client_that_keeps_a_job_for_too_long_loses_it_although_it_is_heard(place: &Place) {
    let store = store(place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    let last = 86_400;
    for seconds in (30..=last).step_by(1_785) {
        store.heartbeat(leased.job, leased.lease.id, at(seconds)).await.unwrap();
    }
    store.heartbeat(leased.job, leased.lease.id, at(last)).await.unwrap();
    let now = at(last + 1);
    let told = store.heartbeat(leased.job, leased.lease.id, now).await.unwrap_err();
    assert!(matches!(told, StoreError::Refused { refused: Refused::HeldTooLong, .. }), "{told}");
    let taken = store.take_back(leased.job, leased.lease.id, now).await.unwrap();
    assert_eq!(taken.facts.len(), 1);
    let job = store.job(leased.job).await.unwrap();
    assert_eq!((job.state, job.lost), (JobState::Ready, 1));
    assert!(job.last_error.is_some_and(|error| error.contains("max_hold")));
    // A second time changes nothing, and a proof is taken all the same.
    assert_eq!(store.take_back(leased.job, leased.lease.id, now).await.unwrap().facts, []);
    let proof = submit(&leased, b"late");
    drop(store.submit(leased.job, &proof, now).await.unwrap());
    assert_eq!(
        store.judge(leased.job, &proof, Ok(()), now).await.unwrap().value,
        Verdict::Accepted
    );
}

async fn a_lost_proof_frees_its_job_and_costs_its_client_nothing(place: &Place) {
    let store = store(place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    let proof = submit(&leased, b"proof");
    assert!(!store.lose_proof(leased.job, &proof, at(1)).await.unwrap(), "nothing is open");
    drop(store.submit(leased.job, &proof, at(1)).await.unwrap());
    assert_eq!(state(&store, leased.job).await, JobState::Verifying);
    assert!(store.lose_proof(leased.job, &proof, at(2)).await.unwrap());
    let job = store.job(leased.job).await.unwrap();
    assert_eq!((job.state, job.failures, job.lost), (JobState::Ready, 0, 0));
    assert_eq!(store.unjudged(at(9)).await.unwrap(), []);
    // Its client does not rest, and the same proof is new.
    let again = lease(&store, 1, at(3)).await.unwrap();
    assert_eq!(again.job, leased.job);
    drop(store.submit(leased.job, &proof, at(4)).await.unwrap());
    assert_eq!(
        store.judge(leased.job, &proof, Ok(()), at(5)).await.unwrap().value,
        Verdict::Accepted
    );
    assert!(!store.lose_proof(leased.job, &proof, at(6)).await.unwrap(), "it has its verdict");
    assert_eq!(state(&store, leased.job).await, JobState::Proved);
}

async fn a_lost_input_costs_nobody_anything_and_another_of_the_statement_takes_its_place(
    place: &Place,
) {
    let store = store(place, 1).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    let fail = |client, lease| Fail {
        client,
        lease,
        class: FailureClass::InputMissing,
        message: "404".into(),
    };
    let stranger = fail(client(2), leased.lease.id);
    store.input_lost(leased.job, &stranger, at(1)).await.unwrap_err();
    store.input_lost(leased.job, &fail(client(1), leased.lease.id), at(1)).await.unwrap();
    let job = store.job(leased.job).await.unwrap();
    assert_eq!((job.state, job.failures, job.lost), (JobState::Ready, 0, 0));
    assert_eq!(lease(&store, 1, at(2)).await, None, "nobody gets it meanwhile");

    let lost = store.input_of(leased.job).await.unwrap();
    assert_eq!((lost.input, lost.lease), (leased.input, None));
    let made = ArtifactRef::of(b"made again");
    assert!(store.replace_input(&lost, made, at(3)).await.unwrap());
    assert!(!store.replace_input(&lost, made, at(3)).await.unwrap(), "once");
    let again = lease(&store, 1, at(3)).await.expect("it is ready at once");
    assert_eq!((again.job, again.input), (leased.job, made));
}

async fn proofs_under_leases_come_before_those_of_strangers(place: &Place) {
    use server::store::Precedence::{Judged, Late, Live, Stranger};
    let store = store(place, 1).await;
    let first = lease(&store, 1, at(0)).await.unwrap();
    let rank = async |proof: &Submit| store.precedence(first.job, proof).await.unwrap();
    let mine = submit(&first, b"mine");
    assert_eq!(rank(&mine).await, Live);
    assert_eq!(rank(&Submit { client: client(2), ..mine.clone() }).await, Stranger);
    let invented = LeaseId::from_bytes(rand::random());
    assert_eq!(rank(&Submit { lease: invented, ..mine.clone() }).await, Stranger);
    // One proof under a lease; another has to wait.
    drop(store.submit(first.job, &mine, at(1)).await.unwrap());
    assert_eq!(rank(&mine).await, Live, "handed in again");
    assert_eq!(rank(&submit(&first, b"another")).await, Late);
    let rejected = Rejection::WrongStatement;
    drop(store.judge(first.job, &mine, Err(rejected), at(2)).await.unwrap());
    assert_eq!(rank(&mine).await, Judged);
    assert_eq!(rank(&submit(&first, b"another")).await, Stranger, "one was garbage");
    // The lease ran out, and another client has the job.
    let second = lease(&store, 2, at(3)).await.unwrap();
    lease(&store, 3, at(100)).await.unwrap();
    assert_eq!(rank(&submit(&second, b"late")).await, Late);
}

async fn a_draining_client_finishes_what_it_has(place: &Place) {
    let store = store(place, 2).await;
    let leased = lease(&store, 1, at(0)).await.unwrap();
    assert!(!store.heartbeat(leased.job, leased.lease.id, at(1)).await.unwrap().draining);
    store.decide(client(1), StandingEvent::Drain, &by(), at(1)).await.unwrap();
    assert!(store.heartbeat(leased.job, leased.lease.id, at(2)).await.unwrap().draining);
    assert_eq!(lease(&store, 1, at(2)).await.unwrap().job, leased.job, "it lost the answer");
    let proof = submit(&leased, b"proof");
    drop(store.submit(leased.job, &proof, at(3)).await.unwrap());
    drop(store.judge(leased.job, &proof, Ok(()), at(3)).await.unwrap());
    assert_eq!(offer(&store, 1, at(4)).await, Offer::Draining);
    assert!(lease(&store, 2, at(4)).await.is_some(), "others go on");
}

/// The chain `main`, whose blocks from `from` on are replaced by a fork's.
fn forked(from: u64, number: u64) -> NewBatch {
    let (main, fork) = (Chain::new(9), Chain::new(9));
    *fork.name.lock().unwrap() = "fork";
    let parent_hash = if number == from { main.hash(number - 1) } else { fork.hash(number - 1) };
    NewBatch { parent_hash, ..batch(&fork, number) }
}

async fn a_reorg_takes_batches_off_the_chain_and_brings_them_back_with_what_came_of_them(
    place: &Place,
) {
    let (store, main) = (store(place, 6).await, Chain::new(9));
    let states = async || {
        let jobs = store.jobs().await.unwrap();
        jobs.iter()
            .map(|job| format!("{} {}", job.block_numbers, job.state.name()))
            .collect::<Vec<_>>()
    };
    // 1 and 2 proved, 3 given up, 4 leased, 5 being verified, 6 ready.
    let mut proofs = Vec::new();
    for n in [1, 2] {
        let leased = lease(&store, n, at(0)).await.unwrap();
        let proof = submit(&leased, &[n]);
        drop(store.submit(leased.job, &proof, at(0)).await.unwrap());
        drop(store.judge(leased.job, &proof, Ok(()), at(0)).await.unwrap());
        proofs.push((leased.job, proof));
    }
    let unwanted = lease(&store, 3, at(0)).await.unwrap();
    store.cancel(unwanted.job, &by(), at(0)).await.unwrap();
    let held = lease(&store, 4, at(0)).await.unwrap();
    let checked = lease(&store, 5, at(0)).await.unwrap();
    let checking = submit(&checked, b"5");
    drop(store.submit(checked.job, &checking, at(0)).await.unwrap());

    let tip = store.tip().await.unwrap();
    let done = store.supersede(2, tip, at(1)).await.unwrap();
    assert_eq!((done.batches, done.leases), (5, vec![held.lease.id, checked.lease.id]));
    assert_eq!(store.tip().await.unwrap().unwrap().last, 1);
    assert_eq!(store.proved_through(&TARGET.into()).await.unwrap(), Some(1));
    let counts = store.counts(&TARGET.into()).await.unwrap();
    assert_eq!((counts.proved, counts.superseded, counts.ready), (1, 5, 0));
    assert_eq!(store.ready(&TARGET.into()).await.unwrap(), 0);
    let superseded = JobFilter { state: Some(JobState::Superseded), ..JobFilter::default() };
    assert_eq!(store.list(&superseded, 9).await.unwrap().items.len(), 5);
    assert_eq!(store.jobs().await.unwrap()[1].proof, None, "it is no proof of the chain");

    // Its clients are told, and no proof of it counts; a valid one is kept all the same.
    let told = store.heartbeat(held.job, held.lease.id, at(2)).await.unwrap_err();
    assert!(matches!(told, StoreError::Refused { refused: Refused::Superseded, .. }), "{told}");
    assert!(lease(&store, 9, at(2)).await.is_none());
    let proof = submit(&held, b"4");
    assert!(matches!(
        store.submit(held.job, &proof, at(2)).await.unwrap().value,
        Submitted::Verify(_)
    ));
    for (job, proof) in [(held.job, &proof), (checked.job, &checking)] {
        assert_eq!(
            store.judge(job, proof, Ok(()), at(2)).await.unwrap().value,
            Verdict::Superseded
        );
        let again = store.submit(job, proof, at(2)).await.unwrap().value;
        assert_eq!(again, Submitted::Judged(Verdict::Superseded));
    }
    for refused in [
        store.cancel(held.job, &by(), at(2)).await,
        store.requeue(unwanted.job, &by(), at(2)).await,
    ] {
        assert!(matches!(refused, Err(StoreError::Refused { refused: Refused::Superseded, .. })));
    }

    // The other branch: the same numbers, other blocks.
    for number in 2..=7 {
        store.enqueue(&forked(2, number), &TARGET.into(), at(3)).await.unwrap();
    }
    let leased = lease(&store, 8, at(4)).await.unwrap();
    assert_eq!(leased.blocks, BlockRange::new(2, 2).unwrap());
    let proof = submit(&leased, b"2 of the fork");
    drop(store.submit(leased.job, &proof, at(4)).await.unwrap());
    assert_eq!(
        store.judge(leased.job, &proof, Ok(()), at(4)).await.unwrap().value,
        Verdict::Accepted
    );
    assert_eq!(store.proved_through(&TARGET.into()).await.unwrap(), Some(2));

    // And back: nothing is proven twice.
    let tip = store.tip().await.unwrap();
    assert_eq!(store.supersede(2, tip, at(5)).await.unwrap().batches, 6);
    for number in 2..=6 {
        store.enqueue(&batch(&main, number), &TARGET.into(), at(6)).await.unwrap();
    }
    let found = &states().await[..6];
    assert_eq!(found, ["1 proved", "2 proved", "3 dead", "4 proved", "5 proved", "6 ready"]);
    assert_eq!(store.job(unwanted.job).await.unwrap().cause, Some(DeadCause::Cancelled));
    let (job, proof) = &proofs[1];
    assert_eq!(store.job(*job).await.unwrap().proof, Some(proof.proof));
    assert_eq!(
        store.submit(*job, proof, at(7)).await.unwrap().value,
        Submitted::Judged(Verdict::Accepted)
    );
    assert_eq!(lease(&store, 9, at(7)).await.unwrap().blocks, BlockRange::new(6, 6).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let artifacts =
        Artifacts::open(&artifacts::Place::Folder(dir.path().into(), Sharing::Alone), 1 << 20)
            .unwrap();
    let findings = store.fsck(&artifacts).await.unwrap().findings;
    let odd: Vec<_> = findings.iter().filter(|f| !f.problem.contains("is missing")).collect();
    assert!(odd.is_empty(), "{odd:#?}");

    // What a hand may do to the chain.
    let mut tx = store.database().begin().await.unwrap();
    for sql in [
        "UPDATE batches SET superseded_at = 1 WHERE first = 6 AND superseded_at IS NULL",
        "UPDATE batches SET superseded_at = NULL WHERE first = 7",
    ] {
        assert_eq!(sqlx::query(sql).execute(&mut *tx).await.unwrap().rows_affected(), 1, "{sql}");
    }
    tx.commit().await.unwrap();
    let found = store.fsck(&artifacts).await.unwrap().findings;
    for problem in [
        "is not superseded, but its batch is",
        "is superseded, but its batch is",
        "block 6 comes next",
    ] {
        let count = found.iter().filter(|finding| finding.problem.contains(problem)).count();
        assert_eq!(count, 1, "{problem}: {found:#?}");
    }
}

async fn final_batches_and_a_chain_that_moved_meanwhile_are_not_superseded(place: &Place) {
    let store = store(place, 4).await;
    let tip = store.tip().await.unwrap();
    assert_eq!(store.finalized().await.unwrap(), None);
    let end = Tip { last: 2, last_hash: Chain::new(4).hash(2) };
    for other in [Tip { last_hash: B256::ZERO, ..end }, Tip { last: 9, ..end }] {
        assert_eq!(store.finalize(other).await.unwrap(), 0, "no batch ends there");
    }
    assert_eq!(store.finalized().await.unwrap(), None);
    assert_eq!(store.finalize(end).await.unwrap(), 2);
    assert_eq!(store.finalize(end).await.unwrap(), 0);
    assert_eq!(store.finalized().await.unwrap(), Some(2));
    let refused = store.supersede(2, tip, at(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Final { from: 2, .. }), "{refused}");
    assert_eq!(store.tip().await.unwrap(), tip, "nothing has changed");
    // Another server was faster.
    store.supersede(4, tip, at(1)).await.unwrap();
    let refused = store.supersede(3, tip, at(2)).await.unwrap_err();
    assert!(matches!(refused, StoreError::TipMoved { .. }), "{refused}");
    assert_eq!(store.tip().await.unwrap().unwrap().last, 3);
    // Enqueued twice, by two servers: once.
    let again = forked(4, 4);
    let ids = [
        store.enqueue(&again, &TARGET.into(), at(3)).await.unwrap(),
        store.enqueue(&again, &TARGET.into(), at(3)).await.unwrap(),
    ];
    assert_eq!(ids[0], ids[1]);
    assert_eq!(store.counts(&TARGET.into()).await.unwrap().ready, 4);
}

/// Another proof that may be wanted of a batch: of another program.
const NEXT: Target = Target { program_id: B256::repeat_byte(2), ..TARGET };

/// A lease on a job of the program [`NEXT`].
async fn lease_next(store: &JobStore, n: u8, now: Timestamp) -> Option<Leased> {
    let able = Capability::new(NEXT.system, NEXT.program_id, true);
    let lease = LeaseId::from_bytes(rand::random());
    match store
        .lease(client(n), Party::Client(client(n)), &[able], lease, Share::ALL, now, now)
        .await
        .unwrap()
        .value
    {
        Offer::Job(leased) => Some(*leased),
        _ => None,
    }
}

async fn a_batch_has_a_job_for_each_proof_that_is_wanted_of_it(place: &Place) {
    let (store, chain) = (store(place, 1).await, Chain::new(9));
    let both = Targets::new([NEXT, TARGET]).unwrap();
    let second = batch(&chain, 2);
    let ids = store.enqueue(&second, &both, at(1)).await.unwrap();
    assert_eq!(ids, [job_id(&second, &NEXT), job_id(&second, &TARGET)]);
    assert_eq!(store.enqueue(&second, &both, at(2)).await.unwrap(), ids, "once is enough");
    assert_eq!(store.counts(&TARGET.into()).await.unwrap().ready, 3);

    // Each goes to who can prove it, and the batch is proved when both are.
    let first = lease(&store, 1, at(3)).await.unwrap();
    assert_eq!(first.job, job_id(&batch(&chain, 1), &TARGET));
    let old = lease(&store, 2, at(3)).await.unwrap();
    let new = lease_next(&store, 3, at(3)).await.unwrap();
    assert_eq!([new.job, old.job], [ids[0], ids[1]]);
    assert!(lease_next(&store, 4, at(3)).await.is_none());
    for (leased, through) in [(first, Some(1)), (old, Some(1)), (new, Some(2))] {
        let proof = submit(&leased, b"proof");
        drop(store.submit(leased.job, &proof, at(4)).await.unwrap());
        drop(store.judge(leased.job, &proof, Ok(()), at(4)).await.unwrap());
        assert_eq!(store.proved_through(&both).await.unwrap(), through);
    }

    // A batch on the chain gets the job that it lacks, and keeps its input.
    let other = NewBatch { input: ArtifactRef::of(b"another"), ..batch(&chain, 1) };
    let ids = store.enqueue(&other, &both, at(5)).await.unwrap();
    let added = lease_next(&store, 3, at(5)).await.unwrap();
    assert_eq!((added.job, added.input), (ids[0], batch(&chain, 1).input));
    assert_eq!(store.tip().await.unwrap().unwrap().last, 2);

    // All or nothing.
    let gap = store.enqueue_all(&[batch(&chain, 3), batch(&chain, 5)], &both, at(6)).await;
    assert!(matches!(gap, Err(StoreError::Unlinked(Unlinked::Gap { .. }))), "{gap:?}");
    assert_eq!(store.counts(&TARGET.into()).await.unwrap().ready, 0);
}

async fn a_batch_that_comes_back_brings_all_its_jobs_and_gets_those_it_lacks(place: &Place) {
    let (store, main) = (store(place, 3).await, Chain::new(9));
    let both = Targets::new([TARGET, NEXT]).unwrap();
    for number in [2, 3] {
        store.enqueue(&batch(&main, number), &both, at(0)).await.unwrap();
    }
    // Of block 2: one proved, one held. Of block 3: both ready.
    let held = lease_next(&store, 1, at(0)).await.unwrap();
    for n in [2, 3] {
        let leased = lease(&store, n, at(0)).await.unwrap();
        let proof = submit(&leased, &[n]);
        drop(store.submit(leased.job, &proof, at(0)).await.unwrap());
        drop(store.judge(leased.job, &proof, Ok(()), at(0)).await.unwrap());
    }
    let done = store.supersede(2, store.tip().await.unwrap(), at(1)).await.unwrap();
    assert_eq!((done.batches, done.leases), (2, vec![held.lease.id]));
    let counts = store.counts(&TARGET.into()).await.unwrap();
    assert_eq!((counts.proved, counts.superseded), (1, 4));

    // It is enqueued for another program: what it had comes back as well.
    let third = Target { program_id: B256::repeat_byte(3), ..TARGET };
    for number in [2, 3] {
        store.enqueue(&batch(&main, number), &third.into(), at(2)).await.unwrap();
    }
    let jobs = store.jobs().await.unwrap();
    let found: Vec<_> = jobs
        .iter()
        .map(|job| format!("{} of {}: {}", job.block_numbers, job.program_id[0], job.state.name()))
        .collect();
    let expected = [
        "1 of 0: proved",
        "2 of 0: proved",
        "3 of 0: ready",
        "2 of 2: ready",
        "3 of 2: ready",
        "2 of 3: ready",
        "3 of 3: ready",
    ];
    assert_eq!(found, expected);
    let dir = tempfile::tempdir().unwrap();
    let artifacts =
        Artifacts::open(&artifacts::Place::Folder(dir.path().into(), Sharing::Alone), 1 << 20)
            .unwrap();
    let findings = store.fsck(&artifacts).await.unwrap().findings;
    let odd: Vec<_> = findings.iter().filter(|f| !f.problem.contains("is missing")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert_eq!(findings.len(), 4, "two inputs and two proofs, each named once: {findings:#?}");
}

async fn jobs_of_an_old_program_are_set_aside_and_their_batches_get_new_ones(place: &Place) {
    let (store, new) = (store(place, 6).await, Targets::from(NEXT));
    // 1 proved, 2 held, 3 cancelled, 4 ready; 5 has a job for the new program already, 6 a cancelled one.
    let proved = lease(&store, 1, at(0)).await.unwrap();
    let proof = submit(&proved, b"1");
    drop(store.submit(proved.job, &proof, at(0)).await.unwrap());
    drop(store.judge(proved.job, &proof, Ok(()), at(0)).await.unwrap());
    let held = lease(&store, 1, at(0)).await.unwrap();
    let unwanted = lease(&store, 2, at(0)).await.unwrap();
    store.cancel(unwanted.job, &by(), at(0)).await.unwrap();
    let chain = Chain::new(9);
    store.enqueue(&batch(&chain, 5), &new, at(0)).await.unwrap();
    let last = store.enqueue(&batch(&chain, 6), &new, at(0)).await.unwrap();
    store.cancel(last[0], &by(), at(0)).await.unwrap();

    let old = Targets::from(TARGET);
    assert_eq!((store.ready(&old).await.unwrap(), store.ready(&new).await.unwrap()), (3, 1));
    let counts = store.counts(&new).await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.set_aside), (4, 1, 4));
    assert_eq!(store.counts(&old).await.unwrap().set_aside, 1);
    assert_eq!(store.set_aside(&new).await.unwrap(), (vec![TARGET], 4));

    let stranded = store.stranded(&new).await.unwrap();
    let blocks: Vec<_> = stranded.iter().map(|batch| batch.blocks.first()).collect();
    assert_eq!(blocks, [2, 3, 4], "of 1 there is a proof, of 5 a job, and 6 was cancelled");
    for batch in &stranded {
        assert_eq!(store.rescue(batch, &new, at(1)).await.unwrap().len(), 1);
        assert_eq!(store.rescue(batch, &new, at(1)).await.unwrap(), [], "once is enough");
    }
    assert_eq!(store.stranded(&new).await.unwrap(), []);
    assert_eq!(store.ready(&new).await.unwrap(), 4);
    assert_eq!(store.counts(&new).await.unwrap().set_aside, 4);

    // What is set aside is still served to who names its program, and its proof is as good as another.
    let figures = store.figures(&new, at(11), Duration::from_secs(60)).await.unwrap();
    assert_eq!(figures.oldest_open, Some(Duration::from_secs(11)));
    assert_eq!(lease(&store, 3, at(2)).await.unwrap().blocks, BlockRange::new(4, 4).unwrap());
    let mut next = Vec::new();
    for n in 11..=14 {
        let leased = lease_next(&store, n, at(2)).await.unwrap();
        next.push(leased.blocks.first());
        let proof = submit(&leased, &[n]);
        drop(store.submit(leased.job, &proof, at(3)).await.unwrap());
        drop(store.judge(leased.job, &proof, Ok(()), at(3)).await.unwrap());
    }
    assert_eq!(next, [5, 2, 3, 4], "in the order in which they were enqueued");
    assert_eq!(store.proved_through(&new).await.unwrap(), Some(5), "6 was cancelled");
    let both = Targets::new([TARGET, NEXT]).unwrap();
    assert_eq!(store.proved_through(&both).await.unwrap(), Some(1), "2 is still held");
    let late = submit(&held, b"2");
    drop(store.submit(held.job, &late, at(4)).await.unwrap());
    let verdict = store.judge(held.job, &late, Ok(()), at(4)).await.unwrap().value;
    assert_eq!(verdict, Verdict::Accepted);

    // A reorg was faster.
    let tip = store.tip().await.unwrap();
    let third = Targets::from(Target { program_id: B256::repeat_byte(3), ..TARGET });
    let stranded = store.stranded(&third).await.unwrap();
    assert_eq!(stranded.len(), 1, "only 6 has no proof");
    store.supersede(6, tip, at(5)).await.unwrap();
    assert_eq!(store.rescue(&stranded[0], &third, at(6)).await.unwrap(), []);
}

async fn figures_say_how_things_stand(place: &Place) {
    let store = store(place, 3).await;
    let alive = Duration::from_secs(60);
    let unheld =
        async |targets: Targets| store.figures(&targets, at(9), alive).await.unwrap().unheld;
    assert_eq!(unheld(TARGET.into()).await, [(TARGET, 3)]);
    let other = Target { program_id: B256::repeat_byte(9), ..TARGET };
    assert_eq!(unheld(other.into()).await, [], "they are set aside");
    lease(&store, 1, at(10)).await.unwrap();
    store.decide(client(1), StandingEvent::Quarantine, &by(), at(10)).await.unwrap();
    lease(&store, 2, at(100)).await.unwrap();
    let figures = store.figures(&TARGET.into(), at(130), alive).await.unwrap();
    let expected = Figures {
        unheld: Vec::new(),
        given_up: 0,
        counts: Counts { ready: 2, leased: 1, ..Counts::default() },
        oldest_open: Some(Duration::from_secs(130)),
        first_block: Some(1),
        enqueued: Some(3),
        proved_through: None,
        clients_alive: 1,
        clients_busy: 1,
        clients_quarantined: 1,
        contracts: 0,
        settlement: SettlementFigures::default(),
    };
    assert_eq!(figures, expected);
    // What is settled on L1, as its sender saw it last.
    crate::settlements::see(&store).await;
    let figures = store.figures(&TARGET.into(), at(130), alive).await.unwrap();
    let settlement = SettlementFigures {
        settled: 2,
        finalized: 1,
        balance_gwei: 7,
        waiting: Duration::from_secs(30),
        silent: Duration::from_secs(10),
        alarm: true,
    };
    assert_eq!(figures, Figures { contracts: 1, settlement, ..expected });
}

async fn fsck_is_content_with_what_we_write_and_names_what_others_wrote(place: &Place) {
    let (store, chain) = (store(place, 4).await, Chain::new(4));
    let dir = tempfile::tempdir().unwrap();
    let artifacts =
        Artifacts::open(&artifacts::Place::Folder(dir.path().into(), Sharing::Alone), 1 << 20)
            .unwrap();
    for number in 1..=4 {
        artifacts
            .put(chain.prepared(BlockRange::new(number, number).unwrap()).input)
            .await
            .unwrap();
    }
    // One proved, one rejected and leased again, one being verified, one that nobody has.
    let proved = lease(&store, 1, at(0)).await.unwrap();
    let proof =
        Submit { proof: artifacts.put(b"proof".to_vec()).await.unwrap(), ..submit(&proved, b"") };
    drop(store.submit(proved.job, &proof, at(0)).await.unwrap());
    drop(store.judge(proved.job, &proof, Ok(()), at(0)).await.unwrap());
    let rejected = lease(&store, 2, at(0)).await.unwrap();
    let wrong = submit(&rejected, b"wrong");
    drop(store.submit(rejected.job, &wrong, at(0)).await.unwrap());
    drop(store.judge(rejected.job, &wrong, Err(Rejection::WrongStatement), at(0)).await.unwrap());
    let held = lease(&store, 3, at(0)).await.unwrap();
    let verifying = lease(&store, 4, at(0)).await.unwrap();
    let open =
        Submit { proof: artifacts.put(b"open".to_vec()).await.unwrap(), ..submit(&verifying, b"") };
    drop(store.submit(verifying.job, &open, at(0)).await.unwrap());
    let clean = store.fsck(&artifacts).await.unwrap();
    let expected = Report { batches: 4, jobs: 4, artifacts: 5, findings: Vec::new() };
    assert_eq!(clean, expected);

    // What a hand or a disk may do.
    let path = |id: String| dir.path().join(&id[..2]).join(id);
    std::fs::remove_file(path(held_input(&chain, &held))).unwrap();
    std::fs::write(path(open.proof.sha256.to_string()), "other").unwrap();
    let mut tx = store.database().begin().await.unwrap();
    for sql in [
        "UPDATE leases SET ended_at = 1 WHERE outcome IS NULL AND client = (SELECT lease_client FROM jobs WHERE state = 'leased')",
        "UPDATE leases SET ended_at = NULL WHERE outcome = 'rejected'",
        "UPDATE submissions SET verdict = 'duplicate' WHERE verdict = 'accepted'",
        "UPDATE batches SET parent_hash = last_hash WHERE first = 3",
        "UPDATE batches SET statement_digest = parent_hash WHERE first = 4",
    ] {
        let done = sqlx::query(sql).execute(&mut *tx).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }
    tx.commit().await.unwrap();
    let found = store.fsck(&artifacts).await.unwrap().findings;
    let problems: Vec<_> =
        found.iter().map(|finding| format!("{}: {}", finding.subject, finding.problem)).collect();
    let named = [
        "is held under a lease that ended",
        "has not ended, but its job is not held under it",
        "is proved, but its proof was never accepted",
        "block 3 continues",
        "has another statement than its digest says",
        "asks for something else than its id says",
        "is missing; it is the input of job",
        "is damaged",
    ];
    for name in named {
        let count = problems.iter().filter(|problem| problem.contains(name)).count();
        assert_eq!(count, 1, "{name}: {problems:#?}");
    }
    assert_eq!(problems.len(), named.len(), "{problems:#?}");
}

fn held_input(chain: &Chain, leased: &Leased) -> String {
    ArtifactRef::of(&chain.prepared(leased.blocks).input).sha256.to_string()
}

#[tokio::test]
async fn a_file_that_is_not_ours_or_is_damaged_is_named_and_left_alone() {
    let place = Place::sqlite();
    let path = place.file();
    std::fs::write(
        &path,
        "this is not a database, but it is long enough to look like one. ".repeat(100),
    )
    .unwrap();
    let error = JobStore::open(&path, RULES).await.unwrap_err();
    let named = path.display().to_string();
    assert!(
        matches!(&error, StoreError::Database(DatabaseError::Corrupt { database, .. }) if *database == named),
        "{error}"
    );
    assert!(error.to_string().contains("restore it from a backup"), "{error}");

    std::fs::remove_file(&path).unwrap();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let foreign = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE cats (name TEXT)").execute(&foreign).await.unwrap();
    foreign.close().await;
    let error = JobStore::open(&path, RULES).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Database(DatabaseError::Foreign(database)) if *database == named),
        "{error}"
    );

    // Ours, with its middle overwritten.
    std::fs::remove_file(&path).unwrap();
    store(&place, 50).await.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let (from, to) = (4096, bytes.len() - 4096);
    bytes[from..to].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = JobStore::open(&path, RULES).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Database(DatabaseError::Corrupt { database, .. }) if *database == named),
        "{error}"
    );
}

#[tokio::test]
async fn a_database_of_a_later_version_is_not_touched() {
    let place = Place::sqlite();
    store(&place, 1).await.close().await;
    let path = place.file();
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)")
        .execute(&pool)
        .await
        .unwrap();
    JobStore::open(&path, RULES).await.unwrap().close().await;
    // It says from which version on servers still fit.
    sqlx::query("UPDATE compatibility SET oldest = 9999").execute(&pool).await.unwrap();
    pool.close().await;
    let error = JobStore::open(&path, RULES).await.unwrap_err();
    assert!(matches!(error, StoreError::Database(DatabaseError::Version { .. })), "{error}");
}

/// The same parts on both databases: cut, proven, joined, taken away by a reorg and brought back, and finished.
async fn a_proof_in_parts_comes_together_through_a_reorg(place: &Place) {
    const SPLIT: Target = Target { kind: ProofKind::Succinct, ..TARGET };
    let store = place.open().await.dividing(true);
    let chain = Chain::new(1);
    let batch = batch(&chain, 1);
    let targets = Targets::from(SPLIT);
    let job = store.enqueue(&batch, &targets, at(0)).await.unwrap()[0];
    let run = Run { segments: 8, keccak: 2 };
    let plan = ArtifactRef::of(b"plan");
    store.divide(job, plan, 20, run, at(0)).await.unwrap();
    let able = Capability {
        kinds: vec![ProofKind::Part],
        segment_po2: Some(20),
        ..Capability::new(SPLIT.system, SPLIT.program_id, true)
    };
    let small = Capability { segment_po2: Some(19), ..able.clone() };
    let look_after = async |now| {
        loop {
            let states: Vec<_> =
                store.parts(job).await.unwrap().into_iter().map(|part| part.state).collect();
            let steps = next_steps(run, &states, 2, 8);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                match step {
                    Step::Add(work) => assert!(store.add_part(job, work, now).await.unwrap()),
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    let (mut works, mut revived) = (Vec::new(), false);
    for round in 1..30 {
        let now = at(round);
        look_after(now).await;
        let lease = LeaseId::from_bytes(rand::random());
        let ask = async |able: &Capability| {
            let mut crew = Crew::default();
            crew.heard(client(1), able.segment_po2, now);
            let share = crew.share(client(1), now);
            let party = Party::Client(client(1));
            store
                .lease(client(1), party, std::slice::from_ref(able), lease, share, now, now)
                .await
                .unwrap()
                .value
        };
        assert!(
            matches!(ask(&small).await, Offer::Nothing { for_others: true, .. }),
            "too large for it"
        );
        let Offer::Job(leased) = ask(&able).await else {
            panic!("nothing is lent in round {round}")
        };
        let part = leased.part.unwrap();
        assert_eq!((part.plan, part.segment_po2, leased.target.kind), (plan, 20, ProofKind::Part));
        if works.len() == 3 && !revived {
            revived = true;
            let tip = store.tip().await.unwrap();
            store.supersede(1, tip, now).await.unwrap();
            assert!(
                store.splits().await.unwrap().is_empty(),
                "nobody works on what is off the chain"
            );
            store.enqueue(&batch, &targets, now).await.unwrap();
            continue;
        }
        let proof = ArtifactRef::of(part.work.to_string().as_bytes());
        let submit = Submit {
            client: client(1),
            lease,
            system: SPLIT.system,
            program_id: SPLIT.program_id,
            kind: ProofKind::Part,
            proof,
        };
        let submitted = store.submit(leased.job, &submit, now).await.unwrap().value;
        let Submitted::Verify(wanted) = submitted else { panic!("{submitted:?}") };
        assert_eq!(wanted.part.unwrap().of.work, part.work);
        let verdict = store.judge(leased.job, &submit, Ok(()), now).await.unwrap().value;
        assert_eq!(verdict, Verdict::Accepted);
        works.push(part.work);
        if part.work == PartWork::Finish {
            break;
        }
    }
    assert!(revived && works.last() == Some(&PartWork::Finish), "{works:?}");
    assert!(works.len() > 5, "its share is less than all: {works:?}");
    assert_eq!(
        store.proved_through(&targets).await.unwrap(),
        None,
        "a part is no proof of a block"
    );
    assert!(store.proofs(0, 9).await.unwrap().is_empty());
    let (_, finished) = store.finished(job).await.unwrap().unwrap();
    let Submitted::Verify(wanted) = store.submit(job, &finished, at(40)).await.unwrap().value
    else {
        panic!("it is judged like any other");
    };
    assert_eq!((wanted.part, wanted.target.kind), (None, ProofKind::Succinct));
    let _judged = store.judge(job, &finished, Ok(()), at(40)).await.unwrap();
    assert_eq!(store.proved_through(&targets).await.unwrap(), Some(1));
    assert_eq!(store.proofs(0, 9).await.unwrap().len(), 1);
    assert_eq!(store.counts(&targets).await.unwrap().proved, 1, "parts are not counted");
    let history = store.history(job).await.unwrap();
    assert_eq!(history.parts.len(), works.len());
    let dir = tempfile::tempdir().unwrap();
    let artifacts =
        Artifacts::open(&artifacts::Place::Folder(dir.path().into(), Sharing::Alone), 1 << 20)
            .unwrap();
    // Of all artifacts, only the proof of the whole is still needed.
    artifacts.put(PartWork::Finish.to_string().into_bytes()).await.unwrap();
    assert_eq!(store.fsck(&artifacts).await.unwrap().findings, []);
}

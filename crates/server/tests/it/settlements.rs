//! Settlements in the store. One suite for both databases.

use crate::common::Chain;
use crate::store::{Place, TARGET, at, batch, client, on_both_stores, store, submit};
use alloy_primitives::{Address, B256};
use protocol::{ArtifactRef, BlockRange, Capability, LeaseId, ProofKind, Verdict};
use server::{
    clock::Timestamp,
    jobs::{
        Party, Target,
        crew::Share,
        job_id,
        settlement::{
            Fees, NewSettlement, Rollup, Settled, Settlement, SettlementEvent, SettlementState,
            SignedTx,
        },
    },
    store::{JobStore, Offer, Settler, StoreError, folds::NewFold},
};
use std::time::Duration;

on_both_stores! {
    one_process_settles_until_it_falls_silent
    what_nobody_settles_in_is_forgotten
    a_clock_that_was_ahead_holds_nobody_up_for_long
    a_batch_goes_its_way_and_back_and_what_is_over_is_small
    another_nonce_voids_what_was_signed_for_later_batches
    what_is_settled_is_the_longest_proof_of_the_kind_that_goes_on_from_a_block
    a_hundred_thousand_settled_batches_are_no_burden
}

const ROLLUP: Rollup = Rollup { chain_id: 31_337, address: Address::repeat_byte(0xaa) };

fn settler(n: u8) -> Settler {
    Settler { rollup: ROLLUP, holder: [n; 16], lease: Duration::from_secs(60) }
}

/// The lowest byte.
fn byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

fn new(first: u64, last: u64) -> NewSettlement {
    NewSettlement {
        blocks: BlockRange::new(first, last).unwrap(),
        parent_hash: B256::with_last_byte(byte(first)),
        last_hash: B256::with_last_byte(byte(last + 1)),
        call: vec![7; 500],
    }
}

fn signed(nonce: u64, max: u64) -> SettlementEvent {
    let tx = SignedTx {
        nonce,
        hash: B256::repeat_byte(byte(nonce)),
        raw: vec![byte(nonce); 600],
        fees: Fees { max, priority: max / 2 },
        at: at(1),
    };
    SettlementEvent::Signed { tx, wasted: false }
}

async fn open(store: &JobStore) -> Vec<Settlement> {
    store.open_settlements(&ROLLUP).await.unwrap()
}

async fn note(store: &JobStore, id: i64, event: SettlementEvent) {
    store.note_settlement(&settler(1), id, &event, at(2)).await.unwrap();
}

async fn one_process_settles_until_it_falls_silent(place: &Place) {
    let store = place.open().await;
    let holds = async |n, seconds| store.hold_settling(&settler(n), at(seconds)).await.unwrap();
    assert!(holds(1, 0).await);
    assert!(!holds(2, 59).await);
    assert!(holds(1, 50).await && !holds(2, 109).await, "it goes on");
    // What it writes counts as a word of it, too.
    store.add_settlement(&settler(1), &new(1, 1), at(100)).await.unwrap();
    assert!(!holds(2, 159).await);
    assert!(holds(2, 161).await);
    // It was only slow, and believes that it still sends.
    let id = open(&store).await[0].id;
    let late = store.note_settlement(&settler(1), id, &signed(0, 10), at(162)).await.unwrap_err();
    assert!(matches!(late, StoreError::NotTheSettler(ROLLUP)), "{late}");
    let late = store.add_settlement(&settler(1), &new(2, 2), at(162)).await;
    assert!(late.is_err());
    let late = store.note_settled(&settler(1), &Settled::default(), at(162)).await;
    assert!(late.is_err());
    assert_eq!(open(&store).await.len(), 1);
    assert_eq!(open(&store).await[0].state, SettlementState::Ready);
    // Another contract is settled by whoever does.
    let other = Settler { rollup: Rollup { chain_id: 1, ..ROLLUP }, ..settler(1) };
    assert!(store.hold_settling(&other, at(162)).await.unwrap());
    store.add_settlement(&other, &new(1, 1), at(162)).await.unwrap();
    assert_eq!(open(&store).await.len(), 1);
    // One that stops lets the next one begin at once.
    store.leave_settling(&settler(1)).await.unwrap();
    assert!(!holds(1, 163).await, "it was not the one");
    store.leave_settling(&settler(2)).await.unwrap();
    assert!(holds(1, 164).await);
}

/// A contract that was named by mistake, or that is not settled in any more, counts no longer.
async fn what_nobody_settles_in_is_forgotten(place: &Place) {
    let store = place.open().await;
    let other = |n| Settler { rollup: Rollup { chain_id: n, ..ROLLUP }, ..settler(1) };
    let contracts = async || {
        let known = store.settled_on().await.unwrap();
        known.into_iter().map(|(rollup, _)| rollup.chain_id).collect::<Vec<_>>()
    };
    assert!(store.hold_settling(&other(7), at(0)).await.unwrap());
    assert!(store.hold_settling(&other(8), at(0)).await.unwrap());
    let seen = Settled { seen_at: Some(at(1)), ..Settled::default() };
    store.note_settled(&other(8), &seen, at(1)).await.unwrap();
    // Somebody may still try there.
    assert!(store.hold_settling(&settler(1), at(2)).await.unwrap());
    assert_eq!(contracts().await.len(), 3);
    assert!(store.hold_settling(&settler(1), at(2_000)).await.unwrap());
    assert_eq!(contracts().await.len(), 2, "the one that nobody ever saw is gone");
    assert!(!store.forget_settling(&ROLLUP, at(2_001)).await.unwrap(), "somebody settles there");
    assert!(store.forget_settling(&other(8).rollup, at(2_001)).await.unwrap());
    assert!(!store.forget_settling(&other(8).rollup, at(2_001)).await.unwrap());
    assert_eq!(contracts().await, [ROLLUP.chain_id]);
}

async fn a_clock_that_was_ahead_holds_nobody_up_for_long(place: &Place) {
    let store = place.open().await;
    assert!(store.hold_settling(&settler(1), at(86_400 * 365)).await.unwrap());
    assert!(store.hold_settling(&settler(2), at(0)).await.unwrap());
}

async fn a_batch_goes_its_way_and_back_and_what_is_over_is_small(place: &Place) {
    let store = place.open().await;
    assert!(store.hold_settling(&settler(1), at(0)).await.unwrap());
    store.add_settlement(&settler(1), &new(4, 6), at(1)).await.unwrap();
    let row = open(&store).await.remove(0);
    let id = row.id;
    assert_eq!((row.state, row.tx, row.call.len()), (SettlementState::Ready, None, 500));
    assert_eq!((row.parent_hash, row.last_hash), (new(4, 6).parent_hash, new(4, 6).last_hash));
    // Somebody else settled it, and a reorg took that away.
    note(&store, id, SettlementEvent::Seen).await;
    assert_eq!(open(&store).await[0].state, SettlementState::Seen);
    note(&store, id, SettlementEvent::Unseen).await;
    assert_eq!(open(&store).await[0].state, SettlementState::Ready);

    assert_eq!(store.offered(&ROLLUP, 9).await.unwrap(), None);
    note(&store, id, signed(9, 40)).await;
    note(&store, id, signed(9, 50)).await;
    let SettlementEvent::Signed { tx, .. } = signed(9, 50) else { panic!() };
    assert_eq!(open(&store).await[0].tx, Some(tx.clone()));
    let fees = Fees { max: 50, priority: 25 };
    assert_eq!(store.offered(&ROLLUP, 9).await.unwrap(), Some(fees));
    note(&store, id, SettlementEvent::Seen).await;
    note(&store, id, SettlementEvent::Unseen).await;
    let row = open(&store).await.remove(0);
    assert_eq!((row.state, row.tx), (SettlementState::Signed, Some(tx)), "the same bytes");
    let again = SettlementEvent::Signed {
        tx: SignedTx { nonce: 10, ..row_tx(&store).await },
        wasted: true,
    };
    note(&store, id, again).await;
    assert_eq!(open(&store).await[0].wasted, 1);
    note(&store, id, SettlementEvent::Seen).await;
    assert_eq!(open(&store).await[0].wasted, 0, "it was worth it");
    assert_eq!(store.last_settlement(&ROLLUP).await.unwrap(), None);
    note(&store, id, SettlementEvent::Final).await;
    assert_eq!(open(&store).await, []);
    let last = store.last_settlement(&ROLLUP).await.unwrap().unwrap();
    assert_eq!((last.blocks, last.tx, last.call), (new(4, 6).blocks, None, vec![]));
    assert_eq!(store.offered(&ROLLUP, 10).await.unwrap(), Some(fees), "a nonce's fees are kept");
    // It was not final after all.
    store.add_settlement(&settler(1), &new(4, 6), at(3)).await.unwrap();
    let row = open(&store).await.remove(0);
    assert_eq!((row.id, row.state, row.call.len()), (id, SettlementState::Ready, 500));
    note(&store, id, SettlementEvent::Dropped).await;
    assert_eq!(open(&store).await, []);

    let seen = Settled {
        settled: Some(6),
        finalized: None,
        balance_gwei: Some(u64::MAX / 4),
        waiting_since: Some(at(1)),
        alarm: Some("settlement_stuck".into()),
        seen_at: Some(at(2)),
    };
    store.note_settled(&settler(1), &seen, at(3)).await.unwrap();
    assert_eq!(store.settled_on().await.unwrap(), [(ROLLUP, seen)]);
}

/// A sender has seen L1 at second 120.
pub(crate) async fn see(store: &JobStore) {
    assert!(store.hold_settling(&settler(1), at(0)).await.unwrap());
    let seen = Settled {
        settled: Some(2),
        finalized: Some(1),
        balance_gwei: Some(7),
        waiting_since: Some(at(100)),
        alarm: Some("settlement_stuck".into()),
        seen_at: Some(at(120)),
    };
    store.note_settled(&settler(1), &seen, at(120)).await.unwrap();
}

/// A bit of everything that a sender does.
pub(crate) async fn settle(store: &JobStore) {
    assert!(store.hold_settling(&settler(1), at(0)).await.unwrap());
    store.add_settlement(&settler(1), &new(1, 1), at(0)).await.unwrap();
    store.settleable(1, ProofKind::Composite).await.unwrap();
    store.settleable(1, ProofKind::Groth16).await.unwrap();
    store.hash_on_chain(1).await.unwrap();
    store.offered(&ROLLUP, 1).await.unwrap();
    store.last_settlement(&ROLLUP).await.unwrap();
    let id = open(store).await[0].id;
    for event in
        [signed(1, 1), SettlementEvent::Seen, SettlementEvent::Unseen, SettlementEvent::Final]
    {
        note(store, id, event).await;
    }
    store.note_settled(&settler(1), &Settled::default(), at(1)).await.unwrap();
    store.settled_on().await.unwrap();
    store.leave_settling(&settler(1)).await.unwrap();
    store.forget_settling(&ROLLUP, at(2)).await.unwrap();
}

async fn row_tx(store: &JobStore) -> SignedTx {
    open(store).await.remove(0).tx.unwrap()
}

async fn another_nonce_voids_what_was_signed_for_later_batches(place: &Place) {
    let store = place.open().await;
    assert!(store.hold_settling(&settler(1), at(0)).await.unwrap());
    for number in 1..=3 {
        store.add_settlement(&settler(1), &new(number, number), at(1)).await.unwrap();
    }
    let ids: Vec<_> = open(&store).await.iter().map(|row| row.id).collect();
    let states = async || open(&store).await.iter().map(|row| row.state).collect::<Vec<_>>();
    for (nonce, id) in (5..).zip(&ids) {
        note(&store, *id, signed(nonce, 10)).await;
    }
    use SettlementState::{Ready, Signed};
    // A replacement takes no other's place.
    note(&store, ids[1], signed(6, 20)).await;
    assert_eq!(states().await, [Signed, Signed, Signed]);
    note(&store, ids[1], signed(7, 20)).await;
    assert_eq!(states().await, [Signed, Signed, Ready]);
    // Its fees are what another with the same nonce has to outbid.
    assert_eq!(store.offered(&ROLLUP, 7).await.unwrap(), Some(Fees { max: 20, priority: 10 }));
}

/// Has the next job proved.
async fn prove(store: &JobStore, target: Target, now: Timestamp) {
    let kinds = vec![target.kind];
    let able = Capability { kinds, ..Capability::new(target.system, target.program_id, true) };
    let (id, party) = (LeaseId::from_bytes(rand::random()), Party::Client(client(1)));
    let offer = store.lease(client(1), party, &[able], id, Share::ALL, now, now).await.unwrap();
    let Offer::Job(leased) = offer.value else { panic!("a job is ready") };
    let submit = protocol::Submit { kind: target.kind, ..submit(&leased, leased.job.as_bytes()) };
    drop(store.submit(leased.job, &submit, now).await.unwrap());
    let verdict = store.judge(leased.job, &submit, Ok(()), now).await.unwrap().value;
    assert_eq!(verdict, Verdict::Accepted);
}

async fn what_is_settled_is_the_longest_proof_of_the_kind_that_goes_on_from_a_block(place: &Place) {
    let store = store(place, 4).await;
    let found = async |first, kind| {
        let found = store.settleable(first, kind).await.unwrap();
        found.map(|it| (it.blocks.last(), it.statement, it.proofs.len()))
    };
    assert_eq!(found(1, ProofKind::Composite).await, None, "nothing is proven");
    for seconds in 1..=3 {
        prove(&store, TARGET, at(seconds)).await;
    }
    let chain = Chain::new(4);
    let two = batch(&chain, 2).statement;
    assert_eq!(found(2, ProofKind::Composite).await, Some((2, two, 1)));
    assert_eq!(found(2, ProofKind::Succinct).await, None);
    assert_eq!(found(2, ProofKind::Aggregate).await, None);
    assert_eq!(found(4, ProofKind::Composite).await, None, "not yet proven");
    // What is made of proofs.
    let target = Target { kind: ProofKind::Groth16, ..TARGET };
    let proofs = store.proofs(0, 10).await.unwrap();
    for (first, last) in [(1, 1), (2, 3)] {
        let blocks = BlockRange::new(first, last).unwrap();
        let fold = NewFold {
            job: job_id(&batch(&chain, last), &target),
            target,
            last_job: proofs[usize::from(byte(last)) - 1].proofs[0].job,
            blocks,
            statement: vec![byte(last)],
            input: ArtifactRef::of(b"bundle"),
            gas_used: 0,
            transactions: 0,
            deposits: None,
        };
        assert!(store.add_fold(&fold, at(5)).await.unwrap());
    }
    assert_eq!(found(2, ProofKind::Groth16).await, None);
    for seconds in 7..=8 {
        prove(&store, target, at(seconds)).await;
    }
    assert_eq!(found(1, ProofKind::Groth16).await, Some((1, vec![1], 1)));
    assert_eq!(found(2, ProofKind::Groth16).await, Some((3, vec![3], 1)));
    assert_eq!(found(3, ProofKind::Groth16).await, None, "it is in the middle");

    // What the L2 has at the ends of batches, and after a reorg.
    let hash = async |number| store.hash_on_chain(number).await.unwrap();
    assert_eq!((hash(0).await, hash(3).await), (Some(chain.hash(0)), Some(chain.hash(3))));
    assert_eq!((hash(4).await, hash(5).await), (Some(chain.hash(4)), None));
    let tip = store.tip().await.unwrap();
    drop(store.supersede(2, tip, at(9)).await.unwrap());
    assert_eq!((hash(1).await, hash(3).await), (Some(chain.hash(1)), None));
    assert_eq!(found(2, ProofKind::Composite).await, None);
    assert_eq!(found(2, ProofKind::Groth16).await, None);
}

/// A sender that starts looks only at what is open, however much was settled.
async fn a_hundred_thousand_settled_batches_are_no_burden(place: &Place) {
    let store = place.open().await;
    assert!(store.hold_settling(&settler(1), at(0)).await.unwrap());
    let mut tx = store.database().begin().await.unwrap();
    let fill =
        "INSERT INTO settlements (rollup, first, last, parent_hash, last_hash, state, call, nonce)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        SELECT $1, i, i, $2, $2, 'final', $3, i FROM n";
    let fill = sqlx::query(fill).bind(ROLLUP.to_bytes().to_vec()).bind(vec![1_u8; 32]);
    fill.bind(Vec::<u8>::new()).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(open(&store).await, []);
    let last = store.last_settlement(&ROLLUP).await.unwrap().unwrap();
    assert_eq!(last.blocks.first(), 100_000);
    assert_eq!(store.offered(&ROLLUP, 100_000).await.unwrap(), None);
    store.add_settlement(&settler(1), &new(100_001, 100_001), at(1)).await.unwrap();
    note(&store, open(&store).await[0].id, signed(100_001, 1)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

//! An L2 whose batches are proven by nobody: statements that continue each other, and a store that has accepted their proofs.

use alloy_primitives::{Address, B256, keccak256};
use program::{Statement, statement};
use protocol::{
    ArtifactRef, BlockRange, Capability, ClientId, LeaseId, ProofKind, ProofSystem, Submit, Verdict,
};
use rand::{Rng as _, rngs::StdRng};
use server::{
    clock::Timestamp,
    jobs::{NewBatch, Party, Rules as JobRules, Target, crew::Share},
    store::{JobStore, Offer},
};
use std::time::Duration;

pub(crate) const PROGRAM: B256 = B256::repeat_byte(0x50);
pub(crate) const TARGET: Target =
    Target { system: ProofSystem::Exec, program_id: PROGRAM, kind: ProofKind::Composite };
pub(crate) const DIGEST: B256 = B256::repeat_byte(0xd1);
pub(crate) const JOBS: JobRules = JobRules {
    lease: Duration::from_secs(60),
    max_hold: Duration::from_secs(86_400),
    max_failures: 3,
    max_lost: 5,
    max_rejected: 3,
    max_newcomers: 64,
};

pub(crate) fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

pub(crate) fn root(number: u64) -> B256 {
    keccak256([number.to_be_bytes(), [1; 8]].concat())
}

/// Proven batches of one to three blocks, some of which consume deposits.
pub(crate) struct L2 {
    pub batches: Vec<NewBatch>,
}

impl L2 {
    /// `links` is the chain of deposits, two for each batch.
    pub(crate) fn new(rng: &mut StdRng, count: usize, links: Vec<B256>) -> Self {
        let (mut batches, mut first, mut consumed) = (Vec::new(), 1, 0);
        for _ in 0..count {
            let (last, deposits) = (first + rng.random_range(0..3), rng.random_range(0..3));
            let (before, after) = (links[consumed], links[consumed + deposits]);
            let statement = Statement {
                version: statement::VERSION,
                chain_config_digest: DIGEST,
                parent_hash: hash(first - 1),
                last_hash: hash(last),
                first_number: first,
                last_number: last,
                pre_state_root: root(first - 1),
                post_state_root: root(last),
                deposits_digest: keccak256([before.0, after.0].concat()),
                deposits_count: deposits as u64,
                messages_root: B256::ZERO,
                last_timestamp: first,
                data_commitment: B256::ZERO,
                beneficiary: Address::ZERO,
            };
            let statement = statement.abi_encode();
            batches.push(NewBatch {
                blocks: BlockRange::new(first, last).unwrap(),
                parent_hash: hash(first - 1),
                last_hash: hash(last),
                statement_digest: keccak256(&statement),
                input: ArtifactRef::of(&statement),
                statement,
                gas_used: 0,
                transactions: 0,
                estimated_cycles: 0,
                deposits: None,
            });
            (first, consumed) = (last + 1, consumed + deposits);
        }
        Self { batches }
    }
}

/// A batch is enqueued, and a proof of it accepted.
pub(crate) async fn prove(store: &JobStore, batch: &NewBatch, now: Timestamp, lease: LeaseId) {
    store.enqueue(batch, &TARGET.into(), now).await.unwrap();
    let client = ClientId::from_bytes([1; 16]);
    let able = Capability::new(ProofSystem::Exec, PROGRAM, true);
    let (party, all) = (Party::Client(client), Share::ALL);
    let offer = store.lease(client, party, &[able], lease, all, now, now).await.unwrap();
    let Offer::Job(leased) = offer.value else { panic!("the job is ready") };
    let submit = Submit {
        client,
        lease,
        system: ProofSystem::Exec,
        program_id: PROGRAM,
        kind: ProofKind::Composite,
        proof: ArtifactRef::of(&batch.statement),
    };
    drop(store.submit(leased.job, &submit, now).await.unwrap());
    let verdict = store.judge(leased.job, &submit, Ok(()), now).await.unwrap().value;
    assert_eq!(verdict, Verdict::Accepted);
}

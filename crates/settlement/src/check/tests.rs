use super::*;
use crate::contract::System;
use alloy_primitives::U256;
use protocol::{ArtifactRef, JobId, ProofKind, ProofSystem};

fn id(n: u8) -> B256 {
    B256::repeat_byte(n)
}

fn statement() -> Statement {
    Statement {
        version: program::statement::VERSION,
        chain_config_digest: id(1),
        parent_hash: id(2),
        last_hash: id(3),
        first_number: 7,
        last_number: 9,
        pre_state_root: id(4),
        post_state_root: id(5),
        deposits_digest: keccak256([id(6).0, id(7).0].concat()),
        deposits_count: 2,
        messages_root: B256::ZERO,
        last_timestamp: 1_900,
        data_commitment: B256::ZERO,
        beneficiary: Address::repeat_byte(8),
    }
}

fn facts() -> Facts {
    Facts {
        head: Head { hash: id(2), stateRoot: id(4), number: 6, deposits: 5, link: id(6) },
        policy: Policy { chainConfigDigest: id(1), window: 3_600, ..Policy::default() },
        time: 1_000,
        link: Some(id(7)),
        next_deposit: Ok(0),
    }
}

fn named(statement: &Statement, facts: &Facts) -> Option<&'static str> {
    refused(&fields(statement, facts)).err().map(|refusal| refusal.name)
}

/// Each word of a statement, changed: what is compared is named, and the others are anything.
#[test]
fn each_word_is_compared_with_what_l1_has() {
    assert_eq!(named(&statement(), &facts()), None);
    type Change = fn(&mut Statement);
    let changes: [(&str, bool, Change); 14] = [
        ("version", true, |s| s.version = 3),
        ("chainConfigDigest", true, |s| s.chain_config_digest = id(9)),
        ("parentHash", true, |s| s.parent_hash = id(9)),
        ("lastHash", false, |s| s.last_hash = id(9)),
        ("firstNumber", true, |s| s.first_number = 8),
        ("lastNumber", true, |s| s.last_number = 6),
        ("preStateRoot", true, |s| s.pre_state_root = id(9)),
        ("postStateRoot", false, |s| s.post_state_root = id(9)),
        ("depositsDigest", true, |s| s.deposits_digest = id(9)),
        ("depositsCount", false, |s| s.deposits_count = 9),
        ("messagesRoot", true, |s| s.messages_root = id(9)),
        ("lastTimestamp", true, |s| s.last_timestamp = 1_901),
        ("dataCommitment", true, |s| s.data_commitment = id(9)),
        ("beneficiary", false, |s| s.beneficiary = Address::ZERO),
    ];
    let names: Vec<_> = fields(&statement(), &facts()).iter().map(|field| field.name).collect();
    assert_eq!(names, changes.map(|(name, ..)| name));
    for (name, compared, change) in changes {
        let mut statement = statement();
        change(&mut statement);
        assert_eq!(named(&statement, &facts()), compared.then_some(name));
    }
}

#[test]
fn deposits_are_those_of_the_queue_and_none_is_left_for_too_long() {
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = facts();
        change(&mut facts);
        named(&statement(), &facts)
    };
    assert_eq!(with(&|facts| facts.link = None), Some("depositsDigest"));
    assert_eq!(with(&|facts| facts.head.link = id(9)), Some("depositsDigest"));
    assert_eq!(
        with(&|facts| facts.next_deposit = Err("UnknownLink".into())),
        Some("depositsCount")
    );
    // The next one is old, and the batch leaves it.
    assert_eq!(with(&|facts| (facts.time, facts.next_deposit) = (4_000, Ok(400))), None);
    assert_eq!(
        with(&|facts| (facts.time, facts.next_deposit) = (4_001, Ok(400))),
        Some("depositsCount")
    );
    // A time beyond all is not overdue.
    assert_eq!(with(&|facts| facts.next_deposit = Ok(u64::MAX)), None);
    let mut none = statement();
    none.deposits_digest = B256::ZERO;
    assert_eq!(named(&none, &facts()), Some("depositsDigest"), "of a chain without a bridge");
    let refusal = refused(&fields(&none, &facts())).unwrap_err();
    assert!(
        refusal.to_string().starts_with("L1 would refuse it: depositsDigest is 0x00"),
        "{refusal}"
    );
}

#[test]
fn as_many_proofs_as_the_policy_wants_are_of_different_families_and_in_order() {
    let proof = |program: u8| JobProof {
        job: JobId::from_bytes([program; 16]),
        system: ProofSystem::Risc0,
        program_id: id(program),
        kind: ProofKind::Groth16,
        proof: ArtifactRef::of(&[program]),
    };
    let system = |program: u8, family: u8| System {
        adapter: Address::ZERO,
        programId: id(program),
        family: id(family),
    };
    let policy = |threshold| Policy {
        systems: vec![system(1, 1), system(2, 1), system(3, 2)],
        threshold,
        ..Policy::default()
    };
    let chosen = |threshold, programs: &[u8]| {
        let proofs: Vec<_> = programs.iter().map(|program| proof(*program)).collect();
        let chosen = choose(&policy(threshold), &proofs);
        chosen.map(|chosen| chosen.iter().map(|(place, _)| *place).collect::<Vec<_>>())
    };
    assert_eq!(chosen(1, &[3, 2, 1]), Ok(vec![0]));
    assert_eq!(chosen(2, &[3, 2, 1]), Ok(vec![0, 2]), "not two of a family");
    assert_eq!(chosen(1, &[3]), Ok(vec![2]));
    assert_eq!(chosen(2, &[1, 2]).unwrap_err().name, "programId");
    assert_eq!(chosen(1, &[9]).unwrap_err().name, "programId");
    assert_eq!(chosen(0, &[]).unwrap_err().name, "programId", "none is none");
}

#[test]
fn a_call_is_what_the_contract_decodes() {
    let call = call(vec![1, 2], id(3), vec![(2, vec![7; 36])]);
    let decoded = IRollup::settleCall::abi_decode_validate(&call).unwrap();
    assert_eq!((&decoded.values[..], decoded.link), (&[1, 2][..], id(3)));
    assert_eq!((decoded.proofs[0].system, decoded.proofs[0].data.len()), (2, 36));
    let mock = mock(id(4), &[1, 2]);
    assert_eq!((mock.len(), &mock[..6], mock[22]), (22 + 64, &b"DANGER"[..], 4));
    assert_eq!(U256::try_from_be_slice(&mock[54..]), Some(keccak256([1, 2]).into()));
}

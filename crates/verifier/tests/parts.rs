//! Plans, and the proofs of parts: what is accepted, and that nothing else is.

use std::ops::Range;

use proptest::prelude::*;
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{Digest, SystemState};
use verifier::plan::{MAX_PARTS, claim_of, exec_part};
use verifier::risc0::{encode_part, keccak_receipt, mocked_part, segments_receipt};
use verifier::{
    Claim, EXEC_PROGRAM_ID, MAX_PUBLIC_VALUES, Plan, Policy, System, VerifyError, verify_part,
};

const ACCEPT_EXEC: Policy = Policy { danger_accept_exec: true, danger_accept_dev_mode: false };
const ACCEPT_DEV_MODE: Policy = Policy { danger_accept_exec: false, danger_accept_dev_mode: true };
const ACCEPT_ALL: Policy = Policy { danger_accept_exec: true, danger_accept_dev_mode: true };

/// A plan of a run that never was.
fn plan(segments: u8, batches: u8) -> Plan {
    let mut states: Vec<[u8; 32]> = (0..segments).map(|index| [index + 1; 32]).collect();
    states.push([0; 32]);
    let keccak = (0..batches).map(|index| [index + 100; 32]).collect();
    Plan { segment_po2: 20, states, keccak, public_values: b"the public values".to_vec() }
}

/// The program that the run of `plan` begins with.
fn program(plan: &Plan) -> [u8; 32] {
    SystemState { pc: 0, merkle_root: Digest::from(plan.states[0]) }.digest().into()
}

/// Every claim with a range up to `end`, meaningless ones too.
fn claims(end: u32) -> Vec<Claim> {
    let ranges = (0..=end).flat_map(|first| (0..=end).map(move |end| first..end));
    let both = |range: Range<u32>| [Claim::Segments(range.clone()), Claim::Keccak(range)];
    ranges.flat_map(both).collect()
}

fn mocked(plan: &Plan, claim: &Claim, proof: &[u8]) -> Result<(), VerifyError> {
    verify_part(System::Risc0, program(plan), plan, claim, proof, &ACCEPT_DEV_MODE)
}

fn exec(plan: &Plan, claim: &Claim, proof: &[u8]) -> Result<(), VerifyError> {
    verify_part(System::Exec, EXEC_PROGRAM_ID, plan, claim, proof, &ACCEPT_EXEC)
}

#[test]
fn a_plan_is_the_documented_bytes() {
    let plan = plan(1, 1);
    let bytes = plan.encode();
    let documented = [
        &b"L2PL\x01\x14"[..],
        &[2, 0, 0, 0],
        &[1; 32],
        &[0; 32],
        &[1, 0, 0, 0],
        &[100; 32],
        &[17, 0, 0, 0],
        b"the public values",
    ];
    assert_eq!(bytes, documented.concat());
    assert_eq!(Plan::decode(&bytes), Ok(plan));
}

#[test]
fn a_plan_that_is_cut_extended_or_beyond_the_limits_is_refused() {
    let good = plan(2, 2).encode();
    for end in 0..good.len() {
        let refused = Plan::decode(&good[..end]);
        assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{end}: {refused:?}");
    }
    let refuse = |bytes: &[u8], what: &str| {
        let refused = Plan::decode(bytes).expect_err(what).to_string();
        assert!(refused.contains(what), "{refused}");
    };
    refuse(&[&good[..], &[0]].concat(), "bytes after the plan's end");
    refuse(&[b"L2PM", &good[4..]].concat(), "not a plan of ours");
    refuse(&[b"L2PL\x02", &good[5..]].concat(), "unknown version");
    let with = |change: fn(&mut Plan)| {
        let mut plan = plan(2, 2);
        change(&mut plan);
        plan.encode()
    };
    refuse(&with(|plan| plan.segment_po2 = 25), "larger segments than there are");
    refuse(&with(|plan| plan.segment_po2 = 1 << 20), "larger segments than there are");
    refuse(&with(|plan| plan.states.truncate(1)), "no segments");
    refuse(&with(|plan| plan.states.clear()), "no segments");
    let most = MAX_PARTS as usize;
    refuse(&with(|plan| plan.states = vec![[0; 32]; MAX_PARTS as usize + 2]), "more segments");
    refuse(&with(|plan| plan.keccak = vec![[0; 32]; MAX_PARTS as usize + 1]), "more batches");
    refuse(&with(|plan| plan.public_values = vec![0; MAX_PUBLIC_VALUES + 1]), "too large");
    let largest = Plan {
        segment_po2: 24,
        states: vec![[0; 32]; most + 1],
        keccak: vec![[0; 32]; most],
        public_values: vec![0; MAX_PUBLIC_VALUES],
    };
    assert_eq!(Plan::decode(&largest.encode()), Ok(largest));
    // Lengths that no bytes follow.
    for at in [6, 6 + 4 + 3 * 32, good.len() - 17 - 4] {
        let mut bytes = good.clone();
        bytes[at..at + 4].fill(0xff);
        assert!(Plan::decode(&bytes).is_err(), "{at}");
    }
}

#[test]
fn only_ranges_that_the_run_has_are_claims() {
    let plan = plan(3, 5);
    let meaningful: Vec<String> = claims(6)
        .into_iter()
        .filter(|claim| claim.check(&plan).is_ok())
        .map(|claim| claim.to_string())
        .collect();
    let expected = "segments 0..1, keccak 0..1, segments 0..2, keccak 0..2, segments 0..3, keccak 0..4, keccak 0..5, segments 1..2, \
                    keccak 1..2, segments 1..3, segments 2..3, keccak 2..3, keccak 2..4, keccak 3..4, keccak 4..5";
    assert_eq!(meaningful.join(", "), expected);
    // Nor does a proof that names another help.
    for claim in claims(6) {
        let proof = exec_part(&plan, &claim);
        assert_eq!(exec(&plan, &claim, &proof).is_ok(), claim.check(&plan).is_ok(), "{claim}");
        assert_eq!(mocked_part(&plan, &claim).is_ok(), claim.check(&plan).is_ok(), "{claim}");
    }
    let none = Plan { states: Vec::new(), ..plan };
    assert!(Claim::Segments(0..1).check(&none).is_err());
    let claim = Claim::Keccak(0..1);
    let refused = verify_part(
        System::Risc0,
        [7; 32],
        &none,
        &claim,
        &mocked_part(&none, &claim).expect("it has batches"),
        &ACCEPT_ALL,
    );
    assert!(matches!(refused, Err(VerifyError::WrongProgram { .. })), "{refused:?}");
}

#[test]
fn a_part_that_proves_nothing_is_refused_unless_the_policy_accepts_it() {
    let plan = plan(3, 1);
    let claim = Claim::Segments(1..3);
    let proof = exec_part(&plan, &claim);
    for policy in [Policy::default(), ACCEPT_DEV_MODE] {
        let refused = verify_part(System::Exec, EXEC_PROGRAM_ID, &plan, &claim, &proof, &policy);
        assert_eq!(refused, Err(VerifyError::ExecRefused));
    }
    assert_eq!(exec(&plan, &claim, &proof), Ok(()));
    let other = verify_part(System::Exec, [7; 32], &plan, &claim, &proof, &ACCEPT_ALL);
    assert!(matches!(other, Err(VerifyError::WrongProgram { .. })), "{other:?}");

    let proof = mocked_part(&plan, &claim).expect("the run has it");
    for policy in [Policy::default(), ACCEPT_EXEC] {
        let refused = verify_part(System::Risc0, program(&plan), &plan, &claim, &proof, &policy);
        assert_eq!(refused, Err(VerifyError::DevModeRefused));
    }
    assert_eq!(mocked(&plan, &claim, &proof), Ok(()));
    let other = verify_part(System::Risc0, [7; 32], &plan, &claim, &proof, &ACCEPT_ALL);
    assert!(matches!(other, Err(VerifyError::WrongProgram { .. })), "{other:?}");
    // No receipt is made of what is none.
    assert_eq!(segments_receipt(&plan, &proof).err(), Some(VerifyError::DevModeRefused));
    let proof = mocked_part(&plan, &Claim::Keccak(0..1)).expect("the run has it");
    assert_eq!(keccak_receipt(&plan, &proof).err(), Some(VerifyError::DevModeRefused));
}

#[test]
fn parts_of_a_revoked_program_are_refused() {
    for revoked in verifier::REVOKED {
        let (plan, claim) = (plan(1, 1), Claim::Keccak(0..1));
        for (system, proof) in [
            (System::Exec, exec_part(&plan, &claim)),
            (System::Risc0, mocked_part(&plan, &claim).expect("the run has it")),
        ] {
            let refused = verify_part(system, revoked.id, &plan, &claim, &proof, &ACCEPT_ALL);
            assert!(matches!(refused, Err(VerifyError::Revoked { .. })), "{refused:?}");
        }
    }
}

#[test]
fn a_part_stands_for_one_range_of_one_run() {
    let plan = plan(3, 4);
    let all: Vec<Claim> =
        claims(4).into_iter().filter(|claim| claim.check(&plan).is_ok()).collect();
    let changed = |change: fn(&mut Plan)| {
        let mut other = plan.clone();
        change(&mut other);
        other
    };
    for claim in &all {
        let proofs = [exec_part(&plan, claim), mocked_part(&plan, claim).expect("the run has it")];
        assert_eq!(exec(&plan, claim, &proofs[0]), Ok(()), "{claim}");
        assert_eq!(mocked(&plan, claim, &proofs[1]), Ok(()), "{claim}");
        for other in all.iter().filter(|other| *other != claim) {
            assert!(exec(&plan, other, &proofs[0]).is_err(), "{claim} for {other}");
            assert!(mocked(&plan, other, &proofs[1]).is_err(), "{claim} for {other}");
            // Nor with its name on it.
            let mut renamed = proofs.clone();
            renamed[0][10..19].copy_from_slice(&exec_part(&plan, other)[10..19]);
            let named = mocked_part(&plan, other).expect("the run has it");
            renamed[1][6..15].copy_from_slice(&named[6..15]);
            assert_eq!(claim_of(System::Exec, &renamed[0]).as_ref(), Ok(other));
            assert_eq!(claim_of(System::Risc0, &renamed[1]).as_ref(), Ok(other));
            assert!(exec(&plan, other, &renamed[0]).is_err(), "{claim} for {other}");
            assert!(mocked(&plan, other, &renamed[1]).is_err(), "{claim} for {other}");
        }
        for proof in &proofs {
            for at in 0..proof.len() {
                let mut flipped = proof.clone();
                flipped[at] ^= 1 << (at % 8);
                assert!(exec(&plan, claim, &flipped).is_err(), "{claim}: byte {at}");
                assert!(mocked(&plan, claim, &flipped).is_err(), "{claim}: byte {at}");
                assert!(mocked(&plan, claim, &proof[..at]).is_err(), "{claim}: up to {at}");
                assert!(exec(&plan, claim, &proof[..at]).is_err(), "{claim}: up to {at}");
            }
            let longer = [&proof[..], &[0]].concat();
            assert!(exec(&plan, claim, &longer).is_err(), "{claim}: longer");
            assert!(mocked(&plan, claim, &longer).is_err(), "{claim}: longer");
        }
    }
    // Each field of the plan is bound by the parts that it concerns.
    let (first, last) = (Claim::Segments(0..2), Claim::Segments(2..3));
    let keccak = Claim::Keccak(0..4);
    for (what, other, touched, untouched) in [
        ("a state", changed(|plan| plan.states[2][0] ^= 1), vec![&first, &last], vec![&keccak]),
        ("the last state", changed(|plan| plan.states[3][0] ^= 1), vec![&last], vec![&first]),
        ("a batch", changed(|plan| plan.keccak[3][0] ^= 1), vec![&keccak, &last], vec![&first]),
        ("no batches", changed(|plan| plan.keccak.clear()), vec![&last], vec![&first]),
        ("values", changed(|plan| plan.public_values[0] ^= 1), vec![&last], vec![&first, &keccak]),
    ] {
        for claim in touched {
            let proof = mocked_part(&plan, claim).expect("the run has it");
            assert!(mocked(&other, claim, &proof).is_err(), "{what}: {claim}");
        }
        for claim in untouched {
            let proof = mocked_part(&plan, claim).expect("the run has it");
            assert_eq!(mocked(&other, claim, &proof), Ok(()), "{what}: {claim}");
        }
        assert!(exec(&other, &first, &exec_part(&plan, &first)).is_err(), "{what}");
    }
}

fn digests(most: usize) -> impl Strategy<Value = Vec<[u8; 32]>> {
    proptest::collection::vec(any::<[u8; 32]>(), 0..most)
}

proptest! {
    #[test]
    fn a_plan_comes_back_as_it_was(
        segment_po2 in 0_u32..=24,
        mut states in digests(20),
        keccak in digests(20),
        public_values in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        states.extend([[1; 32], [2; 32]]);
        let plan = Plan { segment_po2, states, keccak, public_values };
        prop_assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        begin in 0_usize..4,
        at in 0_usize..400,
        flip in 1_u8..,
    ) {
        let beginning = [&b""[..], b"L2PL\x01\x14\x02\0\0\0", b"L2RP\x01\x02\0", b"L2RP\x01\0\x01"][begin];
        bytes.splice(0..0, beginning.iter().copied());
        let plan = plan(3, 3);
        let _any = Plan::decode(&bytes);
        for system in [System::Exec, System::Risc0] {
            let _any = claim_of(system, &bytes);
            for claim in [Claim::Segments(0..3), Claim::Keccak(0..3), Claim::Keccak(0..u32::MAX)] {
                prop_assert!(verify_part(system, program(&plan), &plan, &claim, &bytes, &ACCEPT_ALL).is_err());
            }
        }
        let mut encoded = plan.encode();
        let at = at % encoded.len();
        encoded[at] ^= flip;
        prop_assert_ne!(Plan::decode(&encoded), Ok(plan));
    }
}

/// A real proof of a part, of a run of one segment: the seals are those of `fixtures/dev-block.proof` and `.composite.proof`.
struct Real {
    program_id: [u8; 32],
    plan: Plan,
    claim: Claim,
    proof: Vec<u8>,
}

/// The root of the memory that the program of these fixtures begins with.
const BEFORE: &str = "b40ebf3b8ffd163cbfbc0127975380217791a4387feba7026833bf73ea6f881d";

impl Real {
    /// All segments of the run, whose assumption is resolved: there are no batches of keccak permutations.
    fn segments() -> Self {
        let (proof, program_id) = fixture("dev-block.proof");
        let (journal, body) = (HEADER..HEADER + JOURNAL, HEADER + JOURNAL);
        let plan = Plan { public_values: proof[journal].to_vec(), ..Self::plan() };
        let envelope = [&b"L2RP\x01\x02\x00"[..], &[0; 4], &[1, 0, 0, 0]].concat();
        let proof = [&envelope, &proof[body..]].concat();
        Self { program_id, plan, claim: Claim::Segments(0..1), proof }
    }

    /// The one batch of keccak permutations that the run left to the accelerator.
    fn keccak() -> Self {
        let (proof, program_id) = fixture("dev-block.composite.proof");
        let words = HEADER + JOURNAL + 4;
        let length = u32::from_le_bytes(proof[words..words + 4].try_into().expect("4 bytes"));
        let claim = words + 4 + 4 * length as usize + 1;
        let keccak = vec![proof[claim..claim + 32].try_into().expect("32 bytes")];
        let plan = Plan { keccak, ..Self::plan() };
        let envelope = [&b"L2RP\x01\x02\x01"[..], &[0; 4], &[1, 0, 0, 0]].concat();
        let proof = [&envelope, &proof[claim + 64..]].concat();
        Self { program_id, plan, claim: Claim::Keccak(0..1), proof }
    }

    fn plan() -> Plan {
        let before = hex::decode(BEFORE).expect("it is hexadecimal");
        let states = vec![before.try_into().expect("32 bytes"), [0; 32]];
        Plan { segment_po2: 20, states, keccak: Vec::new(), public_values: Vec::new() }
    }

    fn verify(&self, plan: &Plan, proof: &[u8]) -> Result<(), VerifyError> {
        let (policy, program_id) = (Policy::default(), self.program_id);
        verify_part(System::Risc0, program_id, plan, &self.claim, proof, &policy)
    }

    /// Panics unless a flip of any of these bytes is refused.
    fn refuses_flips_at(&self, positions: &[usize]) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for positions in positions.chunks(positions.len().div_ceil(threads)) {
                scope.spawn(move || {
                    let mut proof = self.proof.clone();
                    for &at in positions {
                        let flip = [1, 2, 4, 8, 16, 32, 64, 128, 255][at % 9];
                        proof[at] ^= flip;
                        assert!(self.verify(&self.plan, &proof).is_err(), "byte {at} is not bound");
                        proof[at] ^= flip;
                    }
                });
            }
        });
    }
}

/// Bytes before the public values of a whole proof, and of the public values.
const HEADER: usize = 4 + 1 + 1 + 32 + 4;
const JOURNAL: usize = 14 * 32;

/// Bytes before the seal of the real proof of a part: the envelope, the recursion program, its place, the seal's length.
const SEAL: usize = 15 + 32 + 1 + 8 * 32 + 4;

fn fixture(name: &str) -> (Vec<u8>, [u8; 32]) {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let file = std::path::Path::new(&folder).join("tests/fixtures").join(name);
    let proof = std::fs::read(file).expect("the proof is checked in");
    let program_id = proof[6..38].try_into().expect("32 bytes");
    (proof, program_id)
}

#[test]
fn a_real_part_verifies_and_comes_back_as_the_receipt_that_it_was() {
    let (segments, keccak) = (Real::segments(), Real::keccak());
    for real in [&segments, &keccak] {
        assert_eq!(real.verify(&real.plan, &real.proof), Ok(()), "{}", real.claim);
        for end in (0..SEAL + 8).chain([real.proof.len() - 4, real.proof.len() - 1]) {
            let refused = real.verify(&real.plan, &real.proof[..end]);
            assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{refused:?}");
        }
    }
    let receipt = segments_receipt(&segments.plan, &segments.proof).expect("it is one");
    assert_eq!(encode_part(&segments.claim, &receipt).as_ref(), Ok(&segments.proof));
    assert!(keccak_receipt(&segments.plan, &segments.proof).is_err());
    let receipt = keccak_receipt(&keccak.plan, &keccak.proof).expect("it is one");
    assert_eq!(encode_part(&keccak.claim, &receipt).as_ref(), Ok(&keccak.proof));
    assert!(segments_receipt(&keccak.plan, &keccak.proof).is_err());
}

#[test]
fn a_real_part_of_another_program_range_or_run_is_refused() {
    let invalid = |real: &Real, what: &str, change: fn(&mut Plan)| {
        let mut plan = real.plan.clone();
        change(&mut plan);
        let refused = real.verify(&plan, &real.proof);
        assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{what}: {refused:?}");
    };
    let real = Real::segments();
    invalid(&real, "the last state", |plan| plan.states[1] = [1; 32]);
    invalid(&real, "public values", |plan| plan.public_values[31] ^= 1);
    invalid(&real, "unproven batches", |plan| plan.keccak.push([1; 32]));
    invalid(&real, "more segments", |plan| plan.states.push([0; 32]));
    let mut other = real.plan.clone();
    other.states[0][0] ^= 1;
    let refused = real.verify(&other, &real.proof);
    assert!(matches!(refused, Err(VerifyError::WrongProgram { .. })), "{refused:?}");
    let other = Real { program_id: [7; 32], ..Real::segments() };
    let refused = other.verify(&real.plan, &real.proof);
    assert!(matches!(refused, Err(VerifyError::WrongProgram { .. })), "{refused:?}");

    let real = Real::keccak();
    invalid(&real, "another claim", |plan| plan.keccak[0][0] ^= 1);
    invalid(&real, "more batches", |plan| plan.keccak.insert(0, [0; 32]));
    // The two are not each other.
    let (segments, keccak) = (Real::segments(), Real::keccak());
    let swapped = [&segments.proof[..15], &keccak.proof[15..]].concat();
    assert!(matches!(segments.verify(&segments.plan, &swapped), Err(VerifyError::Invalid(_))));
    let swapped = [&keccak.proof[..15], &segments.proof[15..]].concat();
    assert!(matches!(keccak.verify(&keccak.plan, &swapped), Err(VerifyError::Invalid(_))));
}

#[test]
fn a_flipped_byte_of_a_real_part_is_refused() {
    for (real, stride) in [(Real::segments(), 97), (Real::keccak(), 997)] {
        let sample = (SEAL..real.proof.len()).step_by(stride);
        real.refuses_flips_at(&(0..SEAL).chain(sample).collect::<Vec<_>>());
    }
}

/// Parts of a dev block's run of three segments, made by the test `a_real_proof_in_parts` of `prover-risc0`.
#[test]
fn real_parts_hold_for_their_own_range_and_no_other() {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = std::path::Path::new(&folder).join("tests/fixtures");
    let file = |name: &str| std::fs::read(folder.join(name)).expect("it is checked in");
    let plan = Plan::decode(&file("part.plan")).unwrap();
    assert_eq!((plan.segments(), plan.batches()), (3, 1));
    let program_id = "adb53e2fa3c1b2ce49229b2581b6836688d1977e355a172bfb217fc8aa7ef872";
    let program_id: [u8; 32] = hex::decode(program_id).unwrap().try_into().unwrap();
    let check = |plan: &Plan, claim: &Claim, proof: &[u8]| {
        verify_part(System::Risc0, program_id, plan, claim, proof, &Policy::default())
    };
    let mut other = plan.clone();
    other.states[2][0] ^= 1;
    let mut hashed = plan.clone();
    hashed.keccak[0][0] ^= 1;
    for (name, its, elsewhere) in [
        ("part-first.proof", Claim::Segments(0..2), &other),
        ("part-last.proof", Claim::Segments(2..3), &other),
        ("part-keccak.proof", Claim::Keccak(0..1), &hashed),
    ] {
        let proof = file(name);
        check(&plan, &its, &proof).unwrap();
        assert!(check(elsewhere, &its, &proof).is_err(), "{name} is of another run");
        for claim in claims(3).into_iter().filter(|claim| *claim != its) {
            assert!(check(&plan, &claim, &proof).is_err(), "{name} proves {claim}");
            // Neither if the envelope says so.
            let mut posing = proof.clone();
            posing[6..15].copy_from_slice(
                &[
                    &[u8::from(matches!(claim, Claim::Keccak(_)))][..],
                    &range(&claim).start.to_le_bytes(),
                    &range(&claim).end.to_le_bytes(),
                ]
                .concat(),
            );
            assert!(check(&plan, &claim, &posing).is_err(), "{name} poses as {claim}");
        }
        for place in (0..proof.len()).step_by(7_919) {
            let mut flipped = proof.clone();
            flipped[place] ^= 1;
            assert!(check(&plan, &its, &flipped).is_err(), "{name} with byte {place} flipped");
        }
    }
}

fn range(claim: &Claim) -> Range<u32> {
    let (Claim::Segments(range) | Claim::Keccak(range)) = claim;
    range.clone()
}

//! Folds proofs of consecutive batches into one, with the guest in `guests/risc0-aggregate`.
//!
//! * Each proof is verified before anything is proven: the guest leaves that to its receipt's conditions, which a proof that does not
//!   hold could not resolve in the end.
//! * The folded statement is computed natively first, so that proofs that cannot be folded are refused in words.

use client::prover::{ProofKind, open_bundle};
use client::{Cancel, Progress, ProveError};
use program::fold::{self, Member};
use risc0_zkvm::{NullSegmentRef, Receipt, SuccinctReceipt, Unknown};
use verifier::{Policy, RISC0_AGGREGATE_ID, RISC0_PROGRAM_ID, System};

use crate::guest::{self, Start};
use crate::{Config, executed, mocked, steps};

/// The program binary of the guest that folds.
const AGGREGATE: &[u8] = include_bytes!("../../../guests/risc0-aggregate/pinned/l2-aggregate.bin");

/// Proves what all proofs of a bundle prove together.
pub(crate) fn prove(
    config: Config,
    bundle: &[u8],
    cancel: &Cancel,
    progress: &dyn Fn(Progress),
) -> Result<Vec<u8>, ProveError> {
    let (members, receipts) = read(bundle, &config.policy())?;
    let whole = fold::fold(&members).map_err(refused)?;
    let spill = guest::Spill::new().map_err(|error| ProveError::Unavailable(error.into()))?;
    let input = fold::encode(&members);
    let start = Start::Upon(AGGREGATE, &receipts);
    let run = guest::run(start, &input, config.segment_po2, cancel, None, |segment| match config
        .dev_mode
    {
        true => Ok(Box::new(NullSegmentRef)),
        false => spill.keep(&segment),
    })?;
    if run.journal != whole.abi_encode() {
        return Err(ProveError::Failed("the guest folds to another statement".into()));
    }
    let receipt = if config.dev_mode {
        progress(executed(&run, None));
        mocked(RISC0_AGGREGATE_ID, &run.journal)
    } else {
        let kind = ProofKind::Aggregate;
        progress(executed(&run, Some(steps::later_steps(&run, kind))));
        steps::prove(&run, &upon(&receipts)?, kind, cancel, progress)?
    };
    config.finished(RISC0_AGGREGATE_ID, receipt, run.journal)
}

/// What the proofs of a bundle state, and their receipts, verified.
fn read(bundle: &[u8], policy: &Policy) -> Result<(Vec<Member>, Vec<Receipt>), ProveError> {
    let verify = |proof: &[u8]| verifier::verify(System::Risc0, RISC0_PROGRAM_ID, proof, policy);
    let with_receipt = |(member, proof): (Member, &[u8])| {
        Ok((member, verifier::risc0::receipt(RISC0_PROGRAM_ID, proof).map_err(refused)?))
    };
    open_bundle(bundle, verify)?.into_iter().map(with_receipt).collect()
}

/// The receipts, as what a receipt that is conditional on them is resolved with.
fn upon(receipts: &[Receipt]) -> Result<Vec<SuccinctReceipt<Unknown>>, ProveError> {
    let succinct = |receipt: &Receipt| {
        let succinct =
            receipt.inner.succinct().map_err(|error| ProveError::Failed(error.into()))?;
        Ok(succinct.clone().into_unknown())
    };
    receipts.iter().map(succinct).collect()
}

fn refused(error: impl std::fmt::Display) -> ProveError {
    ProveError::BadInput(error.to_string())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use client::FailureClass;
    use expect_test::expect;
    use program::Statement;
    use risc0_zkvm::sha::Digestible as _;
    use risc0_zkvm::{Assumption, Digest, FakeReceipt, InnerReceipt, MaybePruned, ReceiptClaim};
    use verifier::bundle;

    use super::*;
    use crate::guest::Run;

    /// Consecutive batches of one block each.
    fn members(count: u8) -> Vec<Member> {
        let state = |n: u8| B256::repeat_byte(n);
        let statement = |n: u8| Statement {
            version: program::statement::VERSION,
            chain_config_digest: state(0xcc),
            parent_hash: state(n),
            last_hash: state(n + 1),
            first_number: 1 + u64::from(n),
            last_number: 1 + u64::from(n),
            pre_state_root: state(n),
            post_state_root: state(n + 1),
            deposits_digest: B256::ZERO,
            deposits_count: 0,
            messages_root: B256::ZERO,
            last_timestamp: u64::from(n),
            data_commitment: B256::ZERO,
            beneficiary: Address::ZERO,
        };
        (0..count).map(|n| Member { statement: statement(n), deposits: [B256::ZERO; 2] }).collect()
    }

    /// What a proof of this statement by a program claims.
    fn claim(program: [u8; 32], member: &Member) -> ReceiptClaim {
        let journal = member.statement.abi_encode();
        ReceiptClaim::ok(Digest::from(program), MaybePruned::Value(journal))
    }

    fn receipts(program: [u8; 32], members: &[Member]) -> Vec<Receipt> {
        let receipt = |member: &Member| {
            let inner = InnerReceipt::Fake(FakeReceipt::new(claim(program, member)));
            Receipt::new(inner, member.statement.abi_encode())
        };
        members.iter().map(receipt).collect()
    }

    /// Runs the guest as a hostile host would: with whatever input, upon whatever receipts.
    fn run(members: &[Member], receipts: &[Receipt]) -> Result<Run, ProveError> {
        let (start, input) = (Start::Upon(AGGREGATE, receipts), fold::encode(members));
        guest::run(start, &input, 18, &Cancel::new(), None, |_| Ok(Box::new(NullSegmentRef)))
    }

    #[test]
    fn the_guest_assumes_each_statement_and_commits_to_all_together() {
        for count in [1, 3, 16] {
            let members = members(count);
            let run = run(&members, &receipts(RISC0_PROGRAM_ID, &members)).unwrap();
            assert_eq!(run.journal, fold::fold(&members).unwrap().abi_encode());
            let mut assumed: Vec<_> =
                run.session.assumptions.iter().map(|(assumed, _)| assumed.clone()).collect();
            let of = |member| Assumption {
                claim: claim(RISC0_PROGRAM_ID, member).digest(),
                control_root: Digest::ZERO,
            };
            let mut claims: Vec<_> = members.iter().map(of).collect();
            assumed.sort_by_key(|it| it.claim);
            claims.sort_by_key(|it| it.claim);
            assert_eq!(assumed, claims, "nothing more and nothing less");
            assert!(run.keccak.is_empty(), "no circuit but the zkVM's own has to be proven");
        }
    }

    #[test]
    fn the_guest_folds_nothing_that_no_receipt_shows() {
        let two = members(2);
        let mut other = two.clone();
        other[1].statement.last_timestamp += 1;
        for receipts in [
            receipts([7; 32], &two),
            receipts(RISC0_AGGREGATE_ID, &two),
            receipts(RISC0_PROGRAM_ID, &other),
            receipts(RISC0_PROGRAM_ID, &two[..1]),
            Vec::new(),
        ] {
            assert!(run(&two, &receipts).is_err());
        }
        run(&two, &receipts(RISC0_PROGRAM_ID, &two)).unwrap();
    }

    #[test]
    fn the_guest_refuses_what_is_no_chain() {
        let three = members(3);
        let shown = receipts(RISC0_PROGRAM_ID, &three);
        let of = |these: &[usize]| these.iter().map(|at| three[*at].clone()).collect::<Vec<_>>();
        for these in [&[0, 2][..], &[1, 0], &[0, 1, 1], &[0, 2, 1]] {
            let refused = run(&of(these), &shown).err().expect("it is no chain");
            assert_eq!(refused.class(), FailureClass::GuestPanic, "{refused}");
            assert!(refused.to_string().contains("does not continue the one before"), "{refused}");
        }
        let refused = run(&[], &shown).err().expect("there is nothing to fold");
        assert!(refused.to_string().contains("0 statements cannot be folded"), "{refused}");
    }

    /// User cycles, and cycles with paging: exact, so that one that grows needs a reason.
    #[test]
    fn what_folding_costs() {
        let cost = |count| {
            let members = members(count);
            let run = run(&members, &receipts(RISC0_PROGRAM_ID, &members)).unwrap();
            let session = &run.session;
            (count, session.user_cycles, session.user_cycles + session.paging_cycles)
        };
        let costs = [1, 2, 16, 64].map(cost);
        expect![[r#"
            [
                (
                    1,
                    22986,
                    53258,
                ),
                (
                    2,
                    41155,
                    73437,
                ),
                (
                    16,
                    295521,
                    383187,
                ),
                (
                    64,
                    1167915,
                    1490747,
                ),
            ]
        "#]]
        .assert_debug_eq(&costs);
    }

    /// Folds the three proofs of batches in the folder PROOFS, and writes there the folded proof, and what it is before those proofs
    /// resolve its conditions.
    #[test]
    #[ignore = "proves for real, for a quarter of an hour"]
    fn the_folded_proofs_that_are_checked_in() {
        let folder = std::env::var_os("PROOFS").expect("PROOFS is a folder");
        let folder = std::path::PathBuf::from(folder);
        let proofs = ["dev-block.proof", "dev-block-2.proof", "dev-block-3.proof"]
            .map(|name| std::fs::read(folder.join(name)).unwrap());
        let values = proofs.each_ref().map(|proof| {
            let policy = Policy::default();
            verifier::verify(System::Risc0, RISC0_PROGRAM_ID, proof, &policy).unwrap().public_values
        });
        let members = proofs.iter().zip(&values).map(|(proof, public_values)| bundle::Member {
            public_values,
            deposits: [[0; 32]; 2],
            proof,
        });
        let bundle = bundle::encode(&members.collect::<Vec<_>>()).unwrap();
        let config = Config { segment_po2: 18, dev_mode: false };
        let progress = |_: Progress| {};
        let folded = prove(config, &bundle, &Cancel::new(), &progress).unwrap();
        std::fs::write(folder.join("folded.proof"), folded).unwrap();

        let (members, receipts) = read(&bundle, &Policy::default()).unwrap();
        let spill = guest::Spill::new().unwrap();
        let (start, input) = (Start::Upon(AGGREGATE, &receipts), fold::encode(&members));
        let cancel = Cancel::new();
        let run = guest::run(start, &input, 18, &cancel, None, |segment| spill.keep(&segment));
        let run = run.unwrap();
        let mut steps = steps::Steps::new(0, &cancel, &progress).unwrap();
        let segments = steps.segments(run.session.segments.iter()).unwrap();
        let open = InnerReceipt::Succinct(steps.lift_and_join(segments).unwrap());
        let open = Receipt::new(open, run.journal);
        let open = verifier::risc0::encode(RISC0_AGGREGATE_ID, &open).unwrap();
        std::fs::write(folder.join("folded-conditional.proof"), open).unwrap();
    }
}

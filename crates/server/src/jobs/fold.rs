//! Proofs of consecutive batches, folded into one: which are folded, and when.
//!
//! Folding is a job of its own, of a kind and a program of its own, whose input is accepted proofs instead of blocks. Turning a proof into
//! another kind is the same with one proof. What is made of what is data: a [`Folding`] for each step.

use super::batch::{DepositLinks, Target};
use crate::clock::Timestamp;
use alloy_primitives::B256;
use program::{
    Statement,
    fold::{self, FoldError, Member},
};
use protocol::{ArtifactId, ArtifactRef, BlockRange, JobId};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The most proofs that a server has folded into one.
pub const MOST_FOLDED: u32 = 256;

/// What is folded into what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// What the proofs are of.
    pub of: Target,
    /// What the folded one is of.
    pub into: Target,
    /// So many at once.
    pub most: usize,
    /// Fewer, when the first has waited for so long.
    pub after: Duration,
}

/// An accepted proof of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foldable {
    /// The job that asked for it.
    pub job: JobId,
    /// The blocks.
    pub blocks: BlockRange,
    /// The statement's ABI bytes.
    pub statement: Vec<u8>,
    /// The proof.
    pub proof: ArtifactRef,
    /// Since when it is there.
    pub proved_at: Timestamp,
    /// Gas used by the blocks.
    pub gas_used: u64,
    /// Transactions in the blocks.
    pub transactions: u64,
    /// Where the deposits are, if the chain has a bridge.
    pub deposits: Option<DepositLinks>,
}

impl Foldable {
    /// The links around its deposits, as whoever folds it wants them.
    pub fn links(&self) -> [B256; 2] {
        self.deposits.map_or([B256::ZERO; 2], |it| [it.start, it.end])
    }
}

/// What is to be done about the first proofs that are not folded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before there are more, or time has passed.
    Wait,
    /// The first so many make up one statement.
    Fold(usize, Box<Statement>),
    /// The first one can be folded with no other, by this server.
    Cannot(FoldError),
}

/// What is to be done about `proofs`, which are of consecutive batches, the first ones that are not folded yet.
pub fn next(folding: &Folding, proofs: &[Foldable], now: Timestamp) -> Next {
    // One by one, each stands for itself, whatever it states.
    if folding.most == 1 {
        let first = proofs.first().map(|proof| Statement::abi_decode(&proof.statement));
        return match first {
            None => Next::Wait,
            Some(Ok(statement)) => Next::Fold(1, Box::new(statement)),
            Some(Err(error)) => {
                Next::Cannot(FoldError::Statement { index: 0, error: Box::new(error) })
            }
        };
    }
    let mut members = Vec::new();
    let mut whole: Option<(usize, Statement)> = None;
    let mut ends = false;
    for proof in proofs.iter().take(folding.most) {
        let folded = Statement::abi_decode(&proof.statement)
            .map_err(|error| FoldError::Statement { index: members.len(), error: Box::new(error) })
            .and_then(|statement| {
                members.push(Member { statement, deposits: proof.links() });
                fold::fold(&members)
            });
        match folded {
            Ok(folded) => whole = Some((members.len(), folded)),
            Err(error) if whole.is_none() => return Next::Cannot(error),
            // What comes next is of other rules, or of another beneficiary, or elsewhere.
            Err(_) => {
                ends = true;
                break;
            }
        }
    }
    let (Some((count, whole)), Some(first)) = (whole, proofs.first()) else { return Next::Wait };
    let due = ends || count >= folding.most || now.after(first.proved_at) >= folding.after;
    if due { Next::Fold(count, Box::new(whole)) } else { Next::Wait }
}

/// The id of the job that makes a proof of this statement of the proofs in a bundle.
pub fn fold_id(into: &Target, statement: &[u8], bundle: ArtifactId) -> JobId {
    let mut hash = Sha256::new();
    hash.update(b"l2-prover fold 1\0");
    hash.update(into.program_id);
    hash.update(format!("{}/{}", into.system, into.kind));
    hash.update(bundle.as_bytes());
    hash.update(statement);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    JobId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use protocol::{ProofKind, ProofSystem};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn folding(most: usize) -> Folding {
        let of =
            Target { system: ProofSystem::Exec, program_id: B256::ZERO, kind: ProofKind::Succinct };
        Folding { of, into: Target { kind: ProofKind::Aggregate, ..of }, most, after: HOUR }
    }

    fn proofs(count: u8) -> Vec<Foldable> {
        (0..count)
            .map(|n| {
                let statement = Statement {
                    version: program::statement::VERSION,
                    chain_config_digest: B256::repeat_byte(0xcc),
                    parent_hash: B256::repeat_byte(n),
                    last_hash: B256::repeat_byte(n + 1),
                    first_number: u64::from(n) + 1,
                    last_number: u64::from(n) + 1,
                    pre_state_root: B256::repeat_byte(n),
                    post_state_root: B256::repeat_byte(n + 1),
                    deposits_digest: B256::ZERO,
                    deposits_count: 0,
                    messages_root: B256::ZERO,
                    last_timestamp: u64::from(n),
                    data_commitment: B256::ZERO,
                    beneficiary: Address::ZERO,
                };
                Foldable {
                    job: JobId::from_bytes([n; 16]),
                    blocks: BlockRange::new(u64::from(n) + 1, u64::from(n) + 1).unwrap(),
                    statement: statement.abi_encode(),
                    proof: ArtifactRef::of(&[n]),
                    proved_at: Timestamp(1_000 * u64::from(n)),
                    gas_used: 0,
                    transactions: 0,
                    deposits: None,
                }
            })
            .collect()
    }

    fn changed(proofs: &mut [Foldable], at: usize, change: impl FnOnce(&mut Statement)) {
        let mut statement = Statement::abi_decode(&proofs[at].statement).unwrap();
        change(&mut statement);
        proofs[at].statement = statement.abi_encode();
    }

    fn folds(next: Next) -> Option<(usize, u64, u64)> {
        match next {
            Next::Fold(count, whole) => Some((count, whole.first_number, whole.last_number)),
            _ => None,
        }
    }

    #[test]
    fn proofs_are_folded_when_there_are_enough_or_the_first_has_waited_long_enough() {
        let soon = Timestamp(5_000);
        assert_eq!(next(&folding(3), &[], soon), Next::Wait);
        assert_eq!(next(&folding(3), &proofs(2), soon), Next::Wait);
        assert_eq!(folds(next(&folding(3), &proofs(3), soon)), Some((3, 1, 3)));
        assert_eq!(folds(next(&folding(3), &proofs(8), soon)), Some((3, 1, 3)));
        let late = Timestamp(3_600_000);
        assert_eq!(folds(next(&folding(3), &proofs(2), late)), Some((2, 1, 2)));
        assert_eq!(folds(next(&folding(3), &proofs(1), late)), Some((1, 1, 1)));
        assert_eq!(next(&folding(3), &proofs(2), Timestamp(3_599_999)), Next::Wait);
    }

    #[test]
    fn proofs_of_other_rules_or_beneficiaries_are_folded_apart() {
        for change in
            [(|it| it.beneficiary = Address::repeat_byte(1)) as fn(&mut Statement), |it| {
                it.chain_config_digest = B256::ZERO
            }]
        {
            let mut proofs = proofs(4);
            changed(&mut proofs, 2, change);
            assert_eq!(folds(next(&folding(4), &proofs, Timestamp(5_000))), Some((2, 1, 2)));
            // The rest waits for more of its own.
            assert_eq!(folds(next(&folding(4), &proofs[2..], Timestamp(5_000))), Some((1, 3, 3)));
        }
    }

    #[test]
    fn a_gap_and_what_cannot_be_read_end_a_group() {
        let mut gap = proofs(5);
        gap.remove(2);
        assert_eq!(folds(next(&folding(4), &gap, Timestamp(5_000))), Some((2, 1, 2)));
        let mut odd = proofs(4);
        odd[3].statement = vec![1; 448];
        assert_eq!(folds(next(&folding(4), &odd, Timestamp(5_000))), Some((3, 1, 3)));
        let refused = next(&folding(4), &odd[3..], Timestamp(5_000));
        assert!(matches!(refused, Next::Cannot(FoldError::Statement { index: 0, .. })));
    }

    #[test]
    fn proofs_with_a_bridge_are_not_folded_by_guessing_links() {
        let mut proofs = proofs(2);
        changed(&mut proofs, 0, |it| it.deposits_digest = B256::repeat_byte(1));
        let refused = next(&folding(2), &proofs, Timestamp(5_000));
        assert_eq!(refused, Next::Cannot(FoldError::Deposits(0)));
    }

    #[test]
    fn a_job_that_folds_is_the_same_for_the_same_proofs_alone() {
        let into = folding(2).into;
        let bundle = |n: u8| ArtifactRef::of(&[n]).sha256;
        let id = fold_id(&into, b"statement", bundle(1));
        assert_eq!(id, fold_id(&into, b"statement", bundle(1)));
        assert_ne!(id, fold_id(&into, b"statements", bundle(1)));
        assert_ne!(id, fold_id(&into, b"statement", bundle(2)));
        for other in [
            Target { program_id: B256::repeat_byte(1), ..into },
            Target { kind: ProofKind::Groth16, ..into },
            Target { system: ProofSystem::Risc0, ..into },
        ] {
            assert_ne!(id, fold_id(&other, b"statement", bundle(1)));
        }
    }
}

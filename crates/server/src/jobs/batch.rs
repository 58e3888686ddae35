//! A batch of blocks, the proofs that are wanted of it, and the jobs that follow from both.
//!
//! * Batches form a chain: each continues its predecessor by number and by hash ([`follows`]).
//! * Of every batch one proof or several are wanted, and each is a job of its own ([`Targets`]).
//! * A job's id follows from its batch and its target, so whoever enqueues twice enqueues once ([`job_id`]).

use super::cost::ProvingCost;
use alloy_primitives::B256;
use protocol::{
    ArtifactRef, BlockRange, Capability, JobId, JobState, PartOf, PartWork, ProofKind, ProofSystem,
};
use sha2::{Digest, Sha256};

/// A batch to be proven, as the server itself computed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// Its blocks.
    pub blocks: BlockRange,
    /// Hash of the block before the first.
    pub parent_hash: B256,
    /// Hash of the last block.
    pub last_hash: B256,
    /// The statement's ABI bytes.
    pub statement: Vec<u8>,
    /// Keccak-256 of those.
    pub statement_digest: B256,
    /// The program's input, durable among the artifacts.
    pub input: ArtifactRef,
    /// Gas used by the blocks.
    pub gas_used: u64,
    /// Transactions in the blocks.
    pub transactions: u64,
    /// What a proof is expected to cost, in cycles.
    pub estimated_cycles: u64,
    /// Where its deposits are, if the chain has a bridge.
    pub deposits: Option<DepositLinks>,
}

/// Links of the chain of deposits ([`program::statement::DepositsChain`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositLinks {
    /// The one before a batch's first deposit.
    pub start: B256,
    /// The one after its last: the next batch's start.
    pub end: B256,
}

/// What kind of proof is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The proof system.
    pub system: ProofSystem,
    /// The program.
    pub program_id: B256,
    /// The least kind of proof.
    pub kind: ProofKind,
}

impl Target {
    /// Whether a client with `capability` can make such a proof.
    pub(crate) fn suits(&self, capability: &Capability) -> bool {
        self.system == capability.system
            && self.program_id == capability.program_id
            && capability.makes(self.kind)
    }
}

/// The proofs that are wanted of every batch: one at least, and none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// These, in this order.
    ///
    /// # Errors
    /// [`InvalidTargets`] if there is none, or one is there twice.
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Result<Self, InvalidTargets> {
        let mut wanted = Vec::new();
        for target in targets {
            if wanted.contains(&target) {
                return Err(InvalidTargets::Twice(target));
            }
            wanted.push(target);
        }
        if wanted.is_empty() { Err(InvalidTargets::None) } else { Ok(Self(wanted)) }
    }

    /// Whether a proof for `target` is one of them.
    pub fn demand(&self, target: &Target) -> Demand {
        if self.0.contains(target) { Demand::Wanted } else { Demand::SetAside }
    }

    /// The jobs to be added to a batch on the chain that has `jobs`, after the server came to want other proofs than before.
    ///
    /// None if the batch has a proof, of whatever program, or waits for one that is wanted: an upgrade does not have blocks
    /// proven anew. A job that was given up, or cancelled, is there already: to have it again is for an operator to say.
    pub fn lacking(&self, jobs: &[(Target, JobState)]) -> Vec<Target> {
        let settled = |(target, state): &(Target, JobState)| match state {
            JobState::Proved => true,
            JobState::Ready | JobState::Leased | JobState::Verifying => {
                self.demand(target) == Demand::Wanted
            }
            JobState::Dead | JobState::Superseded => false,
        };
        if jobs.iter().any(settled) {
            return Vec::new();
        }
        let missing = |target: &&Target| jobs.iter().all(|(there, _)| there != *target);
        self.iter().filter(missing).copied().collect()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Target> {
        self.0.iter()
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Self {
        Self(vec![target])
    }
}

impl<'a> IntoIterator for &'a Targets {
    type Item = &'a Target;
    type IntoIter = std::slice::Iter<'a, Target>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether the server wants the proof that a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It does.
    Wanted,
    /// It did once: the job is of another program, proof system or kind. It does not count towards the limit of the intake,
    /// and waits for a client that can still prove it, or for an operator who cancels it.
    SetAside,
}

/// Why proofs cannot be wanted of every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTargets {
    /// There is none.
    #[error("no proof is wanted of a batch: name one target at least")]
    None,
    /// One is there twice.
    #[error("{} proofs by {} of program {} are wanted twice: name each target once", .0.kind, .0.system, .0.program_id)]
    Twice(Target),
}

/// The end of the chain of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last block.
    pub last: u64,
    /// Its hash.
    pub last_hash: B256,
}

/// What a proof is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The proof wanted.
    pub target: Target,
    /// The statement's ABI bytes, computed by this server.
    pub statement: Vec<u8>,
    /// What the proof took.
    pub effort: ProvingCost,
    /// If a part of a proof is wanted: which one, of which plan.
    pub part: Option<WantedPart>,
}

/// What a proof of a part is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPart {
    /// The job that waits for the whole proof, and which part of it this is.
    pub of: PartOf,
    /// The plan of the run, as this server's artifact.
    pub plan: ArtifactRef,
    /// A segment of the run has at most 2 to this power cycles.
    pub segment_po2: u32,
}

impl WantedPart {
    /// The cycles of its segments, if it is a range of them.
    pub fn segment_cycles(&self) -> Option<u64> {
        match self.of.work {
            PartWork::Segments { first, end } => {
                Some(u64::from(end - first) << self.segment_po2.min(31))
            }
            _ => None,
        }
    }
}

/// A batch does not continue what has been enqueued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unlinked {
    /// It starts elsewhere.
    #[error("block {expected} comes next, but the batch starts at {found}")]
    Gap {
        /// The next block.
        expected: u64,
        /// The first block of the batch.
        found: u64,
    },
    /// It continues another block.
    #[error(
        "block {first} continues {found}, but block {} was enqueued as {expected}: the node has another chain (a reorg, or \
         a node that started anew); give it back its chain, or use another data_dir", first - 1
    )]
    Parent {
        /// The first block of the batch.
        first: u64,
        /// Hash of the last block enqueued.
        expected: B256,
        /// The batch's parent.
        found: B256,
    },
}

/// Whether `batch` comes right after `tip`.
///
/// # Errors
/// Says what does not fit.
pub fn follows(tip: &Tip, batch: &NewBatch) -> Result<(), Unlinked> {
    let first = batch.blocks.first();
    if tip.last.checked_add(1) != Some(first) {
        return Err(Unlinked::Gap { expected: tip.last.saturating_add(1), found: first });
    }
    // SOUNDNESS: links batches by block hash, so that accepted proofs make one chain.
    if batch.parent_hash != tip.last_hash {
        return Err(Unlinked::Parent { first, expected: tip.last_hash, found: batch.parent_hash });
    }
    Ok(())
}

/// The id of the job that asks for `target` on `batch`. The statement binds the chain, so its digest does too.
pub fn job_id(batch: &NewBatch, target: &Target) -> JobId {
    let mut hash = Sha256::new();
    hash.update(b"l2-prover job 1\0");
    for number in [batch.blocks.first(), batch.blocks.last()] {
        hash.update(number.to_be_bytes());
    }
    hash.update(batch.statement_digest);
    hash.update(target.program_id);
    hash.update(format!("{}/{}", target.system, target.kind));
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    JobId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_one_at_least_and_none_twice() {
        let one = Target {
            system: ProofSystem::Risc0,
            program_id: B256::repeat_byte(1),
            kind: ProofKind::Composite,
        };
        let other = Target { kind: ProofKind::Succinct, ..one };
        let both = Targets::new([one, other]).unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [&one, &other]);
        assert_eq!(Targets::new([one]).unwrap(), Targets::from(one));
        assert_eq!(Targets::new([]), Err(InvalidTargets::None));
        let twice = Targets::new([one, other, one]).unwrap_err();
        assert_eq!(
            twice.to_string(),
            format!(
                "composite proofs by risc0 of program {} are wanted twice: name each target once",
                one.program_id
            )
        );
    }

    #[test]
    fn a_batch_gets_a_new_job_only_if_nothing_proves_it_any_more() {
        use JobState::{Dead, Leased, Proved, Ready, Verifying};
        let of = |n: u8| Target {
            system: ProofSystem::Risc0,
            program_id: B256::repeat_byte(n),
            kind: ProofKind::Composite,
        };
        let (old, new, third) = (of(1), of(2), of(3));
        let wanted = Targets::from(new);
        assert_eq!((wanted.demand(&new), wanted.demand(&old)), (Demand::Wanted, Demand::SetAside));
        let succinct = Target { kind: ProofKind::Succinct, ..new };
        assert_eq!(wanted.demand(&succinct), Demand::SetAside, "another kind is another proof");
        for open in [Ready, Leased, Verifying, Dead] {
            assert_eq!(wanted.lacking(&[(old, open)]), [new], "{open:?}");
        }
        for open in [Ready, Leased, Verifying] {
            assert_eq!(wanted.lacking(&[(old, Dead), (new, open)]), [], "{open:?}");
        }
        assert_eq!(wanted.lacking(&[(old, Proved)]), [], "it has a proof");
        assert_eq!(wanted.lacking(&[(old, Ready), (new, Dead)]), [], "an operator cancelled it");
        let both = Targets::new([new, third]).unwrap();
        assert_eq!(both.lacking(&[(old, Ready)]), [new, third]);
        assert_eq!(both.lacking(&[(new, Dead)]), [third]);
        assert_eq!(both.lacking(&[(new, Ready)]), []);
    }
}

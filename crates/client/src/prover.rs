//! What a proof system has to offer a client.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use program::{Statement, fold::Member};
use verifier::{Claim, Plan, Verified, VerifyError, bundle};

pub use protocol::{FailureClass, Gpu, PartWork, Progress, ProofKind, ProofSystem};

/// Any error, where only its text matters.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Proves with one proof system, on this machine.
pub trait Prover: Send + Sync {
    /// The proof system.
    fn system(&self) -> ProofSystem;

    /// The id of the program it proves (RISC Zero: the image id).
    fn program_id(&self) -> B256;

    /// The id of the program with which it folds proofs of consecutive batches into one, if it makes proofs of the kind
    /// [`Aggregate`](ProofKind::Aggregate). Their input is a [bundle] of proofs.
    fn aggregate_id(&self) -> Option<B256> {
        None
    }

    /// The kinds of proofs that it could make, but for something that is missing on this machine, with what is missing and where to get it.
    fn lacks(&self) -> Vec<(ProofKind, String)> {
        Vec::new()
    }

    /// Whether it makes proofs of a kind for a program.
    fn makes(&self, program_id: B256, kind: ProofKind) -> bool {
        let ours = program_id == self.program_id();
        let folding = Some(program_id) == self.aggregate_id();
        let of = match kind {
            ProofKind::Aggregate => folding,
            ProofKind::Groth16 => ours || folding,
            _ => ours,
        };
        of && self.kinds().contains(&kind)
    }

    /// A name for why its proofs prove nothing ("exec", "dev mode"), if they do not.
    fn danger(&self) -> Option<&str>;

    /// The kinds of proofs it makes.
    fn kinds(&self) -> Vec<ProofKind> {
        vec![ProofKind::Composite, ProofKind::Succinct]
    }

    /// Proves that the program accepts `input`, and returns the proof's bytes.
    ///
    /// Blocks until done or until `cancel` is set; runs on a thread of its own. `progress` is told how far it is, from
    /// any thread.
    ///
    /// # Errors
    /// Says whether the input, this machine or a cancellation is the cause: see [`ProveError`].
    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError>;

    /// As [`prove`](Self::prove), for an input in a file, which stays.
    ///
    /// # Errors
    /// As [`prove`](Self::prove).
    fn prove_file(
        &self,
        input: &Path,
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        let input = fs::read(input).map_err(ProveError::unavailable)?;
        self.prove(&input, kind, cancel, progress)
    }

    /// The largest segments that it can prove here, as a power of two of cycles; none if it has no segments.
    fn segment_po2(&self) -> Option<u32> {
        None
    }

    /// Makes segments half as large from now on, because memory ran out. Returns their new size, as a power of two of cycles; none if
    /// they cannot be smaller, or there are none.
    fn shrink_segments(&self) -> Option<u32> {
        None
    }

    /// What proves, for people, in at most 64 characters: its name, and what else an operator would ask, as version and device.
    fn engine(&self) -> Option<String> {
        None
    }

    /// The hardware that it may use, for people. Empty if that is elsewhere.
    fn hardware(&self) -> Hardware {
        Hardware::default()
    }

    /// Proves a part of the run on `input`, and returns the part's proof. [`kinds`](Self::kinds) says whether it can.
    ///
    /// # Errors
    /// As [`prove`](Self::prove); [`ProveError::Failed`] of [`OtherRun`] if its own execution is not the one that the plan describes.
    fn prove_part(
        &self,
        _input: &Path,
        _part: &PartFiles,
        _cancel: &Cancel,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        Err(ProveError::Unavailable(format!("{} makes no parts of proofs", self.system()).into()))
    }

    /// Runs the program on `input` in segments of at most 2 to the power of `segment_po2` cycles, and returns what the run consists
    /// of: an encoded `verifier::Plan`. Blocks.
    ///
    /// # Errors
    /// As [`prove`](Self::prove).
    fn plan(&self, _input: &Path, _segment_po2: u32) -> Result<Vec<u8>, ProveError> {
        Err(ProveError::Unavailable(format!("{} makes no parts of proofs", self.system()).into()))
    }

    /// Runs the program on `input` without proving. Blocks.
    ///
    /// # Errors
    /// As [`prove`](Self::prove).
    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError>;

    /// Runs the program on `input` and counts where its cycles go; much slower than [`execute`](Self::execute). Blocks.
    /// `program` is a program binary, the pinned one if it is `None`. If it has symbols, a profile in pprof's format can be
    /// written to the file `profile`.
    ///
    /// # Errors
    /// As [`prove`](Self::prove); [`ProveError::Unavailable`] if the proof system counts no cycles.
    fn measure(
        &self,
        _input: &[u8],
        _program: Option<&Path>,
        _profile: Option<&Path>,
    ) -> Result<Measurement, ProveError> {
        Err(ProveError::Unavailable(format!("{} counts no cycles", self.system()).into()))
    }

    /// The most memory that its last work took, in bytes, if it works in a process of its own.
    fn peak_memory(&self) -> Option<u64> {
        None
    }

    /// Tries whether this machine can still run the program: the shortest run is that on an empty input, which the program
    /// has to refuse. Blocks.
    ///
    /// # Errors
    /// [`ProveError`] says what is in the way.
    fn self_test(&self) -> Result<(), ProveError> {
        match self.execute(&[]) {
            Err(ProveError::BadInput(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(ProveError::Failed("the program accepts an empty input".into())),
        }
    }
}

/// Verifies each proof of a [bundle] with `verify`, and returns it with what it states, ready to be folded.
///
/// # Errors
/// [`ProveError::BadInput`]: the bytes are no bundle, or a proof is refused or is of another statement than the bundle says. It names the
/// proof by its number, from zero on.
pub fn open_bundle(
    bundle: &[u8],
    verify: impl Fn(&[u8]) -> Result<Verified, VerifyError>,
) -> Result<Vec<(Member, &[u8])>, ProveError> {
    let refused = |error: &dyn std::fmt::Display| ProveError::BadInput(error.to_string());
    let open = |(index, member): (usize, bundle::Member<'_>)| {
        let of = |error: &dyn std::fmt::Display| {
            refused(&format!("proof {index} of the bundle is refused: {error}"))
        };
        let values = verify(member.proof).map_err(|error| of(&error))?.public_values;
        if values != member.public_values {
            return Err(of(&"it is of another statement than the bundle says"));
        }
        let statement = Statement::abi_decode(&values).map_err(|error| of(&error))?;
        Ok(Member { statement, deposits: member.deposits.map(Into::into) })
    };
    let members = bundle::decode(bundle).map_err(|error| refused(&error))?;
    members
        .into_iter()
        .enumerate()
        .map(|(index, member)| Ok((open((index, member))?, member.proof)))
        .collect()
}

/// Smaller segments than 2 to this power cycles are not worth their number.
pub const LEAST_SEGMENT_PO2: u32 = 16;

/// The hardware that a prover may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Memory, in bytes, if it is known.
    pub memory_bytes: Option<u64>,
    /// GPUs.
    pub gpus: Vec<Gpu>,
}

/// A part of a proof, and the files that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFiles {
    /// What to prove.
    pub work: PartWork,
    /// A segment has at most 2 to this power cycles.
    pub segment_po2: u32,
    /// The encoded `verifier::Plan`.
    pub plan: PathBuf,
    /// Proofs of other parts, in the order of their ranges.
    pub proofs: Vec<PathBuf>,
}

impl PartFiles {
    /// What the part's proof has to claim about the run of `plan`; for the last part, whose proof is a whole one, that of all segments.
    pub fn claim(&self, plan: &Plan) -> Claim {
        match self.work {
            PartWork::Segments { first, end } | PartWork::Join { first, end } => {
                Claim::Segments(first..end)
            }
            PartWork::Keccak { first, end } => Claim::Keccak(first..end),
            PartWork::Unite { end } => Claim::Keccak(0..end),
            PartWork::Finish => Claim::Segments(0..plan.segments()),
        }
    }
}

/// Checks that `pieces` are of adjacent ranges that make up `whole`, of its kind.
///
/// # Errors
/// [`ProveError::Failed`] names the whole.
pub fn check_adjacent<'c>(
    pieces: impl IntoIterator<Item = &'c Claim>,
    whole: &Claim,
) -> Result<(), ProveError> {
    let mut rest = whole.clone();
    let mut fit = true;
    for piece in pieces {
        match (&mut rest, piece) {
            (Claim::Segments(rest), Claim::Segments(piece))
            | (Claim::Keccak(rest), Claim::Keccak(piece)) => {
                fit &= rest.start == piece.start;
                rest.start = piece.end;
            }
            _ => fit = false,
        }
    }
    let (Claim::Segments(rest) | Claim::Keccak(rest)) = rest;
    if fit && rest.start == rest.end {
        return Ok(());
    }
    Err(ProveError::Failed(format!("the proofs of this part do not make up {whole}").into()))
}

/// The prover's own execution is not the one that the plan describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this client's execution has other segments than the server's: it is of another version, or has another input"
)]
pub struct OtherRun;

/// What running a program gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// What the program committed to: the statement's ABI encoding.
    pub public_values: Vec<u8>,
    /// What it cost, if the proof system counts.
    pub cycles: Option<Cycles>,
}

/// What running a program costs in a zkVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycles {
    /// Cycles of the program itself.
    pub user: u64,
    /// All cycles, paging and padding included.
    pub total: u64,
    /// Segments to prove.
    pub segments: u64,
    /// Keccak permutations sent to an accelerator, if they are counted.
    pub keccak_permutations: Option<u64>,
}

/// What a run costs in a zkVM, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// What the program committed to. It goes from process to process in a file, not in the message.
    #[serde(skip)]
    pub public_values: Vec<u8>,
    /// Cycles of instructions and accelerators.
    pub user: u64,
    /// Cycles of paging.
    pub paging: u64,
    /// What a prover proves: segments padded to powers of two.
    pub total: u64,
    /// Number of segments.
    pub segments: u64,
    /// Keccak permutations left to the accelerator.
    pub keccak_permutations: u64,
    /// Rows of the keccak circuit, without padding.
    pub keccak_cycles: u64,
    /// Calls of the SHA-256 accelerator.
    pub sha256_calls: u64,
    /// Calls of the big-integer accelerator.
    pub bigint_calls: u64,
    /// Calls of precompiles that went to software although others of their kind are accelerated, by address.
    pub software_calls: BTreeMap<u8, u64>,
    /// Cycles by phase of the program (`program::phase`), in the order of a run, each without those inside it; `outside` is what
    /// belongs to none.
    pub phases: Vec<(String, PhaseCycles)>,
}

/// Cycles of one phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseCycles {
    /// Of instructions and accelerators.
    pub user: u64,
    /// Of pages that were read or written for the first time in their segment.
    pub paging: u64,
}

/// Tells a running prover to stop. Clones share one flag, which is never taken back.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the prover to stop as soon as it can.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the prover should stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// # Errors
    /// [`ProveError::Cancelled`] if the flag is set.
    pub fn check(&self) -> Result<(), ProveError> {
        if self.is_set() { Err(ProveError::Cancelled) } else { Ok(()) }
    }
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The input can never be proven. Retrying elsewhere will not help.
    #[error("input is not provable: {0}")]
    BadInput(String),
    /// This machine could not do it now. Another attempt may succeed.
    #[error("prover is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// There was not enough memory. Smaller segments need less.
    #[error("prover ran out of memory: {0}")]
    OutOfMemory(String),
    /// The prover tried and failed.
    #[error("prover failed: {0}")]
    Failed(#[source] BoxError),
    /// The prover hung.
    #[error("prover took too long: {0}")]
    TimedOut(String),
    /// It was told to stop.
    #[error("proving was cancelled")]
    Cancelled,
}

impl ProveError {
    /// The class under which the failure is reported to the server.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::BadInput(_) => FailureClass::GuestPanic,
            Self::Unavailable(_) => FailureClass::BackendUnavailable,
            Self::OutOfMemory(_) => FailureClass::OutOfMemory,
            Self::Failed(_) => FailureClass::BackendFailed,
            Self::TimedOut(_) => FailureClass::Timeout,
            Self::Cancelled => FailureClass::Cancelled,
        }
    }

    /// The error of that class. With [`detail`](Self::detail) it takes an error from one process to another.
    pub(crate) fn of(class: FailureClass, detail: String) -> Self {
        match class {
            FailureClass::GuestPanic => Self::BadInput(detail),
            FailureClass::BackendUnavailable => Self::Unavailable(detail.into()),
            FailureClass::OutOfMemory => Self::OutOfMemory(detail),
            FailureClass::Timeout => Self::TimedOut(detail),
            FailureClass::Cancelled => Self::Cancelled,
            _ => Self::Failed(detail.into()),
        }
    }

    /// What happened, without what the variant says of itself.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::BadInput(text) | Self::OutOfMemory(text) | Self::TimedOut(text) => text.clone(),
            Self::Unavailable(error) | Self::Failed(error) => error.to_string(),
            Self::Cancelled => String::new(),
        }
    }

    /// This machine's disk or system does not play along.
    pub(crate) fn unavailable(error: io::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_same_in_the_next_process() {
        for error in [
            ProveError::BadInput("a".into()),
            ProveError::Unavailable("b".into()),
            ProveError::OutOfMemory("c".into()),
            ProveError::Failed("d".into()),
            ProveError::TimedOut("e".into()),
            ProveError::Cancelled,
        ] {
            let there = ProveError::of(error.class(), error.detail());
            assert_eq!((there.class(), there.to_string()), (error.class(), error.to_string()));
        }
    }
}

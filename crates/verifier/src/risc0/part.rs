//! Proofs of parts of a RISC Zero run.
//!
//! What such a proof claims is rebuilt from the plan, as all of a whole proof is from the program id and the journal.

use borsh::{BorshDeserialize, BorshSerialize};
use risc0_circuit_keccak::KECCAK_CONTROL_ROOT;
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    Assumption, Assumptions, Digest, ExitCode, MaybePruned, Output, ReceiptClaim, SuccinctReceipt,
    SuccinctReceiptVerifierParameters, SystemState, UnionClaim, Unknown,
};

use super::{DEV_MODE, EncodeError, Recursion, SUCCINCT, context, guarded, put_recursion};
use crate::bytes::Bytes;
use crate::{Claim, Plan, Policy, VerifyError};

const MAGIC: &[u8; 4] = b"L2RP";
const VERSION: u8 = 1;

/// Encodes the receipt of a part as its proof. It is not verified here.
///
/// ```text
/// "L2RP"  version u8 = 1  kind u8  claim  body
/// claim:                     0 (segments) or 1 (keccak) u8, the range's first u32, its end u32
/// body, kind 0 (dev mode):   digest of what RISC Zero's receipt would claim [32]
/// body, kind 2 (succinct):   recursion proof, as in a whole proof
/// ```
///
/// # Errors
/// If the receipt uses another hash function or tree than our proofs do.
pub fn encode_part<C>(claim: &Claim, receipt: &SuccinctReceipt<C>) -> Result<Vec<u8>, EncodeError> {
    let mut proof = envelope(SUCCINCT, claim);
    put_recursion(&mut proof, receipt)?;
    Ok(proof)
}

/// The dev-mode proof of a part, which proves nothing.
///
/// # Errors
/// If there is no such part in the plan.
pub fn mocked_part(plan: &Plan, claim: &Claim) -> Result<Vec<u8>, VerifyError> {
    claim.check(plan)?;
    let mut proof = envelope(DEV_MODE, claim);
    proof.extend_from_slice(digest(plan, claim).as_bytes());
    Ok(proof)
}

fn envelope(kind: u8, claim: &Claim) -> Vec<u8> {
    [&MAGIC[..], &[VERSION, kind], &claim.encode()].concat()
}

pub(crate) fn claim_of(proof: &[u8]) -> Result<Claim, VerifyError> {
    Part::of(proof).map(|part| part.claim)
}

/// Verifies the proof of a part, whose envelope names `claim`, which has a meaning in `plan`.
pub(crate) fn verify_part(
    program_id: [u8; 32],
    plan: &Plan,
    claim: &Claim,
    proof: &[u8],
    policy: &Policy,
) -> Result<(), VerifyError> {
    let first = plan.states.first().copied().map_or(Digest::ZERO, Digest::from);
    let found = SystemState { pc: 0, merkle_root: first }.digest().into();
    // SOUNDNESS: the first segment must begin with the program's image; a plan that begins elsewhere is of another program.
    if found != program_id {
        return Err(VerifyError::WrongProgram { expected: program_id, found });
    }
    match Part::of(proof)?.body {
        Body::DevMode(named) => {
            // SOUNDNESS: a dev-mode receipt proves nothing.
            if !policy.danger_accept_dev_mode {
                return Err(VerifyError::DevModeRefused);
            }
            // SOUNDNESS: only so that dev mode notices what a real proof would show: a part of another run.
            if named != digest(plan, claim) {
                return Err(VerifyError::Invalid("it is a part of another run".to_owned()));
            }
            Ok(())
        }
        Body::Succinct(recursion) => match claim {
            Claim::Segments(range) => {
                let parameters = SuccinctReceiptVerifierParameters::default();
                let claim = MaybePruned::Value(segments_claim(plan, range.start, range.end));
                let receipt: SuccinctReceipt<ReceiptClaim> =
                    recursion.receipt(claim, &parameters)?;
                // SOUNDNESS: the seal proves the claim that is built here, from the plan, and no other.
                guarded(|| receipt.verify_integrity_with_context(&context(parameters)))
            }
            // SOUNDNESS: the same for batches of keccak permutations, by the recursion programs that belong to the claim.
            Claim::Keccak(range) => {
                recursion.verify_assumption(&keccak_claim(plan, range.start, range.end))
            }
        },
    }
}

/// RISC Zero's receipt of a range of segments, to be joined with its neighbours. It is not verified here: see
/// [`verify_part`](crate::verify_part).
///
/// # Errors
/// If `proof` is no real proof of segments of `plan`.
pub fn segments_receipt(
    plan: &Plan,
    proof: &[u8],
) -> Result<SuccinctReceipt<ReceiptClaim>, VerifyError> {
    let part = Part::of(proof)?;
    part.claim.check(plan)?;
    match &part.claim {
        Claim::Segments(range) => {
            let claim = MaybePruned::Value(segments_claim(plan, range.start, range.end));
            part.receipt(claim, &SuccinctReceiptVerifierParameters::default())
        }
        Claim::Keccak(_) => Err(not_of("segments", &part.claim)),
    }
}

/// RISC Zero's receipt of a range of batches of keccak permutations, to be united with others. It is not verified here: see
/// [`verify_part`](crate::verify_part).
///
/// # Errors
/// If `proof` is no real proof of batches of `plan`.
pub fn keccak_receipt(plan: &Plan, proof: &[u8]) -> Result<SuccinctReceipt<Unknown>, VerifyError> {
    let part = Part::of(proof)?;
    part.claim.check(plan)?;
    match &part.claim {
        Claim::Keccak(range) => {
            let Assumption { claim, control_root } = keccak_claim(plan, range.start, range.end);
            let parameters =
                SuccinctReceiptVerifierParameters { control_root, ..Default::default() };
            part.receipt(MaybePruned::Pruned(claim), &parameters)
        }
        Claim::Segments(_) => Err(not_of("keccak permutations", &part.claim)),
    }
}

fn not_of(wanted: &str, claim: &Claim) -> VerifyError {
    VerifyError::Invalid(format!("it is a proof of {claim}, not of {wanted}"))
}

/// What the program commits to when it halts, as its last segment claims it: the public values, and that all batches of keccak
/// permutations are right.
pub fn output(plan: &Plan) -> Output {
    Output {
        journal: MaybePruned::Pruned(plan.public_values.digest()),
        assumptions: MaybePruned::Value(Assumptions(match plan.batches() {
            0 => Vec::new(),
            batches => vec![keccak_claim(plan, 0, batches).into()],
        })),
    }
}

/// What the proof of segments `first` up to `end` claims. The plan has these segments.
fn segments_claim(plan: &Plan, first: u32, end: u32) -> ReceiptClaim {
    let state = |index: u32| {
        let root = plan.states.get(index as usize).copied().unwrap_or_default();
        MaybePruned::Value(SystemState { pc: 0, merkle_root: Digest::from(root) })
    };
    let halted = end == plan.segments();
    ReceiptClaim {
        pre: state(first),
        post: state(end),
        exit_code: if halted { ExitCode::Halted(0) } else { ExitCode::SystemSplit },
        input: None.into(),
        // SOUNDNESS: the program believed the accelerator, so that its last segment claims what all batches together prove.
        output: MaybePruned::Value(halted.then(|| output(plan))),
    }
}

/// What the proof of batches `first` up to `end` claims. The plan has these batches, and there is at least one.
///
/// The guest gathers the claims of all batches in a Merkle mountain range: two neighbours of one height become one of the next,
/// and in the end the peaks are united from the left.
fn keccak_claim(plan: &Plan, first: u32, end: u32) -> Assumption {
    let mut peaks: Vec<(u32, Assumption)> = Vec::new();
    for claim in plan.keccak.iter().take(end as usize).skip(first as usize) {
        let claim = Digest::from(*claim);
        let mut peak = Assumption { claim, control_root: KECCAK_CONTROL_ROOT };
        let mut height = 0;
        while let Some((_, left)) = peaks.pop_if(|(top, _)| *top == height) {
            peak = united(&left, &peak);
            height += 1;
        }
        peaks.push((height, peak));
    }
    let none = Assumption { claim: Digest::ZERO, control_root: KECCAK_CONTROL_ROOT };
    peaks.into_iter().map(|(_, peak)| peak).reduce(|all, peak| united(&all, &peak)).unwrap_or(none)
}

/// What RISC Zero's recursion makes of two assumptions that hold: it sorts them.
fn united(one: &Assumption, other: &Assumption) -> Assumption {
    let (one, other) = (one.digest(), other.digest());
    let claim = UnionClaim { left: one.min(other), right: one.max(other) }.digest();
    Assumption { claim, control_root: SuccinctReceiptVerifierParameters::default().control_root }
}

/// What a dev-mode proof names.
fn digest(plan: &Plan, claim: &Claim) -> Digest {
    match claim {
        Claim::Segments(range) => segments_claim(plan, range.start, range.end).digest(),
        Claim::Keccak(range) => keccak_claim(plan, range.start, range.end).digest(),
    }
}

/// The parsed proof of a part.
struct Part<'a> {
    claim: Claim,
    body: Body<'a>,
}

enum Body<'a> {
    DevMode(Digest),
    Succinct(Recursion<'a>),
}

impl<'a> Part<'a> {
    fn of(proof: &'a [u8]) -> Result<Self, VerifyError> {
        let mut bytes = Bytes::new(proof);
        let foreign = "not a part of a RISC Zero proof of ours";
        let kind = bytes.kind(MAGIC, foreign, VERSION, &[DEV_MODE, SUCCINCT])?;
        let claim = Claim::read(&mut bytes)?;
        let body = match kind {
            SUCCINCT => Body::Succinct(Recursion::read(&mut bytes)?),
            _ => Body::DevMode(bytes.digest()?),
        };
        // SOUNDNESS: bytes that nobody read would be bytes that nobody checked.
        if !bytes.is_empty() {
            return Err(bytes.malformed("bytes after the proof's end"));
        }
        Ok(Self { claim, body })
    }

    fn receipt<C>(
        &self,
        claim: MaybePruned<C>,
        parameters: &SuccinctReceiptVerifierParameters,
    ) -> Result<SuccinctReceipt<C>, VerifyError>
    where
        SuccinctReceipt<C>: BorshDeserialize,
        MaybePruned<C>: BorshSerialize,
    {
        match &self.body {
            Body::Succinct(recursion) => recursion.receipt(claim, parameters),
            Body::DevMode(_) => Err(VerifyError::DevModeRefused),
        }
    }
}

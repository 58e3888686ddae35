//! What a run of a zkVM consists of, and the proofs of its parts.
//!
//! * A plan is made by whoever wants the proof, by executing the program: it is what the proofs of parts are checked against. Nothing
//!   in it comes from those who prove.
//! * [`verify_part`] accepts a proof for exactly one range of segments, or of batches of keccak permutations, of one plan.
//! * Proofs of adjacent ranges join into one, because each range begins with the state that the one before it ended with.
//!
//! A plan as bytes; all numbers are little-endian:
//!
//! ```text
//! "L2PL"  version u8 = 1  segment po2 u8
//! states u32, for each [32]: one more than there are segments
//! keccak batches u32, for each its claim [32]
//! public values length u32, public values
//! ```

use std::fmt;
use std::ops::Range;

use risc0_zkvm::sha::{Impl, Sha256 as _};

use crate::bytes::Bytes;
use crate::{
    EXEC_PROGRAM_ID, Policy, System, VerifyError, check_not_revoked, check_public_values, risc0,
};

const MAGIC: &[u8; 4] = b"L2PL";
const VERSION: u8 = 1;

/// Maximum number of segments of a plan, and of batches of keccak permutations: 64 thousand million cycles in segments of 2^20.
pub const MAX_PARTS: u32 = 1 << 16;

/// The largest power of two of a segment's cycles that RISC Zero has.
pub const MAX_SEGMENT_PO2: u32 = 24;

/// What a part's proof by the system `exec` begins with; its claim and a digest follow.
const EXEC_PART: &[u8; 10] = b"exec part ";

/// What a claim begins with, as bytes.
const SEGMENTS: u8 = 0;
const KECCAK: u8 = 1;

/// What a run consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// A segment has at most 2 to this power cycles.
    pub segment_po2: u32,
    /// The root of the memory before the first segment, and after each one. One more than there are segments. After the last it is
    /// zero in RISC Zero, whose claim about a program that has halted names no memory.
    pub states: Vec<[u8; 32]>,
    /// The claim of each batch of keccak permutations, in order.
    pub keccak: Vec<[u8; 32]>,
    /// What the program commits to.
    pub public_values: Vec<u8>,
}

/// What a proof of a part claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The run went from the state before the first of these segments to the one after the last.
    Segments(Range<u32>),
    /// These batches of keccak permutations are right: a power of two of them from a multiple of it on, or all.
    Keccak(Range<u32>),
}

/// Verifies that `proof` proves `claim` about the run of `plan`. Blocks the thread for some tens of milliseconds.
///
/// # Errors
/// Says why the proof is refused.
pub fn verify_part(
    system: System,
    program_id: [u8; 32],
    plan: &Plan,
    claim: &Claim,
    proof: &[u8],
    policy: &Policy,
) -> Result<(), VerifyError> {
    // SOUNDNESS: a revoked program can be made to run as no program should, so that its parts prove nothing either.
    check_not_revoked(&program_id)?;
    // SOUNDNESS: a claim about no segments, or about batches that no node of the tree stands for, has no meaning here.
    claim.check(plan)?;
    let found = claim_of(system, proof)?;
    // SOUNDNESS: the envelope names the claim, and what it names must be checked like every other byte.
    if found != *claim {
        return Err(VerifyError::Invalid(format!("it is a proof of {found}, not of {claim}")));
    }
    match system {
        System::Exec => verify_exec(program_id, plan, claim, proof, policy),
        System::Risc0 => risc0::verify_part(program_id, plan, claim, proof, policy),
    }
}

/// The claim that the proof of a part says it proves. Only [`verify_part`] tells whether it does.
///
/// # Errors
/// [`VerifyError::Malformed`] if the bytes do not begin like the proof of a part.
pub fn claim_of(system: System, proof: &[u8]) -> Result<Claim, VerifyError> {
    match system {
        System::Exec => {
            let mut bytes = Bytes::new(proof);
            if bytes.array()? != *EXEC_PART {
                return Err(bytes.malformed("not a part of an exec proof"));
            }
            Claim::read(&mut bytes)
        }
        System::Risc0 => risc0::claim_of(proof),
    }
}

/// The "proof" by [`System::Exec`] of a part: it proves nothing, and names one claim about one plan.
pub fn exec_part(plan: &Plan, claim: &Claim) -> Vec<u8> {
    let claim = claim.encode();
    let mut named = Impl::hash_bytes(&plan.encode()).as_bytes().to_vec();
    named.extend(claim);
    [&EXEC_PART[..], &claim, Impl::hash_bytes(&named).as_bytes()].concat()
}

fn verify_exec(
    program_id: [u8; 32],
    plan: &Plan,
    claim: &Claim,
    proof: &[u8],
    policy: &Policy,
) -> Result<(), VerifyError> {
    // SOUNDNESS: nothing is proven by these bytes, so that only an explicit policy accepts them.
    if !policy.danger_accept_exec {
        return Err(VerifyError::ExecRefused);
    }
    if program_id != EXEC_PROGRAM_ID {
        return Err(VerifyError::WrongProgram { expected: program_id, found: EXEC_PROGRAM_ID });
    }
    // SOUNDNESS: only so that tests without a zkVM notice what a zkVM would refuse: a part of another plan.
    if proof != exec_part(plan, claim) {
        return Err(VerifyError::Invalid("it is a part of another plan".to_owned()));
    }
    Ok(())
}

impl Plan {
    /// Number of segments.
    pub fn segments(&self) -> u32 {
        u32::try_from(self.states.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Number of batches of keccak permutations.
    pub fn batches(&self) -> u32 {
        u32::try_from(self.keccak.len()).unwrap_or(u32::MAX)
    }

    /// The plan as bytes. A plan beyond the limits of [`decode`](Self::decode) becomes bytes that it refuses.
    pub fn encode(&self) -> Vec<u8> {
        let Self { segment_po2, states, keccak, public_values } = self;
        let digests = 32 * (states.len() + keccak.len());
        let mut plan = Vec::with_capacity(18 + digests + public_values.len());
        let length = |list: usize| u32::try_from(list).unwrap_or(u32::MAX).to_le_bytes();
        plan.extend_from_slice(MAGIC);
        plan.extend([VERSION, u8::try_from(*segment_po2).unwrap_or(u8::MAX)]);
        plan.extend(length(states.len()));
        plan.extend_from_slice(states.as_flattened());
        plan.extend(length(keccak.len()));
        plan.extend_from_slice(keccak.as_flattened());
        plan.extend(length(public_values.len()));
        plan.extend_from_slice(public_values);
        plan
    }

    /// Reads a plan. Its lengths are checked before memory is taken for them.
    ///
    /// # Errors
    /// [`VerifyError::Malformed`] says what is wrong and where; [`VerifyError::TooLarge`] if the public values are.
    pub fn decode(bytes: &[u8]) -> Result<Self, VerifyError> {
        let mut bytes = Bytes::new(bytes);
        bytes.version(MAGIC, "not a plan of ours", VERSION)?;
        let segment_po2 = u32::from(bytes.byte()?);
        if segment_po2 > MAX_SEGMENT_PO2 {
            return Err(bytes.malformed("larger segments than there are"));
        }
        let states = digests(&mut bytes, MAX_PARTS + 1, "more segments than a plan can hold")?;
        if states.len() < 2 {
            return Err(bytes.malformed("no segments"));
        }
        let keccak = digests(&mut bytes, MAX_PARTS, "more batches than a plan can hold")?;
        let length = bytes.length()?;
        let public_values = bytes.take(length)?.to_vec();
        check_public_values(&public_values)?;
        if !bytes.is_empty() {
            return Err(bytes.malformed("bytes after the plan's end"));
        }
        Ok(Self { segment_po2, states, keccak, public_values })
    }
}

/// Reads a list of at most `most` digests.
fn digests(
    bytes: &mut Bytes<'_>,
    most: u32,
    more: &'static str,
) -> Result<Vec<[u8; 32]>, VerifyError> {
    let count = bytes.number()?;
    if count > most {
        return Err(bytes.malformed(more));
    }
    let size = usize::try_from(count).expect("a hundred thousand at most") * 32;
    Ok(bytes.take(size)?.as_chunks().0.to_vec())
}

impl Claim {
    /// Bytes of an encoded claim.
    pub(crate) const LENGTH: usize = 9;

    /// Whether there is something that such a claim about `plan` means.
    ///
    /// # Errors
    /// Names the claim if there is not.
    pub fn check(&self, plan: &Plan) -> Result<(), VerifyError> {
        let has_meaning = match self {
            Self::Segments(range) => !range.is_empty() && range.end <= plan.segments(),
            Self::Keccak(range) => {
                let (length, batches) = (range.end.saturating_sub(range.start), plan.batches());
                let node = length.is_power_of_two() && range.start.is_multiple_of(length);
                length > 0 && range.end <= batches && (node || *range == (0..batches))
            }
        };
        if has_meaning {
            return Ok(());
        }
        let (segments, batches) = (plan.segments(), plan.batches());
        Err(VerifyError::Invalid(format!(
            "there is no part {self} in a run of {segments} segments and {batches} batches of keccak permutations"
        )))
    }

    /// What kind of claim it is, and its range.
    pub(crate) fn encode(&self) -> [u8; Self::LENGTH] {
        let (kind, Range { start, end }) = match self {
            Self::Segments(range) => (SEGMENTS, range),
            Self::Keccak(range) => (KECCAK, range),
        };
        let mut bytes = [kind; Self::LENGTH];
        bytes[1..5].copy_from_slice(&start.to_le_bytes());
        bytes[5..].copy_from_slice(&end.to_le_bytes());
        bytes
    }

    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Result<Self, VerifyError> {
        let kind = bytes.byte()?;
        if !matches!(kind, SEGMENTS | KECCAK) {
            return Err(bytes.malformed("unknown claim"));
        }
        let range = bytes.number()?..bytes.number()?;
        Ok(if kind == SEGMENTS { Self::Segments(range) } else { Self::Keccak(range) })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, Range { start, end }) = match self {
            Self::Segments(range) => ("segments", range),
            Self::Keccak(range) => ("keccak", range),
        };
        write!(f, "{kind} {start}..{end}")
    }
}

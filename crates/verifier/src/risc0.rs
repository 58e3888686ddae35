//! RISC Zero proofs: their bytes, and how they are verified.
//!
//! A proof is an envelope around the words that RISC Zero's verifier binds; everything else in a
//! [`Receipt`] is built anew from the program id and the journal, so that no byte is free.
//! All numbers are little-endian.
//!
//! ```text
//! "L2R0"  version u8 = 1  kind u8  program id [32]  journal length u32  journal  body
//! body, kind 0 (dev mode):   nothing
//! body, kind 1 (composite):  segments u32, for each: seal, and unless it is the last the memory root after it [32]
//!                            assumptions u8, for each: claim [32], control root [32], recursion proof
//! body, kind 2 (succinct):   recursion proof
//! recursion proof:           control id [32], its index u8, 8 siblings [32], seal
//! seal:                      words u32, the words
//! ```
//!
//! An assumption is what a guest leaves to another circuit: here the keccak accelerator.

use std::panic::{AssertUnwindSafe, catch_unwind};

use borsh::{BorshDeserialize, BorshSerialize};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    Assumption, Assumptions, CompositeReceipt, CompositeReceiptVerifierParameters, Digest,
    ExitCode, InnerAssumptionReceipt, InnerReceipt, MaybePruned, Output, Receipt, ReceiptClaim,
    SegmentReceipt, SegmentReceiptVerifierParameters, SuccinctReceipt,
    SuccinctReceiptVerifierParameters, SystemState, Unknown, VerifierContext,
};

use crate::{Kind, Policy, Verified, VerifyError, check_not_revoked, check_public_values};

const MAGIC: &[u8; 4] = b"L2R0";
const VERSION: u8 = 1;

const DEV_MODE: u8 = 0;
const COMPOSITE: u8 = 1;
const SUCCINCT: u8 = 2;

/// Depth of the tree of recursion programs.
const DEPTH: usize = 8;

/// Words of the globals in the seal of a segment.
const GLOBALS: usize = 90;

/// The one hash function that our proofs use.
const HASHFN: &str = "poseidon2";

/// Verifies a proof for the image `program_id`.
pub(crate) fn verify(
    program_id: [u8; 32],
    proof: &[u8],
    policy: &Policy,
) -> Result<Verified, VerifyError> {
    let (kind, receipt) = decode(program_id, proof)?;
    if kind == Kind::DevMode {
        // SOUNDNESS: a dev-mode receipt proves nothing; RISC Zero's own check would ask the environment.
        if !policy.danger_accept_dev_mode {
            return Err(VerifyError::DevModeRefused);
        }
    } else {
        // SOUNDNESS: an explicit context, because the default one accepts fake receipts if an environment
        // variable says so. The claim it checks is: this image, halted with code 0, this journal, no assumptions.
        let context = VerifierContext::empty()
            .with_suites(VerifierContext::default_hash_suites())
            .with_segment_verifier_parameters(SegmentReceiptVerifierParameters::default())
            .with_succinct_verifier_parameters(SuccinctReceiptVerifierParameters::default())
            .with_dev_mode(false);
        // RISC Zero's verifier is not written to survive every hostile seal.
        let verified = catch_unwind(AssertUnwindSafe(|| {
            receipt.verify_with_context(&context, Digest::from(program_id))
        }));
        match verified {
            Ok(verified) => verified.map_err(|error| VerifyError::Invalid(error.to_string()))?,
            Err(_) => return Err(VerifyError::Invalid("the verifier panicked".to_owned())),
        }
    }
    let cycles = match &receipt.inner {
        InnerReceipt::Composite(composite) => Some(composite.segments.iter().map(cycles).sum()),
        _ => None,
    };
    Ok(Verified { public_values: receipt.journal.bytes, kind, cycles })
}

/// Rows of the circuit in a segment whose receipt holds.
fn cycles(segment: &SegmentReceipt) -> u64 {
    // Its version, the circuit's globals, and the power of two of the rows, which the verifier has used.
    let rows_po2 = segment.seal.get(1 + GLOBALS).copied();
    rows_po2.and_then(|po2| 1_u64.checked_shl(po2)).unwrap_or_default()
}

/// Why a receipt has no encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt cannot be encoded: {0}")]
pub struct EncodeError(&'static str);

/// Puts a composite receipt together, which RISC Zero's library keeps to itself.
///
/// # Errors
/// If RISC Zero's types have changed.
pub fn composite(
    segments: &[SegmentReceipt],
    assumptions: &[SuccinctReceipt<Unknown>],
) -> Result<CompositeReceipt, EncodeError> {
    let assumptions: Vec<_> = assumptions
        .iter()
        .map(|receipt| InnerAssumptionReceipt::Succinct(receipt.clone()))
        .collect();
    let parameters: Digest = CompositeReceiptVerifierParameters::default().digest();
    borsh::to_vec(&(segments, assumptions, parameters))
        .and_then(|encoded| borsh::from_slice(&encoded))
        .map_err(|_| EncodeError("RISC Zero's composite receipt has changed"))
}

/// Encodes a receipt for the image `program_id` as a proof. It is not verified here.
///
/// # Errors
/// Names what our format has no place for: another kind of receipt, or a claim that is not opened.
pub fn encode(program_id: [u8; 32], receipt: &Receipt) -> Result<Vec<u8>, EncodeError> {
    let kind = match &receipt.inner {
        InnerReceipt::Fake(_) => DEV_MODE,
        InnerReceipt::Composite(_) => COMPOSITE,
        InnerReceipt::Succinct(_) => SUCCINCT,
        _ => return Err(EncodeError("it is neither composite nor succinct")),
    };
    let mut proof = Vec::with_capacity(receipt.seal_size() + 4096);
    proof.extend_from_slice(MAGIC);
    proof.extend_from_slice(&[VERSION, kind]);
    proof.extend_from_slice(&program_id);
    put_length(&mut proof, receipt.journal.bytes.len())?;
    proof.extend_from_slice(&receipt.journal.bytes);
    match &receipt.inner {
        InnerReceipt::Composite(composite) => put_composite(&mut proof, composite)?,
        InnerReceipt::Succinct(succinct) => put_recursion(&mut proof, succinct)?,
        _ => {}
    }
    Ok(proof)
}

fn put_composite(proof: &mut Vec<u8>, receipt: &CompositeReceipt) -> Result<(), EncodeError> {
    put_length(proof, receipt.segments.len())?;
    let (last, others) = receipt.segments.split_last().ok_or(EncodeError("it has no segments"))?;
    for segment in others {
        put_seal(proof, &segment.seal)?;
        let post = segment
            .claim
            .post
            .as_value()
            .map_err(|_| EncodeError("a segment's state is not opened"))?;
        proof.extend_from_slice(post.merkle_root.as_bytes());
    }
    put_seal(proof, &last.seal)?;

    let unopened = EncodeError("the assumptions are not opened");
    let output = last.claim.output.as_value().map_err(|_| unopened.clone())?;
    let output = output.as_ref().ok_or(EncodeError("it has no output"))?;
    let none = Assumptions::default();
    let assumptions = match receipt.assumption_receipts.is_empty() {
        true => &none,
        false => output.assumptions.as_value().map_err(|_| unopened.clone())?,
    };
    let count = u8::try_from(assumptions.0.len())
        .map_err(|_| EncodeError("it has too many assumptions"))?;
    if assumptions.0.len() != receipt.assumption_receipts.len() {
        return Err(EncodeError("it does not prove every assumption"));
    }
    proof.push(count);
    for (assumption, receipt) in assumptions.0.iter().zip(&receipt.assumption_receipts) {
        let assumption = assumption.as_value().map_err(|_| unopened.clone())?;
        let InnerAssumptionReceipt::Succinct(receipt) = receipt else {
            return Err(EncodeError("an assumption's receipt is not succinct"));
        };
        proof.extend_from_slice(assumption.claim.as_bytes());
        proof.extend_from_slice(assumption.control_root.as_bytes());
        put_recursion(proof, receipt)?;
    }
    Ok(())
}

fn put_recursion<C>(proof: &mut Vec<u8>, receipt: &SuccinctReceipt<C>) -> Result<(), EncodeError> {
    let inclusion = &receipt.control_inclusion_proof;
    if receipt.hashfn != HASHFN || inclusion.digests.len() != DEPTH {
        return Err(EncodeError("it uses another hash function or tree"));
    }
    let index = u8::try_from(inclusion.index)
        .map_err(|_| EncodeError("it runs an unknown recursion program"))?;
    proof.extend_from_slice(receipt.control_id.as_bytes());
    proof.push(index);
    for sibling in &inclusion.digests {
        proof.extend_from_slice(sibling.as_bytes());
    }
    put_seal(proof, &receipt.seal)
}

fn put_seal(proof: &mut Vec<u8>, seal: &[u32]) -> Result<(), EncodeError> {
    put_length(proof, seal.len())?;
    proof.extend(seal.iter().flat_map(|word| word.to_le_bytes()));
    Ok(())
}

fn put_length(proof: &mut Vec<u8>, length: usize) -> Result<(), EncodeError> {
    let length = u32::try_from(length).map_err(|_| EncodeError("it is too large"))?;
    proof.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Builds the receipt that `proof` encodes, if it names the image `program_id`.
fn decode(program_id: [u8; 32], proof: &[u8]) -> Result<(Kind, Receipt), VerifyError> {
    let mut bytes = Bytes { all: proof, offset: 0 };
    if bytes.array()? != *MAGIC {
        return Err(bytes.malformed("not a RISC Zero proof of ours"));
    }
    if bytes.byte()? != VERSION {
        return Err(bytes.malformed("unknown version"));
    }
    let kind = match bytes.byte()? {
        DEV_MODE => Kind::DevMode,
        COMPOSITE => Kind::Composite,
        SUCCINCT => Kind::Succinct,
        _ => return Err(bytes.malformed("unknown kind")),
    };
    let found = bytes.array()?;
    check_not_revoked(&found)?;
    // SOUNDNESS: only a better message; what binds the image is the claim, which is built from `program_id`.
    if found != program_id {
        return Err(VerifyError::WrongProgram { expected: program_id, found });
    }
    let length = bytes.length()?;
    let journal = bytes.take(length)?.to_vec();
    check_public_values(&journal)?;

    let image = Digest::from(program_id);
    let claim = ReceiptClaim::ok(image, MaybePruned::Pruned(journal.digest()));
    let inner = match kind {
        Kind::Composite => InnerReceipt::Composite(take_composite(&mut bytes, image, &journal)?),
        Kind::Succinct => {
            let parameters = SuccinctReceiptVerifierParameters::default();
            InnerReceipt::Succinct(take_recursion(
                &mut bytes,
                MaybePruned::Value(claim),
                &parameters,
            )?)
        }
        _ => InnerReceipt::Fake(risc0_zkvm::FakeReceipt::new(claim)),
    };
    // SOUNDNESS: bytes that nobody read would be bytes that nobody checked.
    if bytes.offset != proof.len() {
        return Err(bytes.malformed("bytes after the proof's end"));
    }
    Ok((kind, Receipt::new(inner, journal)))
}

fn take_composite(
    bytes: &mut Bytes<'_>,
    image: Digest,
    journal: &Vec<u8>,
) -> Result<CompositeReceipt, VerifyError> {
    let count = bytes.length()?;
    if count == 0 {
        return Err(bytes.malformed("no segments"));
    }
    let parameters: Digest = SegmentReceiptVerifierParameters::default().digest();
    let mut pre = MaybePruned::Pruned(image);
    let mut segments = Vec::new();
    for index in 1..count {
        let seal = bytes.seal()?;
        let post = MaybePruned::Value(SystemState { pc: 0, merkle_root: bytes.digest()? });
        let claim = ReceiptClaim {
            pre,
            post: post.clone(),
            exit_code: ExitCode::SystemSplit,
            input: None.into(),
            output: None.into(),
        };
        pre = post;
        segments.push(segment(bytes, seal, index - 1, parameters, claim)?);
    }
    let last_seal = bytes.seal()?;

    let mut assumptions = Vec::new();
    let mut receipts = Vec::new();
    for _ in 0..bytes.byte()? {
        let claim = bytes.digest()?;
        let control_root = bytes.digest()?;
        let mut parameters = SuccinctReceiptVerifierParameters::default();
        if control_root != Digest::ZERO {
            parameters.control_root = control_root;
        }
        let receipt = take_recursion(bytes, MaybePruned::Pruned(claim), &parameters)?;
        receipts.push(InnerAssumptionReceipt::Succinct(receipt));
        assumptions.push(MaybePruned::Value(Assumption { claim, control_root }));
    }

    let mut claim = ReceiptClaim::ok(image, MaybePruned::Pruned(journal.digest()));
    claim.pre = pre;
    // SOUNDNESS: the last seal binds the list of assumptions, so that leaving one out or proving another is refused.
    claim.output = MaybePruned::Value(Some(Output {
        journal: MaybePruned::Pruned(journal.digest()),
        assumptions: MaybePruned::Value(Assumptions(assumptions)),
    }));
    segments.push(segment(bytes, last_seal, count - 1, parameters, claim)?);

    let parameters: Digest = CompositeReceiptVerifierParameters::default().digest();
    bytes.build(&(segments, receipts, parameters))
}

fn segment(
    bytes: &Bytes<'_>,
    seal: Vec<u32>,
    index: usize,
    parameters: Digest,
    claim: ReceiptClaim,
) -> Result<SegmentReceipt, VerifyError> {
    let index = u32::try_from(index).map_err(|_| bytes.malformed("too many segments"))?;
    bytes.build(&(seal, index, HASHFN, parameters, claim))
}

fn take_recursion<C: BorshSerialize + BorshDeserialize>(
    bytes: &mut Bytes<'_>,
    claim: MaybePruned<C>,
    parameters: &SuccinctReceiptVerifierParameters,
) -> Result<SuccinctReceipt<C>, VerifyError>
where
    SuccinctReceipt<C>: BorshDeserialize,
    MaybePruned<C>: BorshSerialize,
{
    let control_id = bytes.digest()?;
    let index = u32::from(bytes.byte()?);
    let siblings = (0..DEPTH).map(|_| bytes.digest()).collect::<Result<Vec<_>, _>>()?;
    let seal = bytes.seal()?;
    let parameters: Digest = parameters.digest();
    bytes.build(&(seal, control_id, claim, HASHFN, parameters, index, siblings))
}

/// A proof being read.
struct Bytes<'a> {
    all: &'a [u8],
    offset: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], VerifyError> {
        let rest = &self.all[self.offset..];
        let taken = rest.get(..length).ok_or_else(|| self.malformed("the proof ends early"))?;
        self.offset += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], VerifyError> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn byte(&mut self) -> Result<u8, VerifyError> {
        Ok(self.array::<1>()?[0])
    }

    fn length(&mut self) -> Result<usize, VerifyError> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.malformed("a length beyond this machine's"))
    }

    fn digest(&mut self) -> Result<Digest, VerifyError> {
        Ok(Digest::from(self.array::<32>()?))
    }

    fn seal(&mut self) -> Result<Vec<u32>, VerifyError> {
        let size = self
            .length()?
            .checked_mul(4)
            .ok_or_else(|| self.malformed("a seal beyond this machine's size"))?;
        let (words, _) = self.take(size)?.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// Builds one of RISC Zero's types, which have no constructors, from its fields in order.
    fn build<T: BorshDeserialize>(&self, fields: &impl BorshSerialize) -> Result<T, VerifyError> {
        borsh::to_vec(fields)
            .and_then(|encoded| borsh::from_slice(&encoded))
            .map_err(|_| self.malformed("a part that RISC Zero does not know"))
    }

    fn malformed(&self, what: &'static str) -> VerifyError {
        VerifyError::Malformed { what, offset: self.offset }
    }
}

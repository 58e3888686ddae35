//! RISC Zero proofs: their bytes, and how they are verified.
//!
//! A proof is an envelope around the words that RISC Zero's verifier binds; everything else in a receipt is rebuilt
//! from the program id and the journal, so that no byte goes unchecked. All numbers are little-endian.
//!
//! ```text
//! "L2R0"  version u8 = 1  kind u8  program id [32]  journal length u32  journal  body
//! body, kind 0 (dev mode):   nothing
//! body, kind 1 (composite):  segments u32, for each: seal, and unless it is the last the memory root after it [32]
//!                            assumptions u8, for each: claim [32], control root [32], recursion proof
//! body, kind 2 (succinct):   recursion proof
//! body, kind 3 (groth16):    A, B and C, as contracts take them: eight coordinates of 32 bytes, big-endian
//! recursion proof:           control id [32], its index u8, 8 siblings [32], seal
//! seal:                      words u32, the words
//! ```
//!
//! An assumption is what a guest leaves to another circuit to prove: here the keccak accelerator.
//!
//! The proof of a part has an envelope of its own: see [`encode_part`].

mod part;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use borsh::{BorshDeserialize, BorshSerialize};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    Assumption, Assumptions, CompositeReceipt, CompositeReceiptVerifierParameters, Digest,
    ExitCode, FakeReceipt, Groth16Receipt, Groth16ReceiptVerifierParameters,
    InnerAssumptionReceipt, InnerReceipt, MaybePruned, Output, Receipt, ReceiptClaim,
    SegmentReceipt, SegmentReceiptVerifierParameters, SuccinctReceipt,
    SuccinctReceiptVerifierParameters, SystemState, Unknown, VerifierContext,
};

pub(crate) use part::{claim_of, verify_part};
pub use part::{encode_part, keccak_receipt, mocked_part, output, segments_receipt};

use crate::bytes::Bytes;
use crate::{Kind, Policy, Verified, VerifyError, check_not_revoked, check_public_values};

const MAGIC: &[u8; 4] = b"L2R0";
const VERSION: u8 = 1;

const DEV_MODE: u8 = 0;
const COMPOSITE: u8 = 1;
const SUCCINCT: u8 = 2;
const GROTH16: u8 = 3;

/// Length of what names a verifier of RISC Zero among those of a router, in bytes.
const SELECTOR: usize = 4;

/// Length of a Groth16 seal in bytes.
const GROTH16_SEAL: usize = 256;

/// The modulus of the field over which BN254 is defined, below which every coordinate is: big-endian.
const BN254_MODULUS: [u8; 32] = [
    0x30, 0x64, 0x4e, 0x72, 0xe1, 0x31, 0xa0, 0x29, 0xb8, 0x50, 0x45, 0xb6, 0x81, 0x81, 0x58, 0x5d,
    0x97, 0x81, 0x6a, 0x91, 0x68, 0x71, 0xca, 0x8d, 0x3c, 0x20, 0x8c, 0x16, 0xd8, 0x7c, 0xfd, 0x47,
];

/// Depth of the tree of recursion programs.
const DEPTH: usize = 8;

/// Number of words of the globals in the seal of a segment.
const GLOBALS: usize = 90;

/// The one hash function that our proofs use.
const HASHFN: &str = "poseidon2";

/// Maximum length of a seal, in bytes. The largest segment that RISC Zero has, of 2^24 cycles, takes two thirds of it.
const MAX_SEAL: usize = 512 * 1024;

/// Maximum number of segments of a proof: more do not fit into [`MAX_PROOF`](crate::MAX_PROOF).
const MAX_SEGMENTS: usize = 8192;

/// Verifies a proof for the image `program_id`, one seal at a time, so that memory holds the proof and one seal.
pub(crate) fn verify(
    program_id: [u8; 32],
    proof: &[u8],
    policy: &Policy,
) -> Result<Verified, VerifyError> {
    let Parts { journal, body } = Parts::of(program_id, proof)?;
    let image = Digest::from(program_id);
    let (kind, cycles) = match body {
        Body::DevMode => {
            // SOUNDNESS: a dev-mode receipt proves nothing; RISC Zero's own check would ask the environment.
            if !policy.danger_accept_dev_mode {
                return Err(VerifyError::DevModeRefused);
            }
            (Kind::DevMode, None)
        }
        Body::Composite(composite) => (Kind::Composite, Some(composite.verify(image, journal)?)),
        Body::Succinct(recursion) => {
            recursion.verify_program(image, journal)?;
            (Kind::Succinct, None)
        }
        Body::Groth16(seal) => {
            verify_groth16(image, journal, seal)?;
            (Kind::Groth16, None)
        }
    };
    Ok(Verified { public_values: journal.to_vec(), kind, cycles })
}

/// What names the verifier of Groth16 proofs among those of a router.
pub(crate) fn selector() -> [u8; SELECTOR] {
    let verifier = Groth16ReceiptVerifierParameters::default().digest();
    let mut selector = [0; SELECTOR];
    selector.copy_from_slice(&verifier.as_bytes()[..SELECTOR]);
    selector
}

/// What a contract takes for a proof: for a Groth16 one the selector of its verifier and the seal. One of dev mode has what the mock
/// verifier of RISC Zero takes, which real ones refuse. None if no contract takes such a proof.
pub(crate) fn seal(program_id: [u8; 32], proof: &[u8]) -> Result<Option<Vec<u8>>, VerifyError> {
    let Parts { journal, body } = Parts::of(program_id, proof)?;
    Ok(match body {
        Body::Groth16(seal) => Some([&selector(), seal].concat()),
        Body::DevMode => {
            let journal = MaybePruned::Pruned(journal.digest());
            let claim = ReceiptClaim::ok(Digest::from(program_id), journal);
            Some([&[0xff; SELECTOR], claim.digest().as_bytes()].concat())
        }
        Body::Composite(_) | Body::Succinct(_) => None,
    })
}

/// Verifies a Groth16 proof of a halted run of the image with this journal.
///
/// Whoever has such a proof can make another of the same run from it, without proving anything: two proofs that differ may be of one
/// run.
fn verify_groth16(image: Digest, journal: &[u8], seal: &[u8]) -> Result<(), VerifyError> {
    // SOUNDNESS: one encoding for each coordinate: RISC Zero's reader takes the two highest bits for flags, and would ignore some.
    if seal.chunks(32).any(|coordinate| coordinate >= &BN254_MODULUS[..]) {
        return Err(VerifyError::Invalid("a coordinate is not reduced".to_owned()));
    }
    let parameters = Groth16ReceiptVerifierParameters::default();
    let claim = ReceiptClaim::ok(image, MaybePruned::Pruned(journal.digest()));
    let receipt =
        Groth16Receipt::new(seal.to_vec(), MaybePruned::Value(claim), parameters.digest());
    let context = context(SuccinctReceiptVerifierParameters::default())
        .with_groth16_verifier_parameters(parameters);
    // SOUNDNESS: the seal proves the claim that is built here, from the image and the journal, and no other.
    guarded(|| receipt.verify_integrity_with_context(&context))
}

/// The context that RISC Zero's verifier checks against.
fn context(parameters: SuccinctReceiptVerifierParameters) -> VerifierContext {
    // SOUNDNESS: an explicit context, because the default one accepts fake receipts if an environment variable says so.
    VerifierContext::empty()
        .with_suites(VerifierContext::default_hash_suites())
        .with_segment_verifier_parameters(SegmentReceiptVerifierParameters::default())
        .with_succinct_verifier_parameters(parameters)
        .with_dev_mode(false)
}

/// Runs RISC Zero's verifier, which may panic on a hostile seal.
fn guarded<E: Display>(check: impl FnOnce() -> Result<(), E>) -> Result<(), VerifyError> {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(verified) => verified.map_err(|error| VerifyError::Invalid(error.to_string())),
        // SOUNDNESS: a verifier that panics has not accepted anything.
        Err(_) => Err(VerifyError::Invalid("the verifier panicked".to_owned())),
    }
}

impl Composite<'_> {
    /// Verifies every segment and every assumption, and returns the cycles proven.
    ///
    /// RISC Zero's library would do the same with a receipt that has all of them in memory.
    fn verify(&self, image: Digest, journal: &[u8]) -> Result<u64, VerifyError> {
        let context = context(SuccinctReceiptVerifierParameters::default());
        let parameters = SegmentReceiptVerifierParameters::default().digest();
        let segment = |seal: &Seal<'_>, index: usize, claim: ReceiptClaim| {
            let index = u32::try_from(index).expect("there are at most MAX_SEGMENTS");
            // SOUNDNESS: each seal proves the claim that is built here, from the image and the journal, and no other.
            let receipt: SegmentReceipt = build(&(seal.words(), index, HASHFN, parameters, claim))?;
            guarded(|| receipt.verify_integrity_with_context(&context))?;
            Ok(seal.cycles())
        };
        let mut cycles = 0;
        // The first segment begins with the image, each later one where the one before it ended.
        let mut pre = MaybePruned::Pruned(image);
        for (index, (seal, root)) in self.segments.iter().enumerate() {
            let post = MaybePruned::Value(SystemState { pc: 0, merkle_root: *root });
            let claim = ReceiptClaim {
                pre: std::mem::replace(&mut pre, post.clone()),
                post,
                exit_code: ExitCode::SystemSplit,
                input: None.into(),
                output: None.into(),
            };
            cycles += segment(seal, index, claim)?;
        }
        // The last segment: halted with code 0, this journal.
        let mut claim = ReceiptClaim::ok(image, MaybePruned::Pruned(journal.digest()));
        claim.pre = pre;
        let assumptions = self.assumptions.iter().map(|(assumption, _)| assumption.clone().into());
        // SOUNDNESS: the last seal binds the list of assumptions, so that leaving one out or proving another is refused.
        claim.output = MaybePruned::Value(Some(Output {
            journal: MaybePruned::Pruned(journal.digest()),
            assumptions: MaybePruned::Value(Assumptions(assumptions.collect())),
        }));
        cycles += segment(&self.last, self.segments.len(), claim)?;
        // SOUNDNESS: the program believed its assumptions, so that each of them is proven here.
        for (assumption, recursion) in &self.assumptions {
            recursion.verify_assumption(assumption)?;
        }
        Ok(cycles)
    }
}

impl Recursion<'_> {
    /// Verifies that the program ran: this image, halted with code 0, this journal, no assumptions.
    fn verify_program(&self, image: Digest, journal: &[u8]) -> Result<(), VerifyError> {
        let parameters = SuccinctReceiptVerifierParameters::default();
        let claim = ReceiptClaim::ok(image, MaybePruned::Pruned(journal.digest()));
        let receipt = self.receipt(MaybePruned::Value(claim), &parameters)?;
        let receipt = Receipt::new(InnerReceipt::Succinct(receipt), journal.to_vec());
        // SOUNDNESS: the one seal proves the claim that is built here, from the image and the journal, and no other.
        guarded(|| receipt.verify_with_context(&context(parameters), image))
    }

    /// Verifies what the program assumed, by the recursion programs that it named.
    fn verify_assumption(&self, assumption: &Assumption) -> Result<(), VerifyError> {
        let mut parameters = SuccinctReceiptVerifierParameters::default();
        if assumption.control_root != Digest::ZERO {
            parameters.control_root = assumption.control_root;
        }
        let claim = MaybePruned::<Unknown>::Pruned(assumption.claim);
        let receipt: SuccinctReceipt<Unknown> = self.receipt(claim, &parameters)?;
        guarded(|| receipt.verify_integrity_with_context(&context(parameters)))
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
        let Self { control_id, index, siblings, seal } = self;
        let (words, parameters): (_, Digest) = (seal.words(), parameters.digest());
        build(&(words, control_id, claim, HASHFN, parameters, u32::from(*index), siblings))
    }
}

/// Builds one of RISC Zero's types, which have no constructors, from its fields in order.
fn build<T: BorshDeserialize>(fields: &impl BorshSerialize) -> Result<T, VerifyError> {
    borsh::to_vec(fields)
        .and_then(|encoded| borsh::from_slice(&encoded))
        .map_err(|_| VerifyError::Invalid("RISC Zero's receipts have changed".to_owned()))
}

/// Why a receipt has no encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt cannot be encoded: {0}")]
pub struct EncodeError(&'static str);

/// Builds a composite receipt, for which RISC Zero's library offers no public function.
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
        InnerReceipt::Groth16(_) => GROTH16,
        _ => return Err(EncodeError("it is neither composite, nor succinct, nor groth16")),
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
        InnerReceipt::Groth16(groth16) if groth16.seal.len() == GROTH16_SEAL => {
            proof.extend_from_slice(&groth16.seal);
        }
        InnerReceipt::Groth16(_) => return Err(EncodeError("its seal has another length")),
        _ => {}
    }
    Ok(proof)
}

/// RISC Zero's receipt of a succinct or dev-mode proof, for a guest that builds on what it proves. It is not verified here: see
/// [`verify`](crate::verify).
///
/// # Errors
/// If `proof` is of another program or malformed, or is a composite one.
pub fn receipt(program_id: [u8; 32], proof: &[u8]) -> Result<Receipt, VerifyError> {
    let Parts { journal, body } = Parts::of(program_id, proof)?;
    let claim = ReceiptClaim::ok(Digest::from(program_id), MaybePruned::Value(journal.to_vec()));
    let inner = match body {
        Body::DevMode => InnerReceipt::Fake(FakeReceipt::new(claim)),
        Body::Succinct(recursion) => {
            let parameters = SuccinctReceiptVerifierParameters::default();
            InnerReceipt::Succinct(recursion.receipt(MaybePruned::Value(claim), &parameters)?)
        }
        Body::Composite(_) | Body::Groth16(_) => {
            return Err(VerifyError::Invalid("only a succinct proof can be built on".to_owned()));
        }
    };
    Ok(Receipt::new(inner, journal.to_vec()))
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

/// A parsed proof. It borrows the proof's bytes: whatever they say, it takes little more memory than they do.
struct Parts<'a> {
    journal: &'a [u8],
    body: Body<'a>,
}

enum Body<'a> {
    DevMode,
    Composite(Composite<'a>),
    Succinct(Recursion<'a>),
    Groth16(&'a [u8]),
}

struct Composite<'a> {
    /// The seal of every segment but the last, and the memory root after it.
    segments: Vec<(Seal<'a>, Digest)>,
    last: Seal<'a>,
    assumptions: Vec<(Assumption, Recursion<'a>)>,
}

struct Recursion<'a> {
    control_id: Digest,
    index: u8,
    /// Kept as a list, which is what RISC Zero's type has.
    siblings: Vec<Digest>,
    seal: Seal<'a>,
}

struct Seal<'a>(&'a [[u8; 4]]);

impl Seal<'_> {
    fn words(&self) -> Vec<u32> {
        self.0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    /// Rows of the circuit in a segment whose seal is valid.
    fn cycles(&self) -> u64 {
        // Its version, the circuit's globals, and the power of two of the rows, which the verifier has used.
        let rows_po2 = self.0.get(1 + GLOBALS).map(|word| u32::from_le_bytes(*word));
        rows_po2.and_then(|po2| 1_u64.checked_shl(po2)).unwrap_or_default()
    }
}

impl<'a> Parts<'a> {
    /// Reads all of `proof`, if it names the image `program_id`.
    fn of(program_id: [u8; 32], proof: &'a [u8]) -> Result<Self, VerifyError> {
        let mut bytes = Bytes::new(proof);
        let kinds = [DEV_MODE, COMPOSITE, SUCCINCT, GROTH16];
        let kind = bytes.kind(MAGIC, "not a RISC Zero proof of ours", VERSION, &kinds)?;
        let found = bytes.array()?;
        check_not_revoked(&found)?;
        // SOUNDNESS: only a better message; what binds the image is the claim, which is built from `program_id`.
        if found != program_id {
            return Err(VerifyError::WrongProgram { expected: program_id, found });
        }
        let length = bytes.length()?;
        let journal = bytes.take(length)?;
        check_public_values(journal)?;
        let body = match kind {
            COMPOSITE => Body::Composite(Composite::read(&mut bytes)?),
            SUCCINCT => Body::Succinct(Recursion::read(&mut bytes)?),
            GROTH16 => Body::Groth16(bytes.take(GROTH16_SEAL)?),
            _ => Body::DevMode,
        };
        // SOUNDNESS: bytes that nobody read would be bytes that nobody checked.
        if !bytes.is_empty() {
            return Err(bytes.malformed("bytes after the proof's end"));
        }
        Ok(Self { journal, body })
    }
}

impl<'a> Composite<'a> {
    fn read(bytes: &mut Bytes<'a>) -> Result<Self, VerifyError> {
        let count = bytes.length()?;
        if count == 0 {
            return Err(bytes.malformed("no segments"));
        }
        if count > MAX_SEGMENTS {
            return Err(bytes.malformed("more segments than a proof can hold"));
        }
        let mut segments = Vec::new();
        for _ in 1..count {
            segments.push((bytes.seal()?, bytes.digest()?));
        }
        let last = bytes.seal()?;
        let mut assumptions = Vec::new();
        for _ in 0..bytes.byte()? {
            let assumption = Assumption { claim: bytes.digest()?, control_root: bytes.digest()? };
            assumptions.push((assumption, Recursion::read(bytes)?));
        }
        Ok(Self { segments, last, assumptions })
    }
}

impl<'a> Recursion<'a> {
    fn read(bytes: &mut Bytes<'a>) -> Result<Self, VerifyError> {
        Ok(Self {
            control_id: bytes.digest()?,
            index: bytes.byte()?,
            siblings: (0..DEPTH).map(|_| bytes.digest()).collect::<Result<_, _>>()?,
            seal: bytes.seal()?,
        })
    }
}

impl<'a> Bytes<'a> {
    fn digest(&mut self) -> Result<Digest, VerifyError> {
        Ok(Digest::from(self.array::<32>()?))
    }

    fn seal(&mut self) -> Result<Seal<'a>, VerifyError> {
        let size = self
            .length()?
            .checked_mul(4)
            .ok_or_else(|| self.malformed("a seal beyond this machine's size"))?;
        let (words, _) = self.take(size)?.as_chunks::<4>();
        if size > MAX_SEAL {
            return Err(VerifyError::TooLarge { what: "seal", size, limit: MAX_SEAL });
        }
        Ok(Seal(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proof that is checked in, with the program that it names.
    fn fixture(name: &str) -> (Vec<u8>, [u8; 32]) {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let file = std::path::Path::new(&folder).join("tests/fixtures").join(name);
        let proof = std::fs::read(file).expect("the proof is checked in");
        let program_id = proof[6..38].try_into().expect("32 bytes");
        (proof, program_id)
    }

    /// RISC Zero's receipt of a proof, with all of it in memory.
    fn receipt(program_id: [u8; 32], proof: &[u8]) -> Receipt {
        let Parts { journal, body } = Parts::of(program_id, proof).expect("it is well-formed");
        let image = Digest::from(program_id);
        let mut claim = ReceiptClaim::ok(image, MaybePruned::Pruned(journal.digest()));
        let inner = match body {
            Body::DevMode | Body::Groth16(_) => panic!("it is neither"),
            Body::Succinct(recursion) => {
                let parameters = SuccinctReceiptVerifierParameters::default();
                let receipt = recursion.receipt(MaybePruned::Value(claim), &parameters);
                InnerReceipt::Succinct(receipt.expect("RISC Zero knows it"))
            }
            Body::Composite(Composite { segments, last, assumptions }) => {
                let parameters = SegmentReceiptVerifierParameters::default().digest();
                let mut receipts = Vec::new();
                let mut keep = |seal: &Seal<'_>, claim: &ReceiptClaim| {
                    let index = u32::try_from(receipts.len()).expect("few");
                    let fields = (seal.words(), index, HASHFN, parameters, claim);
                    receipts.push(build::<SegmentReceipt>(&fields).expect("RISC Zero knows it"));
                };
                for (seal, root) in &segments {
                    let post = MaybePruned::Value(SystemState { pc: 0, merkle_root: *root });
                    let split = ReceiptClaim {
                        pre: std::mem::replace(&mut claim.pre, post.clone()),
                        post,
                        exit_code: ExitCode::SystemSplit,
                        input: None.into(),
                        output: None.into(),
                    };
                    keep(seal, &split);
                }
                claim.output = MaybePruned::Value(Some(Output {
                    journal: MaybePruned::Pruned(journal.digest()),
                    assumptions: MaybePruned::Value(Assumptions(
                        assumptions.iter().map(|(known, _)| known.clone().into()).collect(),
                    )),
                }));
                keep(&last, &claim);
                let proven: Vec<SuccinctReceipt<Unknown>> = assumptions
                    .iter()
                    .map(|(Assumption { claim, control_root }, recursion)| {
                        let parameters = SuccinctReceiptVerifierParameters {
                            control_root: *control_root,
                            ..Default::default()
                        };
                        let receipt = recursion.receipt(MaybePruned::Pruned(*claim), &parameters);
                        receipt.expect("RISC Zero knows it")
                    })
                    .collect();
                InnerReceipt::Composite(composite(&receipts, &proven).expect("it has a place"))
            }
        };
        Receipt::new(inner, journal.to_vec())
    }

    #[test]
    fn a_real_receipt_is_encoded_to_its_proof_and_holds_for_risc_zero_too() {
        for name in ["dev-block.proof", "dev-block.composite.proof"] {
            let (proof, program_id) = fixture(name);
            let mut receipt = receipt(program_id, &proof);
            assert_eq!(encode(program_id, &receipt).as_ref(), Ok(&proof), "{name}");
            let context = context(SuccinctReceiptVerifierParameters::default());
            receipt.verify_with_context(&context, program_id).expect("RISC Zero accepts it");
            // What it does not accept, we do not either: `another_image_id_is_refused`.
            receipt.journal.bytes[0] ^= 1;
            assert!(receipt.verify_with_context(&context, program_id).is_err());
        }
    }

    #[test]
    fn a_receipt_that_the_format_has_no_place_for_is_not_encoded() {
        let (proof, program_id) = fixture("dev-block.proof");
        let good = receipt(program_id, &proof);
        let spoilt = |spoil: fn(&mut SuccinctReceipt<ReceiptClaim>)| {
            let mut receipt = good.clone();
            let InnerReceipt::Succinct(inner) = &mut receipt.inner else {
                panic!("it is succinct")
            };
            spoil(inner);
            encode(program_id, &receipt).expect_err("there is no place for it").to_string()
        };
        let tree = "the receipt cannot be encoded: it uses another hash function or tree";
        assert_eq!(spoilt(|inner| inner.hashfn = "sha-256".to_owned()), tree);
        let shorter = spoilt(|inner| {
            inner.control_inclusion_proof.digests.pop();
        });
        assert_eq!(shorter, tree);
        let program = "the receipt cannot be encoded: it runs an unknown recursion program";
        assert_eq!(spoilt(|inner| inner.control_inclusion_proof.index = 256), program);

        let (proof, program_id) = fixture("dev-block.composite.proof");
        let mut receipt = receipt(program_id, &proof);
        let InnerReceipt::Composite(inner) = &mut receipt.inner else { panic!("it is composite") };
        inner.assumption_receipts.push(inner.assumption_receipts[0].clone());
        let refused = encode(program_id, &receipt).expect_err("one proves nothing").to_string();
        assert_eq!(refused, "the receipt cannot be encoded: it does not prove every assumption");
    }
}

//! The prover that does not prove: it runs the program natively.

use crate::prover::{
    BoxError, Cancel, Execution, OtherRun, PartFiles, PartWork, Progress, ProofKind, ProofSystem,
    ProveError, Prover, check_adjacent, open_bundle,
};
use alloy_primitives::B256;
use program::fold::fold;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};
use verifier::{Claim, EXEC_PROGRAM_ID, Plan, Policy, System, plan::claim_of, verify_part};

/// The most segments that it says a run has.
const MOST_SEGMENTS: usize = 1_000;

/// The largest segments that it knows, as a power of two of cycles: those of RISC Zero.
const SEGMENT_PO2: u32 = 24;

/// Runs the program natively and hands out its statement as the "proof". It proves nothing: servers refuse it unless a
/// `danger_` setting allows it.
///
/// It makes parts of such proofs too, so that a server that deals out parts can be tried without a zkVM. Its segments are made up:
/// the longer the input and the smaller the segments, the more of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecProver;

impl Prover for ExecProver {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> B256 {
        B256::ZERO
    }

    fn danger(&self) -> Option<&str> {
        Some("exec")
    }

    fn engine(&self) -> Option<String> {
        Some("exec".into())
    }

    fn kinds(&self) -> Vec<ProofKind> {
        vec![
            ProofKind::Part,
            ProofKind::Composite,
            ProofKind::Succinct,
            ProofKind::Aggregate,
            ProofKind::Groth16,
        ]
    }

    fn aggregate_id(&self) -> Option<B256> {
        Some(EXEC_PROGRAM_ID.into())
    }

    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        cancel.check()?;
        if matches!(kind, ProofKind::Aggregate | ProofKind::Groth16) {
            // A bundle with one proof is folded to what that one states.
            return folded(input);
        }
        let execution = self.execute(input)?;
        cancel.check()?;
        Ok(execution.public_values)
    }

    fn prove_part(
        &self,
        input: &Path,
        part: &PartFiles,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        cancel.check()?;
        let plan = fs::read(&part.plan).map_err(ProveError::unavailable)?;
        let plan = Plan::decode(&plan).map_err(failed)?;
        let claim = part.claim(&plan);
        claim.check(&plan).map_err(failed)?;
        match part.work {
            PartWork::Segments { .. } | PartWork::Keccak { .. } => {
                let own = self.planned(input, part.segment_po2)?;
                if own != plan {
                    return Err(ProveError::Failed(OtherRun.into()));
                }
                let (Claim::Segments(Range { start, end }) | Claim::Keccak(Range { start, end })) =
                    claim;
                let total = u64::from(end - start);
                for done in 0..=total {
                    cancel.check()?;
                    progress(Progress::Segment { done, total });
                }
            }
            PartWork::Join { .. } | PartWork::Unite { .. } => {
                covered(&plan, &part.proofs, &claim)?;
            }
            PartWork::Finish => {
                let mut segments = &part.proofs[..];
                if plan.batches() > 0 {
                    let (keccak, others) = segments.split_last().unzip();
                    let keccak = keccak.map(std::slice::from_ref).unwrap_or_default();
                    covered(&plan, keccak, &Claim::Keccak(0..plan.batches()))?;
                    segments = others.unwrap_or_default();
                }
                covered(&plan, segments, &claim)?;
                return Ok(plan.public_values);
            }
        }
        Ok(verifier::plan::exec_part(&plan, &claim))
    }

    fn plan(&self, input: &Path, segment_po2: u32) -> Result<Vec<u8>, ProveError> {
        Ok(self.planned(input, segment_po2)?.encode())
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        // A panic of the program means the same as in a zkVM: there is no proof of this input.
        let statement = std::panic::catch_unwind(|| program::run(input))
            .map_err(|panic| ProveError::Failed(BoxError::from(panic_text(&*panic))))?
            .map_err(|error| ProveError::BadInput(error.to_string()))?;
        Ok(Execution { public_values: statement.abi_encode(), cycles: None })
    }
}

impl ExecProver {
    /// Runs the program on the input, and makes up what the run would consist of.
    fn planned(&self, input: &Path, segment_po2: u32) -> Result<Plan, ProveError> {
        if segment_po2 > SEGMENT_PO2 {
            let text = format!("there are no segments of 2^{segment_po2} cycles");
            return Err(ProveError::Unavailable(text.into()));
        }
        let input = fs::read(input).map_err(ProveError::unavailable)?;
        let public_values = self.execute(&input)?.public_values;
        // A dev block's input of some ten thousand bytes has about ten segments of 2^16 cycles.
        let segments = (3 + (input.len() >> segment_po2.saturating_sub(5))).min(MOST_SEGMENTS);
        let batches = 1 + segments / 4;
        let start = Sha256::new()
            .chain_update(segment_po2.to_le_bytes())
            .chain_update(&input)
            .finalize()
            .into();
        let next = |state: &[u8; 32]| Some(Sha256::digest(state).into());
        let states: Vec<[u8; 32]> =
            std::iter::successors(Some(start), next).take(segments + 1).collect();
        let batch = |index: usize| {
            Sha256::new().chain_update(b"keccak").chain_update(states[index]).finalize().into()
        };
        let keccak = (0..batches.min(segments)).map(batch).collect();
        Ok(Plan { segment_po2, states, keccak, public_values })
    }
}

/// What the "proofs" of a bundle state together.
fn folded(bundle: &[u8]) -> Result<Vec<u8>, ProveError> {
    let policy = Policy { danger_accept_exec: true, ..Policy::default() };
    let verify = |proof: &[u8]| verifier::verify(System::Exec, EXEC_PROGRAM_ID, proof, &policy);
    let members: Vec<_> =
        open_bundle(bundle, verify)?.into_iter().map(|(member, _)| member).collect();
    let whole = fold(&members).map_err(|error| ProveError::BadInput(error.to_string()))?;
    Ok(whole.abi_encode())
}

/// Checks that the proofs in these files are of adjacent ranges that make up `whole`.
fn covered(plan: &Plan, proofs: &[PathBuf], whole: &Claim) -> Result<(), ProveError> {
    let policy = Policy { danger_accept_exec: true, ..Policy::default() };
    let piece = |file: &PathBuf| {
        let proof = fs::read(file).map_err(ProveError::unavailable)?;
        let claim = claim_of(System::Exec, &proof).map_err(failed)?;
        verify_part(System::Exec, EXEC_PROGRAM_ID, plan, &claim, &proof, &policy)
            .map_err(failed)?;
        Ok(claim)
    };
    let pieces = proofs.iter().map(piece).collect::<Result<Vec<_>, ProveError>>()?;
    check_adjacent(&pieces, whole)
}

fn failed(error: verifier::VerifyError) -> ProveError {
    ProveError::Failed(error.into())
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message"))
}

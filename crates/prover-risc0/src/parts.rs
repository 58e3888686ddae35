//! A part of a proof: one client's share of what several clients prove together.
//!
//! * Whoever proves segments or batches of keccak permutations runs all of the program, and compares the run with the plan before
//!   anything is proven.
//! * Proofs of other parts are verified before they are used, and the result before it is handed out.
//! * The last part, [`PartWork::Finish`], makes an ordinary succinct proof.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use client::prover::{OtherRun, PartFiles, PartWork, check_adjacent};
use client::{Cancel, Progress, ProveError};
use risc0_zkvm::{InnerReceipt, ReceiptClaim, SuccinctReceipt};
use verifier::plan::claim_of;
use verifier::risc0::{encode_part, keccak_receipt, mocked_part, segments_receipt};
use verifier::{Claim, Plan, RISC0_PROGRAM_ID, System, verify_part};

use crate::Risc0Prover;
use crate::replay::{self, Replay};
use crate::steps::{Peaks, Steps};

/// Runs the program on `input` and describes the run.
pub(crate) fn plan(
    prover: &Risc0Prover,
    input: &[u8],
    segment_po2: u32,
) -> Result<Vec<u8>, ProveError> {
    let replay = replay::run(&prover.image, input, segment_po2, 0..0, &Cancel::new())?;
    Ok(replay.plan.encode())
}

/// Makes the proof of a part.
pub(crate) fn prove(
    prover: &Risc0Prover,
    input: &Path,
    part: &PartFiles,
    cancel: &Cancel,
    progress: &dyn Fn(Progress),
) -> Result<Vec<u8>, ProveError> {
    let plan = Plan::decode(&read(&part.plan)?).map_err(failed)?;
    if part.segment_po2 != plan.segment_po2 {
        let text = format!(
            "the part is of segments of 2^{} cycles, and its plan of 2^{}",
            part.segment_po2, plan.segment_po2
        );
        return Err(ProveError::Failed(text.into()));
    }
    let share = Share { prover, input, plan: &plan, proofs: &part.proofs, cancel, progress };
    let claim = part.claim(&plan);
    claim.check(&plan).map_err(failed)?;
    let proof = match part.work {
        PartWork::Segments { first, end } => share.segments(&claim, first..end),
        PartWork::Keccak { first, end } => share.keccak(&claim, first..end),
        PartWork::Join { first, end } => share.join(&claim, first..end),
        PartWork::Unite { end } => share.unite(&claim, end),
        PartWork::Finish => return share.finish(),
    }?;
    share.verify(&claim, &proof)?;
    Ok(proof)
}

/// What a part is made of.
struct Share<'a> {
    prover: &'a Risc0Prover,
    input: &'a Path,
    plan: &'a Plan,
    proofs: &'a [PathBuf],
    cancel: &'a Cancel,
    progress: &'a dyn Fn(Progress),
}

impl Share<'_> {
    fn segments(&self, claim: &Claim, range: Range<u32>) -> Result<Vec<u8>, ProveError> {
        let (largest, po2) = (self.prover.config.segment_po2, self.plan.segment_po2);
        if po2 > largest {
            let text = format!(
                "the part has segments of 2^{po2} cycles, and this prover is set up for at most 2^{largest}"
            );
            return Err(ProveError::Unavailable(text.into()));
        }
        let run = self.run(range.clone())?;
        let count = u64::from(range.end - range.start);
        let steps = 2 * count - 1;
        (self.progress)(run.executed(count, run.kept_cycles, steps));
        if self.mocked() {
            return mocked_part(self.plan, claim).map_err(failed);
        }
        let mut steps = Steps::new(steps, self.cancel, self.progress)?;
        let segments = steps.segments(run.kept.iter())?;
        let receipt = steps.lift_and_join(segments)?;
        encode_part(claim, &receipt).map_err(failed)
    }

    fn keccak(&self, claim: &Claim, range: Range<u32>) -> Result<Vec<u8>, ProveError> {
        let run = self.run(0..0)?;
        let count = u64::from(range.end - range.start);
        let steps = 2 * count - 1;
        (self.progress)(run.executed(0, 0, steps));
        if self.mocked() {
            return mocked_part(self.plan, claim).map_err(failed);
        }
        let mut steps = Steps::new(steps, self.cancel, self.progress)?;
        let batches = &run.keccak[range.start as usize..range.end as usize];
        let receipt = steps.keccak(batches)?.ok_or("there are no batches to prove");
        encode_part(claim, &receipt.map_err(|text| ProveError::Failed(text.into()))?)
            .map_err(failed)
    }

    fn join(&self, claim: &Claim, range: Range<u32>) -> Result<Vec<u8>, ProveError> {
        let pieces = self.pieces()?;
        check_adjacent(pieces.iter().map(|(claim, _)| claim), claim)?;
        if self.mocked() {
            return mocked_part(self.plan, claim).map_err(failed);
        }
        let mut steps = Steps::new(pieces.len() as u64 - 1, self.cancel, self.progress)?;
        encode_part(&Claim::Segments(range), &self.joined(&pieces, &mut steps)?).map_err(failed)
    }

    fn unite(&self, claim: &Claim, end: u32) -> Result<Vec<u8>, ProveError> {
        let pieces = self.pieces()?;
        check_adjacent(pieces.iter().map(|(claim, _)| claim), claim)?;
        if self.mocked() {
            return mocked_part(self.plan, claim).map_err(failed);
        }
        let mut steps = Steps::new(pieces.len() as u64 - 1, self.cancel, self.progress)?;
        let mut peaks = Peaks::default();
        for (claim, proof) in &pieces {
            let receipt = keccak_receipt(self.plan, proof).map_err(failed)?;
            // A piece is a power of two of batches from a multiple of it on: all lower peaks before it have been united.
            let Claim::Keccak(range) = claim else { continue };
            peaks.push((range.end - range.start).ilog2(), receipt, &mut steps)?;
        }
        let root = peaks.root(&mut steps)?.ok_or("there are no proofs to unite");
        let root = root.map_err(|text| ProveError::Failed(text.into()))?;
        encode_part(&Claim::Keccak(0..end), &root).map_err(failed)
    }

    /// The succinct proof of the whole run.
    fn finish(&self) -> Result<Vec<u8>, ProveError> {
        let mut pieces = self.pieces()?;
        let batches = self.plan.batches();
        let keccak = if batches > 0 { pieces.pop() } else { None };
        if let Some((claim, _)) = &keccak {
            check_adjacent([claim], &Claim::Keccak(0..batches))?;
        }
        let all = Claim::Segments(0..self.plan.segments());
        check_adjacent(pieces.iter().map(|(claim, _)| claim), &all)?;
        let journal = self.plan.public_values.clone();
        let inner = if self.mocked() {
            crate::mocked(RISC0_PROGRAM_ID, &journal)
        } else {
            let count = pieces.len() as u64 - 1 + u64::from(keccak.is_some());
            let mut steps = Steps::new(count, self.cancel, self.progress)?;
            let mut receipt = self.joined(&pieces, &mut steps)?;
            if let Some((_, proof)) = &keccak {
                let assumption = keccak_receipt(self.plan, proof).map_err(failed)?;
                receipt = steps.resolve(&receipt, &assumption)?;
            }
            InnerReceipt::Succinct(receipt)
        };
        self.prover.config.finished(RISC0_PROGRAM_ID, inner, journal)
    }

    /// Runs the program, and keeps the segments of `kept`.
    fn run(&self, kept: Range<u32>) -> Result<Replay, ProveError> {
        let (image, input) = (&self.prover.image, read(self.input)?);
        let run = replay::run(image, &input, self.plan.segment_po2, kept, self.cancel)?;
        // ORDER: what another version would prove fits to nobody else's parts, and proving takes hours.
        if run.plan != *self.plan {
            return Err(ProveError::Failed(OtherRun.into()));
        }
        Ok(run)
    }

    /// The proofs that this part is made of, verified, with what they claim.
    fn pieces(&self) -> Result<Vec<(Claim, Vec<u8>)>, ProveError> {
        let piece = |path: &PathBuf| {
            let proof = read(path)?;
            let claim = claim_of(System::Risc0, &proof).map_err(failed)?;
            self.verify(&claim, &proof)?;
            Ok((claim, proof))
        };
        self.proofs.iter().map(piece).collect()
    }

    fn joined(
        &self,
        pieces: &[(Claim, Vec<u8>)],
        steps: &mut Steps<'_>,
    ) -> Result<SuccinctReceipt<ReceiptClaim>, ProveError> {
        let mut joined = None;
        for (_, proof) in pieces {
            let receipt = segments_receipt(self.plan, proof).map_err(failed)?;
            joined = Some(match joined {
                None => receipt,
                Some(left) => steps.join(&left, &receipt)?,
            });
        }
        joined.ok_or_else(|| ProveError::Failed("there are no proofs to join".into()))
    }

    fn verify(&self, claim: &Claim, proof: &[u8]) -> Result<(), ProveError> {
        let policy = self.prover.config.policy();
        verify_part(System::Risc0, RISC0_PROGRAM_ID, self.plan, claim, proof, &policy)
            .map_err(failed)
    }

    fn mocked(&self) -> bool {
        self.prover.config.dev_mode
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ProveError> {
    fs::read(path).map_err(|error| {
        let text = format!("cannot read {}: {error}", path.display());
        ProveError::Unavailable(text.into())
    })
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ProveError {
    ProveError::Failed(error.into())
}

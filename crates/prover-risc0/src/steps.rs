//! From a run to its receipt, one step at a time.
//!
//! Each segment is proven by itself. For a succinct receipt, each of these proofs is lifted into the recursion
//! circuit, and the lifted ones are joined from left to right. Batches of keccak permutations are proven by their own
//! circuit and united into one receipt, in the same order in which the guest accumulated their claims; that receipt
//! then resolves the one assumption that the run leaves open.

use std::rc::Rc;

use client::prover::ProofKind;
use client::{Cancel, Progress, ProveError};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    InnerReceipt, ProveKeccakRequest, ProverOpts, ProverServer, ReceiptClaim, SegmentReceipt,
    SegmentRef, SuccinctReceipt, Unknown, VerifierContext, get_prover_server,
};

use crate::guest::Run;

/// Rows of the keccak circuit for one permutation, and the sizes of that circuit as powers of two.
const KECCAK_ROWS: usize = 200;
const KECCAK_PO2: std::ops::RangeInclusive<usize> = 14..=18;

/// Proves `run`, which builds on what `upon` proves. The result is not verified as a whole yet.
pub(crate) fn prove(
    run: &Run,
    upon: &[SuccinctReceipt<Unknown>],
    kind: ProofKind,
    cancel: &Cancel,
    progress: &dyn Fn(Progress),
) -> Result<InnerReceipt, ProveError> {
    let mut steps = Steps::new(later_steps(run, kind), cancel, progress)?;
    let segments = steps.segments(run.session.segments.iter())?;
    let keccak = steps.keccak(&run.keccak)?;
    let mut proven = Vec::new();
    for (assumption, _) in &run.session.assumptions {
        match keccak.iter().chain(upon).find(|it| it.claim.digest() == assumption.claim) {
            Some(receipt) => proven.push(receipt.clone()),
            None => {
                let text = format!("the guest assumes {assumption:?}, which nothing proves");
                return Err(ProveError::Failed(text.into()));
            }
        }
    }
    if kind == ProofKind::Composite {
        let receipt = verifier::risc0::composite(&segments, &proven);
        return Ok(InnerReceipt::Composite(
            receipt.map_err(|error| ProveError::Failed(error.into()))?,
        ));
    }
    let mut receipt = steps.lift_and_join(segments)?;
    for assumption in &proven {
        receipt = steps.resolve(&receipt, assumption)?;
    }
    Ok(InnerReceipt::Succinct(receipt))
}

/// How many steps follow the segments.
pub(crate) fn later_steps(run: &Run, kind: ProofKind) -> u64 {
    let (segments, batches) = (run.session.segments.len() as u64, run.keccak.len() as u64);
    let keccak = (2 * batches).saturating_sub(1);
    match kind {
        ProofKind::Part | ProofKind::Composite | ProofKind::Groth16 => keccak,
        ProofKind::Succinct | ProofKind::Aggregate => {
            keccak + (2 * segments).saturating_sub(1) + run.session.assumptions.len() as u64
        }
    }
}

/// The steps of a proof. It counts those after the segments, and stops before a step if the job is cancelled.
pub(crate) struct Steps<'a> {
    server: Rc<dyn ProverServer>,
    done: u64,
    total: u64,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(Progress),
}

impl<'a> Steps<'a> {
    /// Nothing is done yet; `total` steps follow the segments.
    pub(crate) fn new(
        total: u64,
        cancel: &'a Cancel,
        progress: &'a dyn Fn(Progress),
    ) -> Result<Self, ProveError> {
        // Explicitly real: the default would read the environment.
        let options = ProverOpts::default().with_dev_mode(false);
        let server = get_prover_server(&options).map_err(failed)?;
        Ok(Self { server, done: 0, total, cancel, progress })
    }

    /// Proves each of the segments by itself.
    pub(crate) fn segments<'s>(
        &mut self,
        segments: impl ExactSizeIterator<Item = &'s Box<dyn SegmentRef>>,
    ) -> Result<Vec<SegmentReceipt>, ProveError> {
        let context = VerifierContext::default().with_dev_mode(false);
        let total = segments.len() as u64;
        (self.progress)(Progress::Segment { done: 0, total });
        let mut receipts = Vec::new();
        for (segment, done) in segments.zip(1..) {
            self.cancel.check()?;
            let segment = segment.resolve().map_err(failed)?;
            receipts.push(self.server.prove_segment(&context, &segment).map_err(failed)?);
            (self.progress)(Progress::Segment { done, total });
        }
        (self.progress)(Progress::Joining { done: 0, total: self.total });
        Ok(receipts)
    }

    /// One receipt for a run of adjacent segments: each is lifted, and the lifted ones are joined from left to right.
    pub(crate) fn lift_and_join(
        &mut self,
        segments: Vec<SegmentReceipt>,
    ) -> Result<SuccinctReceipt<ReceiptClaim>, ProveError> {
        let mut joined = None;
        for segment in segments {
            let lifted = self.step(|server| server.lift(&segment))?;
            joined = Some(match joined {
                None => lifted,
                Some(left) => self.join(&left, &lifted)?,
            });
        }
        joined.ok_or_else(|| ProveError::Failed("there are no segments to join".into()))
    }

    pub(crate) fn join(
        &mut self,
        left: &SuccinctReceipt<ReceiptClaim>,
        right: &SuccinctReceipt<ReceiptClaim>,
    ) -> Result<SuccinctReceipt<ReceiptClaim>, ProveError> {
        self.step(|server| server.join(left, right))
    }

    /// Takes an assumption out of what `receipt` claims, because it is proven.
    pub(crate) fn resolve(
        &mut self,
        receipt: &SuccinctReceipt<ReceiptClaim>,
        assumption: &SuccinctReceipt<Unknown>,
    ) -> Result<SuccinctReceipt<ReceiptClaim>, ProveError> {
        self.step(|server| server.resolve(receipt, assumption))
    }

    /// One receipt for all of these batches of keccak permutations, or none if there are none.
    pub(crate) fn keccak(
        &mut self,
        batches: &[ProveKeccakRequest],
    ) -> Result<Option<SuccinctReceipt<Unknown>>, ProveError> {
        let mut peaks = Peaks::default();
        for batch in batches {
            let mut batch = batch.clone();
            // The smallest circuit that holds the batch: its size is not part of the claim.
            batch.po2 = KECCAK_PO2
                .into_iter()
                .find(|po2| batch.input.len() <= (1 << po2) / KECCAK_ROWS)
                .unwrap_or(batch.po2);
            let receipt = self.step(|server| server.prove_keccak(&batch))?;
            peaks.push(0, receipt, self)?;
        }
        peaks.root(self)
    }

    fn unite(
        &mut self,
        one: &SuccinctReceipt<Unknown>,
        other: &SuccinctReceipt<Unknown>,
    ) -> Result<SuccinctReceipt<Unknown>, ProveError> {
        self.step(|server| Ok(server.union(one, other)?.into_unknown()))
    }

    fn step<T>(
        &mut self,
        step: impl FnOnce(&dyn ProverServer) -> anyhow::Result<T>,
    ) -> Result<T, ProveError> {
        self.cancel.check()?;
        let result = step(&*self.server).map_err(failed)?;
        self.done += 1;
        (self.progress)(Progress::Joining { done: self.done, total: self.total });
        Ok(result)
    }
}

/// A Merkle mountain range of receipts: peaks with their heights, which decrease from left to right. The guest builds the same of
/// their claims.
#[derive(Default)]
pub(crate) struct Peaks(Vec<(u32, SuccinctReceipt<Unknown>)>);

impl Peaks {
    /// Adds the receipt of a tree of this height, to the right of all others. None of the peaks is lower.
    pub(crate) fn push(
        &mut self,
        mut height: u32,
        mut receipt: SuccinctReceipt<Unknown>,
        steps: &mut Steps<'_>,
    ) -> Result<(), ProveError> {
        while let Some((_, top)) = self.0.pop_if(|(top, _)| *top == height) {
            receipt = steps.unite(&receipt, &top)?;
            height += 1;
        }
        self.0.push((height, receipt));
        Ok(())
    }

    /// One receipt for all peaks, or none if there are none.
    pub(crate) fn root(
        self,
        steps: &mut Steps<'_>,
    ) -> Result<Option<SuccinctReceipt<Unknown>>, ProveError> {
        let mut peaks = self.0.into_iter().map(|(_, receipt)| receipt);
        let Some(mut root) = peaks.next() else {
            return Ok(None);
        };
        for peak in peaks {
            root = steps.unite(&root, &peak)?;
        }
        Ok(Some(root))
    }
}

fn failed(error: anyhow::Error) -> ProveError {
    ProveError::Failed(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Risc0Prover, guest};
    use guest::Start;
    use verifier::RISC0_PROGRAM_ID;

    /// Proves the input `dev-block-1.input` in the folder PROOFS as one segment, and writes its composite proof and its succinct one there.
    #[test]
    #[ignore = "proves for real, for half an hour"]
    fn the_proofs_of_one_block_that_are_checked_in() {
        let folder = std::env::var_os("PROOFS").expect("PROOFS is a folder");
        let folder = std::path::PathBuf::from(folder);
        let input = std::fs::read(folder.join("dev-block-1.input")).unwrap();
        let prover = Risc0Prover::new(Config { segment_po2: 20, dev_mode: false }).unwrap();
        let (spill, cancel) = (guest::Spill::new().unwrap(), Cancel::new());
        let start = Start::Image(&prover.image);
        let run = guest::run(start, &input, 20, &cancel, None, |segment| spill.keep(&segment));
        let run = run.unwrap();
        let progress = |_: Progress| {};
        let mut steps = Steps::new(0, &cancel, &progress).unwrap();
        let write = |name: &str, receipt| {
            let proof = prover.config.finished(RISC0_PROGRAM_ID, receipt, run.journal.clone());
            std::fs::write(folder.join(name), proof.unwrap()).unwrap();
        };
        let segments = steps.segments(run.session.segments.iter()).unwrap();
        let keccak = steps.keccak(&run.keccak).unwrap().expect("something is hashed");
        let composite = verifier::risc0::composite(&segments, std::slice::from_ref(&keccak));
        write("dev-block.composite.proof", InnerReceipt::Composite(composite.unwrap()));
        let lifted = steps.lift_and_join(segments).unwrap();
        let resolved = steps.resolve(&lifted, &keccak).unwrap();
        write("dev-block.proof", InnerReceipt::Succinct(resolved));
    }
}

//! From a run to its receipt, one step at a time.
//!
//! Each segment is proven by itself. For a succinct receipt, each of these proofs is lifted into the recursion
//! circuit, and the lifted ones are joined from left to right. Batches of keccak permutations are proven by their own
//! circuit and united into one receipt, in the same order in which the guest accumulated their claims; that receipt
//! then resolves the one assumption that the run leaves open.

use client::prover::ProofKind;
use client::{Cancel, Progress, ProveError};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    InnerReceipt, ProveKeccakRequest, ProverOpts, ProverServer, SuccinctReceipt, Unknown,
    VerifierContext, get_prover_server,
};

use crate::guest::Run;

/// Rows of the keccak circuit for one permutation, and the sizes of that circuit as powers of two.
const KECCAK_ROWS: usize = 200;
const KECCAK_PO2: std::ops::RangeInclusive<usize> = 14..=18;

/// Proves `run`. The result is not verified as a whole yet.
pub(crate) fn prove(
    run: &Run,
    kind: ProofKind,
    cancel: &Cancel,
    progress: &dyn Fn(Progress),
) -> Result<InnerReceipt, ProveError> {
    // Explicitly real: both defaults would read the environment.
    let server = get_prover_server(&ProverOpts::default().with_dev_mode(false)).map_err(failed)?;
    let context = VerifierContext::default().with_dev_mode(false);

    let count = run.session.segments.len() as u64;
    progress(Progress::Segment { done: 0, total: count });
    let mut segments = Vec::new();
    for (segment, done) in run.session.segments.iter().zip(1..) {
        cancel.check()?;
        let segment = segment.resolve().map_err(failed)?;
        segments.push(server.prove_segment(&context, &segment).map_err(failed)?);
        progress(Progress::Segment { done, total: count });
    }

    let assumptions = &run.session.assumptions;
    let total = later_steps(run, kind);
    let mut steps = Steps { done: 0, total, cancel, progress };
    progress(Progress::Joining { done: 0, total });

    let keccak = prove_keccak(&*server, &run.keccak, &mut steps)?;
    let mut proven = Vec::new();
    for (assumption, _) in assumptions {
        match &keccak {
            Some(receipt) if receipt.claim.digest() == assumption.claim => {
                proven.push(receipt.clone());
            }
            _ => {
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

    let mut joined = None;
    for segment in segments {
        let lifted = steps.step(|| server.lift(&segment))?;
        joined = Some(match joined {
            None => lifted,
            Some(left) => steps.step(|| server.join(&left, &lifted))?,
        });
    }
    let mut receipt = joined.ok_or_else(|| ProveError::Failed("the run has no segments".into()))?;
    for assumption in &proven {
        receipt = steps.step(|| server.resolve(&receipt, assumption))?;
    }
    Ok(InnerReceipt::Succinct(receipt))
}

/// How many steps follow the segments.
pub(crate) fn later_steps(run: &Run, kind: ProofKind) -> u64 {
    let (segments, batches) = (run.session.segments.len() as u64, run.keccak.len() as u64);
    let keccak = (2 * batches).saturating_sub(1);
    match kind {
        ProofKind::Composite => keccak,
        ProofKind::Succinct => {
            keccak + (2 * segments).saturating_sub(1) + run.session.assumptions.len() as u64
        }
    }
}

/// One receipt for all batches, or none if there are none.
fn prove_keccak(
    server: &dyn ProverServer,
    batches: &[ProveKeccakRequest],
    steps: &mut Steps<'_>,
) -> Result<Option<SuccinctReceipt<Unknown>>, ProveError> {
    // A Merkle mountain range: peaks with their heights, which decrease from left to right. The guest built the same.
    let mut peaks: Vec<(u32, SuccinctReceipt<Unknown>)> = Vec::new();
    for batch in batches {
        let mut batch = batch.clone();
        // The smallest circuit that holds the batch: its size is not part of the claim.
        batch.po2 = KECCAK_PO2
            .into_iter()
            .find(|po2| batch.input.len() <= (1 << po2) / KECCAK_ROWS)
            .unwrap_or(batch.po2);
        let mut receipt = steps.step(|| server.prove_keccak(&batch))?;
        let mut height = 0;
        while let Some((_, top)) = peaks.pop_if(|(top, _)| *top == height) {
            receipt = steps.unite(server, &receipt, &top)?;
            height += 1;
        }
        peaks.push((height, receipt));
    }
    let mut peaks = peaks.into_iter().map(|(_, receipt)| receipt);
    let Some(mut root) = peaks.next() else {
        return Ok(None);
    };
    for peak in peaks {
        root = steps.unite(server, &root, &peak)?;
    }
    Ok(Some(root))
}

/// Counts the steps after the segments, and stops before a step if the job is cancelled.
struct Steps<'a> {
    done: u64,
    total: u64,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(Progress),
}

impl Steps<'_> {
    fn step<T>(&mut self, step: impl FnOnce() -> anyhow::Result<T>) -> Result<T, ProveError> {
        self.cancel.check()?;
        let result = step().map_err(failed)?;
        self.done += 1;
        (self.progress)(Progress::Joining { done: self.done, total: self.total });
        Ok(result)
    }

    fn unite(
        &mut self,
        server: &dyn ProverServer,
        a: &SuccinctReceipt<Unknown>,
        b: &SuccinctReceipt<Unknown>,
    ) -> Result<SuccinctReceipt<Unknown>, ProveError> {
        self.step(|| Ok(server.union(a, b)?.into_unknown()))
    }
}

fn failed(error: anyhow::Error) -> ProveError {
    ProveError::Failed(error.into())
}

//! Folds proofs of consecutive batches into one, with the guest in `guests/risc0-aggregate`.
//!
//! * Each proof is verified before anything is proven: the guest leaves that to its receipt's conditions, which a proof that does not
//!   hold could not resolve in the end.
//! * The folded statement is computed natively first, so that proofs that cannot be folded are refused in words.

use client::{Cancel, Progress, ProveError};
use program::Statement;
use program::fold::{self, Member};
use risc0_zkvm::{
    Digest, FakeReceipt, InnerReceipt, MaybePruned, NullSegmentRef, Receipt, ReceiptClaim,
    SuccinctReceipt, Unknown,
};
use verifier::{Policy, RISC0_AGGREGATE_ID, RISC0_PROGRAM_ID, System, bundle};

use crate::guest::{self, Run, Start};
use crate::{Config, executed, steps};

/// The program binary of the guest that folds.
const AGGREGATE: &[u8] = include_bytes!("../../../guests/risc0-aggregate/pinned/l2-aggregate.bin");

/// Proves what all proofs of a bundle prove together.
pub(crate) fn prove(
    config: Config,
    bundle: &[u8],
    cancel: &Cancel,
    progress: &dyn Fn(Progress),
) -> Result<Vec<u8>, ProveError> {
    let policy = Policy { danger_accept_dev_mode: config.dev_mode, ..Policy::default() };
    let (members, receipts) = read(bundle, &policy)?;
    let whole = fold::fold(&members).map_err(refused)?;
    let spill = guest::Spill::new().map_err(|error| ProveError::Unavailable(error.into()))?;
    let input = fold::encode(&members);
    let start = Start::Upon(AGGREGATE, &receipts);
    let run = guest::run(start, &input, config.segment_po2, cancel, None, |segment| match config
        .dev_mode
    {
        true => Ok(Box::new(NullSegmentRef)),
        false => spill.keep(&segment),
    })?;
    if run.journal != whole.abi_encode() {
        return Err(ProveError::Failed("the guest folds to another statement".into()));
    }
    let receipt = if config.dev_mode {
        progress(executed(&run, None));
        mocked(&run)
    } else {
        let kind = client::prover::ProofKind::Aggregate;
        progress(executed(&run, Some(steps::later_steps(&run, kind))));
        steps::prove(&run, &upon(&receipts)?, kind, cancel, progress)?
    };
    let proof = verifier::risc0::encode(RISC0_AGGREGATE_ID, &Receipt::new(receipt, run.journal))
        .map_err(|error| ProveError::Failed(error.into()))?;
    verifier::verify(System::Risc0, RISC0_AGGREGATE_ID, &proof, &policy)
        .map_err(|error| ProveError::Failed(error.into()))?;
    Ok(proof)
}

/// What the proofs of a bundle state, and their receipts, verified.
fn read(bundle: &[u8], policy: &Policy) -> Result<(Vec<Member>, Vec<Receipt>), ProveError> {
    let (mut members, mut receipts) = (Vec::new(), Vec::new());
    for (index, member) in bundle::decode(bundle).map_err(refused)?.iter().enumerate() {
        let of = |error: &dyn std::fmt::Display| {
            ProveError::BadInput(format!("proof {index} of the bundle is refused: {error}"))
        };
        let verified = verifier::verify(System::Risc0, RISC0_PROGRAM_ID, member.proof, policy);
        let values = verified.map_err(|error| of(&error))?.public_values;
        if values != member.public_values {
            return Err(of(&"it is of another statement than the bundle says"));
        }
        let statement = Statement::abi_decode(&values).map_err(|error| of(&error))?;
        members.push(Member { statement, deposits: member.deposits.map(Into::into) });
        let receipt = verifier::risc0::receipt(RISC0_PROGRAM_ID, member.proof);
        receipts.push(receipt.map_err(|error| of(&error))?);
    }
    Ok((members, receipts))
}

/// The receipts, as what a receipt that is conditional on them is resolved with.
fn upon(receipts: &[Receipt]) -> Result<Vec<SuccinctReceipt<Unknown>>, ProveError> {
    let succinct = |receipt: &Receipt| {
        let succinct =
            receipt.inner.succinct().map_err(|error| ProveError::Failed(error.into()))?;
        Ok(succinct.clone().into_unknown())
    };
    receipts.iter().map(succinct).collect()
}

fn mocked(run: &Run) -> InnerReceipt {
    let image = Digest::from(RISC0_AGGREGATE_ID);
    let claim = ReceiptClaim::ok(image, MaybePruned::Value(run.journal.clone()));
    InnerReceipt::Fake(FakeReceipt::new(claim))
}

fn refused(error: impl std::fmt::Display) -> ProveError {
    ProveError::BadInput(error.to_string())
}

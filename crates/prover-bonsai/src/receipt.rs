//! From an engine's receipt to a proof, if it proves the work.

use alloy_primitives::B256;
use bincode::Options as _;
use risc0_zkvm::Receipt;
use verifier::{Kind, Policy, System, VerifyError};

/// The proof in the receipt `bytes`.
///
/// # Errors
/// Says why the receipt does not prove that the program committed to `statement`, in one succinct proof.
pub(crate) fn proof(bytes: &[u8], program_id: B256, statement: &[u8]) -> Result<Vec<u8>, String> {
    // The kind stands first. No other is decoded: a composite one may be nested as deep as it is long.
    match bytes.first_chunk().map(|kind| u32::from_le_bytes(*kind)) {
        Some(1) => {}
        Some(0) => return Err("it is composite instead of succinct".to_owned()),
        Some(2) => return Err("it is groth16 instead of succinct".to_owned()),
        Some(3) => return Err("it is one of dev mode, which proves nothing".to_owned()),
        _ => return Err("it is no receipt: it begins with no kind".to_owned()),
    }
    // What RISC Zero's own `bincode::serialize` writes, and nothing after it. No length in it makes us reserve more than it has.
    let options = bincode::DefaultOptions::new().with_fixint_encoding();
    let options = options.with_limit(bytes.len() as u64).reject_trailing_bytes();
    let receipt: Receipt =
        options.deserialize(bytes).map_err(|error| format!("it is no receipt: {error}"))?;
    let proof =
        verifier::risc0::encode(program_id.0, &receipt).map_err(|error| error.to_string())?;
    // SOUNDNESS: a receipt of an engine is believed when our own verifier accepts it for the pinned program.
    let verified = verifier::verify(System::Risc0, program_id.0, &proof, &Policy::default())
        .map_err(|error| match error {
            // Its advice is for those who may accept such proofs.
            VerifyError::DevModeRefused => "it is one of dev mode, which proves nothing".to_owned(),
            error => error.to_string(),
        })?;
    if verified.kind != Kind::Succinct {
        return Err(format!("it is {} instead of succinct", verified.kind));
    }
    // SOUNDNESS: it must be the statement of this input, computed here, and not that of another valid proof.
    if verified.public_values != statement {
        return Err("it commits to the statement of another input".to_owned());
    }
    Ok(proof)
}

//! Folds proofs of consecutive batches into one, as a RISC Zero guest: verifies a proof of each statement by the pinned program, and
//! commits to what all of them state together.
//!
//! The host sends the input's length in bytes as one little-endian word, then the input (`program::fold::encode`), which is whole
//! words. The journal is the folded statement's ABI encoding and nothing else: who verifies it needs only this guest's program id.

#[path = "../../../crates/verifier/src/pinned.rs"]
mod pinned;

use program::fold::{self, Member};
use risc0_zkvm::guest::env;

fn main() {
    let mut length = [0_u32];
    env::read_slice(&mut length);
    let mut input = vec![0_u8; length[0] as usize];
    env::read_slice(&mut input);
    let members = fold::decode(&input).unwrap_or_else(|error| panic!("{error}"));
    for (statement, _) in &members {
        // SOUNDNESS: a statement counts only if the pinned program committed to just these bytes. The receipt of this guest is
        // conditional on that, until a receipt of the program resolves the condition.
        let _always = env::verify(pinned::RISC0_PROGRAM_ID, statement);
    }
    let members: Vec<Member> = members.into_iter().map(|(_, member)| member).collect();
    // SOUNDNESS: a panic halts the VM before anything is committed, so that what cannot be folded has no proof.
    let whole = fold::fold(&members).unwrap_or_else(|error| panic!("{error}"));
    env::commit_slice(&whole.abi_encode());
}

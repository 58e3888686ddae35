//! The program as a RISC Zero guest: installs the VM's crypto, reads the input, runs the program, commits the statement.
//!
//! The host sends the input's length in bytes as one little-endian word, then the input padded to whole words.
//! The journal is the statement's ABI encoding and nothing else.

mod bls12_381;
mod bn254;
mod crypto;
mod keccak;
mod map;
mod memory;
mod pairing;
mod secp256k1;
mod senders;

use alloy_primitives::Bytes;
use program::Machine;
use risc0_zkvm::guest::env;

fn main() {
    crypto::install();
    let machine = Machine { check: senders::check, product: crypto::product };
    match program::run_in_place(&read_input(), machine) {
        Ok(statement) => {
            env::commit_slice(&statement.abi_encode());
            // SOUNDNESS: last of all, so that no hash escapes it.
            keccak::settle();
        }
        // SOUNDNESS: a panic halts the VM before anything is committed, so that a refused input has no proof.
        Err(error) => panic!("{error}"),
    }
}

/// What the host sent. It is read as words, because the VM copies and loads aligned words fastest, and never freed.
fn read_input() -> Bytes {
    let mut length = [0_u32];
    env::read_slice(&mut length);
    let length = length[0] as usize;
    let words = vec![0_u32; length.div_ceil(4)].leak();
    env::read_slice(words);
    Bytes::from_static(&bytemuck::cast_slice(words)[..length])
}

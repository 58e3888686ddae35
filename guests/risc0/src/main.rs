//! The program as a RISC Zero guest: installs the VM's crypto, reads the input, runs the program, commits the statement.
//!
//! The host sends the input's length in bytes as one little-endian word, then the input padded to whole words.
//! The journal is the statement's ABI encoding and nothing else.

mod crypto;

use risc0_zkvm::guest::env;

fn main() {
    crypto::install();
    let input = Input::read();
    match program::run(input.bytes()) {
        Ok(statement) => env::commit_slice(&statement.abi_encode()),
        // SOUNDNESS: a panic halts the VM before anything is committed, so that a refused input has no proof.
        Err(error) => panic!("{error}"),
    }
}

/// What the host sent. It is read as words, because the VM copies and loads aligned words fastest.
struct Input {
    words: Vec<u32>,
    length: usize,
}

impl Input {
    fn read() -> Self {
        let mut length = [0_u32];
        env::read_slice(&mut length);
        let length = length[0] as usize;
        let mut words = vec![0_u32; length.div_ceil(4)];
        env::read_slice(&mut words);
        Self { words, length }
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }
}

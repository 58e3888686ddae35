//! The block decoder on any bytes: what it accepts encodes to the same bytes again, so a block has one encoding.
#![no_main]

use program::{Block, consensus::DecodedBlock};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(decoded) = DecodedBlock::decode(bytes) else { return };
    let block = Block { header: decoded.header.inner().clone(), body: decoded.body };
    assert_eq!(alloy_rlp::encode(&block), bytes);
    assert_eq!(decoded.header.hash(), block.header.hash_slow());
});
